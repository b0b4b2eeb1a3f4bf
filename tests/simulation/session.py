"""The body of a simulated session: a training whose weights are a hash chain over its steps.

It keeps the session contract as the real template does, on bytes in memory. Whatever happens to
a chain, its weights after step S are `weights(S)`: every other value means that a session
continued from something else than it was told to.
"""

import functools
import hashlib
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.torchlike import Tensor, members

_UNPACKED = re.compile(r"(.*\.pt)/archive/(data\.pkl|data/0)")
_NUMBERS = struct.Struct("<33f")  # the only tensor of a checkpoint: its step, and its weights
_PARAMETERS = re.compile(
    r"^PARAMETERS = json\.loads\(r'''\n(.*?)\n'''\)$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Script:
    """What happens in one session."""

    steps: int = 10
    seconds: float = 2400.0
    ending: str = "complete"  # how the platform sees it: one of records.Ending
    reason: str | None = None  # what the verdict says
    training_complete: bool = False
    saves: bool = True  # false: it dies before its first checkpoint
    stale_versions: int = 0  # how many dataset versions its mount lags behind
    forgets: bool = False  # a training that does not restore what it loads
    denies_parent: bool = False  # a manifest that names no parent
    keeps_history: bool = True  # false: a training of somebody's own, that saves its state alone
    saves_every: int | None = None  # steps between the checkpoints that it leaves beside the newest
    diverges_at: float = math.inf  # the step from which on its weights are not finite
    reshapes: bool = False  # a training whose weights get another shape


@functools.cache
def weights(step: int) -> str:
    """The weights after so many steps of an uninterrupted training."""
    return _train(weights(step - 1), step) if step else "0" * 64


@functools.lru_cache
def read_weights(checkpoint: bytes) -> tuple[int, str]:
    """The step and the weights that a checkpoint file holds."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        step, *value = _NUMBERS.unpack(archive.read("archive/data/0"))
    is_finite = all(map(math.isfinite, value))
    return int(step), bytes(map(int, value)).hex() if is_finite else "not finite"


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of which a checkpoint may have been unpacked, with that checkpoint as one file."""
    unpacked = {path: match for path in files if (match := _UNPACKED.fullmatch(path))}
    found = {path: content for path, content in files.items() if path not in unpacked}
    for path, match in unpacked.items():
        if match[2] == "data/0":
            pickled = files[f"{match[1]}/archive/data.pkl"]
            found[match[1]] = _archive(pickled, files[path])
    return found


@functools.lru_cache
def read_parameters(source: str) -> dict[str, Any] | None:
    """What the pushed notebook tells its session; None for a notebook that is not ours."""
    try:
        cells = json.loads(source)["cells"]
    except ValueError:
        return None
    found = [match for cell in cells if (match := _PARAMETERS.search(cell["source"]))]
    return json.loads(found[0][1]) if found else None


def run(
    parameters: Mapping[str, Any], mounted: Mapping[str, bytes], script: Script, at: float
) -> dict[str, bytes]:
    """Run a session until `at`; returns the files that it leaves."""
    parent = parameters["parent"]
    start, resumed = _resume(parent, mounted) if parent else ((0, weights(0)), None)
    if start is None:
        return refuse(parameters, script, "parent_missing", at)
    if not script.saves:
        return {}
    step, value = (start[0], weights(0)) if script.forgets else start
    saved = []
    for step in range(start[0] + 1, start[0] + script.steps + 1):
        value = _train(value, step)
        if script.saves_every and step % script.saves_every == 0:
            saved.append((step, value))
    older = [state for state in saved if state[0] < step][-2:]
    files = _checkpoints(parameters, script, mounted, [*older, (step, value)], at)
    outcome = "complete" if script.training_complete else "stopped"
    verdict = _verdict(
        parameters, script, outcome, script.reason, at, first=start[0], last=step, resumed=resumed
    )
    return {
        **{f"checkpoints/{name}": data for name, data in files.items()},
        "session.json": verdict,
    }


def refuse(
    parameters: Mapping[str, Any], script: Script, reason: str, at: float
) -> dict[str, bytes]:
    """Return what a session leaves that ends before it began."""
    return {"session.json": _verdict(parameters, script, "refused", reason, at)}


def _resume(
    parent: Mapping[str, Any], mounted: Mapping[str, bytes]
) -> tuple[tuple[int, str] | None, dict[str, Any] | None]:
    for path, content in mounted.items():
        if path.endswith("/" + parent["file"]) and _sha256(content) == parent["sha256"]:
            resumed = {key: parent[key] for key in ("file", "step", "sha256")}
            return read_weights(content), resumed
    return None, None


def _train(value: str, step: int) -> str:
    return _sha256(f"{value} {step}".encode())


def _checkpoints(
    parameters: Mapping[str, Any],
    script: Script,
    mounted: Mapping[str, bytes],
    states: list[tuple[int, str]],
    at: float,
) -> dict[str, bytes]:
    """The folder `checkpoints/` at the end of the session; the newest state stands last."""
    saved = [_save(script, step, value, at) for step, value in states]
    step, name = states[-1][0], saved[-1][0]["name"]
    small = {
        "history": ("training_history.json", _history(parameters, mounted, step)),
        "pointer": ("latest_checkpoint.txt", name.encode()),
    }
    small = small if script.keeps_history else {}
    entries = [entry for entry, _data in saved]
    entries += [_entry(file, kind, data, at) for kind, (file, data) in small.items()]
    manifest = {
        **_identity(parameters),
        "parent": None if script.denies_parent else parameters["parent"],
        "created_at": at,
        "training_complete": script.training_complete,
        "latest": name,
        "files": entries,
        "publish": [name, *(file for file, _data in small.values())],
    }
    files = {entry["name"]: data for entry, data in saved} | dict(small.values())
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def _save(script: Script, step: int, value: str, at: float) -> tuple[dict[str, Any], bytes]:
    """One checkpoint, and what the manifest says of it."""
    numbers = [float(step), *bytes.fromhex(value)]
    if step >= script.diverges_at:
        numbers[-1] = math.nan
    content, pickled = _NUMBERS.pack(*numbers), _pickled(reshaped=script.reshapes)
    data = _archive(pickled, content)
    entry = {
        **_entry(f"checkpoint_epoch1_step{step}.pt", "checkpoint", data, at),
        "epoch": 1,
        "step": step,
        "train_loss": 1 / (step + 1),
        "val_loss": None,
        "members": [_member("data.pkl", pickled), _member("data/0", content)],
    }
    return entry, data


def _entry(name: str, kind: str, data: bytes, at: float) -> dict[str, Any]:
    facts = {"bytes": len(data), "sha256": _sha256(data), "created_at": at}
    return {"name": name, "kind": kind, **facts}


def _member(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "bytes": len(content), "sha256": _sha256(content)}


@functools.cache
def _pickled(*, reshaped: bool) -> bytes:
    """What torch would write beside the numbers of `{"model": {"weights": tensor}}`."""
    numbers = Tensor([0.0] * 33, shape=(3, 11) if reshaped else (33,))
    return members({"model": {"weights": numbers}})["data.pkl"]


@functools.lru_cache
def _archive(pickled: bytes, numbers: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in (("data.pkl", pickled), ("data/0", numbers)):
            archive.writestr(zipfile.ZipInfo(f"archive/{path}", (1980, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def _history(parameters: Mapping[str, Any], mounted: Mapping[str, bytes], step: int) -> bytes:
    carried = [data for path, data in mounted.items() if path.endswith("/training_history.json")]
    if carried:
        history = json.loads(carried[0])
    else:
        history = {"contract": 1, "chain": parameters["chain"], "steps": [], "sessions": []}
        history |= {"validations": [], "epochs": []}
    history["steps"].append({"step": step, "epoch": 1, "loss": 1 / (step + 1), "lr": 0.1})
    parent = parameters["parent"]
    first = {"first_step": parent["step"] if parent else 0}
    history["sessions"].append({key: parameters[key] for key in ("session", "attempt")} | first)
    return json.dumps(history).encode()


def _verdict(
    parameters: Mapping[str, Any],
    script: Script,
    outcome: str,
    reason: str | None,
    at: float,
    *,
    first: int = 0,
    last: int = 0,
    resumed: dict[str, Any] | None = None,
) -> bytes:
    seconds = dict.fromkeys(("startup", "data", "train", "evaluate", "save", "idle"), 0.0)
    verdict = {
        **_identity(parameters),
        "outcome": outcome,
        "reason": reason,
        "detail": reason or "",
        "first_step": first,
        "last_step": last,
        "training_complete": script.training_complete,
        "steps_per_second": (last - first) / script.seconds or None,
        "seconds": seconds,
        "devices": {"kind": "cpu", "names": [], "count": 0},
        "versions": {"python": "3.11"},
        "resumed_from": resumed,
        "written_at": at,
    }
    return json.dumps(verdict).encode()


def _identity(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: parameters[key] for key in ("contract", "chain", "session", "attempt", "token")}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
