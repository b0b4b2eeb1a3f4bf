"""What the session is told: the parameter block of the notebook, checked, with its settings.

Standard library only, and checked by hand: Kaggle's image does not promise jsonschema.
The same rules as data, for the other side: contract/parameters.schema.json.
"""

import json
import math
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from session import CONTRACT, Paths, Refusal

PATTERNS = {
    "chain": r"[a-z0-9][a-z0-9-]{0,49}",
    "token": r"kc1\.[a-z2-7]{26}",
    "file": r"checkpoint_epoch[1-9][0-9]*_step[1-9][0-9]*\.pt",
    "sha256": r"[0-9a-f]{64}",
    "manifest_sha256": r"[0-9a-f]{64}",
}
MAY_BE_ZERO = (
    "dropout",
    "attention_dropout",
    "min_learning_rate",
    "warmup_steps",
    "weight_decay",
    "seed",
)
WORDS = {  # the settings that are one of a few words
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "exact": ("bitwise", "state"),
}
MAY_CHANGE = (  # between sessions; every other setting would bend the curve
    "steps_per_session",
    "checkpoint_steps",
    "checkpoint_seconds",
    "keep_checkpoints",
    "precision",  # "auto" is another one on another accelerator
    "exact",
    "batch_size",  # these two only together: their product is one step
    "accumulation",
)

# Without a controller: the rehearsal from its first step to its last, in one session on the CPU.
DEFAULT_PARAMETERS = {
    "contract": CONTRACT,
    "chain": "rehearsal",
    "session": 1,
    "attempt": 1,
    "token": "kc1." + "a" * 26,
    "parent": None,
    "time_budget_seconds": 41_400,  # 11.5 of Kaggle's 12 hours
    "sessions_planned": 1,
    "training": {"preset": "rehearsal", "overrides": {"steps_per_session": None}},
    "accelerator": {"kind": "none", "count": 0},
}


@dataclass(frozen=True)
class Settings:
    """One training, as presets.json and the overrides describe it."""

    n_layer: int
    n_head: int
    d_model: int
    dropout: float
    attention_dropout: float  # on the attention weights; above 0 costs speed
    block_tokens: int  # sequence length
    vocab_size: int  # the tokenizer's, before padding
    batch_size: int  # blocks in one micro-batch
    accumulation: int  # micro-batches in one optimizer step
    learning_rate: float  # the highest, right after the warm-up
    min_learning_rate: float  # where the cosine ends
    warmup_steps: int
    max_steps: int  # optimizer steps of the whole chain ...
    epochs: int  # ... or passes over the data, whichever ends first
    steps_per_session: int | None  # None: until time runs out
    weight_decay: float
    gradient_clip: float  # highest norm of the whole gradient
    seed: int
    checkpoint_steps: int  # save after so many steps ...
    checkpoint_seconds: float  # ... or so many seconds, whichever comes first
    keep_checkpoints: int
    evaluation_steps: int
    evaluation_blocks: int  # how many validation blocks; always the first ones
    precision: str
    exact: str  # "bitwise": repeatable kernels even where they are slower; "state": the fastest
    corpus: dict  # where the text comes from, see corpus.py
    tokenizer: dict


@dataclass(frozen=True)
class Parameters:
    """The parameter block after checking; preset and overrides are merged into `settings`."""

    chain: str
    session: int
    attempt: int
    token: str
    parent: dict | None  # file, step, bytes, sha256, manifest_sha256
    time_budget_seconds: float
    sessions_planned: int
    preset: str
    settings: Settings
    accelerator: dict  # kind ("none" or "gpu"), count, and the name expected of each


def read_parameters(paths: Paths) -> dict:
    """The parameter block as JSON, checked as far as a verdict needs it.

    KCHAIN_PARAMETERS names the file, default `session_parameters.json` in the working directory.
    With neither, the built-in rehearsal: a missing file is an error only where one was named.
    """
    named = os.environ.get("KCHAIN_PARAMETERS")
    path = Path(named) if named else paths.working / "session_parameters.json"
    if not named and not path.exists():
        return DEFAULT_PARAMETERS
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not (
        isinstance(raw, dict)
        and all(_is_text(raw.get(key), PATTERNS[key]) for key in ("chain", "token"))
        and all(_is_positive(raw.get(key), int) for key in ("session", "attempt"))
        and _is_positive(raw.get("time_budget_seconds"), float)
    ):
        raise ValueError(f"{path} does not say which session of which chain this is, and how long")
    return raw


