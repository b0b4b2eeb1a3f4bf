"""Datasets, their versions and the uploads they are made of: rules and state, no I/O, no clock.

A published version is first hidden (readers still see the previous one, or are denied), then
visible while it is processed, then ready. When each of these happens is decided when it is
published; what readers are told is a pure function of that and of the time.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any

from orchestrator.emulator.records import (
    Dataset,
    DatasetStatus,
    DatasetVersion,
    Draft,
    File,
    NewFile,
    Published,
    Refusal,
    SeenVersion,
    Twist,
    Upload,
    denied,
)
from orchestrator.emulator.settings import Settings

_PROCESSING = (
    DatasetStatus.BLOBS_RECEIVED,
    DatasetStatus.BLOBS_DECOMPRESSED,
    DatasetStatus.BLOBS_COPIED_TO_SDS,
    DatasetStatus.INDIVIDUAL_BLOBS_COMPRESSED,
)
FIRST_DATASET_ID = 7000001
_FILE_LIMIT = 1000

_Name = tuple[str, str]


def stored_name(name: str) -> str:
    """How Kaggle stores an uploaded file's name: without any folder."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _is_a_name(text: str) -> bool:
    return text not in ("", ".", "..") and "\0" not in text and len(text.encode()) <= 255


def status_of(version: DatasetVersion, now: float) -> DatasetStatus:
    """How far a version has come: the stages are evenly spaced until it is processed."""
    if version.visible_at is None or now < version.visible_at:
        return DatasetStatus.NOT_YET_PERSISTED
    if version.processed_at is None:
        return _PROCESSING[0]
    if now >= version.processed_at:
        return version.last_status
    share = (now - version.visible_at) / (version.processed_at - version.visible_at)
    return _PROCESSING[int(share * len(_PROCESSING))]


def _has_come(at: float | None, now: float) -> bool:
    return at is not None and at <= now


@dataclass
class _Entry:
    """One dataset with everything that was ever published to it."""

    dataset_id: int
    draft: Draft
    versions: list[DatasetVersion] = field(default_factory=list)
    floors: list[DatasetVersion] = field(default_factory=list)  # those that delete older ones
    stored_bytes: int = 0

    def visible(self, now: float) -> Iterator[DatasetVersion]:
        """The versions that readers are told of, the newest first."""
        return (v for v in reversed(self.versions) if _has_come(v.visible_at, now))

    def seen(self, version: DatasetVersion, now: float) -> SeenVersion:
        deleted = any(
            version.number < floor.number and _has_come(floor.processed_at, now)
            for floor in self.floors
        )
        status = DatasetStatus.DELETED if deleted else status_of(version, now)
        return SeenVersion(version, status)

    def ready(self, now: float) -> Iterator[DatasetVersion]:
        """The visible versions that are ready, the newest first."""
        for version in self.visible(now):
            if self.seen(version, now).status is DatasetStatus.READY:
                yield version


