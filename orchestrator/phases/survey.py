"""What Kaggle holds of a chain, read for a journal that was lost, and what follows from it.

Kernel versions tell what each session was told, dataset versions hold the accepted checkpoints,
and each checkpoint's manifest names its parent: together they are the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator import contract, kernel
from orchestrator.checkpoints import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    Expectation,
    Manifest,
    parse_manifest,
)
from orchestrator.errors import CheckpointError, NotNow
from orchestrator.kaggle.port import DatasetInfo, Gone, Unreadable
from orchestrator.model import Checkpoint, Parent
from orchestrator.phases.context import NOT_OURS, Context, Stop


@dataclass(frozen=True, slots=True)
class FoundPush:
    """A kernel version that this chain pushed, and what it told its session."""

    version: int
    parameters: Mapping[str, Any]

    @property
    def session(self) -> int:
        number: int = self.parameters["session"]
        return number

    def continues(self, head: Checkpoint | None, heads: int) -> bool:
        """Tell whether its session is the one after `head`, and was told so."""
        parent = head.as_parent() if head else None
        return self.session == heads + 1 and expectation(self.parameters).parent == parent

    def follows(self, found: FoundVersion | None) -> bool:
        """Tell whether its session is the one after what a dataset version holds."""
        parent = expectation(self.parameters).parent
        if found is None or parent is None:
            return found is None and parent is None and self.session == 1
        return self.session == found.session + 1 and found.holds(parent)


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A dataset version with a manifest of this chain."""

    number: int
    content: bytes
    manifest: Manifest

    @property
    def session(self) -> int:
        number: int = self.manifest.body["session"]
        return number

    @property
    def expected(self) -> Expectation:
        return expectation(self.manifest.body)

    def holds(self, parent: Parent) -> bool:
        """Tell whether this is the checkpoint that a later session was told to continue."""
        return parent.manifest_sha256 == self.manifest.sha256 and _lists(self.manifest, parent)


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found; pushes and versions newest first."""

    pushes: tuple[FoundPush, ...]
    dataset: DatasetInfo | None
    versions: tuple[FoundVersion, ...]

    @property
    def newest_push(self) -> FoundPush | None:
        return self.pushes[0] if self.pushes else None

    def push_of(self, found: FoundVersion) -> FoundPush | None:
        """Return the push whose session made this version's checkpoint."""
        token = found.manifest.body["token"]
        return next((p for p in self.pushes if p.parameters["token"] == token), None)

    def was_accepted(self, found: FoundVersion) -> bool:
        """Tell whether a session was pushed to continue this checkpoint: only a head's is."""
        parents = (expectation(push.parameters).parent for push in self.pushes)
        return any(parent and parent.manifest_sha256 == found.manifest.sha256 for parent in parents)

    def pushes_after(self, version: int) -> list[FoundPush]:
        """Return what was pushed after a kernel version, newest first."""
        return [push for push in self.pushes if push.version > version]

    def descends(self, found: FoundVersion, head: Checkpoint) -> bool:
        """Tell whether a proven version holds `head`, or what was made from it."""
        by_sha256 = {other.manifest.sha256: other for other in self.versions}
        last: FoundVersion | None = found
        while last is not None and last.manifest.sha256 != head.manifest_sha256:
            parent = last.expected.parent
            if parent is None or parent == head.as_parent():
                return parent is not None
            last = by_sha256.get(parent.manifest_sha256)
        return last is not None

    def candidates(self) -> list[FoundVersion]:
        """Return the versions that may hold the head: the farthest along first, then the newest."""
        proven = [found for found in self.versions if self._is_proven(found)]
        return sorted(proven, key=lambda found: (found.session, found.number), reverse=True)

    def _is_proven(self, found: FoundVersion) -> bool:
        """Tell whether its session was told what its manifest says, and its parents lead to 1."""
        push = self.push_of(found)
        if push and expectation(push.parameters) != found.expected:
            return False
        return self._has_lineage(found)

    def _has_lineage(self, found: FoundVersion) -> bool:
        """Follow the parents back, as far as there are versions to follow."""
        by_sha256 = {other.manifest.sha256: other for other in self.versions}
        while (parent := found.expected.parent) is not None:
            before = by_sha256.get(parent.manifest_sha256)
            if before is None:
                return self._has_gaps()
            if before.session != found.session - 1 or not _lists(before.manifest, parent):
                return False
            found = before
        return found.session == 1

    def _has_gaps(self) -> bool:
        """Tell whether a version is gone or unusable, so that a parent may have been in it."""
        return self.dataset is not None and len(self.versions) < self.dataset.current_version


