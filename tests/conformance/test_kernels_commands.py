"""`kaggle kernels` and `kaggle quota`, as a user runs them, against a local Kaggle."""

import json

import pytest

SLOW = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
FILES = "for name in ('a.bin', 'b.txt', 'c.txt'):\n    open(name, 'w').write(name)\nprint('done')\n"
MISSING = "local/no-such-kernel"
NO_ACCESS = f"Cannot access kernel '{MISSING}' (Permission 'kernels.get' was denied)"
NOT_GIVEN = "Kernel must be specified in the form of"


@pytest.fixture
def finished(kaggle, kernel_folder, ended, slug):
    """Push a script and wait for its end."""

    def run(source=FILES, version=1):
        printed = kaggle("kernels", "push", "-p", kernel_folder(source))
        assert f"Kernel version {version} successfully pushed" in printed
        return ended(slug, version)

    return run


# push


@pytest.mark.succeeds("kernels push")
def test_a_push_says_what_the_metadata_and_the_options_say(
    kaggle, kernel_folder, server, session_of, slug
):
    folder = kernel_folder(
        "print(1)", is_private="false", enable_internet=False, kernel_sources=["local/no-such"]
    )

    printed = kaggle("kernels", "push", "-p", folder, "-t", 77, "--accelerator", "NvidiaTeslaT4")

    push = server.platform.ledger.ask(
        server.platform.ledger.world.kernel_version, owner="local", slug=slug
    ).push
    assert f"https://www.kaggle.com/code/local/{slug}" in printed
    assert "not valid kernel sources and could not be added to the kernel: ['local/no-such']" in (
        printed
    )
    assert push.source == "print(1)"
    assert (push.timeout_seconds, push.machine_shape) == (77, "NvidiaTeslaT4")
    assert (push.is_private, push.enable_internet) == (False, False)
    assert session_of(slug)["accelerator"] == "GPU"


@pytest.mark.succeeds("kernels update")
def test_a_second_push_makes_the_second_version(kaggle, finished, kernel_folder):
    finished()

    assert "Kernel version 2 successfully pushed" in kaggle(
        "kernels", "update", "-p", kernel_folder("print(2)")
    )


@pytest.mark.refuses("kernels push")
def test_a_refused_push_exits_with_zero_and_says_why(kaggle, kernel_folder):
    printed = kaggle("kernels", "push", "-p", kernel_folder(title="Quite Another Title"))

    assert printed.splitlines()[-1] == "Kernel push error: Notebook not found"


@pytest.mark.refuses("kernels push")
def test_a_push_to_a_foreign_kernel_is_denied(kaggle, kernel_folder, slug):
    printed = kaggle.refused("kernels", "push", "-p", kernel_folder(id=f"somebody/{slug}"))

    assert "Permission 'kernels.update' was denied" in printed


@pytest.mark.refuses("kernels push")
def test_a_push_of_more_than_a_megabyte_is_a_bad_request(kaggle, kernel_folder):
    printed = kaggle.refused("kernels", "push", "-p", kernel_folder("#" * 1_100_000))

    assert "1 MB" in printed


def test_a_save_without_a_run_has_no_session(kaggle, version, kernel_folder, ref):
    if version == "2.2.4":
        assert (
            "unrecognized arguments: --no-run"
            in kaggle.run("kernels", "push", "-p", kernel_folder(), "--no-run").stderr
        )
        return

    printed = kaggle("kernels", "push", "-p", kernel_folder(), "--no-run")

    assert "Kernel version 1 successfully saved without running." in printed
    assert "No session was found" in kaggle.refused("kernels", "status", ref)


# status


@pytest.mark.succeeds("kernels status")
def test_a_status_is_told_while_it_runs_and_after(kaggle, kernel_folder, ended, ref, slug):
    kaggle("kernels", "push", "-p", kernel_folder(SLOW), "-t", 2)
    running = kaggle("kernels", "status", ref)
    ended(slug)

    assert f'{ref} has status "KernelWorkerStatus.' in running
    assert kaggle("kernels", "status", ref).splitlines() == [
        f'{ref} has status "KernelWorkerStatus.CANCEL_ACKNOWLEDGED"',
        'Failure message: "Your notebook was stopped because it exceeded the max allowed'
        ' execution duration."',
    ]


# logs