def parse_parameters(raw: dict) -> Parameters:
    """Check the rest of the contract; whatever is wrong is refused before it costs time."""
    _require(raw.get("contract") == CONTRACT, f"contract {raw.get('contract')!r}, not {CONTRACT}")
    _require(_is_positive(raw.get("sessions_planned"), int), "sessions_planned must be 1 or more")
    _check_parent(raw.get("parent", "missing"))
    accelerator, training = raw.get("accelerator"), raw.get("training")
    _require(
        isinstance(accelerator, dict)
        and accelerator.get("kind") in ("none", "gpu")
        and isinstance(accelerator.get("count"), int)
        and isinstance(accelerator.get("name", ""), str),
        "accelerator must say its kind (none or gpu), count, and perhaps name",
    )
    _require(
        isinstance(training, dict) and isinstance(training.get("overrides"), dict),
        "training must name a preset and its overrides",
    )
    return Parameters(
        chain=raw["chain"],
        session=raw["session"],
        attempt=raw["attempt"],
        token=raw["token"],
        parent=raw["parent"],
        time_budget_seconds=raw["time_budget_seconds"],
        sessions_planned=raw["sessions_planned"],
        preset=training.get("preset"),
        settings=merge_settings(training.get("preset"), training["overrides"]),
        accelerator=accelerator,
    )


def merge_settings(preset: str, overrides: dict) -> Settings:
    """The preset with its overrides; an unknown key or a value nobody can mean is refused."""
    presets = json.loads(Path(__file__).with_name("presets.json").read_text(encoding="utf-8"))
    _require(preset in presets, f"no preset {preset!r}; there are {', '.join(presets)}")
    kinds = {field.name: field.type for field in fields(Settings) if field.type is not dict}
    for key, value in overrides.items():
        _require(key in kinds, f"no setting {key!r} in preset {preset!r}")
        _require(_is_meant(key, value, kinds[key]), f"{key} cannot be {value!r}")
    settings = Settings(**{**presets[preset], **overrides})
    for key in ("dropout", "attention_dropout"):
        _require(getattr(settings, key) < 1, f"{key} must be below 1")
    _require(settings.keep_checkpoints >= 2, "keep_checkpoints: the newest may be torn, keep 2")
    _require(settings.vocab_size <= 65_536, "vocab_size must fit into 16 bits")
    _require(settings.d_model % settings.n_head == 0, "n_head must divide d_model")
    return settings


def refuse_other_settings(settings: Settings, stored: dict) -> None:
    """A chain is one curve: settings that would bend it must be the checkpoint's."""
    wanted = vars(settings)
    changed = [
        f"{key} is {wanted[key]!r}, in the checkpoint {stored.get(key)!r}"
        for key in wanted
        if key not in MAY_CHANGE and wanted[key] != stored.get(key)
    ]
    blocks = settings.batch_size * settings.accumulation
    if blocks != (before := stored["batch_size"] * stored["accumulation"]):
        changed.append(f"batch_size x accumulation is {blocks}, in the checkpoint {before}")
    if changed:
        raise Refusal("config_mismatch", "; ".join(changed))


def _is_meant(key: str, value, kind) -> bool:
    if kind is str:
        return value in WORDS[key]
    if value is None:
        return key == "steps_per_session"
    if key in MAY_BE_ZERO and value == 0 and not isinstance(value, bool):
        return True
    return _is_positive(value, float if kind is float else int)


def _check_parent(parent) -> None:
    if parent is None:
        return
    _require(isinstance(parent, dict), "parent must be null or an object")
    for key in ("file", "sha256", "manifest_sha256"):
        _require(_is_text(parent.get(key), PATTERNS[key]), f"parent.{key} is malformed")
    for key in ("step", "bytes"):
        _require(_is_positive(parent.get(key), int), f"parent.{key} must be 1 or more")


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise Refusal("config_mismatch", detail)


def _is_text(value, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_positive(value, kind: type) -> bool:
    wanted = (int, float) if kind is float else int
    if not isinstance(value, wanted) or isinstance(value, bool):
        return False
    return (isinstance(value, int) or math.isfinite(value)) and value > 0