def survey(context: Context, *, is_patient: bool) -> Survey | Stop:
    """Read every version of the chain's kernel and of its dataset. Changes nothing on Kaggle.

    Raises:
        NotNow: something cannot be read, and nobody is patient.
    """
    reader = _Reader(context, is_patient)
    pushes = reader.pushes()
    if isinstance(pushes, Stop):
        return pushes
    what = f"dataset {context.settings.dataset_slug}"
    info = context.kaggle.dataset(context.settings.dataset_slug)
    if isinstance(info, Unreadable):
        return reader.unreadable(what, info)
    if isinstance(info, Gone):
        return Survey(pushes, None, ())
    versions = reader.versions(info.current_version)
    return versions if isinstance(versions, Stop) else Survey(pushes, info, versions)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads versions, newest first, and waits for those that cannot be read, or says so."""

    context: Context
    is_patient: bool

    def pushes(self) -> tuple[FoundPush, ...] | Stop:
        slug, name = self.context.settings.kernel_slug, self.context.settings.chain.name
        info = self.context.kaggle.kernel(slug)
        if isinstance(info, Unreadable):
            return self.unreadable(f"kernel {slug}", info)
        found = []
        for version in _down_from(0 if isinstance(info, Gone) else info.current_version):
            answer = self.context.kaggle.kernel(slug, version)
            if isinstance(answer, Unreadable):
                if stop := self.given_up(f"kernel {slug} version {version}", answer):
                    return stop
                continue
            parameters = None if isinstance(answer, Gone) else kernel.read_parameters(answer.source)
            if parameters and parameters["chain"] == name:
                found.append(FoundPush(version, parameters))
        return tuple(found)

    def versions(self, newest: int) -> tuple[FoundVersion, ...] | Stop:
        slug, found = self.context.settings.dataset_slug, []
        for number in _down_from(newest):
            content = self.context.kaggle.dataset_file(slug, number, MANIFEST, MANIFEST_LIMIT_BYTES)
            if isinstance(content, Unreadable):
                if stop := self.given_up(f"dataset {slug} version {number}", content):
                    return stop
                continue
            manifest = None if isinstance(content, Gone) else _manifest(self.context, content)
            if manifest and isinstance(content, bytes):
                found.append(FoundVersion(number, content, manifest))
        return tuple(found)

    def unreadable(self, what: str, answer: Unreadable) -> Stop:
        self._check_patience(answer)
        return Stop(self.context.unreadable(what, answer))

    def given_up(self, what: str, answer: Unreadable) -> Stop | None:
        self._check_patience(answer)
        return self.context.given_up(what, answer, NOT_OURS)

    def _check_patience(self, answer: Unreadable) -> None:
        if not self.is_patient:
            raise NotNow(f"Kaggle cannot be read ({answer.message}); try again later")


def expectation(body: Mapping[str, Any]) -> Expectation:
    """Return what parameters or a manifest say of their session."""
    parent = body["parent"]
    return Expectation(
        chain=body["chain"],
        session=body["session"],
        attempt=body["attempt"],
        token=body["token"],
        parent=Parent(**{key: parent[key] for key in Parent.__slots__}) if parent else None,
    )


def _manifest(context: Context, content: bytes) -> Manifest | None:
    """Return a manifest that keeps the contract and is this chain's; None for any other."""
    try:
        body = contract.parse("manifest", content)
        return parse_manifest(content, expectation({**body, "chain": context.settings.chain.name}))
    except CheckpointError:
        return None


def _lists(manifest: Manifest, parent: Parent) -> bool:
    """Tell whether the checkpoint that a later manifest calls its parent is in this one."""
    wanted = (parent.file, parent.sha256, parent.step)
    return any(
        (entry["name"], entry["sha256"], entry.get("step")) == wanted
        for entry in manifest.body["files"]
    )


def _down_from(newest: int) -> Iterator[int]:
    return iter(range(newest, 0, -1))
