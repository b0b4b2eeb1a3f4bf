"""Kaggle's JSON: how the world's records look in answers, and how requests are read.

Field names are camelCase, a field at its default is left out (an empty status means QUEUED),
durations are strings of seconds, dates end in Z. SaveKernel's refusals also carry the `hasX`
and `xNullable` helpers that the real server sends.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.emulator.records import (
    Dataset,
    DatasetStatus,
    DatasetVersion,
    Draft,
    Kernel,
    KernelVersion,
    NewFile,
    Push,
    Pushed,
    Quota,
    Refusal,
    Session,
    Upload,
)

Json = dict[str, Any]
WEB = "https://www.kaggle.com"


class Body:
    """The fields of a request; one of the wrong type is a refusal, an absent one its default."""

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


def without_defaults(**fields: Any) -> Json:
    """Leave out what the real server leaves out: None, "", 0, false and empty lists."""
    return {name: value for name, value in fields.items() if value or value == {}}


def date(at: float) -> str:
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def duration(seconds: float) -> str:
    return f"{round(seconds, 3):.3f}".rstrip("0").rstrip(".") + "s"


def page_of(items: Sequence[Any], body: Body) -> tuple[Sequence[Any], str]:
    """The requested page and the token of the next; 20 items unless asked, 200 at most."""
    size = min(max(body.number("pageSize", 20), 1), 200)
    token = body.text("pageToken")
    if token and not token.isdigit():
        raise Refusal(400, "Invalid page token")
    start = int(token) if token else 0
    following = start + size
    return items[start:following], str(following) if following < len(items) else ""


# Kernels


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


def pushed(answer: Pushed) -> Json:
    return {
        "ref": f"/code/{answer.owner}/{answer.slug}",
        "url": f"{WEB}/code/{answer.owner}/{answer.slug}",
        "versionNumber": answer.version,
        "hasVersionNumber": True,
        "versionNumberNullable": answer.version,
        "kernelId": answer.kernel_id,
        **without_defaults(
            invalidDatasetSources=answer.invalid_dataset_sources,
            invalidKernelSources=answer.invalid_kernel_sources,
            invalidCompetitionSources=answer.invalid_competition_sources,
            invalidModelSources=answer.invalid_model_sources,
        ),
    }


def push_refused(message: str) -> Json:
    return {
        "ref": "",
        "url": "",
        "versionNumber": 0,
        "hasVersionNumber": False,
        "kernelId": 0,
        "error": message,
        "hasError": True,
        "errorNullable": message,
    }


def kernel_metadata(kernel: Kernel, version: KernelVersion) -> Json:
    push = version.push
    return {
        "id": kernel.kernel_id,
        "ref": f"{kernel.owner}/{kernel.slug}",
        "title": kernel.title,
        "author": kernel.owner,
        "slug": kernel.slug,
        "lastRunTime": date(version.created_at),
        "language": push.language,
        "kernelType": push.kernel_type,
        "isPrivate": push.is_private,
        "enableGpu": push.enable_gpu,
        "enableTpu": push.enable_tpu,
        "enableInternet": push.enable_internet,
        "currentVersionNumber": kernel.latest.number,
        **without_defaults(
            categoryIds=push.keywords,
            datasetDataSources=version.dataset_sources,
            kernelDataSources=version.kernel_sources,
            dockerImage=push.docker_image,
            machineShape=push.machine_shape,
        ),
    }


def kernel(kernel: Kernel, version: KernelVersion) -> Json:
    push = version.push
    blob = {
        "source": push.source,
        "language": push.language,
        "kernelType": push.kernel_type,
        "slug": kernel.slug,
    }
    return {"metadata": kernel_metadata(kernel, version), "blob": blob}


def session_status(session: Session) -> Json:
    message = session.failure_message
    return without_defaults(
        status="" if session.status == "QUEUED" else str(session.status),
        failureMessage=message,
        hasFailureMessage=bool(message),
        failureMessageNullable=message,
    )


def quotas(refresh_at: float, gpu: Quota, tpu: Quota, *, zero_omitted: bool) -> Json:
    def one(quota: Quota) -> Json:
        fields = {
            "timeUsed": quota.used_seconds,
            "timeReserved": quota.reserved_seconds,
            "totalTimeAllowed": quota.total_seconds,
        }
        spoken = {k: duration(v) for k, v in fields.items() if v or not zero_omitted}
        return {**spoken, **without_defaults(hasEverRun=quota.has_ever_run)}

    return {"quotaRefreshTime": date(refresh_at), "gpuQuota": one(gpu), "tpuQuota": one(tpu)}


# Datasets


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


def parse_new_files(body: Body, folder: str = "") -> list[NewFile]:
    """The files of a request, those in its tree of directories too."""
    files = [NewFile(folder, Body(item).text("token")) for item in body.items("files")]
    for item in body.items("directories"):
        directory = Body(item)
        name = directory.text("name").strip("/").rsplit("/", 1)[-1]
        files += parse_new_files(directory, f"{folder}{name}/" if name else folder)
    return files


def dataset_made(dataset: Dataset) -> Json:
    return {"ref": dataset.ref, "url": f"{WEB}/datasets/{dataset.ref}", "status": "Ok"}


def dataset_refused(message: str) -> Json:
    return {"ref": "", "url": "", "status": "error", "error": message, "hasError": True}


def dataset_status(status: DatasetStatus) -> Json:
    return {} if status is DatasetStatus.NOT_YET_PERSISTED else {"status": str(status)}


def dataset(dataset: Dataset) -> Json:
    current = dataset.visible[-1]
    draft = dataset.draft
    return {
        "id": dataset.dataset_id,
        "ref": dataset.ref,
        "title": draft.title,
        "url": f"{WEB}/datasets/{dataset.ref}",
        "ownerName": draft.owner,
        "ownerRef": draft.owner,
        "creatorName": draft.owner,
        "lastUpdated": date(current.created_at),
        "licenseName": draft.license_name,
        "currentVersionNumber": current.number,
        "versions": [
            _dataset_version(version, draft.owner)
            for version in dataset.visible[::-1]
            if version.status is not DatasetStatus.DELETED
        ],
        **without_defaults(
            subtitle=draft.subtitle,
            description=draft.description,
            totalBytes=current.size_bytes,
            isPrivate=draft.is_private,
        ),
    }


def _dataset_version(version: DatasetVersion, owner: str) -> Json:
    return {
        "versionNumber": version.number,
        "creationDate": date(version.created_at),
        "creatorName": owner,
        "creatorRef": owner,
        "versionNotes": version.notes,
        "status": version.status.lower(),
    }


def dataset_metadata(dataset: Dataset) -> Json:
    draft = dataset.draft
    info = {
        "datasetId": dataset.dataset_id,
        "datasetSlug": draft.slug,
        "ownerUser": draft.owner,
        "title": draft.title,
        "licenses": [{"name": draft.license_name}],
        "isPrivate": draft.is_private,
        **without_defaults(
            subtitle=draft.subtitle, description=draft.description, keywords=draft.keywords
        ),
    }
    return {"info": info}


def dataset_files(ref: str, version: DatasetVersion, body: Body) -> Json:
    page, next_token = page_of(version.files, body)
    files = [
        {
            "ref": file.name,
            "datasetRef": ref,
            "name": file.name,
            "creationDate": date(version.created_at),
            "totalBytes": file.size_bytes,
        }
        for file in page
    ]
    return without_defaults(datasetFiles=files, nextPageToken=next_token)


def upload_started(upload: Upload, base_url: str) -> Json:
    path = "/upload/storage/v1/b/kaggle-data-sets/o?uploadType=resumable"
    return {"token": upload.token, "createUrl": f"{base_url}{path}&upload_id={upload.upload_id}"}