class Datasets:
    """All datasets and uploads of this Kaggle."""

    def __init__(self) -> None:
        self.uploads: dict[str, Upload] = {}
        self._upload_ids: dict[str, str] = {}  # by token
        self._entries: dict[_Name, _Entry] = {}
        self._by_id: dict[int, _Entry] = {}
        self._taken: set[tuple[str, str]] = set()  # slugs, titles; also of deleted datasets
        self._stored_bytes = 0

    # Reading

    def dataset(self, owner: str, slug: str, now: float) -> Dataset:
        """A dataset as readers see it; for a short time after its creation they see none."""
        entry = self._entry(owner, slug)
        current = next(entry.visible(now), None)
        if current is None:
            raise denied("datasets.get")
        return Dataset(entry.dataset_id, entry.draft, current)

    def datasets(self, now: float) -> Sequence[Dataset]:
        """All that can be seen, the last published first."""
        found = [
            Dataset(entry.dataset_id, entry.draft, current)
            for entry in self._entries.values()
            if (current := next(entry.visible(now), None)) is not None
        ]
        return sorted(found, key=lambda dataset: -dataset.current.created_at)

    def versions(self, owner: str, slug: str, now: float) -> Sequence[SeenVersion]:
        """The versions that readers are told of, the newest first."""
        entry = self._entry(owner, slug)
        return [entry.seen(version, now) for version in entry.visible(now)]

    def status(self, owner: str, slug: str, now: float) -> DatasetStatus:
        """About the visible version, which right after publishing is the previous one."""
        return status_of(self.dataset(owner, slug, now).current, now)

    def version(self, owner: str, slug: str, now: float, number: int = 0) -> DatasetVersion:
        """A version whose files can be read: the one numbered so, or the latest."""
        for version in self._entry(owner, slug).ready(now):
            if number in (0, version.number) and _has_come(version.readable_at, now):
                return version
        self.dataset(owner, slug, now)  # denied rather than not found, if there is none
        raise Refusal(404, f"Dataset version {number or 'that is ready'} was not found")

    def stored(self, dataset_id: int, number: int) -> DatasetVersion:
        """A version by the numbers in its links, whatever has become of it."""
        entry = self._by_id.get(dataset_id)
        if entry is None or not 1 <= number <= len(entry.versions):
            raise Refusal(404, "Dataset version not found")
        return entry.versions[number - 1]

    def is_visible(self, ref: str, now: float) -> bool:
        entry = self._entries.get(_name(ref))
        return entry is not None and next(entry.visible(now), None) is not None

    def mountable(
        self, ref: str, now: float, *, newest: int = 0, skip: int = 0
    ) -> DatasetVersion | None:
        """The latest version that can be mounted, none after `newest`; `skip` so many."""
        entry = self._entries.get(_name(ref))
        ready = entry.ready(now) if entry else iter(())
        found = (
            version
            for version in ready
            if _has_come(version.mountable_at, now) and version.number <= (newest or version.number)
        )
        return next(itertools.islice(found, skip, None), None)

    def dump(self, now: float) -> list[dict[str, Any]]:
        """Everything that was ever published, hidden versions too."""
        return [
            {
                "dataset_id": entry.dataset_id,
                "draft": asdict(entry.draft),
                "versions": [
                    {**asdict(version), "status": entry.seen(version, now).status}
                    for version in entry.versions
                ],
                "is_deleted": self._entries.get((entry.draft.owner, entry.draft.slug)) is not entry,
            }
            for entry in self._by_id.values()
        ]

    def _entry(self, owner: str, slug: str) -> _Entry:
        entry = self._entries.get((owner, slug))
        if entry is None:
            raise denied("datasets.get")
        return entry

    # Uploading

    def start_upload(
        self, name: str, size_bytes: int, *, now: float, settings: Settings, rng: Random
    ) -> Upload:
        if size_bytes < 0 or not _is_a_name(stored_name(name)):
            raise Refusal(400, "A file needs a name and a size")
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
        new_files: Sequence[NewFile],
        *,
        now: float,
        settings: Settings,
        twist: Twist | None,
    ) -> Published:
        self._check_free("slug", draft.slug, draft.title)
        self._check_free("title", draft.title, draft.title)
        files = self._resolve(new_files, settings)
        entry = _Entry(FIRST_DATASET_ID + len(self._by_id), draft)
        self._entries[draft.owner, draft.slug] = entry
        self._by_id[entry.dataset_id] = entry
        self._taken |= {("slug", draft.slug), ("title", draft.title)}
        version = DatasetVersion(1, "Initial release", files, now, None, None)
        return self._publish(entry, version, settings, twist)

    def create_version(
        self,
        name: _Name,
        new_files: Sequence[NewFile],
        *,
        notes: str,
        delete_old_versions: bool,
        now: float,
        settings: Settings,
        twist: Twist | None,
    ) -> Published:
        entry = self._entries.get(name)
        if entry is None:
            raise Refusal(200, "Failed to resolve the necessary information from the request.")
        first = entry.versions[0]
        if len(entry.versions) == 1 and not _has_come(first.processed_at, now):
            raise denied("datasets.update")
        number = len(entry.versions) + 1
        files = self._resolve(new_files, settings)
        version = DatasetVersion(
            number, notes, files, now, None, None, deletes_older=delete_old_versions
        )
        return self._publish(entry, version, settings, twist)

    def _publish(
        self, entry: _Entry, draft: DatasetVersion, settings: Settings, twist: Twist | None
    ) -> Published:
        version = _scheduled(_twisted(draft, twist), settings, twist)
        if self._stored_bytes + version.size_bytes > settings.storage_bytes:
            version = _scheduled(draft, settings, Twist.HIDE_VERSION)
        entry.versions.append(version)
        if version.deletes_older:
            entry.floors.append(version)
            self._store(entry, -entry.stored_bytes)
        self._store(entry, version.size_bytes)
        return Published(entry.draft.owner, entry.draft.slug, version.number)

    def _store(self, entry: _Entry, size_bytes: int) -> None:
        entry.stored_bytes += size_bytes
        self._stored_bytes += size_bytes

    def _check_free(self, what: str, text: str, title: str) -> None:
        if not 6 <= len(text) <= 50:
            raise Refusal(200, f"The dataset {what} must be between 6 and 50 characters")
        if (what, text) in self._taken:
            raise Refusal(
                200,
                f'The requested title "{title}" is already in use by a dataset.'
                " Please choose another title.",
            )

    def _resolve(self, new_files: Sequence[NewFile], settings: Settings) -> tuple[File, ...]:
        """The files of a version; what an archive holds counts towards no limit."""
        _check_count(len(new_files), _FILE_LIMIT)
        _check_count(sum(1 for file in new_files if not file.folder), settings.top_level_files)
        files: dict[str, File] = {}
        for folder, token in new_files:
            if not all(map(_is_a_name, folder.split("/")[:-1])):
                raise Refusal(400, f"Invalid folder name '{folder}'")
            upload = self.uploads.get(self._upload_ids.get(token, ""))
            if upload is None or upload.files is None:
                raise Refusal(200, "Path must be non-null")
            for file in upload.files:
                name = folder + file.name
                files[name] = file._replace(name=name)
        return tuple(sorted(files.values()))

    # Changing what there is

    def update(self, draft: Draft, now: float) -> None:
        """Replace what is said about a dataset; its files and its slug stay."""
        self.dataset(draft.owner, draft.slug, now)
        entry = self._entries[draft.owner, draft.slug]
        if draft.title != entry.draft.title:
            self._check_free("title", draft.title, draft.title)
            self._taken.add(("title", draft.title))
        entry.draft = draft

    def delete(self, owner: str, slug: str, now: float) -> None:
        """Remove a dataset with all its versions; its slug and title stay taken."""
        self.dataset(owner, slug, now)
        entry = self._entries.pop((owner, slug))
        self._store(entry, -entry.stored_bytes)


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise Refusal(200, f"The file count exceeds the maximum of {limit}")


def _name(ref: str) -> _Name:
    owner, _, slug = ref.partition("/")
    return owner, slug


def _scheduled(version: DatasetVersion, settings: Settings, twist: Twist | None) -> DatasetVersion:
    """Decide when a version will be seen, ready, readable and mounted."""
    visible_at = version.created_at + settings.dataset_visible_seconds
    processed_at = max(visible_at, version.created_at + settings.dataset_processing_seconds)
    if twist is Twist.HIDE_VERSION:
        return version
    if twist is Twist.STICK_PROCESSING:
        return replace(version, visible_at=visible_at)
    return replace(
        version,
        visible_at=visible_at,
        processed_at=processed_at,
        readable_at=processed_at + settings.dataset_readable_seconds,
        mountable_at=processed_at + settings.dataset_mountable_seconds,
    )


def _twisted(version: DatasetVersion, twist: Twist | None) -> DatasetVersion:
    if twist is Twist.LOSE_FILE:
        return replace(version, files=version.files[:-1])
    if twist is Twist.LOSE_ALL_FILES:
        return replace(version, files=())
    if twist is Twist.FAIL_PROCESSING:
        return replace(version, last_status=DatasetStatus.FAILED)
    return version
