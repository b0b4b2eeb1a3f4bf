import gzip
import io
import tarfile
import zipfile

import pytest

from orchestrator.emulator.server import LocalKaggle, Settings


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(**members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def stored(call):
    listing = call.datasets("ListDatasetFiles", ownerSlug="local", datasetSlug="my-data")
    return {file["name"]: file["totalBytes"] for file in listing.get("datasetFiles", [])}


@pytest.mark.parametrize(
    ("name", "content", "files"),
    [
        ("tree.zip", zipped(**{"a.txt": "aa", "sub/b+c.txt": "b"}), ["tree/a.txt", "tree/sub/bc.txt"]),
        ("tree.tar.gz", tarred(**{"a.txt": b"a"}), ["tree/a.txt"]),
        ("notes.txt.gz", gzip.compress(b"hello"), ["notes.txt"]),
        ("escape.zip", zipped(**{"../a": "a", "/b": "b", "c": "c"}), ["escape/c"]),
        ("broken.zip", b"PK but not really", ["broken.zip"]),
        ("model.pt", zipped(**{"model/data.pkl": "p"}), ["model.pt"]),
        ("checkpoint.bin", zipped(**{"model/data.pkl": "p"}), ["checkpoint.bin"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_archives_are_unpacked_at_ingest(call, name, content, files):
    call.create_dataset({name: content})

    assert list(stored(call)) == files
    if files == [name]:
        assert stored(call) == {name: len(content)}


def test_a_checkpoint_may_be_unpacked_as_the_zip_it_is(tmp_path, caller):
    settings = Settings(unpack_checkpoints=True, dataset_processing_seconds=0.1)
    with LocalKaggle(tmp_path / "state", settings=settings) as server:
        call = caller(server)
        call.create_dataset({"model.pt": zipped(**{"model/data.pkl": "p"}), "old.pth": b"raw"})

        assert list(stored(call)) == ["model.pt/model/data.pkl", "old.pth"]
