"""What must hold after every event, whatever goes wrong.

I1   one live session at a time
I2   one landed session for each token, one complete dataset version for each checkpoint
I3   heads only advance, each from the one before it
I4   the newest verified checkpoint has its copy here and another on Kaggle: until it is the head
     in its session's output, from then on in its dataset version; the head is in the user's folder
I5   nothing is published that was not verified
I6   a session starts from the head, which it can mount, long enough and within the quota, not
     after too many fruitless ones, not when a stop was asked for; each that started is watched to
     its end, and none is given up whose push, session and files nothing had struck
I7   no verified checkpoint disappears or changes: its folder after every event, the sizes of its
     files at every head, its bytes at the end
I8   whatever lands was written down before it was sent
I9   nothing but the chain's own kernel and dataset is changed, by nobody but their owner, and
     nothing is pushed on top of somebody else's version, or published where everybody can read it
I11  once the storm is over, the chain reaches its target in bounded time
I12  every wait has an end, and a reason unless it is a poll; every halt has a cause

I10, that no secret is written anywhere, is shown with the real client: there are none here.
"""

import hashlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

from orchestrator.files import is_stop_asked
from orchestrator.machine import Event, Kind, Phase, State
from orchestrator.model import Checkpoint
from orchestrator.phases.context import LONGEST_WAIT_SECONDS

SMALL_BYTES = 1 << 16  # a simulated checkpoint has a few hundred
LONGEST_LOOK_SECONDS = 5.0  # from the first read before a mutation to the mutation
SHORTEST_SESSION_SECONDS = 1800  # in which a session starts, resumes, saves and ends
# Waits for what happens by the clock; anything else is looked at again within a day.
LONG_WAITS = frozenset({"quota"})
DAY_SECONDS = 86_400.0
JITTER = 1.1  # of a poll

if TYPE_CHECKING:
    from tests.simulation.chain import Simulation
    from tests.simulation.host import Landing


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


