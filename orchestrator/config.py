"""Configuration: kchain.toml, then KCHAIN_* variables, then flags; the only reader of os.environ.

Every key can be set by a variable KCHAIN_<SECTION>_<KEY>. A message names the file and line (or
the variable, or the flag), the bad value and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orchestrator import contract
from orchestrator.errors import ConfigError
from orchestrator.model import Accelerator

FILE_NAME = "kchain.toml"
PRODUCTION = "https://api.kaggle.com"
# Devices behind each machine shape a free account can ask for; T4 always comes as two.
SHAPES = {"NvidiaTeslaT4": Accelerator("NvidiaTeslaT4", 2, "T4"), "none": Accelerator(None, 0)}
PRESETS = ("rehearsal", "wikitext103", "wikitext103-19m")

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Section(BaseModel):
    """A table of kchain.toml; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChainSection(Section):
    """[chain]: what is carried, and how far."""

    name: Annotated[Slug, Field(max_length=31)]  # the dataset's slug adds 19 characters to it
    sessions: Annotated[int, Field(ge=1, le=1000)] = 3
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    output: str = "output"
    force_folder: bool = False  # keep state on a network or synchronised folder all the same

    @field_validator("name")
    @classmethod
    def _not_a_folder_of_ours(cls, name: str) -> str:
        if name in {"local", "kaggle"}:
            raise ValueError("the names 'local' and 'kaggle' are taken by local Kaggle's folders")
        return name


