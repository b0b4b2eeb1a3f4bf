"""Disks beneath `Files`: one that fails at its n-th operation, one that knows what a cut leaves."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from orchestrator.disk import Disk, StrPath

OPERATIONS = (
    *("make_folder", "open", "write", "empty", "flush"),
    *("link", "rename", "unlink", "remove_folder"),
)
FEW = 5  # so many things that may be lost: all their combinations are tried
SAMPLES = 12  # of the combinations of more
MIXED = 4  # draws of what becomes of files, where several are not flushed


class FailingDisk(Disk):
    """Fails at operation number `at`: with nothing done, or a write with half of it done."""

    def __init__(self, at: int, errno: int) -> None:
        self.at, self.errno, self.count = at, errno, 0
        self.failed: str | None = None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return self._counted(name, value) if name in OPERATIONS else value

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any) -> Any:
            self.count += 1
            if self.count != self.at:
                return call(*args)
            self.failed = name
            if name == "write":
                call(args[0], args[1][: len(args[1]) // 2])
            if name == "remove_folder":
                return None  # what cannot be removed stays, and nobody is told
            raise OSError(self.errno, os.strerror(self.errno), str(args[0]))

        return operation


@dataclass(eq=False)
class File:
    """The bytes of a file: those it has, and those that are known to last."""

    data: bytes = b""
    lasting: bytes = b""

    def flush(self) -> None:
        self.lasting = self.data

    @property
    def is_safe(self) -> bool:
        return self.data == self.lasting

    def after_cut(self, fate: str) -> bytes:
        """What a power cut leaves of it."""
        if self.is_safe or fate == "kept":
            return self.data
        return {
            "lost": self.lasting,
            "torn": self.data[: len(self.data) // 2],
            "zeros": bytes(len(self.data)),
        }[fate]


FATES = ("lost", "torn", "zeros", "kept")


@dataclass(eq=False)
class Folder:
    """The names in a folder: those it has, and those that are known to last."""

    names: dict[str, "File | Folder"] = field(default_factory=dict)
    lasting: dict[str, "File | Folder"] = field(default_factory=dict)


@dataclass(eq=False)
class Change:
    """A change of names that the next flush of `folder` lets last; a rename is one change."""

    folder: Folder
    steps: list[tuple[Folder, str, "File | Folder | None"]]


class CutDisk(Disk):
    """Does everything for real, and keeps beside it what would survive a power cut now.

    Raises `death` before operation number `at`, so that somebody can put such a state in place.
    """

    def __init__(self, root: Path, at: int = 0, death: type[BaseException] = SystemExit) -> None:
        self.root, self.at, self.death, self.count = root, at, death, 0
        self._top = _as_it_stands(root)
        self._changes: list[Change] = []
        self._open: dict[int, File] = {}

    # What is done

    def make_folder(self, path: StrPath, mode: int) -> None:
        self._pass()
        super().make_folder(path, mode)
        if self._find(path) is None:
            self._name(path, Folder())

    def open(self, path: StrPath, flags: int, mode: int) -> IO[bytes]:
        self._pass()
        file = super().open(path, flags, mode)
        if self._find(path) is None:
            self._name(path, File())
        self._open[id(file)] = self._file(path)
        return file

    def write(self, file: IO[bytes], data: bytes) -> None:
        self._pass()
        super().write(file, data)
        self._open[id(file)].data += data

    def empty(self, file: IO[bytes]) -> None:
        self._pass()
        super().empty(file)
        self._open[id(file)].data = b""

    def flush(self, path: StrPath) -> None:
        self._pass()
        super().flush(path)
        found = self._find(path)
        if isinstance(found, File):
            found.flush()
            return
        assert isinstance(found, Folder)
        for change in [change for change in self._changes if change.folder is found]:
            _apply(change, "lasting")
            self._changes.remove(change)

    def link(self, source: StrPath, target: StrPath) -> None:
        self._pass()
        super().link(source, target)
        self._name(target, self._file(source))

    def rename(self, source: StrPath, target: StrPath) -> None:
        self._pass()
        super().rename(source, target)
        moved, old, new = self._find(source), self._parent(source), self._parent(target)
        assert moved is not None
        self._change(Change(new, [(old, Path(source).name, None), (new, Path(target).name, moved)]))

    def unlink(self, path: StrPath) -> None:
        self._pass()
        super().unlink(path)
        if self._find(path) is not None:
            self._name(path, None)

    def remove_folder(self, path: StrPath) -> None:
        self._pass()
        super().remove_folder(path)
        found = self._find(path)
        if isinstance(found, Folder):
            for name in list(found.names):
                self._change(Change(found, [(found, name, None)]))
            self._name(path, None)

    # What a cut leaves

    def cuts(self, draw: random.Random) -> Iterator[dict[str, bytes | None]]:
        """States that a power cut may leave now: paths with bytes, None for a folder.

        They are all of them while few names wait to be flushed, and draws of more.
        """
        for kept in self._subsets(draw):
            for fates in self._fates(draw):
                yield self._tree(kept, fates)

    def _fates(self, draw: random.Random) -> list[dict[File, str]]:
        unsafe = list({file: None for file in _files(self._top) if not file.is_safe})
        if not unsafe:
            return [{}]
        alike = [dict.fromkeys(unsafe, fate) for fate in FATES]
        if len(unsafe) == 1:
            return alike
        return alike + [{file: draw.choice(FATES) for file in unsafe} for _ in range(MIXED)]

    def _subsets(self, draw: random.Random) -> list[list[Change]]:
        changes = self._changes
        if len(changes) <= FEW:
            return [
                [change for bit, change in enumerate(changes) if number >> bit & 1]
                for number in range(1 << len(changes))
            ]
        ends = [changes[:count] for count in (0, len(changes) - 1, len(changes))]
        return ends + [[c for c in changes if draw.random() < 0.5] for _ in range(SAMPLES)]

    def _tree(self, kept: list[Change], fates: dict[File, str]) -> dict[str, bytes | None]:
        names = {folder: dict(folder.lasting) for folder in _folders(self._top)}
        for change in kept:
            for folder, name, node in change.steps:
                table = names.setdefault(folder, dict(folder.lasting))
                if node is None:
                    table.pop(name, None)
                else:
                    table[name] = node

        def walk(folder: Folder, prefix: str) -> Iterator[tuple[str, bytes | None]]:
            for name, node in names.get(folder, folder.lasting).items():
                if isinstance(node, File):
                    yield prefix + name, node.after_cut(fates.get(node, "kept"))
                else:
                    yield prefix + name, None
                    yield from walk(node, f"{prefix}{name}/")

        return dict(walk(self._top, ""))

    # How it works

    def _pass(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.death

    def _find(self, path: StrPath) -> File | Folder | None:
        node: File | Folder | None = self._top
        for part in Path(path).relative_to(self.root).parts:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def _file(self, path: StrPath) -> File:
        found = self._find(path)
        assert isinstance(found, File)
        return found

    def _parent(self, path: StrPath) -> Folder:
        found = self._find(Path(path).parent)
        assert isinstance(found, Folder)
        return found

    def _name(self, path: StrPath, node: File | Folder | None) -> None:
        folder = self._parent(path)
        self._change(Change(folder, [(folder, Path(path).name, node)]))

    def _change(self, change: Change) -> None:
        _apply(change, "names")
        self._changes.append(change)


def _as_it_stands(path: Path) -> Folder:
    """The folders that are there already, known to last; files there are none of ours."""
    names = {entry.name: _as_it_stands(entry) for entry in path.iterdir() if entry.is_dir()}
    return Folder(dict(names), dict(names))


def _apply(change: Change, table: str) -> None:
    for folder, name, node in change.steps:
        names = getattr(folder, table)
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _folders(top: Folder) -> Iterator[Folder]:
    yield top
    for node in {**top.lasting, **top.names}.values():
        if isinstance(node, Folder):
            yield from _folders(node)


def _files(top: Folder) -> Iterator[File]:
    for folder in _folders(top):
        for node in {**folder.lasting, **folder.names}.values():
            if isinstance(node, File):
                yield node
