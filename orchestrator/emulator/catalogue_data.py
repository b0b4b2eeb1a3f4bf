"""The rows of the catalogue: name, what it strikes, effect, what happens, and the effect's fields.

The rate of a group is each row's chance to strike a call that it matches in chaos.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, str, str, str, Mapping[str, Any]]

EACH = "*"
PUSH = "SaveKernel"
STATUS = "GetKernelSessionStatus"
KERNEL = "GetKernel"
OUTPUTS = "ListKernelSessionOutput"
QUOTA = "GetAcceleratorQuotaStatistics"
CREATE = "CreateDataset"
VERSION = "CreateDatasetVersion"
DATASET = "GetDataset"
DATASET_STATUS = "GetDatasetStatus"
DATASET_FILES = "ListDatasetFiles"
START_UPLOAD = "StartBlobUpload"
TOKEN = "IntrospectToken"  # noqa: S105 - a method's name
UPLOAD = "/upload/"
FILES = "/kf/|/kaggle-data-sets/"
PUBLISH = f"{VERSION}|{CREATE}"
LISTS = f"{OUTPUTS}|{DATASET_FILES}"

_NONE: Mapping[str, Any] = {}
_OLD_429 = '{"code":429,"message":"TooManyRequests"}'
_NEW_429 = '{"error":{"code":429,"message":"Too many requests","status":"RESOURCE_EXHAUSTED"}}'
_PORTAL = "<html><head><title>Welcome</title></head><body>Sign in to use this network</body></html>"
_XML = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code></Error>"


def _called(name: str) -> str:
    shown = ascii(name) if len(name) < 50 else f"{len(name)} letters"
    return f"a file is called {shown}"


def _page(text: str) -> str:
    return f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"


def _refused(message: str) -> Mapping[str, Any]:
    answer = {"ref": "", "url": "", "error": message, "hasError": True, "errorNullable": message}
    return {"body": json.dumps(answer)}


def _denied(permission: str) -> Mapping[str, Any]:
    body = {"code": 403, "message": f"Permission '{permission}' was denied"}
    return {"status": 403, "body": json.dumps(body)}


def _limited(retry_after: str, body: str = _NEW_429) -> Mapping[str, Any]:
    return {"status": 429, "body": body, "headers": {"Retry-After": retry_after}}


_NETWORK: Sequence[Row] = [
    ("reset-before", EACH, "reset_before", "cut before it is handled: it took no effect", _NONE),
    ("reset-after", EACH, "reset_after", "handled, then cut: it took effect unheard", _NONE),
    ("hang", EACH, "hang", "accepted and never answered; it took no effect", _NONE),
    ("hang-after", EACH, "hang_after", "handled and never answered", _NONE),
    ("slow", EACH, "delay", "answered two seconds late", {"seconds": 2.0}),
    ("drip", EACH, "drip", "the answer comes byte by byte, no read ever times out", _NONE),
    ("truncated-answer", EACH, "truncate", "the answer ends half way", _NONE),
    ("delivered-twice", EACH, "twice", "a proxy delivers the request two times", _NONE),
    ("server-error", EACH, "status", "500, without effect", {"status": 500}),
    ("unavailable", EACH, "status", "503, without effect", {"status": 503}),
    (
        "unavailable-page",
        EACH,
        "status",
        "503 as a page instead of JSON",
        {"status": 503, "body": _page("503 Service Unavailable")},
    ),
    ("unavailable-after", EACH, "status_after", "503 although it took effect", {"status": 503}),
    (
        "gateway-error-after",
        EACH,
        "status_after",
        "502 page of a gateway, although it took effect",
        {"status": 502, "body": _page("502 Bad Gateway")},
    ),
    (
        "captive-portal",
        EACH,
        "answer",
        "the network's sign-in page, with 200",
        {"body": _PORTAL},
    ),
    ("empty-answer", EACH, "answer", "`{}` with 200, without effect", {"body": "{}"}),
    ("empty-answer-after", EACH, "answer_after", "`{}` with 200, and effect", {"body": "{}"}),
    ("list-answer", EACH, "answer", "a list where an object belongs", {"body": "[]"}),
    ("code-in-answer", EACH, "answer", "an error's code with 200", {"body": '{"code":404}'}),
    (
        "text-code-in-answer",
        EACH,
        "answer",
        "an error's code as text, with 200",
        {"body": '{"code":"404"}'},
    ),
    ("torn-json", EACH, "answer_after", "JSON that ends in the middle", {"body": '{"status": "RU'}),
    (
        "bad-version-header",
        EACH,
        "headers",
        "a version header that no parser knows, on a call that took effect",
        {"headers": {"X-Kaggle-APIVersion": "next-please"}},
    ),
    (
        "false-gzip",
        EACH,
        "headers",
        "the answer claims to be compressed and is not",
        {"headers": {"Content-Encoding": "gzip"}},
    ),
    (
        "redirect-loop",
        f"{EACH}|{FILES}",
        "status",
        "redirected to an address that redirects to itself",
        {"status": 302, "body": "", "headers": {"Location": "/_local/loop"}},
    ),
]

_LIMITS: Sequence[Row] = [
    ("rate-limit", EACH, "status", "429, with half a minute to wait", _limited("30")),
    ("rate-limit-old", EACH, "status", "429 in its older form", {"status": 429, "body": _OLD_429}),
    (
        "rate-limit-page",
        EACH,
        "status",
        "429 as a page instead of JSON",
        {"status": 429, "body": _page("429 Too Many Requests")},
    ),
    ("rate-limit-day", EACH, "status", "429, with a day to wait", _limited("86400")),
    ("rate-limit-inf", EACH, "status", "429, with an endless wait", _limited("inf")),
    (
        "rate-limit-date",
        EACH,
        "status",
        "429, to wait until 2036",
        _limited("Wed, 31 Dec 2036 23:59:59 GMT"),
    ),
    ("rate-limit-garbage", EACH, "status", "429, with a wait that is no time", _limited("soon")),
]

_CREDENTIALS: Sequence[Row] = [
    (
        "unauthorized",
        EACH,
        "status",
        "401: the token was revoked, or so it seems",
        {"status": 401, "body": '{"code":401,"message":"Unauthenticated"}'},
    ),
    (
        "read-only-token",
        f"{PUSH}|{PUBLISH}",
        "status",
        "403: it may not write",
        _denied("kernels.update"),
    ),
    ("introspection-down", TOKEN, "status", "503 when the token is looked at", {"status": 503}),
    ("inactive-token", TOKEN, "answer", "the token is called inactive", {"body": "{}"}),
]

_PUSHES: Sequence[Row] = [
    ("lost-push-answer", PUSH, "reset_after", "pushed, but nobody hears of it", _NONE),
    (
        "push-no-capacity",
        PUSH,
        "answer",
        "refused: as many sessions as allowed are running",
        _refused("Maximum batch GPU session count of 2 reached."),
    ),
    (
        "push-no-quota",
        PUSH,
        "answer",
        "refused: the week's quota is used up",
        _refused("Maximum weekly GPU quota of 30.00 hours reached."),
    ),
    ("push-not-found", PUSH, "answer", "refused: no such notebook", _refused("Notebook not found")),
    ("push-conflict", PUSH, "status", "409: the title or slug is taken", {"status": 409}),
    ("push-denied", PUSH, "status", "403, as for an unverified account", _denied("kernels.update")),
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
    ("push-drops-sources", PUSH, "drop_sources", "it runs without any of its sources", _NONE),
    ("push-lands-elsewhere", PUSH, "land_elsewhere", "it makes a kernel elsewhere", _NONE),
    ("push-queues-long", PUSH, "queue_long", "no machine is found for hours", _NONE),
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
    ("status-denied", STATUS, "status", "403, as if there were none", _denied("kernels.get")),
    ("status-not-found", STATUS, "status", "404, as if it had no session", {"status": 404}),
    ("kernel-denied", KERNEL, "status", "403, as if there were none", _denied("kernels.get")),
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
    ("no-accelerator", "session/start", "no_accelerator", "it gets a CPU instead", _NONE),
    ("old-mounts", "session/start", "old_mounts", "it mounts the dataset version before", _NONE),
    ("vanish", "session/end", "vanish", "the machine is lost", _NONE),
    ("cancelled", "session/end", "cancel", "somebody stopped it in the browser", _NONE),
    ("out-of-memory", "session/end", "out_of_memory", "it needed too much memory", _NONE),
    ("no-outputs", "session/end", "lose_outputs", "nothing it wrote is kept", _NONE),
    ("no-log", "session/end", "lose_log", "its log is empty for ever", _NONE),
    (
        "called-cancelled",
        "session/end",
        "report_cancelled",
        "complete, but called cancelled",
        _NONE,
    ),
    ("wedged", "session/end", "wedge", "it goes on being called running for hours", _NONE),
]

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

_OUTPUTS: Sequence[Row] = [
    ("outputs-none-yet", OUTPUTS, "edit", "an empty list of outputs", {"patch": {"files": []}}),
    ("outputs-growing", OUTPUTS, "part", "the first half of the outputs", _NONE),
    ("log-late", OUTPUTS, "edit", "the log is not there yet", {"patch": {"log": ""}}),
    ("outputs-denied", OUTPUTS, "status", "403, as if there were none", _denied("kernels.get")),
    ("same-name-twice", LISTS, "double", "two files with one name", _NONE),
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

_DOWNLOADS: Sequence[Row] = [
    ("link-expired", FILES, "expire", "this one link is no longer valid", _NONE),
    (
        "file-denied",
        FILES,
        "status",
        "403 and XML instead of the file",
        {"status": 403, "body": _XML.format("AccessDenied")},
    ),
    (
        "file-not-found",
        FILES,
        "status",
        "404 and XML instead of the file",
        {"status": 404, "body": _XML.format("NoSuchKey")},
    ),
    (
        "file-is-error",
        FILES,
        "answer",
        "an error's XML instead of the file, with 200",
        {"body": _XML.format("InternalError")},
    ),
    ("file-cut", FILES, "truncate", "the file ends half way", _NONE),
    ("file-flipped", FILES, "flip", "one bit of the file is wrong", _NONE),
    ("file-swapped", FILES, "swap", "it became another object of the same size", _NONE),
    (
        "file-from-the-future",
        FILES,
        "headers",
        "the server's clock is ahead by years",
        {"headers": {"Last-Modified": "Wed, 31 Dec 2036 23:59:59 GMT"}},
    ),
    ("file-drips", FILES, "drip", "the file comes byte by byte", _NONE),
    ("file-hangs", FILES, "hang", "the file never comes", _NONE),
    ("file-reset", FILES, "reset_before", "cut instead of sent", _NONE),
    (
        "download-not-found",
        "DownloadDataset",
        "status",
        "404, as in the minutes after publishing",
        {"status": 404},
    ),
]

_DATASETS: Sequence[Row] = [
    (
        "lost-publish-answer",
        PUBLISH,
        "reset_after",
        "published, but nobody hears of it",
        _NONE,
    ),
    (
        "publish-busy",
        VERSION,
        "status",
        "403: the one before is processed",
        _denied("datasets.update"),
    ),
    (
        "publish-unresolved",
        VERSION,
        "answer",
        "refused: the dataset cannot be resolved",
        _refused("Failed to resolve the necessary information from the request."),
    ),
    (
        "publish-exists",
        CREATE,
        "answer",
        "refused: the title is taken",
        _refused("The requested title is already in use by a dataset."),
    ),
    (
        "publish-no-storage",
        PUBLISH,
        "answer",
        "refused: the account's storage is full",
        _refused("The dataset exceeds your remaining private storage quota."),
    ),
    ("publish-loses-file", PUBLISH, "lose_file", "one file is not in the version", _NONE),
    ("publish-loses-all", PUBLISH, "lose_all_files", "the version is empty", _NONE),
    (
        "publish-sticks",
        PUBLISH,
        "stick_processing",
        "the version never becomes ready",
        _NONE,
    ),
    ("publish-fails", PUBLISH, "fail_processing", "its processing ends as failed", _NONE),
    ("publish-hidden", PUBLISH, "hide_version", "the version never appears", _NONE),
    ("dataset-denied", DATASET, "status", "403, as for a foreign one", _denied("datasets.get")),
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
        _denied("datasets.get"),
    ),
    ("listing-incomplete", DATASET_FILES, "part", "the first half of the files", _NONE),
    (
        "listing-error",
        DATASET_FILES,
        "answer",
        "no list, but an error with 200",
        {"body": '{"datasetFiles": [], "errorMessage": "Listing failed", "hasErrorMessage": true}'},
    ),
]

_UPLOADS: Sequence[Row] = [
    ("upload-start-fails", START_UPLOAD, "status", "503 before anything is sent", {"status": 503}),
    ("upload-cut", UPLOAD, "cut_upload", "cut half way; what came is kept", _NONE),
    ("upload-unheard", UPLOAD, "reset_after", "complete, but nobody hears of it", _NONE),
    ("upload-nothing-stored", UPLOAD, "status", "308 without a range", {"status": 308, "body": ""}),
    ("upload-expired", UPLOAD, "status", "404: the upload has expired", {"status": 404}),
    ("upload-error", UPLOAD, "status", "500 instead of taking the bytes", {"status": 500}),
    ("upload-unavailable", UPLOAD, "status", "503, to be resumed", {"status": 503}),
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

GROUPS: Sequence[tuple[str, float, Sequence[Row]]] = [
    ("Network and proxies", 0.003, _NETWORK),
    ("Rate limits", 0.002, _LIMITS),
    ("Credentials", 0.002, _CREDENTIALS),
    ("Pushes", 0.01, _PUSHES),
    ("Status", 0.005, _STATUS),
    ("Sessions", 0.02, _SESSIONS),
    ("Outputs and names", 0.003, _OUTPUTS),
    ("Downloads", 0.01, _DOWNLOADS),
    ("Datasets", 0.01, _DATASETS),
    ("Uploads", 0.02, _UPLOADS),
    ("Quota", 0.01, _QUOTA),
]
