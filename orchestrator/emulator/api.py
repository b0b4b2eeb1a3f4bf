"""Kaggle's API methods: each reads a request, asks or tells the world, and formats an answer.

`IMITATED` names what is imitated. A refusal with status 200 is formatted here, because Kaggle
puts it into the answer's own fields; every other refusal leaves as an exception.
"""

from collections.abc import Callable, Mapping, Sequence

from starlette.responses import RedirectResponse, Response

from orchestrator.emulator import forms, wire
from orchestrator.emulator.accounts import USER_ID
from orchestrator.emulator.forms import Body
from orchestrator.emulator.listing import select_datasets, select_kernels
from orchestrator.emulator.logs import session_log
from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import File, Kernel, Refusal, Session, Twist, denied
from orchestrator.emulator.wire import Json

Handler = Callable[[Platform, Body], Json | Response]
Mutation = Callable[[Platform, Body, Twist | None], Json]


def save_kernel(platform: Platform, body: Body, twist: Twist | None) -> Json:
    push = forms.parse_push(body)
    try:
        answer = platform.ledger.do(platform.ledger.world.save_kernel, push=push, twist=twist)
    except Refusal as refusal:
        if refusal.status != 200:
            raise
        return wire.push_refused(refusal.message)
    platform.wake.set()
    return wire.pushed(answer)


def get_kernel(platform: Platform, body: Body) -> Json:
    ask, world = platform.ledger.ask, platform.ledger.world
    owner, slug = body.text("userName"), body.text("kernelSlug")
    version = ask(world.kernel_version, owner=owner, slug=slug, label=body.text("versionLabel"))
    return wire.kernel(ask(world.kernel, owner=owner, slug=slug), version)


def delete_kernel(platform: Platform, body: Body) -> Json:
    owner, slug = body.text("userName"), body.text("kernelSlug")
    platform.ledger.do(platform.ledger.world.delete_kernel, owner=owner, slug=slug)
    return {}


def cancel_kernel_session(platform: Platform, body: Body) -> Json:
    session_id = body.number("kernelSessionId")
    platform.ledger.ask(platform.ledger.world.cancel_session, session_id=session_id)
    return {}


def list_kernels(platform: Platform, body: Body) -> Json:
    ask, world = platform.ledger.ask, platform.ledger.world

    def outputs_of(kernel: Kernel) -> Sequence[File]:
        session_id = kernel.latest.session_id
        return ask(world.session_by_id, session_id=session_id).outputs if session_id else ()

    page, token = forms.page_of(select_kernels(ask(world.kernels), body, outputs_of), body)
    rows = [wire.kernel_metadata(kernel, kernel.latest) for kernel in page]
    return wire.without_defaults(kernels=rows, nextPageToken=token)


def get_kernel_session_status(platform: Platform, body: Body) -> Json:
    return wire.session_status(_session(platform, body))


def list_kernel_files(platform: Platform, body: Body) -> Json:
    session = _session(platform, body)
    page, token = forms.page_of(session.outputs, body)
    created = wire.date(session.ended_at or 0.0)
    files = [{"name": f.name, "size": f.size_bytes, "creationDate": created} for f in page]
    return wire.without_defaults(files=files, nextPageToken=token)


def list_kernel_session_output(platform: Platform, body: Body) -> Json:
    session = _session(platform, body)
    page, token = forms.page_of(session.outputs, body)
    files = [{"url": _output_url(platform, session, f), "fileName": f.name} for f in page]
    log = "" if session.is_open else platform.blobs.text(session.log_key)
    return wire.without_defaults(files=files, log=log, nextPageToken=token)


def download_kernel_output(platform: Platform, body: Body) -> Response:
    number = body.number("versionNumber")
    session = platform.ledger.ask(
        platform.ledger.world.session,
        owner=body.text("ownerSlug"),
        slug=body.text("kernelSlug"),
        label=f"v{number}" if number else "",
    )
    for file in session.outputs:
        if file.name == body.text("filePath"):
            return RedirectResponse(_output_url(platform, session, file), 302)
    raise Refusal(404, "Output file not found")


