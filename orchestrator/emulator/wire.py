"""Kaggle's JSON: how the world's records look in answers.

Field names are camelCase, a field at its default is left out (an empty status means QUEUED),
durations are strings of seconds, dates end in Z. Beside an error, a version number and a failure
message come the `hasX` and `xNullable` helpers that the real server sends.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.emulator.forms import Body, page_of
from orchestrator.emulator.records import (
    Dataset,
    DatasetStatus,
    DatasetVersion,
    Kernel,
    KernelVersion,
    Published,
    Pushed,
    Quota,
    SeenVersion,
    Session,
    Upload,
)

Json = dict[str, Any]
WEB = "https://www.kaggle.com"


def without_defaults(**fields: Any) -> Json:
    """Leave out what the real server leaves out: None, "", 0, false and empty lists."""
    return {name: value for name, value in fields.items() if value or value == {}}


def date(at: float) -> str:
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def duration(seconds: float) -> str:
    return f"{round(seconds, 3):.3f}".rstrip("0").rstrip(".") + "s"


# Kernels


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


def dataset_made(published: Published) -> Json:
    return {"ref": published.ref, "url": f"{WEB}/datasets/{published.ref}", "status": "Ok"}


def dataset_refused(message: str) -> Json:
    return {
        "ref": "",
        "url": "",
        "status": "error",
        "error": message,
        "hasError": True,
        "errorNullable": message,
    }


def dataset_status(status: DatasetStatus) -> Json:
    return {} if status is DatasetStatus.NOT_YET_PERSISTED else {"status": str(status)}


def dataset(dataset: Dataset, versions: Sequence[SeenVersion] = ()) -> Json:
    current = dataset.current
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
        **without_defaults(
            versions=[
                _dataset_version(seen, draft.owner)
                for seen in versions
                if seen.status is not DatasetStatus.DELETED
            ],
            subtitle=draft.subtitle,
            description=draft.description,
            totalBytes=current.size_bytes,
            isPrivate=draft.is_private,
        ),
    }


def _dataset_version(seen: SeenVersion, owner: str) -> Json:
    version = seen.version
    return {
        "versionNumber": version.number,
        "creationDate": date(version.created_at),
        "creatorName": owner,
        "creatorRef": owner,
        "versionNotes": version.notes,
        "status": seen.status.lower(),
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
