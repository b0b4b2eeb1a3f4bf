"""What the events add up to: each kind of event and what it changes. Pure, like the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from orchestrator.machine import Event, Head, Kind, Missed, Publication, Push, State, next_phase
from orchestrator.model import Binding, Checkpoint


def apply(state: State, event: Event) -> State:
    """Return the state after `event`. The old state is untouched, whatever happens."""
    phase = next_phase(state, event.kind)
    update = _UPDATES.get(event.kind)
    changed = update(state, event) if update else state
    wait = {} if event.kind in _KEEPS_WAIT else _NO_WAIT
    last_at = max(state.last_at, event.at)
    return replace(
        changed,
        **wait,
        phase=phase,
        seq=event.seq,
        last_at=last_at,
        age=event.age,
        boot_age=event.boot_age,
    )


def fold(events: Iterable[Event]) -> State:
    """Return the state that the events add up to."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


# Updates, one paragraph a kind. Each is pure: state and event in, state out.


def _bound(state: State, event: Event) -> State:
    return replace(state, binding=Binding.from_body(event.data))


def _recovered(state: State, event: Event) -> State:
    """What was read from Kaggle stands for all the events that were lost."""
    body = event.data
    head, attempt = body["head"], body["attempt"]
    return replace(
        state,
        head=Head(Checkpoint.from_body(head["checkpoint"]), head["version"]) if head else None,
        heads=body["heads"],
        attempt=attempt,
        fruitless=attempt - 1,
        kernel_version=body["kernel_version"],
        dataset_version=body["dataset_version"],
    )


def _recovered_live(state: State, event: Event) -> State:
    push = event.data["push"]
    found = Push(
        token=push["token"],
        base_version=push["version"] - 1,
        time_budget_seconds=push["time_budget_seconds"],
        sent_age=event.age,
        version=push["version"],
    )
    return replace(_recovered(state, event), push=found)


def _wait(state: State, event: Event) -> State:
    body = event.data
    return replace(
        state,
        wait_until_at=body["until"],
        wait_until_age=event.age + body["until"] - event.at,
        wait_since_age=state.wait_since_age if state.wait_reason else event.age,
        wait_reason=body["reason"],
        wait_message=body["message"],
    )


def _push_intent(state: State, event: Event) -> State:
    push = Push(
        token=event.data["token"],
        base_version=event.data["base_version"],
        time_budget_seconds=event.data["time_budget_seconds"],
    )
    return replace(state, push=push, absent=0, absent_age=0.0)


def _push_sent(state: State, event: Event) -> State:
    return replace(state, push=replace(_push(state), sent_age=event.age))


def _push_done(state: State, event: Event) -> State:
    version = event.data["version"]
    push = replace(_push(state), version=version)
    return replace(state, push=push, kernel_version=version, unknown_pushes=0)


def _push_landed_bad(state: State, event: Event) -> State:
    version = event.data["version"]
    push = replace(_push(state), version=version, doomed=event.data["message"])
    return replace(state, push=push, kernel_version=version, unknown_pushes=0)


def _push_overtaken(state: State, event: Event) -> State:
    push = _push(state)
    return replace(state, push=replace(push, base_version=event.data["base_version"]))


def _push_refused(state: State, event: Event) -> State:
    waiting = {**event.data, "reason": event.data["trouble"]}
    return _wait(replace(state, push=None), replace(event, data=waiting))


def _push_withdrawn(state: State, event: Event) -> State:
    return replace(state, push=None, absent=0)


def _push_given_up(state: State, event: Event) -> State:
    return replace(state, push=None, absent=0, unknown_pushes=state.unknown_pushes + 1)


def _absent(state: State, event: Event) -> State:
    return replace(state, absent=state.absent + 1, absent_age=event.age)


def _session_seen(state: State, event: Event) -> State:
    push = _push(state)
    if event.data["status"] == "running" and push.running_age is None:
        push = replace(push, running_age=event.age)
    return replace(state, push=push)


def _session_overrun(state: State, event: Event) -> State:
    return replace(state, push=replace(_push(state), doomed=event.data["message"]))


def _session_ended(state: State, event: Event) -> State:
    push = replace(
        _push(state),
        ended_age=event.age,
        end_status=event.data["status"],
        end_message=event.data["message"],
    )
    return replace(state, push=push)


def _outputs_listed(state: State, event: Event) -> State:
    push = replace(_push(state), listing=event.data["digest"], listed_age=event.age)
    return replace(state, push=push)


def _output_missed(state: State, event: Event) -> State:
    push, name = _push(state), event.data["file"]
    before = push.missed.get(name)
    missed = Missed(before.times + 1 if before else 1, event.age)
    return replace(state, push=replace(push, missed={**push.missed, name: missed}))


def _output_back(state: State, event: Event) -> State:
    push = _push(state)
    others = {name: each for name, each in push.missed.items() if name != event.data["file"]}
    return replace(state, push=replace(push, missed=others))


def _checkpoint_verified(state: State, event: Event) -> State:
    pending = Checkpoint.from_body(event.data["checkpoint"])
    return replace(state, pending=pending, is_damaged=False)


def _checkpoint_damaged(state: State, event: Event) -> State:
    return replace(state, pending=None, publication=None, is_damaged=True)


def _fruitless(state: State, event: Event) -> State:
    failure = f"{event.data['reason']}: {event.data['message']}"
    same = state.same_failures + 1 if failure == state.last_failure else 1
    return replace(
        state,
        push=None,
        is_damaged=False,
        attempt=state.attempt + 1,
        fruitless=state.fruitless + 1,
        last_failure=failure,
        same_failures=same,
    )


