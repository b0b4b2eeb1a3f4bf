"""Rows of the catalogue: what networks, proxies and storage do wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.emulator.catalogue_terms import (
    EACH,
    FILES,
    NONE,
    PUBLISH,
    PUSH,
    START_UPLOAD,
    TOKEN,
    UPLOAD,
    Group,
    Row,
    denied,
    page,
)

_OLD_429 = '{"code":429,"message":"TooManyRequests"}'
_NEW_429 = '{"error":{"code":429,"message":"Too many requests","status":"RESOURCE_EXHAUSTED"}}'
_PORTAL = "<html><head><title>Welcome</title></head><body>Sign in to use this network</body></html>"
_XML = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code></Error>"


def _limited(retry_after: str, body: str = _NEW_429) -> Mapping[str, Any]:
    return {"status": 429, "body": body, "headers": {"Retry-After": retry_after}}


_NETWORK: Sequence[Row] = [
    ("reset-before", EACH, "reset_before", "cut before it is handled: it took no effect", NONE),
    ("reset-after", EACH, "reset_after", "handled, then cut: it took effect unheard", NONE),
    ("hang", EACH, "hang", "accepted and never answered; it took no effect", NONE),
    ("hang-after", EACH, "hang_after", "handled and never answered", NONE),
    ("slow", EACH, "delay", "answered two seconds late", {"seconds": 2.0}),
    ("drip", EACH, "drip", "the answer comes byte by byte, no read ever times out", NONE),
    ("truncated-answer", EACH, "truncate", "the answer ends half way", NONE),
    ("delivered-twice", EACH, "twice", "a proxy delivers the request two times", NONE),
    ("server-error", EACH, "status", "500, without effect", {"status": 500}),
    ("unavailable", EACH, "status", "503, without effect", {"status": 503}),
    (
        "unavailable-page",
        EACH,
        "status",
        "503 as a page instead of JSON",
        {"status": 503, "body": page("503 Service Unavailable")},
    ),
    ("unavailable-after", EACH, "status_after", "503 although it took effect", {"status": 503}),
    (
        "gateway-error-after",
        EACH,
        "status_after",
        "502 page of a gateway, although it took effect",
        {"status": 502, "body": page("502 Bad Gateway")},
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
        {"status": 429, "body": page("429 Too Many Requests")},
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
        denied("kernels.update"),
    ),
    ("introspection-down", TOKEN, "status", "503 when the token is looked at", {"status": 503}),
    ("inactive-token", TOKEN, "answer", "the token is called inactive", {"body": "{}"}),
]

_DOWNLOADS: Sequence[Row] = [
    ("link-expired", FILES, "expire", "this one link is no longer valid", NONE),
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
    ("file-cut", FILES, "truncate", "the file ends half way", NONE),
    ("file-flipped", FILES, "flip", "one bit of the file is wrong", NONE),
    ("file-swapped", FILES, "swap", "it became another object of the same size", NONE),
    (
        "file-from-the-future",
        FILES,
        "headers",
        "the server's clock is ahead by years",
        {"headers": {"Last-Modified": "Wed, 31 Dec 2036 23:59:59 GMT"}},
    ),
    ("file-drips", FILES, "drip", "the file comes byte by byte", NONE),
    ("file-hangs", FILES, "hang", "the file never comes", NONE),
    ("file-reset", FILES, "reset_before", "cut instead of sent", NONE),
    (
        "download-not-found",
        "DownloadDataset",
        "status",
        "404, as in the minutes after publishing",
        {"status": 404},
    ),
]

_UPLOADS: Sequence[Row] = [
    ("upload-start-fails", START_UPLOAD, "status", "503 before anything is sent", {"status": 503}),
    ("upload-cut", UPLOAD, "cut_upload", "cut half way; what came is kept", NONE),
    ("upload-unheard", UPLOAD, "reset_after", "complete, but nobody hears of it", NONE),
    ("upload-nothing-stored", UPLOAD, "status", "308 without a range", {"status": 308, "body": ""}),
    ("upload-expired", UPLOAD, "status", "404: the upload has expired", {"status": 404}),
    ("upload-error", UPLOAD, "status", "500 instead of taking the bytes", {"status": 500}),
    ("upload-unavailable", UPLOAD, "status", "503, to be resumed", {"status": 503}),
]

GROUPS: Sequence[Group] = [
    ("Network and proxies", 0.003, _NETWORK),
    ("Rate limits", 0.002, _LIMITS),
    ("Credentials", 0.002, _CREDENTIALS),
    ("Downloads", 0.01, _DOWNLOADS),
    ("Uploads", 0.02, _UPLOADS),
]
