"""`kaggle datasets`, as a user runs it, against a local Kaggle."""

import json
import zipfile

import pytest

MISSING = "local/no-such-dataset"
DENIED = "Permission 'datasets.get' was denied"
CREATING = "Your private Dataset is being created."


@pytest.fixture
def published(kaggle, dataset_folder, ready, slug):
    """Create a dataset with the command and wait until it is ready; return its folder."""

    def publish(files=None, **fields):
        folder = dataset_folder(files or {"a.txt": "one", "b.csv": "1,2\n"}, **fields)
        assert CREATING in kaggle("datasets", "create", "-p", folder)
        ready(slug)
        return folder

    return publish


@pytest.fixture
def truth(server):
    """A dataset's draft, a version's file names, and all versions' notes and status."""

    def find(slug, version=0):
        ask, world = server.platform.ledger.ask, server.platform.ledger.world
        named = {"owner": "local", "slug": slug}
        files = ask(world.dataset_version, **named, number=version).files
        told = [(v.version.notes, str(v.status)) for v in ask(world.dataset_versions, **named)]
        return ask(world.dataset, **named), [file.name for file in files], told

    return find


# create


@pytest.mark.succeeds("datasets create")
def test_a_dataset_is_created_with_what_the_metadata_says(published, truth, slug, number):
    published(subtitle="A subtitle of twenty or more", description="Words", keywords=["tabular"])

    dataset, files, _ = truth(slug)
    draft = dataset.draft
    assert (draft.title, draft.license_name) == (f"Thing Number {number}", "CC0-1.0")
    assert (draft.subtitle, draft.description) == ("A subtitle of twenty or more", "Words")
    assert (draft.keywords, draft.is_private) == (("tabular",), True)
    assert files == ["a.txt", "b.csv"]


@pytest.mark.succeeds("datasets create")
def test_folders_are_skipped_or_sent_as_archives_and_patterns_are_left_out(
    kaggle, dataset_folder, ready, truth, slug, tmp_path
):
    folder = dataset_folder({"a.txt": "one", "b.tmp": "two", "sub/c.txt": "three"})

    skipped = kaggle("datasets", "create", "-p", folder, "-u", "-q", "--ignore-patterns", "*.tmp")
    ready(slug)
    kaggle("datasets", "version", "-p", folder, "-m", "zip", "-r", "zip")
    ready(slug, 2)
    kaggle("datasets", "version", "-p", folder, "-m", "tar", "-r", "tar", "-t", "-q")
    ready(slug, 3)

    assert "Your public Dataset is being created." in skipped
    assert truth(slug, 1)[1] == ["a.txt"]
    assert truth(slug, 2)[1] == ["a.txt", "b.tmp", "sub/c.txt"]
    assert truth(slug, 3)[1] == ["a.txt", "b.tmp", "sub/c.txt"]
    assert not truth(slug)[0].draft.is_private


@pytest.mark.refuses("datasets create")
def test_a_dataset_is_not_created_twice(kaggle, published):
    folder = published()

    printed = kaggle("datasets", "create", "-p", folder)

    assert "Dataset creation error: The requested" in printed
    assert "already in use by a dataset" in printed


@pytest.mark.refuses("datasets create")
def test_a_title_that_another_dataset_has_is_refused_by_the_server(
    kaggle, published, dataset_folder, number, slug
):
    published()

    folder = dataset_folder({"a": "b"}, id=f"local/{slug}-b", title=f"Thing Number {number}")
    printed = kaggle("datasets", "create", "-p", folder)

    assert "Dataset creation error: " in printed
    assert "already in use by a dataset" in printed


@pytest.mark.refuses("datasets create")
def test_a_dataset_of_somebody_else_is_denied(kaggle, dataset_folder, slug):
    folder = dataset_folder({"a": "b"}, id=f"somebody/{slug}")

    printed = kaggle.refused("datasets", "create", "-p", folder)

    assert "Permission 'datasets.create' was denied" in printed


# version


