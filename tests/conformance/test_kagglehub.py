"""`kagglehub` uploads datasets to a local Kaggle and downloads them."""

import json
from pathlib import Path

import pytest

UPLOAD = """
import sys, kagglehub
kagglehub.dataset_upload(sys.argv[1], sys.argv[2], version_notes=sys.argv[3])
"""
DOWNLOAD = """
import json, sys, kagglehub
found = [kagglehub.dataset_download(handle, path=path) for handle, path in json.loads(sys.argv[1])]
print(json.dumps(found))
"""
REFUSED = """
import sys, kagglehub
try:
    kagglehub.dataset_download(sys.argv[1])
except kagglehub.exceptions.KaggleApiHTTPError as error:
    print(error.response.status_code, str(error).splitlines()[-1])
"""


@pytest.fixture
def upload(in_client, ref, slug, ready, tmp_path):
    """Upload a folder of the given files and wait until it is ready."""

    def run(number, files, notes=""):
        folder = tmp_path / f"upload-{number}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        in_client(UPLOAD, ref, folder, notes)
        ready(slug, number)

    return run


@pytest.fixture
def download(in_client):
    """Download handles, each whole or by one file's path; return the paths on this disk."""

    def run(*wanted):
        return json.loads(in_client(DOWNLOAD, json.dumps(wanted)).splitlines()[-1])

    return run


@pytest.fixture
def names(server, slug):
    """The names of the files of a version, as they truly are."""

    def find(number):
        ask, world = server.platform.ledger.ask, server.platform.ledger.world
        version = ask(world.dataset_version, owner="local", slug=slug, number=number)
        return [file.name for file in version.files]

    return find


def _tree(folder):
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


def test_a_dataset_is_uploaded_renewed_and_downloaded(server, upload, download, names, ref, slug):
    first = {"a.txt": "one", "sub/deeper/b.txt": "two", "empty": ""}
    upload(1, first)
    upload(2, {"a.txt": "new"}, "the second")

    whole, old, single = download([ref, None], [f"{ref}/versions/1", None], [ref, "a.txt"])

    ask, world = server.platform.ledger.ask, server.platform.ledger.world
    seen = ask(world.dataset_versions, owner="local", slug=slug)
    assert (seen[0].version.number, seen[0].version.notes) == (2, "the second")
    assert ask(world.dataset, owner="local", slug=slug).draft.is_private
    assert names(1) == sorted(first)
    assert _tree(whole) == {"a.txt": "new"}
    assert _tree(old) == first
    assert Path(single).read_text() == "new"


def test_more_than_fifty_files_go_as_one_archive_that_is_unpacked(upload, download, names, ref):
    files = {f"part/file-{index:02d}.txt": str(index) for index in range(51)}
    upload(1, files)

    (whole,) = download([ref, None])

    assert sorted(_tree(whole).values()) == sorted(files.values())
    assert names(1) == [f"archive/{name}" for name in files]


def test_a_missing_dataset_is_denied(in_client):
    printed = in_client(REFUSED, "local/no-such-dataset")

    assert printed.startswith("403 ")