def require(holds: object, invariant: str, message: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(invariant, message)


class Watch:
    """Looks at a run after every event and every tick; counts what it had the chance to see.

    Worlds in which a lost request may land after any time are bound to break I1: there
    `one_live` is false, and what matters is that commits are still exactly once.
    """

    one_live = True

    def __init__(self, run: "Simulation") -> None:
        self._run, self._store = run, str(run.store)
        self._step = self.heads = 0
        self._kept: dict[str, Checkpoint] = {}  # all that were verified, by folder of the store
        self.opportunities = 0

    def forget_copies(self) -> None:
        """The laptop is gone, with every checkpoint on it."""
        self._kept.clear()

    def go_back(self) -> None:
        """The laptop has the folder of an older day: what came since is not on it."""
        self._kept.clear()
        self._step = 0

    def on_event(self, event: Event, state: State) -> None:
        """Check what a journal that just grew must not contradict."""
        self.opportunities += 1
        self.heads = state.heads
        self._check_copies(state)
        check = _CHECKS.get(event.kind)
        if check:
            check(self, event, state)

    def on_tick(self, wake: float | None, state: State) -> None:
        """Check that a chain that waits says until when, and that its copy is whole."""
        is_over = state.phase in (Phase.DONE, Phase.HALTED)
        require(is_over == (wake is None), "I12", "no end to the wait")
        if wake is not None:
            seconds = wake - self._run.clock.now()
            require(seconds <= self._longest_wait(state), "I12", "a wait too long for its reason")
        self.check_local_copy(state)

    def check_local_copy(self, state: State) -> None:
        """The newest verified checkpoint is on this disk, byte for byte."""
        if newest := _newest(state):
            digest = _sha256(content_of(self._copy(newest)))
            require(digest == newest.sha256, "I4", "the local copy is damaged")

    def _longest_wait(self, state: State) -> float:
        if not state.wait_reason:
            return JITTER * self._run.settings.timing.poll_seconds
        is_long = state.wait_reason in LONG_WAITS
        return LONGEST_WAIT_SECONDS if is_long else DAY_SECONDS

    def on_mutation(self, what: str, slug: str) -> None:
        """Whatever is asked to be changed must be the chain's own."""
        settings = self._run.settings
        own = settings.kernel_slug if what == "push" else settings.dataset_slug
        require(slug == own, "I9", f"{slug} was to be changed")

    def on_landing(self, landing: "Landing", state: State) -> None:
        """Whatever lands must be what the journal says was sent this moment."""
        self.opportunities += 1
        token = landing.token
        if landing.what == "push":
            sent = state.phase is Phase.PUSH_UNKNOWN and state.push
            require(sent and sent.sent_age is not None, "I8", f"a push landed in {state.phase}")
            require(sent and sent.token == token, "I8", "a push landed with another token")
            return
        publication = state.phase is Phase.PUBLISH_UNKNOWN and state.publication
        require(publication, "I8", f"published in phase {state.phase}")
        require(publication and publication.sent_age is not None, "I8", "published unannounced")
        require(publication and publication.token == token, "I8", "published with another token")
        assert state.pending
        files, wanted = landing.files, {*state.pending.publish, "manifest.json"}
        require(set(files) == wanted, "I5", "published other files than were verified")
        digest = _sha256(files["manifest.json"])
        require(digest == state.pending.manifest_sha256, "I5", "published unverified")
        spoilt = _spoilt(files)
        require(not spoilt, "I5", f"published spoilt: {spoilt}")

    def _check_copies(self, state: State) -> None:
        live = self._run.host.live_sessions()
        require(len(live) <= 1 or not self.one_live, "I1", "two sessions are live at once")
        are_here = all(os.access(folder, os.F_OK) for folder in self._kept)
        require(are_here, "I7", "a verified checkpoint disappeared")
        if newest := _newest(state):
            self._kept[f"{self._store}/{newest.manifest_sha256}"] = newest
            is_here = os.path.isfile(self._copy(newest))
            require(is_here, "I4", "no local copy of the newest verified checkpoint")

    def _copy(self, checkpoint: Checkpoint) -> str:
        return f"{self._store}/{checkpoint.manifest_sha256}/{checkpoint.file}"

    def _on_intent(self, event: Event, state: State) -> None:
        parent = state.parent.to_body() if state.parent else None
        require(event.data["parent"] == parent, "I6", "a session is told another parent")
        limit = self._run.settings.chain.max_attempts
        require(state.fruitless < limit, "I6", "a session after too many fruitless ones")

    def _check_length(self, asked: int) -> None:
        run = self._run
        left = run.host.gpu_seconds_left()
        require(asked <= left, "I6", f"a session of {asked} seconds where {left:.0f} are left")
        shortest = min(SHORTEST_SESSION_SECONDS, run.settings.kernel.time_budget_seconds)
        require(asked >= shortest, "I6", f"a session of {asked} seconds")

    def _on_push_sent(self, _event: Event, state: State) -> None:
        run = self._run
        assert state.push
        self._check_leap()
        self._check_length(state.push.time_budget_seconds)
        wanted = not is_stop_asked(run.folder / "state")
        require(wanted, "I6", "a session after a stop was asked for")
        shown = run.host.shown_for(run.settings.kernel_slug, LONGEST_LOOK_SECONDS)
        require(shown <= state.kernel_version, "I9", f"a push on top of an unknown version {shown}")
        if state.head:
            head = state.head.checkpoint
            files = run.host.mountable(run.settings.dataset_slug)
            held = _sha256(files.get(head.file, b""))
            require(held == head.sha256, "I6", "a session that cannot mount the head")

    def _check_leap(self) -> None:
        """What is sent leaves for the chain's own account, and no dataset that is public."""
        run = self._run
        require(run.kaggle.has_told_user, "I9", "sent before it was known from which account")
        seconds = run.host.public_for(run.settings.dataset_slug)
        is_news = seconds <= LONGEST_LOOK_SECONDS
        require(is_news, "I9", f"sent where everybody can read, for {seconds:.0f} seconds")

    def _on_push_done(self, event: Event, state: State) -> None:
        assert state.push
        pushes = self._run.host.pushes(self._run.settings.kernel_slug)
        landed = pushes[event.data["version"] - 1]
        require(landed.token == state.push.token, "I2", "another push was taken for this one")

    def _on_publish_sent(self, _event: Event, state: State) -> None:
        self._check_leap()
        publication = state.publication
        own = state.dataset_version or (publication and publication.create)
        require(own, "I9", "published to a dataset that is not the chain's")

    def _on_verified(self, _event: Event, state: State) -> None:
        assert state.pending
        assert state.push
        assert state.push.version
        run, checkpoint = self._run, state.pending
        left = run.host.outputs_of(run.settings.kernel_slug, state.push.version)
        held = _sha256(left.get(f"checkpoints/{checkpoint.file}", b""))
        require(held == checkpoint.sha256, "I4", "the session's output does not hold it")

    def _on_head(self, _event: Event, state: State) -> None:
        assert state.head
        checkpoint, version = state.head.checkpoint, state.head.version
        require(checkpoint.step > self._step, "I3", f"head {checkpoint.step} after {self._step}")
        self._step = checkpoint.step
        files = self._run.host.files_of_version(self._run.settings.dataset_slug, version)
        held = _sha256(files.get(checkpoint.file, b""))
        require(held == checkpoint.sha256, "I4", "the head's version on Kaggle does not hold it")
        in_hand = f"{self._run.output}/{checkpoint.file}"
        held = _sha256(content_of(in_hand)) if os.path.isfile(in_hand) else ""
        require(held == checkpoint.sha256, "I4", "the user's folder does not hold the head")
        self._check_sizes()

    def _check_sizes(self) -> None:
        for folder, kept in self._kept.items():
            path = f"{folder}/{kept.file}"
            size = os.stat(path).st_size if os.access(path, os.F_OK) else None
            require(size == kept.bytes, "I7", f"{kept.file} has another size than was verified")

    def check_kept(self) -> None:
        """Every checkpoint that was ever verified is here, byte for byte."""
        for kept in self._kept.values():
            digest = _sha256(content_of(self._copy(kept)))
            require(digest == kept.sha256, "I7", f"{kept.file} has changed")

    def _on_wait(self, event: Event, _state: State) -> None:
        until, reason = event.data["until"], event.data.get("reason") or event.data.get("trouble")
        require(reason, "I12", "a wait without a reason")
        require(math.isfinite(until), "I12", "a wait without an end")


def content_of(path: str) -> bytes:
    """The bytes of a small file, which one call reads."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.read(descriptor, SMALL_BYTES)
    finally:
        os.close(descriptor)
    assert len(content) < SMALL_BYTES, f"{path} is not small"
    return content


def _newest(state: State) -> Checkpoint | None:
    """The newest verified checkpoint."""
    return state.pending or (state.head.checkpoint if state.head else None)


def _spoilt(files: Any) -> list[str]:
    """The files of a publication that are not what its manifest says."""
    listed = {entry["name"]: entry for entry in json.loads(files["manifest.json"])["files"]}
    return [
        name
        for name, content in files.items()
        if name in listed and _sha256(content) != listed[name]["sha256"]
    ]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_CHECKS = {
    Kind.PUSH_INTENT: Watch._on_intent,
    Kind.PUSH_SENT: Watch._on_push_sent,
    Kind.PUSH_DONE: Watch._on_push_done,
    Kind.PUBLISH_SENT: Watch._on_publish_sent,
    Kind.CHECKPOINT_VERIFIED: Watch._on_verified,
    Kind.HEAD: Watch._on_head,
    Kind.WAITING: Watch._on_wait,
    Kind.PUSH_REFUSED: Watch._on_wait,
    Kind.PUBLISH_REFUSED: Watch._on_wait,
}
