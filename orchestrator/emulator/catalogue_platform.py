"""Rows of the catalogue: what Kaggle itself does wrong."""

from collections.abc import Mapping, Sequence

from orchestrator.emulator.catalogue_terms import (
    CREATE,
    DATASET,
    DATASET_FILES,
    DATASET_STATUS,
    KERNEL,
    LISTS,
    NONE,
    OUTPUTS,
    PUBLISH,
    PUSH,
    QUOTA,
    STATUS,
    VERSION,
    Group,
    Row,
    denied,
    refused,
)


def _called(name: str) -> str:
    shown = ascii(name) if len(name) < 50 else f"{len(name)} letters"
    return f"a file is called {shown}"


HOSTILE_NAMES: Mapping[str, str] = {
    "parent": "../../../outside.txt",
    "absolute": "/outside.txt",
    "windows": "C:\\outside.txt",
    "backslash": "a\\..\\..\\outside.txt",
    "nul": "a\0b.txt",
    "newline": "a\nb.txt",
    "dot": "checkpoint.pt.",
    "space": "checkpoint.pt ",
    "device": "CON",
    "device-path": "/dev/null",
    "option": "-rf",
    "long": "x" * 300,
    "right-to-left": "gpj\u202etp.exe",
    "keys": ".ssh/authorized_keys",
    "decomposed": "e\u0301.txt",
}


_PUSHES: Sequence[Row] = [
    ("lost-push-answer", PUSH, "reset_after", "pushed, but nobody hears of it", NONE),
    (
        "push-no-capacity",
        PUSH,
        "answer",
        "refused: as many sessions as allowed are running",
        refused("Maximum batch GPU session count of 2 reached."),
    ),
    (
        "push-no-quota",
        PUSH,
        "answer",
        "refused: the week's quota is used up",
        refused("Maximum weekly GPU quota of 30.00 hours reached."),
    ),
    ("push-not-found", PUSH, "answer", "refused: no such notebook", refused("Notebook not found")),
    ("push-conflict", PUSH, "status", "409: the title or slug is taken", {"status": 409}),
    ("push-denied", PUSH, "status", "403, as for an unverified account", denied("kernels.update")),
    ("push-malformed", PUSH, "status", "400, as for a source that is too large", {"status": 400}),
    (
        "push-wrong-number",
        PUSH,
        "edit",
        "pushed, but the answer names another version",
        {"patch": {"versionNumber": 99, "versionNumberNullable": 99}},
    ),
    (
        "push-wrong-ref",
        PUSH,
        "edit",
        "pushed, but the answer names another kernel",
        {"patch": {"ref": "/code/local/somewhere-else", "url": ""}},
    ),
    ("push-drops-sources", PUSH, "drop_sources", "it runs without any of its sources", NONE),
    ("push-lands-elsewhere", PUSH, "land_elsewhere", "it makes a kernel elsewhere", NONE),
    ("push-queues-long", PUSH, "queue_long", "no machine is found for hours", NONE),
]

_STATUS: Sequence[Row] = [
    (
        "status-unknown-word",
        STATUS,
        "edit",
        "a status that nobody knows",
        {"patch": {"status": "PREEMPTED"}},
    ),
    (
        "status-lower-case",
        STATUS,
        "edit",
        "the older spelling of a status",
        {"patch": {"status": "running"}},
    ),
    (
        "status-empty",
        STATUS,
        "edit",
        "an empty word instead of a status",
        {"patch": {"status": ""}},
    ),
    (
        "status-null",
        STATUS,
        "answer_after",
        "null instead of a status",
        {"body": '{"status": null}'},
    ),
    (
        "status-missing",
        STATUS,
        "edit",
        "no status, as if it were queued",
        {"patch": {"status": None}},
    ),
    (
        "status-of-before",
        STATUS,
        "edit",
        "the version before has ended, and its status is shown",
        {"patch": {"status": "COMPLETE", "failureMessage": None}},
    ),
    ("status-denied", STATUS, "status", "403, as if there were none", denied("kernels.get")),
    ("status-not-found", STATUS, "status", "404, as if it had no session", {"status": 404}),
    ("kernel-denied", KERNEL, "status", "403, as if there were none", denied("kernels.get")),
    ("kernel-not-found", KERNEL, "status", "404, as after a deletion", {"status": 404}),
    (
        "kernel-flickers",
        KERNEL,
        "freeze",
        "reads answer old, new, old, new",
        {"times": 20, "every": 2},
    ),
]

_SESSIONS: Sequence[Row] = [
    ("no-accelerator", "session/start", "no_accelerator", "it gets a CPU instead", NONE),
    ("old-mounts", "session/start", "old_mounts", "it mounts the dataset version before", NONE),
    ("vanish", "session/end", "vanish", "the machine is lost", NONE),
    ("cancelled", "session/end", "cancel", "somebody stopped it in the browser", NONE),
    ("out-of-memory", "session/end", "out_of_memory", "it needed too much memory", NONE),
    ("no-outputs", "session/end", "lose_outputs", "nothing it wrote is kept", NONE),
    ("no-log", "session/end", "lose_log", "its log is empty for ever", NONE),
    (
        "called-cancelled",
        "session/end",
        "report_cancelled",
        "complete, but called cancelled",
        NONE,
    ),
    ("wedged", "session/end", "wedge", "it goes on being called running for hours", NONE),
]

