"""`kaggle kernels list` and `kaggle datasets list`: every filter, order and page."""

import re

import pytest

from orchestrator.emulator.records import Draft, File, NewFile, Push

KERNELS = {  # slug: what its push says, in the order of the pushes
    "alpha-script": {"is_private": False, "runs": False},
    "beta-notebook": {
        "runs": False,
        "kernel_type": "notebook",
        "dataset_sources": ("local/tables",),
    },
    "gamma-r": {"runs": False, "language": "r", "kernel_sources": ("local/alpha-script",)},
}
DATASETS = {  # slug: licence, tags, is private, name and bytes of its file
    "tables": ("CC0-1.0", ("tabular", "nlp"), False, "a.csv", 10),
    "weights": ("GPL-3.0", (), True, "b.pt", 5000),
    "records": ("MIT", ("nlp",), True, "c.json", 200),
    "open-records": ("ODbL-1.0", (), True, "d.parquet", 300),
}


KERNEL_LISTS = {  # options: what is listed
    "": "alpha-script gamma-r beta-notebook",
    "--sort-by dateRun": "alpha-script gamma-r beta-notebook",
    "--sort-by dateCreated": "gamma-r beta-notebook alpha-script",
    "--sort-by voteCount": "alpha-script gamma-r beta-notebook",
    "--user local": "alpha-script gamma-r beta-notebook",
    "--search BETA": "beta-notebook",
    "--language r": "gamma-r",
    "--kernel-type notebook": "beta-notebook",
    "--output-type visualization": "alpha-script",
    "--output-type data": "",
    "--dataset local/tables": "beta-notebook",
    "--parent local/alpha-script": "gamma-r",
    "--competition titanic": "",
    "--page 2 --page-size 2": "beta-notebook",
    "--page-token 1 --page-size 1": "gamma-r",
}
DATASET_LISTS = {  # options: what is listed
    "": "tables open-records records weights",
    "--sort-by updated": "tables open-records records weights",
    "--sort-by published": "open-records records weights tables",
    "--user local": "tables open-records records weights",
    "--search set_of_records": "",
    "--search records": "open-records records",
    "--file-type csv": "tables",
    "--file-type parquet": "open-records",
    "--license cc": "tables",
    "--license gpl": "weights",
    "--license odb": "open-records",
    "--license other": "records",
    "--tags nlp": "tables records",
    "--tags nlp,tabular": "tables",
    "--min-size 300": "open-records weights",
    "--max-size 200 --min-size 11": "records",
    "--page 2 --page-size 3": "weights",
    "--page-token 1 --page-size 1": "open-records",
}
DRAWS = "open('plot.png', 'w').write('drawn')"


@pytest.fixture(scope="module")
def filled(server, wait_until):
    """Four datasets and three kernels; the first of each was renewed last."""
    do, ask = server.platform.ledger.do, server.platform.ledger.ask
    world = server.platform.ledger.world

    def upload(name, size_bytes):
        started = do(world.start_upload, name=name, size_bytes=size_bytes)
        file = File(name, f"key-{name}", size_bytes)
        do(world.finish_upload, upload_id=started.upload_id, files=[file])
        return [NewFile("", started.token)]

    for slug, (license_name, tags, is_private, name, size_bytes) in DATASETS.items():
        draft = Draft("local", slug, f"Set of {slug}", license_name, is_private, keywords=tags)
        do(world.create_dataset, draft=draft, files=upload(name, size_bytes))
    wait_until(lambda: len(ask(world.datasets)) == len(DATASETS))
    first = {"owner": "local", "slug": "tables"}
    wait_until(lambda: ask(world.dataset_status, **first) == "READY")
    do(world.create_dataset_version, **first, notes="", files=upload("a.csv", 10))
    wait_until(lambda: ask(world.dataset, **first).current.number == 2)

    for slug, fields in [*KERNELS.items(), ("alpha-script", {"is_private": False, "runs": True})]:
        push = Push("local", slug, slug.replace("-", " ").title(), DRAWS, **fields)
        do(world.save_kernel, push=push)
    server.platform.wake.set()
    wait_until(lambda: ask(world.session, owner="local", slug="alpha-script").outputs)
    return server


@pytest.mark.succeeds("kernels list")
def test_kernels_are_listed(kaggle, filled):
    assert _listed(kaggle, "kernels", KERNEL_LISTS) == KERNEL_LISTS


@pytest.mark.succeeds("datasets list")
def test_datasets_are_listed(kaggle, filled):
    assert _listed(kaggle, "datasets", DATASET_LISTS) == DATASET_LISTS


def _listed(kaggle, group, lists):
    """What each list holds; one's own unless its options say whose."""
    asked = [
        [group, "list", "--csv", *options.split(), *([] if "--user" in options else ["--mine"])]
        for options in lists
    ]
    names = [re.findall(r"^local/([\w-]+),", text, re.MULTILINE) for text in kaggle.all(*asked)]
    return {options: " ".join(found) for options, found in zip(lists, names, strict=True)}


@pytest.mark.succeeds("kernels list")
@pytest.mark.succeeds("datasets list")
def test_a_list_of_everybody_holds_what_is_public(kaggle, filled):
    kernels, datasets = kaggle.all(["kernels", "list"], ["datasets", "list", "--page-size", 1])

    assert "local/alpha-script" in kernels
    assert "beta" not in kernels
    assert "local/tables" in datasets
    assert "records" not in datasets
    assert "Next Page Token" not in datasets


@pytest.mark.succeeds("kernels list")
def test_a_list_says_who_and_when(kaggle, filled):
    newest = kaggle.rows("kernels", "list", "-m")[0]

    assert (newest["ref"], newest["title"]) == ("local/alpha-script", "Alpha Script")
    assert (newest["author"], newest["totalVotes"]) == ("local", 0)
    assert newest["lastRunTime"].startswith("20")


@pytest.mark.refuses("kernels list")
@pytest.mark.refuses("datasets list")
def test_a_wrong_page_token_and_a_stranger_are_refused(kaggle, filled):
    wrong = kaggle.all(
        ["kernels", "list", "--page-token", "x"], ["datasets", "list", "--page-token", "x"], code=1
    )
    kernels, datasets = kaggle.all(
        ["kernels", "list", "--user", "somebody"], ["datasets", "list", "--user", "somebody"]
    )

    for printed in wrong:
        assert "Invalid page token" in printed
    assert (kernels.strip(), datasets.strip()) == ("Not found", "No datasets found")