class KaggleSection(Section):
    """[kaggle]: where things are kept."""

    endpoint: str = PRODUCTION
    kernel: Annotated[Slug, Field(min_length=5, max_length=50)] | None = None
    dataset: Annotated[Slug, Field(min_length=6, max_length=50)] | None = None

    @field_validator("endpoint")
    @classmethod
    def _only_safe_endpoints(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be a URL such as https://api.kaggle.com")
        if parts.scheme == "http" and not local:
            raise ValueError("plain http is accepted for this machine only, use https")
        return endpoint.rstrip("/")


class KernelSection(Section):
    """[kernel]: what a session runs on and for how long."""

    accelerator: Literal["auto", "none", "NvidiaTeslaT4"] = "auto"
    internet: bool = True
    time_budget_seconds: Annotated[int, Field(ge=60, le=43_200)] = 41_400
    template: str | None = None


class TrainingSection(Section):
    """[training]: the preset, and what is changed in it."""

    preset: Literal["rehearsal", "wikitext103", "wikitext103-19m"] = "wikitext103"
    overrides: dict[str, Any] = Field(default_factory=dict)

    @field_validator("overrides")
    @classmethod
    def _known_overrides(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        if overrides and (found := contract.override_problems(overrides)):
            raise ValueError(found[0])
        return overrides


class TimingSection(Section):
    """[timing]: how patient kchain is; seconds. The defaults suit Kaggle."""

    poll_seconds: Annotated[float, Field(gt=0)] = 60.0
    settle_seconds: Annotated[float, Field(ge=0)] = 900.0
    read_gap_seconds: Annotated[float, Field(ge=0)] = 30.0
    grace_seconds: Annotated[float, Field(ge=0)] = 1800.0
    retry_seconds: Annotated[float, Field(gt=0)] = 300.0


class Settings(Section):
    """The whole of kchain.toml."""

    chain: ChainSection
    kaggle: KaggleSection = KaggleSection()
    kernel: KernelSection = KernelSection()
    training: TrainingSection = TrainingSection()
    timing: TimingSection = TimingSection()

    @property
    def kernel_slug(self) -> str:
        return self.kaggle.kernel or f"kchain-{self.chain.name}"

    @property
    def dataset_slug(self) -> str:
        return self.kaggle.dataset or f"kchain-{self.chain.name}-checkpoints"

    @property
    def accelerator(self) -> Accelerator:
        """What sessions run on: by default a GPU for a real training, none for a rehearsal."""
        shape = self.kernel.accelerator
        if shape == "auto":
            shape = "none" if self.training.preset == "rehearsal" else "NvidiaTeslaT4"
        return SHAPES[shape]


@dataclass(frozen=True, slots=True)
class Project:
    """A configuration together with the folder it belongs to."""

    settings: Settings
    folder: Path
    file: Path | None

    @property
    def name(self) -> str:
        return self.settings.chain.name

    def state_dir(self, *, local: bool = False) -> Path:
        """Return where the chain's journal and checkpoints live."""
        base = self.folder / ".kchain"
        return base / "local" / self.name if local else base / self.name

    @property
    def output_dir(self) -> Path:
        """Return where the user finds checkpoints and the finished model."""
        return self.folder / self.settings.chain.output

    @property
    def template_dir(self) -> Path | None:
        template = self.settings.kernel.template
        return self.folder / template if template else None


def environment() -> dict[str, str]:
    """Return the process environment; everything else gets it passed in."""
    return dict(os.environ)


def find_file(given: str | None, folder: Path) -> Path:
    """Return the configuration file; raise ConfigError if there is none."""
    path = Path(given) if given else folder / FILE_NAME
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise ConfigError(f"there is no {path}; `kchain init` writes one")
    return path.resolve()


def load(path: Path, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Project:
    """Read and validate a configuration.

    Args:
        path: the kchain.toml file.
        environ: the process environment; KCHAIN_<SECTION>_<KEY> overrides the file.
        flags: dotted keys such as "chain.sessions" that override both; None values are skipped.

    Raises:
        ConfigError: with file and line, variable or flag, the bad value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    settings = validate(tables, environ, flags or {}, _Place(path, text))
    project = Project(settings, path.parent, path)
    template = project.template_dir
    if template and not (template / "notebook.md").is_file():
        raise ConfigError(f"{path}: kernel.template: {template} holds no notebook.md")
    return project


def rehearsal(folder: Path, flags: Mapping[str, Any]) -> Project:
    """Return the configuration of a dry run where there is no kchain.toml."""
    tables = {"chain": {"name": "rehearsal"}, "training": {"preset": "rehearsal"}}
    return Project(validate(tables, {}, flags, _Place(None, "")), folder, None)


@dataclass(frozen=True, slots=True)
class _Place:
    """Tells where in a file a key stands."""

    path: Path | None
    text: str

    def of(self, keys: tuple[str, ...]) -> str:
        line = _line_of(self.text, keys)
        name = ".".join(keys)
        if self.path is None:
            return name
        return f"{self.path}, line {line}: {name}" if line else f"{self.path}: {name}"


def validate(
    tables: Mapping[str, Any],
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    place: _Place,
) -> Settings:
    """Merge the three sources and validate the result; raise ConfigError on the first fault."""
    merged = {
        key: dict(value) if isinstance(value, dict) else value for key, value in tables.items()
    }
    origins: dict[tuple[str, ...], str] = {}
    for section, key, value, origin in [*_from_environment(environ), *_from_flags(flags)]:
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
            origins[(section, key)] = origin
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_describe(error.errors()[0], origins, place)) from error


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, Any, str]]:
    """Return what KCHAIN_* variables set; one that begins like ours and is not is a mistake."""
    found = []
    ours = tuple(f"KCHAIN_{section}_".upper() for section in Settings.model_fields)
    unknown = {name for name in environ if name.startswith(ours)}
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        for key in model.model_fields:
            variable = f"KCHAIN_{section}_{key}".upper()
            if variable in environ:
                unknown.discard(variable)
                found.append((section, key, environ[variable], variable))
    if unknown:
        raise ConfigError(f"{min(unknown)}: there is no such setting; unset the variable")
    return found


def _from_flags(flags: Mapping[str, Any]) -> list[tuple[str, str, Any, str]]:
    return [
        (*name.split(".", 1), value, f"--{name.rpartition('.')[2].replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    ]


def _describe(fault: Any, origins: Mapping[tuple[str, ...], str], place: _Place) -> str:
    keys = tuple(str(part) for part in fault["loc"])
    where = origins.get(keys[:2]) or place.of(keys)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_suggest(keys)}"
    if fault["type"] == "missing":
        return f"{where} is missing; `kchain init` shows a complete file"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if fault["type"] == "string_pattern_mismatch":
        message = "use lower-case letters and digits with single hyphens between them"
    value = fault["input"]
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}"


def _suggest(keys: tuple[str, ...]) -> str:
    if len(keys) == 1:
        allowed = list(Settings.model_fields)
    else:
        model = Settings.model_fields[keys[0]].annotation
        allowed = list(getattr(model, "model_fields", {}))
    near = difflib.get_close_matches(keys[-1], allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """Return the line of a key, or of its table; None if neither stands in the text."""
    table, found = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            table = header[1].strip()
            if table == ".".join(keys):
                return number
            if table == ".".join(keys[:1]) and found is None:
                found = number
        elif assignment := re.match(r"\s*([A-Za-z0-9_-]+)\s*=", line):
            path = (*table.split("."), assignment[1]) if table else (assignment[1],)
            if path == keys[: len(path)]:
                return number  # of the key, or of the inline table that holds it
    return found