@pytest.mark.succeeds("kernels logs")
def test_logs_are_followed_and_read(kaggle, kernel_folder, ended, ref, slug):
    kaggle("kernels", "push", "-p", kernel_folder("print('one')\nprint('two')"))

    followed = kaggle("kernels", "logs", "-f", ref)
    ended(slug)
    entries = json.loads(kaggle("kernels", "logs", ref))

    assert followed == "one\ntwo\n"
    assert "".join(entry["data"] for entry in entries) == "one\ntwo\n"
    assert {entry["stream_name"] for entry in entries} == {"stdout"}


# output and files


@pytest.mark.succeeds("kernels output")
@pytest.mark.succeeds("kernels files")
def test_outputs_are_listed_and_downloaded(kaggle, finished, ref, slug, tmp_path):
    finished()

    kaggle("kernels", "output", ref, "-p", tmp_path / "all", "--page-size", 1)
    rows, first, rest, _, page = kaggle.all(
        ["kernels", "files", ref, "--format", "json"],
        ["kernels", "files", ref, "--page-size", 2, "--csv"],
        ["kernels", "files", ref, "--page-size", 2, "--page-token", 2],
        ["kernels", "output", ref, "-p", tmp_path / "some", "--file-pattern", "txt$"],
        ["kernels", "output", ref, "-p", tmp_path / "page", "--page-size", 1, "--page-token", 1],
    )

    assert [(row["name"], row["size"]) for row in json.loads(rows)] == [(n, 5) for n in _NAMES]
    assert first.splitlines()[:2] == ["Next Page Token = 2", "name,size,creationDate"]
    assert first.splitlines()[2].startswith("a.bin,5,20")
    assert "c.txt" in rest
    assert "a.bin" not in rest
    assert _content(tmp_path / "all") == {**{n: n for n in _NAMES}, f"{slug}.log": None}
    assert set(_content(tmp_path / "some")) == {"b.txt", "c.txt", f"{slug}.log"}
    assert set(_content(tmp_path / "page")) == {"b.txt"}
    assert page.splitlines()[-1] == "Next page token: 2"


_NAMES = ("a.bin", "b.txt", "c.txt")


def _content(folder):
    return {
        path.name: None if path.suffix == ".log" else path.read_text() for path in folder.iterdir()
    }


# pull


@pytest.mark.succeeds("kernels pull")
@pytest.mark.succeeds("kernels get")
def test_source_and_metadata_are_pulled(kaggle, kernel_folder, number, ref, slug, tmp_path):
    kaggle("kernels", "push", "-p", kernel_folder("print('mine')", enable_gpu=True), "-t", 1)

    kaggle("kernels", "get", ref, "-p", tmp_path / "source")
    printed = kaggle("kernels", "pull", ref, "-p", tmp_path / "pulled", "-m")

    assert (tmp_path / "source" / f"{slug}.py").read_text() == "print('mine')"
    metadata = json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())
    assert "Source code and metadata downloaded to" in printed
    assert (metadata["id"], metadata["title"]) == (ref, f"Thing Number {number}")
    assert (metadata["is_private"], metadata["enable_gpu"], metadata["enable_internet"]) == (
        True,
        True,
        True,
    )
    assert (metadata["language"], metadata["kernel_type"]) == ("python", "script")
    assert isinstance(metadata["id_no"], int)


def test_a_version_in_the_name_is_the_one_difference_between_the_clients(
    kaggle, version, finished, ref, tmp_path
):
    finished("print('first')\nopen('first', 'w')")
    finished("print('second')\nopen('second', 'w')\nraise SystemExit(1)", version=2)

    status, logs, files, _ = kaggle.all(
        ["kernels", "status", f"{ref}/1"],
        ["kernels", "logs", f"{ref}/1"],
        ["kernels", "files", f"{ref}/1"],
        ["kernels", "output", f"{ref}/1", "-p", tmp_path / "out"],
    )
    pulled = kaggle.run("kernels", "pull", f"{ref}/1", "-p", tmp_path / "pulled")

    if version == "2.2.4":  # asks for the latest; puts the version into the slug to pull
        assert "KernelWorkerStatus.ERROR" in status
        assert "second" in logs
        assert "second" in files
        assert (tmp_path / "out" / "second").exists()
        assert "Permission 'kernels.get' was denied" in pulled.stderr
    else:
        assert "KernelWorkerStatus.COMPLETE" in status
        assert "first" in logs
        assert "first" in files
        assert (tmp_path / "out" / "first").exists()
        assert "first" in next((tmp_path / "pulled").iterdir()).read_text()


