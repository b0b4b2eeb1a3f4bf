"""Where a chain's state may not live: on file systems whose locks and renames cannot be trusted.

A network file system may grant one lock twice and show an old file after a rename; a program that
synchronises a folder copies a journal while it is being written, and brings old ones back.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from orchestrator.errors import ConfigError

NETWORK = frozenset(
    {
        *{"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "ftp", "glusterfs"},
        *{"gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "panfs", "prl_fs", "smb2", "smb3"},
        *{"smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"},
    }
)
MACHINE_ROOTS = frozenset({"9p", "virtiofs"})  # what some containers and VMs have as their "/"
# FUSE carries anything. These keep their files on this machine.
LOCAL_FUSE = frozenset(
    {
        *{"fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.exfat", "fuse.ext2", "fuseblk"},
        *{"fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs", "fuse.ntfs-3g"},
        *{"fuse.unionfs"},
    }
)
# Folders that belong to a synchronising program, by what they are called ...
_SYNCED_NAMES = (
    ("Dropbox", re.compile(r"Dropbox( \(.+\))?")),
    ("OneDrive", re.compile(r"OneDrive( - .+)?")),
    ("Google Drive", re.compile(r"Google ?Drive|My Drive")),
    ("iCloud", re.compile(r"iCloud ?Drive|Mobile Documents")),
    ("a cloud provider of macOS", re.compile(r"CloudStorage")),
)
# ... or by what the program keeps at their top.
_MARKERS = {
    ".dropbox.cache": "Dropbox",
    ".849C9593-D756-4E56-8D6E-42412F2A707B": "OneDrive",
    ".tmp.driveupload": "Google Drive",
    ".tmp.drivedownload": "Google Drive",
    ".stfolder": "Syncthing",
    ".nextcloudsync.log": "Nextcloud",
    ".owncloudsync.log": "ownCloud",
}
_ESCAPE = re.compile(r"\\([0-7]{3})")  # how /proc/mounts writes spaces and the like
_LISTED = re.compile(r".* on (?P<point>/.*?) \((?P<type>[A-Za-z0-9._-]+)[,)].*")  # macOS, BSD


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount point and the type of what is mounted there."""

    point: PurePath
    type: str


def refuse_shared(state_dir: Path, *, force: bool) -> None:
    """Raise ConfigError if a state folder is on a network or in a synchronised folder."""
    if force:
        return
    folder = state_dir.resolve()
    why = network_problem(folder, mounts()) or sync_problem(folder, os.path.exists)
    if why:
        raise ConfigError(
            f"{folder} {why}: locks and renames cannot be trusted there, and two controllers or an"
            " old journal could cost a session. Move the project to a local disk, or set"
            " `force_folder = true` under [chain] (or KCHAIN_CHAIN_FORCE_FOLDER=true) if you know"
            " better"
        )


def network_problem(folder: PurePath, table: Iterable[Mount]) -> str | None:
    """Return what is wrong with the file system that a folder is on; the last mount wins."""
    holding = [mount for mount in table if folder.is_relative_to(mount.point)]
    if not holding:
        return None
    deepest = max(len(mount.point.parts) for mount in holding)
    mount = [mount for mount in holding if len(mount.point.parts) == deepest][-1]
    if not _is_remote(mount.type) or (deepest == 1 and mount.type in MACHINE_ROOTS):
        return None
    return f"is on {mount.type}, mounted at {mount.point}"


def sync_problem(folder: PurePath, exists: Callable[[Path], bool]) -> str | None:
    """Return which program synchronises a folder, by the names above it or by its markers."""
    for above in (folder, *folder.parents):
        for program, pattern in _SYNCED_NAMES:
            if pattern.fullmatch(above.name):
                return f"is in {above}, which looks like {program}'s"
        for marker, program in _MARKERS.items():
            if exists(Path(above, marker)):
                return f"is in {above}, which {program} synchronises"
    return None


def mounts() -> list[Mount]:
    """Return this machine's mounts; none where that cannot be found out."""
    try:
        return parse_proc(Path("/proc/self/mounts").read_text("utf-8", "surrogateescape"))
    except OSError:
        pass
    try:
        listed = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_listed(listed.stdout)


def parse_proc(text: str) -> list[Mount]:
    """Read Linux's table: device, mount point, type, options and two numbers a line."""
    fields = (line.split(" ") for line in text.splitlines())
    return [Mount(PurePath(_unescaped(row[1])), row[2]) for row in fields if len(row) >= 4]


def parse_listed(text: str) -> list[Mount]:
    """Read what `mount` prints on macOS and BSD: `DEVICE on POINT (TYPE, ...)` a line."""
    found = (_LISTED.fullmatch(line) for line in text.splitlines())
    return [Mount(PurePath(match["point"]), match["type"]) for match in found if match]


def _is_remote(kind: str) -> bool:
    is_fuse = kind.startswith(("fuse", "macfuse", "osxfuse"))
    return kind in NETWORK or (is_fuse and kind not in LOCAL_FUSE)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda code: chr(int(code[1], 8)), text)
