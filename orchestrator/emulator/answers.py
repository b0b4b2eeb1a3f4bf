"""Whole answers, and the ways in which a fault changes them. Pure, but for sending."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from starlette.types import Send

from orchestrator.emulator.faults import Fault, Wire
from orchestrator.emulator.links import EXPIRED

Headers = list[tuple[bytes, bytes]]
Json = dict[str, Any]

_INVERTED = bytes(255 - byte for byte in range(256))
_NAME_OF = {"files": "fileName", "datasetFiles": "name"}  # in a list of files
_KINDS = {"{": "application/json", "[": "application/json", "<?": "application/xml"}


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[bytes, bytes]

    def with_json(self, content: Json) -> "Answer":
        return replace(self, body=json.dumps(content).encode())

    async def send(self, send: Send) -> None:
        """Send it; its length is what it is."""
        length = str(len(self.body)).encode()
        headers = list({**self.headers, b"content-length": length}.items())
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


EXPIRED_LINK = Answer(403, EXPIRED.encode(), {b"content-type": b"application/xml"})


def planned(fault: Fault) -> Answer:
    """What a fault answers instead of local Kaggle."""
    usual = 200 if fault.effect in (Wire.ANSWER, Wire.ANSWER_AFTER) else 503
    status = usual if fault.status is None else fault.status
    text = fault.body
    if text is None:
        text = json.dumps({"code": status, "message": HTTPStatus(status).phrase})
    kind = next((kind for start, kind in _KINDS.items() if text.startswith(start)), "text/html")
    headers = with_headers([], {"content-type": kind, **fault.headers})
    return Answer(status, text.encode(), dict(headers))


def with_headers(headers: Headers, changes: Mapping[str, str]) -> Headers:
    """Set headers; those that become empty are removed."""
    new = {name.lower().encode(): value.encode("latin-1") for name, value in changes.items()}
    kept = [(name, value) for name, value in headers if name.lower() not in new]
    return kept + [(name, value) for name, value in new.items() if value]


def edited(content: Json, fault: Fault) -> Json:
    return dict(merge_patch(content, fault.patch))


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch; a null removes its field."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def without_second_halves(content: Json, _fault: Fault) -> Json:
    return {
        name: value[: len(value) // 2] if isinstance(value, list) else value
        for name, value in content.items()
    }


def renamed(content: Json, fault: Fault) -> Json:
    """Give the first listed file another name."""
    lists = {
        key: [_with_name(files[0], _NAME_OF[key], fault), *files[1:]]
        for key, files in _file_lists(content).items()
    }
    return {**content, **lists}


def doubled(content: Json, fault: Fault) -> Json:
    """List the first file once more."""
    lists = {
        key: [*files, _with_name(files[0], _NAME_OF[key], fault)]
        for key, files in _file_lists(content).items()
    }
    return {**content, **lists}


def _file_lists(content: Json) -> dict[str, list[Json]]:
    return {key: content[key] for key in _NAME_OF if content.get(key)}


def _with_name(file: Json, key: str, fault: Fault) -> Json:
    name = str(file[key])
    new = (fault.file_name or "{name}").replace("{name}", name).replace("{NAME}", name.upper())
    return {**file, key: new}


def with_flipped_bit(body: bytes) -> bytes:
    """Flip the highest bit of the middle byte."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x80]) + body[middle + 1 :]


def inverted(body: bytes) -> bytes:
    return body.translate(_INVERTED)
