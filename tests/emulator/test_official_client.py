import json
import os

import pytest


@pytest.fixture
def kaggle(local, in_client):
    """Run the official command; it must succeed."""

    def run(*arguments):
        result = in_client(local, "-m", "kaggle", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture
def kernel_folder(tmp_path):
    folder = tmp_path / "kernel"
    folder.mkdir()

    def write(source, **fields):
        metadata = {
            "id": "local/train-loop",
            "title": "Train Loop",
            "code_file": "script.py",
            "language": "python",
            "kernel_type": "script",
        }
        (folder / "kernel-metadata.json").write_text(json.dumps({**metadata, **fields}))
        (folder / "script.py").write_text(source)
        return str(folder)

    return write


@pytest.fixture
def dataset_folder(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    metadata = {"id": "local/my-data", "title": "My Data", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    (folder / "model.bin").write_bytes(os.urandom(300_000))
    (folder / "notes.txt").write_text("one")
    return folder


def test_a_kernel_is_pushed_polled_and_downloaded(kaggle, call, kernel_folder, tmp_path):
    folder = kernel_folder(
        "import os\nprint('hello')\nos.mkdir('sub')\nopen('sub/a', 'w').write('A')"
    )

    assert "Kernel version 1 successfully pushed" in kaggle("kernels", "push", "-p", folder)
    assert kaggle("kernels", "logs", "-f", "local/train-loop") == "hello\n"
    call.ended()
    assert "KernelWorkerStatus.COMPLETE" in kaggle("kernels", "status", "local/train-loop")
    kaggle("kernels", "output", "local/train-loop", "-p", str(tmp_path / "out"))
    assert (tmp_path / "out" / "sub" / "a").read_text() == "A"
    assert "hello" in (tmp_path / "out" / "train-loop.log").read_text()
    assert "sub/a" in kaggle("kernels", "files", "local/train-loop")
    assert "local/train-loop" in kaggle("kernels", "list", "-m")
    kaggle("kernels", "pull", "local/train-loop", "-p", str(tmp_path / "pulled"), "-m")
    pulled = json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())
    assert (pulled["id"], pulled["is_private"]) == ("local/train-loop", True)


def test_refusals_and_bad_sources_are_printed(kaggle, kernel_folder):
    folder = kernel_folder("pass", dataset_sources=["local/no-such"], title="Other Title")
    assert "Kernel push error: Notebook not found" in kaggle("kernels", "push", "-p", folder)

    folder = kernel_folder("pass", dataset_sources=["local/no-such"])
    assert "not valid dataset sources" in kaggle("kernels", "push", "-p", folder)


def test_a_dataset_is_created_versioned_and_downloaded(kaggle, call, dataset_folder, tmp_path):
    created = kaggle("datasets", "create", "-p", str(dataset_folder))
    assert "Your private Dataset is being created" in created
    call.ready(1)
    assert kaggle("datasets", "status", "local/my-data").strip() == "ready"

    (dataset_folder / "notes.txt").write_text("two")
    kaggle("datasets", "version", "-p", str(dataset_folder), "-m", "second")
    call.ready(2)
    status = kaggle("datasets", "status", "local/my-data", "--format", "json")
    assert json.loads(status) == {"status": "ready", "current_version_number": 2}
    assert "model.bin" in kaggle("datasets", "files", "local/my-data")
    target = tmp_path / "got"
    kaggle("datasets", "download", "local/my-data", "-p", str(target), "--unzip")
    kaggle("datasets", "download", "local/my-data/1", "-f", "notes.txt", "-p", str(target / "1"))
    for name in ("model.bin", "notes.txt"):
        assert (target / name).read_bytes() == (dataset_folder / name).read_bytes()
    assert (target / "1" / "notes.txt").read_text() == "one"


def test_a_dataset_is_not_created_twice(kaggle, call, dataset_folder):
    kaggle("datasets", "create", "-p", str(dataset_folder))
    call.ready(1)

    assert "already in use" in kaggle("datasets", "create", "-p", str(dataset_folder))


def test_quota_is_shown(kaggle):
    rows = json.loads(kaggle("quota", "--format", "json"))

    assert [(row["resource"], row["total"]) for row in rows] == [
        ("GPU", "30.00h"),
        ("TPU", "20.00h"),
    ]


def test_what_is_not_imitated_is_named(local, in_client):
    result = in_client(local, "-m", "kaggle", "competitions", "list")

    assert result.returncode != 0
    assert "ListCompetitions is not imitated by local Kaggle" in result.stdout + result.stderr
