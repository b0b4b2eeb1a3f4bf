"""The hazards of Kaggle's official client that kchain was built against: C1 to C62."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hazard:
    """One hazard. A platform's hazard is shown by a test of local Kaggle, named in `evidence`."""

    id: str
    where: str
    what: str
    kind: str  # probe, platform or never called
    contained_by: str
    evidence: tuple[str, ...] = ()  # of a platform's hazard: the tests that show it


def _probe(number: int, where: str, what: str, contained_by: str) -> Hazard:
    return Hazard(f"C{number}", where, what, "probe", contained_by)


def _never(number: int, where: str, what: str, instead: str) -> Hazard:
    return Hazard(f"C{number}", where, what, "never called", instead)


def _platform(number: int, where: str, what: str, switch: str, *evidence: str) -> Hazard:
    return Hazard(f"C{number}", where, what, "platform", switch, evidence)


_KERNELS, _DATASETS = "emulator/test_world_kernels.py::", "emulator/test_world_datasets.py::"
_LATENESS = "emulator/test_world_lateness.py::"
_SESSIONS, _PUSHES = "simulation/test_sessions.py::", "simulation/test_pushes.py::"
_PUBLICATIONS = "simulation/test_publications.py::"

HAZARDS = (
    # Import, authentication, configuration
    _probe(1, "import", "imports `six`, which nothing declares", "`six` in pyproject.toml"),
    _probe(2, "import", "authenticates, and may hang for ever", "child: a deadline for the start"),
    _probe(3, "authenticate", "prints help and calls `exit(1)`", "worker: exit becomes AUTH"),
    _probe(4, "import", "needs a writable home", "child: a home of its own"),
    _probe(
        5,
        "authenticate",
        "falls back to the key, then sends the expired token",
        "credentials: exactly one kind",
    ),
    _probe(
        6,
        "authenticate",
        "a stray variable selects another account",
        "child: an environment made from nothing",
    ),
    _probe(7, "OAuth", "one 401 deletes the credential file", "login: the client gets no file"),
    _probe(
        8,
        "OAuth",
        "takes an access token for valid 30 minutes too long",
        "credentials: hand over no access token; api: a new worker after a 401",
    ),
    _probe(
        9,
        "OAuth",
        "writes the credential file readable, in place",
        "login: the client saves nothing",
    ),
    _probe(10, "token", "a long token raises OSError", "login: hands it over in memory"),
    _probe(
        11,
        "VERBOSE",
        "prints every request with its Authorization header",
        "child: an environment made from nothing",
    ),
    _probe(
        12,
        "KAGGLE_*",
        "every such variable becomes configuration",
        "child: an environment made from nothing",
    ),
    _probe(
        13,
        "everywhere",
        "warnings go to standard output",
        "worker: answers have a descriptor of their own",
    ),
    _probe(14, "kaggle.api", "an instance hides the sub-package", "client: imports `from` only"),
    # Transport
    _probe(15, "requests", "have no timeout", "worker: timeouts; child: a deadline for each call"),
    _probe(
        16,
        "answers",
        "a code without message, or a list, is an empty success",
        "client: checks the shape of each answer",
    ),
    _probe(17, "answers", "a web page raises JSONDecodeError", "api: unreadable, or unknown"),
    _probe(
        18,
        "answers",
        "an odd version header makes a call that landed raise",
        "api: unreadable, or unknown",
    ),
    _probe(19, "with_retry", "sends a mutation again after a reset", "client: calls once"),
    _probe(20, "with_retry", "obeys any Retry-After, `inf` too", "api: capped, and never slept"),
    _probe(21, "with_retry", "has no jitter, never retries a 5xx", "phases: wait between ticks"),
    _probe(22, "enums", "an odd status becomes QUEUED or a function", "client: takes members only"),
    _probe(23, "times", "are naive or aware as the server likes", "client: Unix seconds"),
    _probe(24, "kernels_status", "hides whether it was 401 or 403", "client: the SDK's own calls"),
    # Push, status, pull
    _probe(25, "kernels_push", "a refusal is a normal answer", "api: reads the answer's fields"),
    _probe(26, "kernels_push", "may be saved at another address", "api: compares the slug"),
    _never(27, "kernels_push", "metadata may push any file of the disk", "client.push sends text"),
    _probe(28, "kernels_push", "rewrites the notebook's text", "client.push sends text"),
    _probe(29, "kernels_push", "internet is on unless told", "client.push says all four"),
    _platform(
        30,
        "push",
        "starts a second session beside the first",
        "rule of local Kaggle; effects `reset_after`, `status_after`",
        _KERNELS + "test_a_second_push_leaves_the_first_session_running_and_billing",
        _PUSHES + "test_a_push_whose_answer_was_lost_is_adopted",
    ),
    _probe(31, "kernels_status", "drops the version asked for", "client: `versionLabel` v<N>"),
    _never(32, "kernels_pull", "writes where the answer says", "client.kernel keeps it in memory"),
    _platform(
        33,
        "status",
        "missing and denied look alike; a dead session lingers as running",
        "`Settings.end_reported_seconds`, twist `wedge`",
        _KERNELS + "test_only_the_label_v1_names_version_1",
        _LATENESS + "test_an_end_is_reported_late",
        _SESSIONS + "test_a_session_that_kaggle_does_not_have_costs_an_attempt_only",
    ),
    _platform(
        34,
        "cancel",
        "cannot be relied on, nor can the time limit",
        "rule of local Kaggle, twist `wedge`; kchain never cancels",
        _LATENESS + "test_nobody_can_cancel_a_session",
        "emulator/test_world_twists.py::"
        "test_a_wedged_session_is_called_running_for_hours_without_being_billed",
        _SESSIONS + "test_a_session_that_never_ends_is_given_up_after_its_limit_and_grace",
    ),
    # Downloads
    _probe(
        35, "kernels_output", "joins names of the server unchecked", "files: a policy for names"
    ),
    _probe(36, "kernels_output", "saves an error page as the checkpoint", "transfer: by status"),
    _probe(37, "kernels_output", "holds a whole file in memory", "transfer: streams"),
    _probe(
        38,
        "kernels_output",
        "writes in place and follows links",
        "files: no links, promoted by a rename",
    ),
    _probe(
        39, "kernels_output", "keeps a stale file for a fresh one", "files: a folder an attempt"
    ),
    _probe(40, "kernels_output", "gets files without a timeout", "transfer: timeouts, deadline"),
    _probe(
        41,
        "kernels_output",
        "an error on a later page loses the earlier ones; URLs age",
        "api: whole lists only; collect: lists anew for each file",
    ),
    _probe(42, "kernels_output", "the log overwrites an output", "api: a log is a text"),
    _probe(43, "download_file", "a retry writes an error page", "transfer: by status"),
    _probe(44, "dataset download", "the first body has no timeout", "child: a deadline"),
    _probe(45, "download_file", "a full disk means five downloads", "transfer: does not catch it"),
    _never(46, "dataset download", "unzips a stale archive in place", "client.dataset_file"),
    _probe(47, "exceptions", "contain signed URLs", "transfer: names the error only"),
    # Uploads and publishing
    _probe(
        48,
        "dataset_create_version",
        "leaves out a file that did not arrive",
        "client: raises before the version is asked for",
    ),
    _probe(
        49,
        "upload",
        "splices an old upload and a new file",
        "client: no upload record outlives its attempt; files: a folder an attempt",
    ),
    _probe(50, "upload", "keeps records where others can write", "child: a private TMPDIR"),
    _probe(51, "upload", "`no_resume` crashes", "client: no record outlives its attempt"),
    _probe(52, "upload", "prints signed URLs", "child: redacts what it captures"),
    _probe(53, "upload", "ten attempts without a pause", "phases: wait between attempts"),
    _probe(54, "upload", "no timeout, and Retry-After is obeyed", "child: a deadline by size"),
    _probe(55, "upload", "leaves out folders and some names", "client: exactly the files named"),
    _platform(
        56,
        "datasets",
        "archives are unpacked",
        "`Settings.unpack_archives`, `Settings.unpack_checkpoints`",
        "emulator/test_archives.py::test_a_checkpoint_may_be_unpacked_as_the_zip_it_is",
        _PUBLICATIONS + "test_a_checkpoint_that_kaggle_unpacked_counts_as_published",
    ),
    _probe(57, "dataset_create_version", "one call, three versions", "client: calls once"),
    _probe(
        58,
        "dataset_status",
        "speaks of the dataset, not of a version",
        "client.dataset: the number first",
    ),
    _never(
        59,
        "dataset_create_new",
        "takes any error for absence, and creates",
        "client.create_dataset, from a journaled intent",
    ),
    _probe(60, "dataset_list_files", "one page, and errors as a field", "client: all pages"),
    _never(61, "delete_old_versions", "deletes", "client.publish_version says no"),
    _platform(
        62,
        "datasets",
        "a version is acknowledged before it is current, and none fits in between",
        "`Settings.dataset_visible_seconds`, `Settings.dataset_processing_seconds`",
        _DATASETS + "test_after_publishing_status_speaks_of_the_previous_version_for_a_while",
        _DATASETS + "test_no_version_while_the_first_is_processed",
    ),
)
