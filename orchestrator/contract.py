"""The session contract, read as data: JSON Schemas, strict JSON, presets.

`kernel_template/contract/*.schema.json` are normative for both sides; nothing is imported from
the template.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NoReturn

from jsonschema_rs import Draft202012Validator, ValidationError

from orchestrator.errors import CheckpointError

CONTRACT = 1
TEXT_LIMIT_CHARACTERS = 64 << 10  # of one text or key in JSON from outside; none needs a tenth
_TEMPLATE = files("kernel_template")


def template_text(name: str) -> str:
    """Return the text of one file of the kernel template."""
    return _TEMPLATE.joinpath(name).read_text(encoding="utf-8")


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """Return one schema of the contract: parameters, manifest, verdict, history or progress."""
    loaded: dict[str, Any] = json.loads(template_text(f"contract/{name}.schema.json"))
    return loaded


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


@functools.cache
def _override_validator() -> Draft202012Validator:
    return Draft202012Validator(_override_schema())


def _override_schema() -> dict[str, Any]:
    overrides: dict[str, Any] = schema("parameters")["properties"]["training"]["properties"][
        "overrides"
    ]
    return overrides


def problems(name: str, document: object) -> list[str]:
    """Return what is wrong with a document, in words; nothing if it keeps the contract."""
    try:
        errors = sorted(_validator(name).iter_errors(document), key=lambda e: str(e.instance_path))
    except ValueError as error:  # nested too deeply, or text that is not Unicode
        return [f"{name}: {error}"]
    return [f"{'.'.join(map(str, e.instance_path)) or name}: {_message(e)}" for e in errors]


def _message(error: ValidationError) -> str:
    if error.kind.name == "enum":  # its own message leaves most of the choices out
        return f"{error.instance!r} is not one of {error.kind.as_dict()['options']}"[:200]
    return error.message[:200]


def override_problems(overrides: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with training overrides, in words; nothing if a session takes them."""
    allowed = _override_schema()
    if unknown := sorted(set(overrides) - set(allowed["properties"])):
        return [f"unknown setting {unknown[0]!r}; allowed: {', '.join(allowed['properties'])}"]
    infinite = [
        f"{name} = {value}: must be a finite number"
        for name, value in overrides.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    return infinite + [
        f"{error.instance_path[0]} = {error.instance!r}: {_message(error)}"
        for error in _override_validator().iter_errors(overrides)
    ]


def parse(name: str, content: bytes) -> dict[str, Any]:
    """Read a document that came out of a session.

    Raises:
        CheckpointError: it is not strict JSON, or does not keep the contract.
    """
    document = strict_json(content, name)
    try:
        _validator(name).validate(document)  # its first error: a million would be a gigabyte
    except ValidationError as error:
        place = ".".join(map(str, error.instance_path)) or name
        raise CheckpointError(
            f"the {name} does not keep the contract: {place[:200]}: {_message(error)}"
        ) from error
    except ValueError as error:  # nested too deeply
        raise CheckpointError(f"the {name} does not keep the contract: {error}") from error
    checked: dict[str, Any] = document
    return checked


def strict_json(content: bytes, name: str) -> Any:
    """Read JSON from outside: UTF-8, no key twice, no NaN, no end to nesting, no half character,
    no text of a megabyte.

    Raises:
        CheckpointError: it is anything else.
    """
    try:
        document = _STRICT.decode(content.decode("utf-8"))
        if b"\\ud" in content.lower():  # an escaped surrogate; alone it cannot be printed
            json.dumps(document, ensure_ascii=False).encode()
        if len(content) > TEXT_LIMIT_CHARACTERS:
            _check_texts(document)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the {name} is not valid JSON: {str(error)[:200]}") from error
    return document


def _check_texts(document: Any) -> None:
    """Raise ValueError if a text or a key, however deep, is longer than the limit."""
    left = [document]
    while left:
        found = left.pop()
        if isinstance(found, str) and len(found) > TEXT_LIMIT_CHARACTERS:
            raise ValueError(f"a text has more than {TEXT_LIMIT_CHARACTERS:,} characters")
        if isinstance(found, dict):
            left.extend(found)
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
)