@pytest.mark.succeeds("datasets version")
def test_a_version_is_a_full_snapshot_by_name_and_by_number(
    kaggle, published, dataset_folder, ready, truth, slug
):
    folder = published()
    (folder / "b.csv").unlink()

    printed = kaggle("datasets", "version", "-p", folder, "-m", "less")
    ready(slug, 2)
    dataset_folder({"c.txt": "three"}, id="", id_no=truth(slug)[0].dataset_id)
    kaggle("datasets", "version", "-p", folder, "-m", "by number", "-d")
    ready(slug, 3)

    assert "Dataset version is being created." in printed
    assert truth(slug)[1] == ["a.txt", "c.txt"]
    assert truth(slug)[2][:2] == [("by number", "READY"), ("less", "DELETED")]


@pytest.mark.refuses("datasets version")
def test_a_version_of_a_missing_dataset_is_refused_in_the_answer(kaggle, dataset_folder):
    printed = kaggle("datasets", "version", "-p", dataset_folder({"a": "b"}), "-m", "x")

    assert printed.splitlines()[-1] == (
        "Dataset version creation error: Failed to resolve the necessary information from the"
        " request."
    )


@pytest.mark.refuses("datasets version")
def test_a_version_of_an_unknown_number_is_denied(kaggle, dataset_folder):
    folder = dataset_folder({"a": "b"}, id="", id_no=999)

    printed = kaggle.refused("datasets", "version", "-p", folder, "-m", "x")

    assert "Permission 'datasets.update' was denied" in printed


# status, files


@pytest.mark.succeeds("datasets status")
@pytest.mark.succeeds("datasets files")
def test_status_and_files_are_told(kaggle, published, ref):
    published({"a.txt": "one", "b.csv": "1,2\n"})

    files = ["datasets", "files"]
    status, told, first, rest = kaggle.all(
        ["datasets", "status", ref],
        ["datasets", "status", ref, "--format", "json"],
        [*files, ref, "--page-size", 1, "--csv"],
        [*files, f"{ref}/1", "--page-size", 1, "--page-token", 1, "--format", "json"],
    )
    first, rows = first.splitlines(), json.loads(rest)

    assert status == "ready"
    assert json.loads(told) == {"status": "ready", "current_version_number": 1}
    assert first[:2] == ["Next Page Token = 1", "name,size,creationDate"]
    assert first[2].startswith("a.txt,3,20")
    assert [(row["name"], row["size"]) for row in rows] == [("b.csv", 4)]


@pytest.mark.refuses("datasets status")
@pytest.mark.refuses("datasets files")
@pytest.mark.refuses("datasets metadata")
@pytest.mark.refuses("datasets download")
@pytest.mark.refuses("datasets delete")
def test_a_missing_dataset_is_denied_by_every_command(kaggle, tmp_path):
    refused = kaggle.all(
        ["datasets", "status", MISSING],
        ["datasets", "files", MISSING],
        ["datasets", "metadata", MISSING, "-p", tmp_path],
        ["datasets", "download", MISSING, "-p", tmp_path],
        ["datasets", "delete", MISSING, "-y"],
        code=1,
    )

    for printed in refused:
        assert DENIED in printed


# metadata


@pytest.mark.succeeds("datasets metadata")
def test_metadata_are_fetched_and_updated(kaggle, published, truth, ref, slug, tmp_path):
    published(keywords=["tabular"])
    folder = tmp_path / "meta"

    printed = kaggle("datasets", "metadata", ref, "-p", folder)
    path = folder / "dataset-metadata.json"
    fetched = json.loads(path.read_text())["info"]
    changed = {
        **fetched,
        "title": f"Renamed {slug}",
        "subtitle": "A subtitle of twenty or more",
        "description": "New words",
        "licenses": [{"name": "MIT"}],
        "keywords": ["nlp"],
        "isPrivate": False,
    }
    path.write_text(json.dumps(changed))
    updated = kaggle("datasets", "metadata", ref, "-p", folder, "--update")

    assert f"Downloaded metadata to {path}" in printed
    assert (fetched["datasetSlug"], fetched["ownerUser"]) == (slug, "local")
    assert (fetched["licenses"], fetched["keywords"]) == ([{"name": "CC0-1.0"}], ["tabular"])
    assert "successfully updated dataset metadata" in updated
    draft = truth(slug)[0].draft
    assert (draft.title, draft.slug) == (f"Renamed {slug}", slug)
    assert (draft.subtitle, draft.description) == ("A subtitle of twenty or more", "New words")
    assert (draft.license_name, draft.keywords, draft.is_private) == ("MIT", ("nlp",), False)


