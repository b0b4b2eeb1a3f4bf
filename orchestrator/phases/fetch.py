"""Brings single files out of a session's output, by URLs listed this moment: URLs expire.

A file that arrives wrong is fetched anew a few times. One that stays listed while its download
says that it is not there is waited for as long as anything that Kaggle denies though it exists;
then it counts as damaged. The journal holds how often that was said: a restart goes on counting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.checkpoints import CHECKPOINT_LIMIT_BYTES, MANIFEST_LIMIT_BYTES, verify_file
from orchestrator.errors import CheckpointError
from orchestrator.kaggle.port import Gone, OutputFile, Trouble, Unreadable
from orchestrator.machine import Kind, Push
from orchestrator.phases import copies
from orchestrator.phases.context import MISSING_SECONDS, Context, Stop

T = TypeVar("T")

FOLDER = "checkpoints/"
FRESH_DOWNLOADS = 3  # before a file that does not verify counts as wrong on Kaggle's side too


def list_output(context: Context) -> dict[str, OutputFile] | Stop:
    """Return all files of the session that ended, by name.

    Raises:
        CheckpointError: Kaggle does not know of any output, and a person has seen that.
    """
    slug, version = context.settings.kernel_slug, _push(context).version
    assert version is not None
    answer = context.kaggle.outputs(slug, version)
    what = f"the output of {slug} version {version}"
    if isinstance(answer, Unreadable):
        return Stop(context.unreadable(what, answer))
    if isinstance(answer, Gone):
        if stop := context.given_up(what, answer, "the session counts as one that brought nothing"):
            return stop
        raise CheckpointError(f"{what} is gone: {answer.message}", "no_output")
    return {file.name: file for file in answer}


def fetch_document(
    context: Context, folder: Path, path: str, parse: Callable[[bytes], T]
) -> T | Stop:
    """Fetch one of the session's own documents, always anew, and read it."""
    name = path.removeprefix(FOLDER)

    def attempt() -> T | Stop:
        context.files.discard(folder, name)
        if stop := _bring(context, folder, path, MANIFEST_LIMIT_BYTES):
            return stop
        return parse(context.files.read(folder, name, MANIFEST_LIMIT_BYTES))

    return _patiently(attempt)


def fetch_verified(context: Context, folder: Path, entry: Mapping[str, Any]) -> Stop | None:
    """Bring what is missing of one file that the manifest lists, and verify it."""
    name, limit = entry["name"], min(entry["bytes"], CHECKPOINT_LIMIT_BYTES)

    def attempt() -> Stop | None:
        try:
            is_here = context.files.size_bytes(folder, name) == entry["bytes"]
            if not is_here and (stop := _bring(context, folder, FOLDER + name, limit)):
                return stop
            verify_file(context.files, folder, entry, lambda: copies.head_tensors(context))
        except CheckpointError:
            context.files.discard(folder, name)
            raise
        return None

    return _patiently(attempt)


def _patiently(attempt: Callable[[], T]) -> T:
    """Try again, from a fresh download, each time that what arrives is wrong."""
    for _ in range(FRESH_DOWNLOADS - 1):
        try:
            return attempt()
        except CheckpointError:
            continue
    return attempt()


def _bring(context: Context, folder: Path, path: str, limit_bytes: int) -> Stop | None:
    """Download one file of a fresh listing into an attempt's folder, going on where it stands."""
    name, listed = path.removeprefix(FOLDER), list_output(context)
    if isinstance(listed, Stop):
        return listed
    if path not in listed:
        raise CheckpointError(f"the session's output lacks {name}")
    with context.files.partial(folder, name) as sink:
        answer = context.kaggle.download(listed[path], sink, limit_bytes)
    if isinstance(answer, Gone):
        return _missed(context, name, answer)
    if isinstance(answer, Unreadable):
        if answer.trouble is Trouble.ODD:
            raise CheckpointError(f"{name}: {answer.message}")
        return Stop(context.unreadable(name, answer))
    if name in _push(context).missed:
        context.journal.append(Kind.OUTPUT_BACK, file=name)
    return None


def _missed(context: Context, name: str, answer: Gone) -> Stop:
    """Count a listed file that is not there, at most so often that it takes six hours: to wait
    costs idle time, to give up too early costs what a session has trained.

    Raises:
        CheckpointError: that has been said often enough, and for long enough.
    """
    before = _push(context).missed.get(name)
    gap = MISSING_SECONDS / (FRESH_DOWNLOADS - 1)
    if before is None or context.seconds_since(before.age) >= gap:
        context.journal.append(Kind.OUTPUT_MISSED, file=name, message=answer.message)
    if _push(context).missed[name].times >= FRESH_DOWNLOADS:
        message = f"{name} is listed, and its download says: {answer.message}"
        raise CheckpointError(message, "no_checkpoint")
    return Stop(context.unreadable(name, answer))


def _push(context: Context) -> Push:
    assert context.state.push is not None
    return context.state.push
