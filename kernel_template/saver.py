"""Saving in the background: the training waits for a copy in memory, not for the disk.

One save is in flight at a time. A save that failed is raised at the next one, or at the end.
"""

import errno
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from checkpoint import CheckpointFolder
from session import Ending

DISK_MARGIN = 1.1  # of the bytes that the next save adds, what must be free


class Saver:
    """Writes states to a checkpoint folder from a thread; close it by leaving its `with`."""

    def __init__(self, folder: CheckpointFolder, *, pinned: bool):
        self.folder = folder
        self.longest_seconds = 0.0  # one whole save, from the copy to the durable manifest
        self._pinned = pinned  # page-locked memory, into which a GPU copies several times faster
        self._buffers: dict[str, torch.Tensor] = {}
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._pending: Future | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *_error) -> None:
        self._writer.shutdown()
        if self._pending and (error := self._pending.exception()):  # not asked for any more
            print(f"the last save failed: {type(error).__name__}: {error}", flush=True)

    def begin(
        self,
        state: dict,
        *,
        best: bool,
        saved: Callable[[dict], None],
        final: list[dict] | None = None,
    ) -> None:
        """Copy the state's tensors and write it in the background.

        `saved` is called from the writer's thread, with the manifest's entry, once it is durable.

        Raises:
            Ending: the disk has no room for it, or the save before it failed.
        """
        self.finish()
        began_at = time.monotonic()
        held = {**state, **{key: self._hold(key, state[key]) for key in ("model", "optimizer")}}
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.require_room(self._state_bytes() * (2 if best else 1))

        def write() -> None:
            saved(self.folder.save(held, best=best, final=final))
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began_at)

        self._pending = self._writer.submit(write)

    def finish(self) -> None:
        """Wait for the save in flight; raises Ending if it failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            if not full and self._free_bytes() > self._state_bytes():
                raise
            raise self._disk_full(self._state_bytes()) from error

    def require_room(self, needed_bytes: float) -> None:
        """Raise Ending unless the disk has room for so many bytes more, and a tenth."""
        if self._free_bytes() < DISK_MARGIN * needed_bytes:
            raise self._disk_full(needed_bytes)

    def _hold(self, name: str, value):
        """The same structure with every tensor copied into a buffer that all saves share."""
        if isinstance(value, dict):
            return {key: self._hold(f"{name}/{key}", item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._hold(f"{name}/{number}", item) for number, item in enumerate(value)]
        if not isinstance(value, torch.Tensor):
            return value
        if name not in self._buffers:
            pinned = self._pinned and value.is_cuda
            self._buffers[name] = torch.empty_like(value, device="cpu", pin_memory=pinned)
        return self._buffers[name].copy_(value, non_blocking=True)

    def _state_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.folder.folder).free

    def _disk_full(self, needed_bytes: float) -> Ending:
        kept = [entry["name"] for entry in self.folder.entries.values() if "step" in entry]
        detail = (
            f"the disk is full: {self._free_bytes() / 1e6:,.1f} MB are free, what comes next takes "
            f"{needed_bytes / 1e6:,.1f} MB; kept: {', '.join(kept) or 'none'}"
        )
        return Ending("failed", "disk_full", detail)