def get_kernel_session_logs_stream(platform: Platform, body: Body) -> Response:
    return session_log(platform, _session(platform, body))


def get_accelerator_quota_statistics(platform: Platform, _body: Body) -> Json:
    world = platform.ledger.world
    refresh_at, gpu, tpu = platform.ledger.ask(world.quotas)
    return wire.quotas(refresh_at, gpu, tpu, zero_omitted=world.settings.quota_zero_omitted)


def create_dataset(platform: Platform, body: Body, twist: Twist | None) -> Json:
    draft, files = forms.parse_draft(body), forms.parse_new_files(body)
    ledger = platform.ledger
    try:
        made = ledger.do(ledger.world.create_dataset, draft=draft, files=files, twist=twist)
    except Refusal as refusal:
        if refusal.status != 200:
            raise
        return wire.dataset_refused(refusal.message)
    return wire.dataset_made(made)


def create_dataset_version(platform: Platform, body: Body, twist: Twist | None) -> Json:
    owner, slug = _dataset_name(body)
    return _create_version(platform, owner, slug, body.nested("body"), twist)


def create_dataset_version_by_id(platform: Platform, body: Body, twist: Twist | None) -> Json:
    for dataset in platform.ledger.ask(platform.ledger.world.datasets):
        if dataset.dataset_id == body.number("id"):
            draft = dataset.draft
            return _create_version(platform, draft.owner, draft.slug, body.nested("body"), twist)
    raise denied("datasets.update")


