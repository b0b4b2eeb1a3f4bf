"""State folders on networks and in synchronised folders are refused, unless forced."""

from pathlib import Path, PurePosixPath

import pytest

from orchestrator.cli.folders import (
    Mount,
    mounts,
    network_problem,
    parse_listed,
    parse_proc,
    sync_problem,
)

LINUX = r"""
proc /proc proc rw,relatime 0 0
/dev/nvme0n1p2 / ext4 rw,relatime 0 0
server:/export/home /home nfs4 rw,vers=4.2 0 0
/dev/nvme0n1p3 /home/ann/scratch xfs rw,relatime 0 0
//nas/share /mnt/nas\040share cifs rw 0 0
ann@host:/data /mnt/ssh fuse.sshfs rw,nosuid 0 0
/dev/sda1 /mnt/usb fuseblk rw 0 0
rclone: /mnt/drive fuse.rclone rw 0 0
overlay /mnt/over fuse.fuse-overlayfs rw 0 0
/dev/sdb1 /mnt/twice ext4 rw 0 0
host:/later /mnt/twice nfs rw 0 0
""".strip()
MAC = """
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//ann@nas._smb._tcp.local/share on /Volumes/my share (smbfs, nodev, nosuid, mounted by ann)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
ann@host: on /Volumes/ssh (macfuse, nodev, nosuid, synchronous, mounted by ann)
""".strip()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ann/run/.kchain/demo", "nfs4"),
        ("/home/ann/scratch/.kchain", None),
        ("/home/ann/scratches", "nfs4"),
        ("/homely", None),
        ("/mnt/nas share/run", "cifs"),
        ("/mnt/ssh/run", "fuse.sshfs"),
        ("/mnt/drive", "fuse.rclone"),
        ("/mnt/usb/run", None),
        ("/mnt/over/run", None),
        ("/mnt/twice/run", "nfs"),
        ("/var/lib", None),
    ],
)
def test_the_deepest_mount_above_a_folder_decides(folder, kind):
    problem = network_problem(PurePosixPath(folder), parse_proc(LINUX))

    assert (problem is None) == (kind is None)
    assert kind is None or f"is on {kind}," in problem


@pytest.mark.parametrize(
    ("folder", "is_refused"),
    [("/Volumes/my share/run", True), ("/Volumes/ssh", True), ("/Users/ann/run", False)],
)
def test_what_macos_lists_is_understood(folder, is_refused):
    assert bool(network_problem(PurePosixPath(folder), parse_listed(MAC))) is is_refused


@pytest.mark.parametrize(("point", "is_refused"), [("/", False), ("/mnt/c", True)])
def test_a_virtual_machine_may_have_its_root_from_its_host(point, is_refused):
    table = [Mount(PurePosixPath(point), "9p")]

    assert bool(network_problem(PurePosixPath("/mnt/c/run"), table)) is is_refused


def test_a_machine_without_a_table_is_not_refused():
    assert network_problem(PurePosixPath("/home"), parse_proc("")) is None
    assert parse_listed("nonsense") == []


def test_this_machines_own_table_has_a_root():
    assert Path("/") in {mount.point for mount in mounts()}


@pytest.mark.parametrize(
    ("folder", "program"),
    [
        ("/home/ann/Dropbox/run", "Dropbox"),
        ("/home/ann/Dropbox (Personal)/run", "Dropbox"),
        ("/Users/ann/OneDrive - My Company/run", "OneDrive"),
        ("/Users/ann/Google Drive/run", "Google Drive"),
        ("/Users/ann/Library/Mobile Documents/com~apple~CloudDocs/run", "iCloud"),
        ("/Users/ann/Library/CloudStorage/Box-Box/run", "macOS"),
        ("/home/ann/dropbox-exports/run", None),
        ("/home/ann/work/run", None),
    ],
)
def test_a_synchronised_folder_is_known_by_its_name(folder, program):
    problem = sync_problem(PurePosixPath(folder), lambda _path: False)

    assert (problem is None) == (program is None)
    assert program is None or program in problem


@pytest.mark.parametrize("marker", [".dropbox.cache", ".stfolder", ".tmp.driveupload"])
def test_a_synchronised_folder_is_known_by_its_marker(tmp_path, marker):
    folder = tmp_path / "shared" / "run" / ".kchain"
    assert sync_problem(folder, Path.exists) is None

    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / marker).mkdir()

    assert str(tmp_path / "shared") in sync_problem(folder, Path.exists)


def test_the_home_of_somebody_who_uses_dropbox_is_not_synchronised(tmp_path):
    (tmp_path / ".dropbox").mkdir()  # its settings

    assert sync_problem(tmp_path / "run", Path.exists) is None


@pytest.mark.parametrize("command", ["run", "tick", "recover"])
def test_a_state_folder_that_is_synchronised_is_refused_until_forced(
    kchain, project_folder, tmp_path, command
):
    project_folder()
    synced = tmp_path / "Dropbox"
    synced.mkdir()
    (tmp_path / "kchain.toml").rename(synced / "kchain.toml")
    env = {"KAGGLE_API_TOKEN": "KGAT_none", "KCHAIN_KAGGLE_ENDPOINT": "http://127.0.0.1:9"}

    refused = kchain(command, cwd=synced, env=env)
    was_made = (synced / ".kchain").exists()
    forced = kchain(command, cwd=synced, env={**env, "KCHAIN_CHAIN_FORCE_FOLDER": "true"})

    assert refused.returncode == 2
    assert "force_folder = true" in refused.stderr
    assert not was_made
    assert forced.returncode == 3, forced.stderr
    assert "does not answer" in forced.stderr