_OUTPUTS: Sequence[Row] = [
    ("outputs-none-yet", OUTPUTS, "edit", "an empty list of outputs", {"patch": {"files": []}}),
    ("outputs-growing", OUTPUTS, "part", "the first half of the outputs", NONE),
    ("log-late", OUTPUTS, "edit", "the log is not there yet", {"patch": {"log": ""}}),
    ("outputs-denied", OUTPUTS, "status", "403, as if there were none", denied("kernels.get")),
    ("same-name-twice", LISTS, "double", "two files with one name", NONE),
    (
        "case-twin",
        LISTS,
        "double",
        "two names that differ in case only",
        {"file_name": "{NAME}"},
    ),
    *[
        (f"name-{kind}", OUTPUTS, "rename", _called(name), {"file_name": name})
        for kind, name in HOSTILE_NAMES.items()
    ],
]

_DATASETS: Sequence[Row] = [
    (
        "lost-publish-answer",
        PUBLISH,
        "reset_after",
        "published, but nobody hears of it",
        NONE,
    ),
    (
        "publish-busy",
        VERSION,
        "status",
        "403: the one before is processed",
        denied("datasets.update"),
    ),
    (
        "publish-unresolved",
        VERSION,
        "answer",
        "refused: the dataset cannot be resolved",
        refused("Failed to resolve the necessary information from the request."),
    ),
    (
        "publish-exists",
        CREATE,
        "answer",
        "refused: the title is taken",
        refused("The requested title is already in use by a dataset."),
    ),
    (
        "publish-no-storage",
        PUBLISH,
        "answer",
        "refused: the account's storage is full",
        refused("The dataset exceeds your remaining private storage quota."),
    ),
    ("publish-loses-file", PUBLISH, "lose_file", "one file is not in the version", NONE),
    ("publish-loses-all", PUBLISH, "lose_all_files", "the version is empty", NONE),
    (
        "publish-sticks",
        PUBLISH,
        "stick_processing",
        "the version never becomes ready",
        NONE,
    ),
    ("publish-fails", PUBLISH, "fail_processing", "its processing ends as failed", NONE),
    ("publish-hidden", PUBLISH, "hide_version", "the version never appears", NONE),
    ("dataset-denied", DATASET, "status", "403, as for a foreign one", denied("datasets.get")),
    ("dataset-deleted", DATASET, "status", "404, as after a deletion", {"status": 404}),
    ("dataset-public", DATASET, "edit", "the dataset is public", {"patch": {"isPrivate": None}}),
    (
        "dataset-renamed-owner",
        DATASET,
        "edit",
        "its owner has another name",
        {"patch": {"ownerRef": "somebody", "ref": "somebody/my-data"}},
    ),
    (
        "dataset-foreign-version",
        DATASET,
        "edit",
        "a version that somebody else made",
        {"patch": {"currentVersionNumber": 99}},
    ),
    (
        "dataset-flickers",
        DATASET,
        "freeze",
        "reads answer old, new, old, new",
        {"times": 20, "every": 2},
    ),
    (
        "ready-too-early",
        DATASET_STATUS,
        "edit",
        "ready is said of the version before",
        {"patch": {"status": "READY"}},
    ),
    (
        "failed-in-passing",
        DATASET_STATUS,
        "edit",
        "failed, although it is not",
        {"patch": {"status": "FAILED"}},
    ),
    (
        "processing-unknown",
        DATASET_STATUS,
        "edit",
        "a stage that nobody knows",
        {"patch": {"status": "SCANNING"}},
    ),
    (
        "processing-denied",
        DATASET_STATUS,
        "status",
        "403, as right after a creation",
        denied("datasets.get"),
    ),
    ("listing-incomplete", DATASET_FILES, "part", "the first half of the files", NONE),
    (
        "listing-error",
        DATASET_FILES,
        "answer",
        "no list, but an error with 200",
        {"body": '{"datasetFiles": [], "errorMessage": "Listing failed", "hasErrorMessage": true}'},
    ),
]

_QUOTA: Sequence[Row] = [
    ("quota-unreadable", QUOTA, "status", "503 instead of the quota", {"status": 503}),
    (
        "quota-zero-missing",
        QUOTA,
        "edit",
        "a zero is left out of the quota",
        {"patch": {"gpuQuota": {"timeUsed": None}, "tpuQuota": {"timeUsed": None}}},
    ),
    ("quota-missing", QUOTA, "edit", "the answer has no GPU quota", {"patch": {"gpuQuota": None}}),
    (
        "quota-as-objects",
        QUOTA,
        "edit",
        "the older form of a duration",
        {"patch": {"gpuQuota": {"timeUsed": {"seconds": 3600}}}},
    ),
]

GROUPS: Sequence[Group] = [
    ("Pushes", 0.01, _PUSHES),
    ("Status", 0.005, _STATUS),
    ("Sessions", 0.02, _SESSIONS),
    ("Outputs and names", 0.003, _OUTPUTS),
    ("Datasets", 0.01, _DATASETS),
    ("Quota", 0.01, _QUOTA),
]