def get_dataset(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    ask, world = platform.ledger.ask, platform.ledger.world
    versions = ask(world.dataset_versions, owner=owner, slug=slug)
    return wire.dataset(ask(world.dataset, owner=owner, slug=slug), versions)


def get_dataset_status(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    return wire.dataset_status(
        platform.ledger.ask(platform.ledger.world.dataset_status, owner=owner, slug=slug)
    )


def get_dataset_metadata(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    return wire.dataset_metadata(
        platform.ledger.ask(platform.ledger.world.dataset, owner=owner, slug=slug)
    )


def update_dataset_metadata(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    draft = platform.ledger.ask(platform.ledger.world.dataset, owner=owner, slug=slug).draft
    try:
        platform.ledger.do(
            platform.ledger.world.update_dataset, draft=forms.parse_settings(body, draft)
        )
    except Refusal as refusal:
        if refusal.status != 200:
            raise
        return {"errors": [refusal.message]}
    return {}


def delete_dataset(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    platform.ledger.do(platform.ledger.world.delete_dataset, owner=owner, slug=slug)
    return {}


def list_datasets(platform: Platform, body: Body) -> Json:
    datasets = platform.ledger.ask(platform.ledger.world.datasets)
    page, token = forms.page_of(select_datasets(datasets, body), body)
    rows = [wire.dataset(dataset) for dataset in page]
    return wire.without_defaults(datasets=rows, nextPageToken=token)


def list_dataset_files(platform: Platform, body: Body) -> Json:
    owner, slug = _dataset_name(body)
    version = platform.ledger.ask(
        platform.ledger.world.dataset_version,
        owner=owner,
        slug=slug,
        number=body.number("datasetVersionNumber"),
    )
    return wire.dataset_files(f"{owner}/{slug}", version, body)


def download_dataset(platform: Platform, body: Body) -> Response:
    ask, world = platform.ledger.ask, platform.ledger.world
    owner, slug = _dataset_name(body)
    dataset = ask(world.dataset, owner=owner, slug=slug)
    version = ask(
        world.dataset_version, owner=owner, slug=slug, number=body.number("datasetVersionNumber")
    )
    name = body.text("fileName")
    if name and name not in {file.name for file in version.files}:
        raise Refusal(404, f"File '{name}' was not found")
    expires_at = world.now + world.settings.output_url_seconds
    url = platform.links.dataset(dataset.dataset_id, version.number, name, expires_at)
    return RedirectResponse(url, 302)


def start_blob_upload(platform: Platform, body: Body) -> Json:
    upload = platform.ledger.do(
        platform.ledger.world.start_upload,
        name=body.text("name"),
        size_bytes=body.number("contentLength"),
    )
    return wire.upload_started(upload, platform.links.base_url)


def introspect_token(platform: Platform, body: Body) -> Json:
    if not platform.account.knows(body.text("token")):
        return {}
    return {"active": True, "username": platform.account.username, "userId": USER_ID}


# The calls that the platform can do wrong once.
MUTATIONS: Mapping[str, Mutation] = {
    "kernels.KernelsApiService/SaveKernel": save_kernel,
    "datasets.DatasetApiService/CreateDataset": create_dataset,
    "datasets.DatasetApiService/CreateDatasetVersion": create_dataset_version,
    "datasets.DatasetApiService/CreateDatasetVersionById": create_dataset_version_by_id,
}
METHODS: Mapping[str, Handler] = {
    "kernels.KernelsApiService/GetKernel": get_kernel,
    "kernels.KernelsApiService/ListKernels": list_kernels,
    "kernels.KernelsApiService/DeleteKernel": delete_kernel,
    "kernels.KernelsApiService/CancelKernelSession": cancel_kernel_session,
    "kernels.KernelsApiService/ListKernelFiles": list_kernel_files,
    "kernels.KernelsApiService/GetKernelSessionStatus": get_kernel_session_status,
    "kernels.KernelsApiService/ListKernelSessionOutput": list_kernel_session_output,
    "kernels.KernelsApiService/DownloadKernelOutput": download_kernel_output,
    "kernels.KernelsApiService/GetKernelSessionLogsStream": get_kernel_session_logs_stream,
    "kernels.KernelsApiService/GetAcceleratorQuotaStatistics": get_accelerator_quota_statistics,
    "datasets.DatasetApiService/UpdateDatasetMetadata": update_dataset_metadata,
    "datasets.DatasetApiService/DeleteDataset": delete_dataset,
    "datasets.DatasetApiService/GetDataset": get_dataset,
    "datasets.DatasetApiService/GetDatasetStatus": get_dataset_status,
    "datasets.DatasetApiService/GetDatasetMetadata": get_dataset_metadata,
    "datasets.DatasetApiService/ListDatasets": list_datasets,
    "datasets.DatasetApiService/ListDatasetFiles": list_dataset_files,
    "datasets.DatasetApiService/DownloadDataset": download_dataset,
    "blobs.BlobApiService/StartBlobUpload": start_blob_upload,
    "security.OAuthService/IntrospectToken": introspect_token,
}
IMITATED = frozenset(METHODS) | frozenset(MUTATIONS)


def _create_version(
    platform: Platform, owner: str, slug: str, body: Body, twist: Twist | None
) -> Json:
    try:
        published = platform.ledger.do(
            platform.ledger.world.create_dataset_version,
            owner=owner,
            slug=slug,
            notes=body.text("versionNotes"),
            files=forms.parse_new_files(body),
            delete_old_versions=body.flag("deleteOldVersions"),
            twist=twist,
        )
    except Refusal as refusal:
        if refusal.status != 200:
            raise
        return wire.dataset_refused(refusal.message)
    return wire.dataset_made(published)


def _session(platform: Platform, body: Body) -> Session:
    return platform.ledger.ask(
        platform.ledger.world.session,
        owner=body.text("userName"),
        slug=body.text("kernelSlug"),
        label=body.text("versionLabel"),
    )


def _dataset_name(body: Body) -> tuple[str, str]:
    return body.text("ownerSlug"), body.text("datasetSlug")


def _output_url(platform: Platform, session: Session, file: File) -> str:
    world = platform.ledger.world
    expires_at = world.now + world.settings.output_url_seconds
    return platform.links.output(session.session_id, file.name, expires_at)
