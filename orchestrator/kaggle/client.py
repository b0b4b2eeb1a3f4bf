"""The verbs of `port.py` over Kaggle's SDK; arguments and results are plain JSON values.

Requests are the SDK's own objects: the client's convenience methods drop version numbers and
hide HTTP statuses. Only the child process imports this module.
"""

from __future__ import annotations

import enum
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from kagglesdk import kaggle_env
from kagglesdk.blobs.types.blob_api_service import ApiBlobType
from kagglesdk.common.types.file_download import FileDownload
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetRequest,
    ApiCreateDatasetVersionRequest,
    ApiCreateDatasetVersionRequestBody,
    ApiDatasetNewFile,
    ApiDownloadDatasetRequest,
    ApiGetDatasetRequest,
    ApiGetDatasetStatusRequest,
    ApiListDatasetFilesRequest,
)
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetAcceleratorQuotaStatisticsRequest,
    ApiGetKernelRequest,
    ApiGetKernelSessionLogsStreamRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelSessionOutputRequest,
    ApiSaveKernelRequest,
)

from orchestrator.kaggle.login import log_in

PAGE_SIZE = 200  # the service's maximum
MAX_PAGES = 100


class CallError(Exception):
    """A call that brought an answer we cannot use."""


class Client:
    """The verbs of `port.py` over the SDK; arguments and results are plain JSON values."""

    def __init__(self, endpoint: str, credential: Mapping[str, str]) -> None:
        kaggle_env._env_to_endpoint[KaggleEnv.PROD] = endpoint
        import kaggle  # noqa: PLC0415 - authenticates on import, at the endpoint set above

        kaggle_api = kaggle.api.__class__
        kaggle_api.with_retry = lambda _self, function, **_options: function
        KaggleHttpClient._prepare_response = _insisting(KaggleHttpClient._prepare_response)
        self._api = kaggle.api
        log_in(self._api, credential)
        self.access_token = str(self._api.config_values.get("token") or "")
        self.username = str(self._api.config_values.get("username") or "")

    def identity(self) -> str:
        """Return the account's name; proves the credential by one cheap call."""
        self.quota()
        return self.username

    def push(
        self,
        *,
        sending: Callable[[], None],
        kernel: str,
        title: str,
        source: str,
        dataset_sources: list[str],
        machine_shape: str | None,
        enable_internet: bool,
        session_timeout_seconds: int,
    ) -> dict[str, Any]:
        request = ApiSaveKernelRequest()
        request.slug = f"{self.username}/{kernel}"
        request.new_title = title
        request.text = source
        request.language = "python"
        request.kernel_type = "notebook"
        request.is_private = True
        request.enable_gpu = machine_shape is not None
        request.enable_tpu = False
        request.enable_internet = enable_internet
        request.dataset_data_sources = dataset_sources
        request.session_timeout_seconds = session_timeout_seconds
        if machine_shape is not None:
            request.machine_shape = machine_shape
        with self._api.build_kaggle_client() as client:
            sending()
            answer = client.kernels.kernels_api_client.save_kernel(request)
        invalid = [
            source
            for name in ("dataset", "kernel", "competition", "model")
            for source in getattr(answer, f"invalid_{name}_sources") or []
        ]
        return {
            "version": _number(answer.version_number),
            "ref": _text(answer.ref),
            "url": _text(answer.url),
            "error": _text(answer.error),
            "invalid_sources": sorted(map(_text, invalid)),
        }

    def create_dataset(
        self,
        *,
        sending: Callable[[], None],
        dataset: str,
        title: str,
        folder: str,
        files: list[str],
        notes: str,
    ) -> dict[str, Any]:
        request = ApiCreateDatasetRequest()
        request.owner_slug = self.username
        request.slug = dataset
        request.title = title
        request.license_name = "other"
        request.is_private = True
        request.description = notes
        request.files = self._upload(folder, files)
        with self._api.build_kaggle_client() as client:
            sending()
            answer = client.datasets.dataset_api_client.create_dataset(request)
        return {"status": _text(answer.status), "error": _text(answer.error)}

    def publish_version(
        self,
        *,
        sending: Callable[[], None],
        dataset: str,
        title: str,
        folder: str,
        files: list[str],
        notes: str,
    ) -> dict[str, Any]:
        body = ApiCreateDatasetVersionRequestBody()
        body.version_notes = notes
        body.delete_old_versions = False
        body.files = self._upload(folder, files)
        request = ApiCreateDatasetVersionRequest()
        request.owner_slug = self.username
        request.dataset_slug = dataset
        request.body = body
        with self._api.build_kaggle_client() as client:
            sending()
            answer = client.datasets.dataset_api_client.create_dataset_version(request)
        return {"status": _text(answer.status), "error": _text(answer.error)}

    def kernel(self, *, kernel: str, version: int | None) -> dict[str, Any]:
        request = ApiGetKernelRequest()
        self._address(request, kernel, version)
        with self._api.build_kaggle_client() as client:
            answer = client.kernels.kernels_api_client.get_kernel(request)
        if answer.metadata is None:
            raise CallError("GetKernel answered without metadata")
        self._insist(answer.metadata.ref, kernel)
        return {
            "current_version": _number(answer.metadata.current_version_number),
            "is_private": _flag(answer.metadata.is_private),
            "source": _text(answer.blob and answer.blob.source),
        }

    def session(self, *, kernel: str, version: int) -> dict[str, Any]:
        request = ApiGetKernelSessionStatusRequest()
        self._address(request, kernel, version)
        with self._api.build_kaggle_client() as client:
            answer = client.kernels.kernels_api_client.get_kernel_session_status(request)
        return {
            "status": _enum_name(answer.status),
            "failure_message": _text(answer.failure_message),
        }

    def outputs(self, *, kernel: str, version: int) -> list[dict[str, str]]:
        files: list[dict[str, str]] = []
        for page in self._output_pages(kernel, version):
            files += [
                {"name": _text(file.file_name), "url": _text(file.url)} for file in page.files or []
            ]
        return files

    def log(self, *, kernel: str, version: int) -> str:
        return _text(next(self._output_pages(kernel, version)).log)

    def _output_pages(self, kernel: str, version: int) -> Iterator[Any]:
        token = ""
        with self._api.build_kaggle_client() as client:
            for _page in range(MAX_PAGES):
                request = ApiListKernelSessionOutputRequest()
                self._address(request, kernel, version)
                request.page_size = PAGE_SIZE
                request.page_token = token
                page = client.kernels.kernels_api_client.list_kernel_session_output(request)
                yield page
                token = _text(page.next_page_token)
                if not token:
                    return
        raise CallError(f"more than {MAX_PAGES * PAGE_SIZE} output files")

    def dataset(self, *, dataset: str) -> dict[str, Any]:
        status_request = ApiGetDatasetStatusRequest()
        request = ApiGetDatasetRequest()
        for each in (request, status_request):
            each.owner_slug, each.dataset_slug = self.username, dataset
        with self._api.build_kaggle_client() as client:
            datasets = client.datasets.dataset_api_client
            # The number first: `ready` read after it cannot be about an earlier version.
            answer = datasets.get_dataset(request)
            status = _enum_name(datasets.get_dataset_status(status_request).status)
        self._insist(answer.ref, dataset)
        return {
            "current_version": _number(answer.current_version_number),
            "is_private": _flag(answer.is_private),
            "status": status,
            "versions": [
                {"number": _number(version.version_number), "notes": _text(version.version_notes)}
                for version in answer.versions or []
            ],
        }

    def dataset_files(self, *, dataset: str, version: int) -> dict[str, int]:
        files: dict[str, int] = {}
        token = ""
        with self._api.build_kaggle_client() as client:
            for _page in range(MAX_PAGES):
                request = ApiListDatasetFilesRequest()
                request.owner_slug, request.dataset_slug = self.username, dataset
                request.dataset_version_number = version
                request.page_size = PAGE_SIZE
                request.page_token = token
                page = client.datasets.dataset_api_client.list_dataset_files(request)
                if page.error_message:
                    raise CallError(_text(page.error_message))
                files |= {
                    _text(file.name): _number(file.total_bytes) for file in page.dataset_files or []
                }
                token = _text(page.next_page_token)
                if not token:
                    return files
        raise CallError(f"more than {MAX_PAGES * PAGE_SIZE} dataset files")

    def dataset_file(
        self, *, dataset: str, version: int, name: str, limit_bytes: int
    ) -> dict[str, str]:
        content = bytearray()
        with self._api.build_kaggle_client() as client:
            answer = client.datasets.dataset_api_client.download_dataset(
                self._one_file(dataset, version, name)
            )
            is_page = answer.headers.get("Content-Type", "").startswith("text/html")
            if is_page or answer.status_code != 200:  # 302: a redirection to nowhere
                raise CallError(f"a web page instead of {name}")
            for chunk in answer.iter_content(64 * 1024):
                content += chunk
                if len(content) > limit_bytes:
                    raise CallError(f"{name} is larger than {limit_bytes} bytes")
        return {"hex": content.hex()}

    def dataset_address(self, *, dataset: str, version: int, name: str) -> str:
        """Return the signed address that a download is redirected to; nothing is read there."""
        request = self._one_file(dataset, version, name)
        with self._api.build_kaggle_client() as client:
            answer = client.datasets.dataset_api_client.download_dataset(request)
            answer.close()
        if not answer.history:
            raise CallError(f"the download of {name} was not redirected")
        return _text(answer.url)

    def _one_file(self, dataset: str, version: int, name: str) -> ApiDownloadDatasetRequest:
        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = self.username, dataset
        request.dataset_version_number = version
        request.file_name = name
        return request

    def quota(self) -> dict[str, Any]:
        with self._api.build_kaggle_client() as client:
            answer = client.kernels.kernels_api_client.get_accelerator_quota_statistics(
                ApiGetAcceleratorQuotaStatisticsRequest()
            )
        gpu, refresh = answer.gpu_quota, answer.quota_refresh_time
        return {
            # total_seconds() of the attribute: the SDK's own re-encoding drops whole days.
            "used_seconds": _seconds(gpu and gpu.time_used),
            "reserved_seconds": _seconds(gpu and gpu.time_reserved),
            "total_seconds": _seconds(gpu and gpu.total_time_allowed),
            "refresh_at": _unix(refresh) if refresh else None,
        }

    def follow(self, *, kernel: str, version: int) -> Iterator[dict[str, Any]]:
        """Yield log events of a running session, from the start, until its log ends."""
        request = ApiGetKernelSessionLogsStreamRequest()
        self._address(request, kernel, version)
        with self._api.build_kaggle_client() as client:
            answer = client.kernels.kernels_api_client.get_kernel_session_logs_stream(request)
            if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                yield from (event for event in json.loads(answer.text or "[]") if event)
                return
            for line in answer.iter_lines(decode_unicode=True):
                if line == "data: END_OF_LOG":
                    return
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def _address(self, request: Any, kernel: str, version: int | None) -> None:
        request.user_name, request.kernel_slug = self.username, kernel
        if version is not None:
            request.version_label = f"v{version}"

    def _insist(self, ref: object, name: str) -> None:
        """Refuse an answer about another's, or about another name than was asked for."""
        asked = f"{self.username}/{name}"
        told = "/".join(_text(ref).strip("/").split("/")[-2:])
        if told and told.lower() != asked.lower():
            raise CallError(f"asked for {asked}, the answer is about {told}")

    def _upload(self, folder: str, files: list[str]) -> list[Any]:
        """Upload each file and return the SDK's file records; raise if one did not arrive."""
        records = []
        from kaggle.api.kaggle_api_extended import ResumableUploadContext  # noqa: PLC0415

        context = ResumableUploadContext()
        # A record that outlived its attempt would splice the old file and the new one.
        with tempfile.TemporaryDirectory() as context._temp_dir, context:
            for name in files:
                path = str(Path(folder) / name)
                uploaded = self._api._upload_file(
                    name, path, ApiBlobType.DATASET, context, True, None
                )
                if uploaded is None or not uploaded.token:
                    raise CallError(f"the upload of {name} did not arrive")
                record = ApiDatasetNewFile()
                record.token = uploaded.token
                records.append(record)
        return records