def _publish_found(state: State, event: Event) -> State:
    """A version that no event of this journal tells of holds what is pending already."""
    version = event.data["version"]
    publication = Publication(
        token="",
        base_version=version - 1,
        create=False,
        sent_age=event.age,
        acknowledged=True,
        version=version,
        seen_age=event.age,
    )
    return replace(state, publication=publication, absent=0, absent_age=0.0)


def _publish_intent(state: State, event: Event) -> State:
    publication = Publication(
        token=event.data["token"],
        base_version=event.data["base_version"],
        create=event.data["create"],
    )
    return replace(state, publication=publication, absent=0, absent_age=0.0)


def _publish_sent(state: State, event: Event) -> State:
    return replace(state, publication=replace(_publication(state), sent_age=event.age))


def _publish_done(state: State, event: Event) -> State:
    return replace(state, publication=replace(_publication(state), acknowledged=True))


def _publish_refused(state: State, event: Event) -> State:
    waiting = {**event.data, "reason": event.data["trouble"]}
    return _wait(replace(state, publication=None), replace(event, data=waiting))


def _publish_dropped(state: State, event: Event) -> State:
    version = event.data.get("version", state.dataset_version)
    return replace(
        state,
        publication=None,
        absent=0,
        dataset_version=version,
        failed_publications=state.failed_publications + 1,
    )


def _publish_seen(state: State, event: Event) -> State:
    publication = replace(_publication(state), version=event.data["version"], seen_age=event.age)
    return replace(state, publication=publication)


def _head(state: State, event: Event) -> State:
    pending, version = state.pending, _publication(state).version
    assert pending is not None
    assert version is not None
    assert state.head is None or pending.step > state.head.checkpoint.step
    return replace(
        state,
        head=Head(pending, version),
        dataset_version=version,
        heads=state.heads + 1,
        attempt=1,
        fruitless=0,
        last_failure=None,
        same_failures=0,
        push=None,
        pending=None,
        publication=None,
        failed_publications=0,
    )


def _finished(state: State, event: Event) -> State:
    return replace(state, finish_reason=event.data["reason"])


def _halted(state: State, event: Event) -> State:
    return replace(
        state,
        halt_code=event.data["code"],
        halt_message=event.data["message"],
        halted_in=state.phase,
        halt_facts=event.data,
    )


def _retried(state: State, event: Event) -> State:
    """A person has looked: versions that the halt named are accepted, failures forgotten."""
    push, facts = state.push, state.halt_facts
    accepted = facts.get("base_version", facts.get("kernel_version"))
    return replace(
        state,
        push=replace(push, base_version=accepted) if push and accepted is not None else push,
        is_damaged=state.is_damaged and state.halt_code != "damaged_checkpoint",
        unknown_pushes=0,
        halt_code=None,
        halt_message="",
        kernel_version=state.halt_facts.get("kernel_version", state.kernel_version),
        dataset_version=state.halt_facts.get("dataset_version", state.dataset_version),
        fruitless=0,
        last_failure=None,
        same_failures=0,
        failed_publications=0,
    )


def _push(state: State) -> Push:
    assert state.push is not None, f"no push in phase {state.phase}"
    return state.push


def _publication(state: State) -> Publication:
    assert state.publication is not None, f"no publication in phase {state.phase}"
    return state.publication


_KEEPS_WAIT = frozenset({Kind.WAITING, Kind.RESTARTED, Kind.PUSH_REFUSED, Kind.PUBLISH_REFUSED})
_NO_WAIT: dict[str, Any] = dict(
    wait_until_at=0.0, wait_until_age=0.0, wait_since_age=0.0, wait_reason=None, wait_message=""
)
_UPDATES: dict[Kind, Callable[[State, Event], State]] = {
    Kind.BOUND: _bound,
    Kind.RECOVERING: _bound,
    Kind.RECOVERED: _recovered,
    Kind.RECOVERED_LIVE: _recovered_live,
    Kind.WAITING: _wait,
    Kind.PUSH_INTENT: _push_intent,
    Kind.PUSH_WITHDRAWN: _push_withdrawn,
    Kind.PUSH_SENT: _push_sent,
    Kind.PUSH_DONE: _push_done,
    Kind.PUSH_REFUSED: _push_refused,
    Kind.PUSH_LANDED_BAD: _push_landed_bad,
    Kind.PUSH_ABSENT: _absent,
    Kind.PUSH_GIVEN_UP: _push_given_up,
    Kind.PUSH_OVERTAKEN: _push_overtaken,
    Kind.SESSION_SEEN: _session_seen,
    Kind.SESSION_OVERRUN: _session_overrun,
    Kind.SESSION_ENDED: _session_ended,
    Kind.OUTPUTS_LISTED: _outputs_listed,
    Kind.OUTPUT_MISSED: _output_missed,
    Kind.OUTPUT_BACK: _output_back,
    Kind.CHECKPOINT_VERIFIED: _checkpoint_verified,
    Kind.CHECKPOINT_DAMAGED: _checkpoint_damaged,
    Kind.FRUITLESS: _fruitless,
    Kind.PUBLISH_FOUND: _publish_found,
    Kind.PUBLISH_INTENT: _publish_intent,
    Kind.PUBLISH_SENT: _publish_sent,
    Kind.PUBLISH_DONE: _publish_done,
    Kind.PUBLISH_REFUSED: _publish_refused,
    Kind.PUBLISH_ABSENT: _absent,
    Kind.PUBLISH_INCOMPLETE: _publish_dropped,
    Kind.PUBLISH_GIVEN_UP: _publish_dropped,
    Kind.PUBLISH_SEEN: _publish_seen,
    Kind.HEAD: _head,
    Kind.FINISHED: _finished,
    Kind.HALTED: _halted,
    Kind.RETRIED: _retried,
}
