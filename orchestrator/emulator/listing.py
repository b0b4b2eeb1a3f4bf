"""Which kernels and datasets a list holds, and in which order: the filters of the official client.

Lists are about one's own things or about what is public; one's own private things are in the
first only, or where one's own name is asked for. Nobody votes, comments or looks on a local
Kaggle: an order by any of these is the order of the last run or publication.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from orchestrator.emulator.forms import Body
from orchestrator.emulator.records import Dataset, File, Kernel

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".html"})
_LICENSES = {
    "CC": ("CC",),
    "GPL": ("GPL", "LGPL", "AGPL"),
    "ODB": ("ODBL", "DBCL", "ODC"),
}


def select_kernels(
    kernels: Iterable[Kernel], body: Body, outputs_of: Callable[[Kernel], Sequence[File]]
) -> list[Kernel]:
    """The kernels that a list request asks for; they come in with the last pushed first."""
    of_everyone = _name(body, "group") == "EVERYONE"
    wanted = [
        kernel
        for kernel in kernels
        if _is_users(kernel.owner, body)
        and (not of_everyone or _is_open(kernel.owner, body, kernel.latest.push.is_private))
        and _is_found(body, kernel.slug, kernel.title)
        and _has_sources(kernel, body)
        and _has_form(kernel, body, outputs_of)
    ]
    if _name(body, "sortBy") == "DATE_CREATED":
        wanted.sort(key=lambda kernel: -kernel.kernel_id)
    return wanted


def select_datasets(datasets: Iterable[Dataset], body: Body) -> list[Dataset]:
    """The datasets that a list request asks for; they come in with the last published first."""
    is_mine = _name(body, "group", "DATASET_SELECTION_GROUP_") == "MY"
    wanted = [
        dataset
        for dataset in datasets
        if _is_users(dataset.draft.owner, body)
        and (is_mine or _is_open(dataset.draft.owner, body, dataset.draft.is_private))
        and _is_found(body, dataset.draft.slug, dataset.draft.title)
        and _has_size(dataset, body)
        and _has_kind(dataset, body)
    ]
    if _name(body, "sortBy", "DATASET_SORT_BY_") == "PUBLISHED":
        wanted.sort(key=lambda dataset: -dataset.dataset_id)
    return wanted


def _name(body: Body, field: str, prefix: str = "") -> str:
    """An enum's value without its type's name before it."""
    return body.text(field).upper().removeprefix(prefix)


def _is_users(owner: str, body: Body) -> bool:
    """Of the user that was named, if any was."""
    return body.text("user") in ("", owner)


def _is_open(owner: str, body: Body, is_private: bool) -> bool:
    """Public, or of the user that was named, who can only be the one user there is."""
    return not is_private or body.text("user") == owner


def _is_found(body: Body, slug: str, title: str) -> bool:
    return body.text("search").lower() in f"{slug} {title}".lower()


def _has_sources(kernel: Kernel, body: Body) -> bool:
    """Uses the named dataset, competition or kernel; of competitions there are none here."""
    return (
        body.text("dataset") in ("", *kernel.latest.dataset_sources)
        and body.text("parentKernel") in ("", *kernel.latest.kernel_sources)
        and body.text("competition") == ""
    )


def _has_form(kernel: Kernel, body: Body, outputs_of: Callable[[Kernel], Sequence[File]]) -> bool:
    push = kernel.latest.push
    if body.text("language", "all") not in ("all", "", push.language):
        return False
    if body.text("kernelType", "all") not in ("all", "", push.kernel_type):
        return False
    output_type = body.text("outputType", "all")
    if output_type in ("all", ""):
        return True
    pictures = [_suffix(file) in _PICTURES for file in outputs_of(kernel)]
    return any(pictures) if output_type == "visualization" else not all(pictures)


def _has_size(dataset: Dataset, body: Body) -> bool:
    size_bytes = dataset.current.size_bytes
    most = body.number("maxSize")
    return body.number("minSize") <= size_bytes and (not most or size_bytes <= most)


def _has_kind(dataset: Dataset, body: Body) -> bool:
    """Has the tags, the kind of licence and a file of the type that were asked for."""
    tags = {tag for tag in body.text("tagIds").split(",") if tag}
    file_type = _name(body, "fileType", "DATASET_FILE_TYPE_GROUP_") or "ALL"
    suffixes = {_suffix(file) for file in dataset.current.files}
    return (
        tags <= set(dataset.draft.keywords)
        and (file_type == "ALL" or f".{file_type.lower()}" in suffixes)
        and _has_license(dataset, _name(body, "license", "DATASET_LICENSE_GROUP_") or "ALL")
    )


def _has_license(dataset: Dataset, group: str) -> bool:
    name = dataset.draft.license_name.upper()
    groups = [known for known, starts in _LICENSES.items() if name.startswith(starts)]
    return group == "ALL" or group == (groups[0] if groups else "OTHER")


def _suffix(file: File) -> str:
    return PurePosixPath(file.name).suffix.lower()