def _insisting(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what the SDK takes for an empty success: a list, or a code without a message."""

    def prepare_checked(self: Any, response_type: Any, response: Any) -> Any:
        answer = prepare(self, response_type, response)
        is_file = response_type in (FileDownload, HttpRedirect)
        if is_file and "json" not in response.headers.get("Content-Type", ""):
            return answer
        body = response.json()
        if "code" in body if isinstance(body, dict) else not is_file:
            raise CallError(f"an answer that is none: {response.text:.50}")
        return answer

    return prepare_checked


# The SDK takes any JSON value for any field: these take what the field is for, or its absence.


def _text(value: object) -> str:
    if not isinstance(value, str | None):
        raise CallError(f"a text field holds {value!r:.50}")
    return value or ""


def _number(value: object) -> int:
    if not isinstance(value, int | None) or isinstance(value, bool):
        raise CallError(f"a number field holds {value!r:.50}")
    return value or 0


def _flag(value: object) -> bool | None:
    if not isinstance(value, bool | None):
        raise CallError(f"a yes or no field holds {value!r:.50}")
    return value


def _enum_name(value: object) -> str | None:
    """Return an enum member's name; None for what the SDK makes of an odd answer."""
    return value.name.lower() if isinstance(value, enum.Enum) else None


def _seconds(duration: Any) -> float:
    return float(duration.total_seconds()) if duration else 0.0


def _unix(moment: Any) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # the SDK drops the Z
    return float(aware.timestamp())
