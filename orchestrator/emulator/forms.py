"""Requests as the official client sends them, read into the world's records.

A field of the wrong type is a refusal; an absent one has its default, which the client leaves out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.emulator.records import Draft, NewFile, Push, Refusal


class Body:
    """The fields of one JSON object of a request."""

    def __init__(self, fields: object) -> None:
        if not isinstance(fields, dict):
            raise Refusal(400, "The request body must be a JSON object")
        self._fields: Mapping[str, Any] = fields

    def text(self, name: str, default: str = "") -> str:
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or not _is_unicode(value):
            raise Refusal(400, f"Could not convert '{name}' to string")
        return value

    def number(self, name: str, default: int = 0) -> int:
        value = self._fields.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except (TypeError, ValueError):
            raise Refusal(400, "Could not convert string to integer") from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._fields.get(name)
        return default if value is None else bool(value)

    def items(self, name: str) -> list[Any]:
        value = self._fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Refusal(400, f"Could not convert '{name}' to a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(Body({name: item}).text(name) for item in self.items(name))

    def nested(self, name: str) -> "Body":
        return Body(self._fields.get(name) or {})


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can express and nothing else can store."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def page_of(items: Sequence[Any], body: Body) -> tuple[Sequence[Any], str]:
    """The requested page and the token of the next; 20 items unless asked, 200 at most."""
    size = min(max(body.number("pageSize", 20), 1), 200)
    token = body.text("pageToken")
    if token and not token.isdigit():
        raise Refusal(400, "Invalid page token")
    start = int(token) if token else (max(body.number("page"), 1) - 1) * size
    following = start + size
    return items[start:following], str(following) if following < len(items) else ""


def parse_push(body: Body) -> Push:
    owner, _, slug = body.text("slug").partition("/")
    return Push(
        owner=owner,
        slug=slug,
        title=body.text("newTitle"),
        source=body.text("text"),
        kernel_id=body.number("id"),
        language=body.text("language"),
        kernel_type=body.text("kernelType"),
        is_private=body.flag("isPrivate", default=True),
        enable_gpu=body.flag("enableGpu"),
        enable_tpu=body.flag("enableTpu"),
        enable_internet=body.flag("enableInternet", default=True),
        machine_shape=body.text("machineShape"),
        docker_image=body.text("dockerImage"),
        timeout_seconds=body.number("sessionTimeoutSeconds"),
        runs=body.text("kernelExecutionType").upper() not in {"QUICK_SAVE", "QUICKSAVE"},
        dataset_sources=body.texts("datasetDataSources"),
        kernel_sources=body.texts("kernelDataSources"),
        competition_sources=body.texts("competitionDataSources"),
        model_sources=body.texts("modelDataSources"),
        keywords=body.texts("categoryIds"),
    )


def parse_draft(body: Body) -> Draft:
    return Draft(
        owner=body.text("ownerSlug"),
        slug=body.text("slug"),
        title=body.text("title"),
        license_name=body.text("licenseName", "unknown"),
        is_private=body.flag("isPrivate"),  # the client leaves it out for --public
        subtitle=body.text("subtitle"),
        description=body.text("description"),
        keywords=body.texts("categoryIds"),
    )


def parse_settings(body: Body, draft: Draft) -> Draft:
    """A dataset's draft with what UpdateDatasetMetadata says; what it leaves out is emptied."""
    settings = body.nested("settings")
    licenses = [Body(item).text("name") for item in settings.items("licenses")]
    return replace(
        draft,
        title=settings.text("title") or draft.title,
        subtitle=settings.text("subtitle"),
        description=settings.text("description"),
        is_private=settings.flag("isPrivate"),  # the client leaves it out for a public one
        license_name=licenses[0] if licenses else draft.license_name,
        keywords=settings.texts("keywords"),
    )


def parse_new_files(body: Body, folder: str = "") -> list[NewFile]:
    """The files of a request, those in its tree of directories too."""
    files = [NewFile(folder, Body(item).text("token")) for item in body.items("files")]
    for item in body.items("directories"):
        directory = Body(item)
        name = directory.text("name").strip("/").rsplit("/", 1)[-1]
        files += parse_new_files(directory, f"{folder}{name}/" if name else folder)
    return files