@pytest.mark.refuses("datasets metadata")
def test_a_title_that_is_taken_is_not_given_again(kaggle, published, ref, tmp_path, server):
    published()
    path = tmp_path / "dataset-metadata.json"
    path.write_text(json.dumps({"title": "short", "licenses": [{"name": "MIT"}]}))

    done = kaggle.run("datasets", "metadata", ref, "-p", tmp_path, "--update")

    assert done.returncode == 1
    assert "between 6 and 50 characters" in done.stdout


# download


@pytest.mark.succeeds("datasets download")
def test_datasets_are_downloaded_whole_unpacked_by_file_and_by_version(
    kaggle, published, ready, ref, slug, tmp_path
):
    folder = published()
    (folder / "a.txt").write_text("two")
    kaggle("datasets", "version", "-p", folder, "-m", "second")
    ready(slug, 2)

    download = ["datasets", "download"]
    printed, _, _ = kaggle.all(
        [*download, ref, "-p", tmp_path / "zip"],
        [*download, ref, "-p", tmp_path / "open", "--unzip", "-q", "-o"],
        [*download, f"{ref}/1", "-f", "a.txt", "-p", tmp_path / "old"],
    )
    missing, too_new = kaggle.all(
        [*download, ref, "-f", "no.txt", "-p", tmp_path],
        [*download, f"{ref}/9", "-p", tmp_path],
        code=1,
    )

    assert f"Dataset URL: https://www.kaggle.com/datasets/{ref}\nLicense(s): CC0-1.0" in printed
    with zipfile.ZipFile(tmp_path / "zip" / f"{slug}.zip") as archive:
        assert archive.namelist() == ["a.txt", "b.csv"]
    assert (tmp_path / "open" / "a.txt").read_text() == "two"
    assert (tmp_path / "open" / "b.csv").read_text() == "1,2\n"
    assert (tmp_path / "old" / "a.txt").read_text() == "one"
    assert "File 'no.txt' was not found" in missing
    assert "version 9 was not found" in too_new


# init, delete


@pytest.mark.succeeds("datasets init")
def test_a_template_is_written(kaggle, tmp_path):
    printed = kaggle("datasets", "init", "-p", tmp_path)

    assert "Data package template written to: " in printed
    metadata = json.loads((tmp_path / "dataset-metadata.json").read_text())
    assert metadata["id"] == "local/INSERT_SLUG_HERE"


@pytest.mark.succeeds("datasets delete")
def test_a_deleted_dataset_is_gone_and_its_name_stays_taken(kaggle, published, ref):
    folder = published()

    kept = kaggle("datasets", "delete", ref, stdin="no\n")
    printed = kaggle("datasets", "delete", ref, "-y")

    assert "Deletion cancelled" in kept
    assert printed.strip() == f'Dataset "{ref}" deleted successfully.'
    assert DENIED in kaggle.refused("datasets", "status", ref)
    assert "already in use by a dataset" in kaggle("datasets", "create", "-p", folder)


# What does not reach the server, and what is not imitated


@pytest.mark.refuses("datasets init")
@pytest.mark.refuses("datasets topics")
@pytest.mark.refuses("datasets topics list")
@pytest.mark.refuses("datasets topics show")
def test_templates_need_a_folder_and_topics_are_not_imitated(kaggle, tmp_path):
    topics = ["datasets", "topics"]
    no_folder, unnamed, listed, shown = kaggle.all(
        ["datasets", "init", "-p", tmp_path / "none"],
        topics,
        [*topics, "list", MISSING],
        [*topics, "show", "1"],
        code=1,
    )

    assert "Invalid folder" in no_folder
    assert "No dataset specified" in unnamed
    assert "ListDatasetTopics is not imitated by local Kaggle" in listed
    assert "GetTopic is not imitated by local Kaggle" in shown