# init, delete


@pytest.mark.succeeds("kernels init")
def test_a_template_is_written(kaggle, tmp_path):
    printed = kaggle("kernels", "init", "-p", tmp_path)

    assert "Kernel metadata template written to: " in printed
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert metadata["id"] == "local/INSERT_KERNEL_SLUG_HERE"


@pytest.mark.succeeds("kernels delete")
def test_deleting_a_kernel_stops_its_session(
    kaggle, kernel_folder, wait_until, session_of, slug, ref
):
    kaggle("kernels", "push", "-p", kernel_folder(SLOW))
    wait_until(lambda: session_of(slug)["started_at"])
    session_id = session_of(slug)["session_id"]
    wait_until(lambda: kaggle.server.platform.host.has_launched(session_id))

    kept = kaggle("kernels", "delete", ref, stdin="no\n")
    assert session_of(slug)["ended_at"] is None
    printed = kaggle("kernels", "delete", ref, "-y")

    assert "Deletion cancelled" in kept
    assert printed.strip() == f"Kernel {ref} deleted successfully"
    assert session_of(slug)["ended_at"] is not None
    wait_until(lambda: not kaggle.server.platform.host.has_launched(session_id))
    assert "Cannot access kernel" in kaggle.refused("kernels", "status", ref)


# refusals


@pytest.mark.refuses("kernels status")
@pytest.mark.refuses("kernels logs")
@pytest.mark.refuses("kernels output")
@pytest.mark.refuses("kernels files")
@pytest.mark.refuses("kernels pull")
@pytest.mark.refuses("kernels get")
@pytest.mark.refuses("kernels delete")
def test_a_missing_kernel_is_denied_by_every_command(kaggle, tmp_path):
    explained = kaggle.all(
        ["kernels", "status", MISSING],
        ["kernels", "logs", MISSING],
        ["kernels", "output", MISSING, "-p", tmp_path],
        code=1,
    )
    plain = kaggle.all(
        ["kernels", "files", MISSING],
        ["kernels", "pull", MISSING, "-p", tmp_path],
        ["kernels", "get", MISSING, "-p", tmp_path],
        ["kernels", "delete", MISSING, "-y"],
        code=1,
    )

    for printed in explained:
        assert NO_ACCESS in printed
    for printed in plain:
        assert "Permission 'kernels.get' was denied" in printed


@pytest.mark.refuses("kernels init")
@pytest.mark.refuses("kernels update")
def test_some_refusals_never_reach_the_server(kaggle, tmp_path):
    no_folder, no_metadata = kaggle.all(
        ["kernels", "init", "-p", tmp_path / "none"],
        ["kernels", "update", "-p", tmp_path],
        code=1,
    )

    assert "Invalid folder" in no_folder
    assert "Metadata file not found" in no_metadata


@pytest.mark.refuses("kernels topics")
@pytest.mark.refuses("kernels topics list")
@pytest.mark.refuses("kernels topics show")
def test_topics_of_kernels_are_not_imitated(kaggle):
    topics = ["kernels", "topics"]
    unnamed, listed, shown = kaggle.all(
        topics, [*topics, "list", MISSING], [*topics, "show", "1"], code=1
    )

    assert "No kernel specified" in unnamed
    assert "ListKernelTopics is not imitated by local Kaggle" in listed
    assert "GetTopic is not imitated by local Kaggle" in shown


# quota


@pytest.mark.succeeds("quota")
def test_quota_is_shown_in_hours(kaggle, version):
    rows = kaggle.rows("quota")
    table = kaggle("quota")

    assert [(row["resource"], row["total"]) for row in rows] == [
        ("GPU", "30.00h"),
        ("TPU", "20.00h"),
    ]
    zone = "" if version == "2.2.4" else "+00:00"
    assert all(row["refreshAt"].endswith(f"T00:00:00{zone}") for row in rows)
    assert "resource" in table


@pytest.mark.refuses("quota")
def test_a_credential_that_was_not_issued_is_refused(kaggle):
    printed = kaggle.refused(
        "quota", KAGGLE_API_TOKEN="", KAGGLE_USERNAME="local", KAGGLE_KEY="0" * 32
    )

    assert "Authentication required to call the Kaggle API" in printed
