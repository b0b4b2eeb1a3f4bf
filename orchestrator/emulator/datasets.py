"""Datasets, their versions and the uploads they are made of: rules and state, no I/O, no clock.

A published version is first hidden (readers still see the previous one, or are denied), then
visible while it is processed, then ready. `advance` alone moves it along that way.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from orchestrator.emulator.records import (
    Dataset,
    DatasetStatus,
    DatasetVersion,
    Draft,
    File,
    NewFile,
    Refusal,
    Upload,
    denied,
)
from orchestrator.emulator.settings import Settings

_PROCESSING = (
    DatasetStatus.BLOBS_RECEIVED,
    DatasetStatus.BLOBS_DECOMPRESSED,
    DatasetStatus.BLOBS_COPIED_TO_SDS,
    DatasetStatus.INDIVIDUAL_BLOBS_COMPRESSED,
    DatasetStatus.READY,
)
_FIRST_DATASET_ID = 7000001
_FILE_LIMIT = 1000

_Name = tuple[str, str]
_Event = tuple[float, int, _Name, int, DatasetStatus]  # due, order, dataset, version, status


def stored_name(name: str) -> str:
    """How Kaggle stores an uploaded file's name: no folder, no `+`."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].replace("+", "")


class Datasets:
    """All datasets and uploads of this Kaggle."""

    def __init__(self) -> None:
        self.datasets: dict[tuple[str, str], Dataset] = {}
        self.uploads: dict[str, Upload] = {}
        self._upload_ids: dict[str, str] = {}  # by token
        self._events: list[_Event] = []
        self._order = itertools.count()

    # Time

    def next_due_at(self) -> float | None:
        return self._events[0][0] if self._events else None

    def advance(self, now: float) -> None:
        """Let everything happen that was due by `now`, in order."""
        while self._events and self._events[0][0] <= now:
            _, _, name, number, status = heapq.heappop(self._events)
            self._move(name, number, status)

    def _move(self, name: _Name, number: int, status: DatasetStatus) -> None:
        dataset = self.datasets[name]
        version = dataset.versions[number - 1]
        if version.status is DatasetStatus.DELETED:
            return
        versions = list(dataset.versions)
        versions[number - 1] = replace(version, status=status)
        if version.deletes_older and status is DatasetStatus.READY:
            older = versions[: number - 1]
            versions[: number - 1] = [replace(v, status=DatasetStatus.DELETED) for v in older]
        self.datasets[name] = replace(
            dataset, versions=tuple(versions), current=max(dataset.current, number)
        )

    def _schedule(self, name: _Name, number: int, now: float, settings: Settings) -> None:
        """Visible at the first status, ready at the last, evenly spaced."""
        first = settings.dataset_visible_seconds
        last = max(first, settings.dataset_processing_seconds)
        for index, status in enumerate(_PROCESSING):
            due_at = now + first + (last - first) * index / (len(_PROCESSING) - 1)
            heapq.heappush(self._events, (due_at, next(self._order), name, number, status))

    # Reading

    def dataset(self, owner: str, slug: str) -> Dataset:
        """A dataset as readers see it; for a short time after its creation they see none."""
        dataset = self.datasets.get((owner, slug))
        if dataset is None or dataset.current == 0:
            raise denied("datasets.get")
        return dataset

    def is_visible(self, ref: str) -> bool:
        owner, _, slug = ref.partition("/")
        dataset = self.datasets.get((owner, slug))
        return dataset is not None and dataset.current > 0

    def by_id(self, dataset_id: int) -> Dataset:
        for dataset in self.datasets.values():
            if dataset.dataset_id == dataset_id:
                return dataset
        raise Refusal(404, "Dataset not found")

    def status(self, owner: str, slug: str) -> DatasetStatus:
        """About the visible version, which right after publishing is the previous one."""
        return self.dataset(owner, slug).visible[-1].status

    def version(self, owner: str, slug: str, number: int = 0) -> DatasetVersion:
        """A ready version: the one numbered so, or the latest."""
        dataset = self.dataset(owner, slug)
        if number > dataset.current:
            raise Refusal(404, f"Dataset version {number} was not found")
        candidates = dataset.visible[number - 1 : number] if number else dataset.visible[::-1]
        for version in candidates:
            if version.status is DatasetStatus.READY:
                return version
        raise Refusal(404, "No dataset version is ready")

    def latest_ready(self, owner: str, slug: str) -> DatasetVersion | None:
        """What a session that starts now would mount."""
        dataset = self.datasets.get((owner, slug))
        for version in reversed(dataset.visible if dataset else ()):
            if version.status is DatasetStatus.READY:
                return version
        return None

    # Uploading

    def start_upload(
        self, name: str, size_bytes: int, *, now: float, settings: Settings, rng: Random
    ) -> Upload:
        upload = Upload(
            token=f"{rng.getrandbits(320):080x}",
            upload_id=f"ABPnzL{rng.getrandbits(192):048x}",
            name=stored_name(name),
            size_bytes=size_bytes,
            expires_at=now + settings.upload_seconds,
        )
        self.uploads[upload.upload_id] = upload
        self._upload_ids[upload.token] = upload.upload_id
        return upload

    def upload(self, upload_id: str, now: float) -> Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or now >= upload.expires_at:
            raise Refusal(404, "The upload was not found or has expired")
        return upload

    def finish_upload(self, upload_id: str, files: Sequence[File], now: float) -> Upload:
        stored = tuple(file._replace(name=file.name.replace("+", "")) for file in files)
        upload = replace(self.upload(upload_id, now), files=stored)
        self.uploads[upload_id] = upload
        return upload

    # Publishing

    def create(
        self,
        draft: Draft,
        new_files: Iterable[NewFile],
        *,
        now: float,
        settings: Settings,
    ) -> Dataset:
        self._check_draft(draft)
        files = self._resolve(new_files)
        name = (draft.owner, draft.slug)
        dataset = Dataset(
            dataset_id=_FIRST_DATASET_ID + len(self.datasets),
            draft=draft,
            versions=(DatasetVersion(1, "Initial release", files, now),),
        )
        self.datasets[name] = dataset
        self._schedule(name, 1, now, settings)
        return dataset

    def create_version(
        self,
        name: _Name,
        new_files: Iterable[NewFile],
        *,
        notes: str,
        delete_old_versions: bool,
        now: float,
        settings: Settings,
    ) -> Dataset:
        dataset = self.datasets.get(name)
        if dataset is None:
            raise Refusal(200, "Failed to resolve the necessary information from the request.")
        first = dataset.versions[0]
        if len(dataset.versions) == 1 and first.status is not DatasetStatus.READY:
            raise denied("datasets.update")
        number = len(dataset.versions) + 1
        version = DatasetVersion(
            number, notes, self._resolve(new_files), now, deletes_older=delete_old_versions
        )
        updated = replace(dataset, versions=(*dataset.versions, version))
        self.datasets[name] = updated
        self._schedule(name, number, now, settings)
        return updated

    def _check_draft(self, draft: Draft) -> None:
        if not 6 <= len(draft.slug) <= 50:
            raise Refusal(200, "The dataset slug must be between 6 and 50 characters")
        if not 6 <= len(draft.title) <= 50:
            raise Refusal(200, "The dataset title must be between 6 and 50 characters")
        for dataset in self.datasets.values():
            if dataset.draft.slug == draft.slug or dataset.draft.title == draft.title:
                raise Refusal(
                    200,
                    f'The requested title "{draft.title}" is already in use by a dataset.'
                    " Please choose another title.",
                )

    def _resolve(self, new_files: Iterable[NewFile]) -> tuple[File, ...]:
        files: dict[str, File] = {}
        for folder, token in new_files:
            upload = self.uploads.get(self._upload_ids.get(token, ""))
            if upload is None or upload.files is None:
                raise Refusal(200, "Path must be non-null")
            for file in upload.files:
                name = folder + file.name
                files[name] = file._replace(name=name)
        if len(files) > _FILE_LIMIT:
            raise Refusal(200, f"The file count exceeds the maximum of {_FILE_LIMIT}")
        return tuple(sorted(files.values()))
