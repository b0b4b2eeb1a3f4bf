"""What must hold after every run, checked against what the world knows and no client can see."""

import hashlib
import json
from collections.abc import Mapping

from orchestrator.machine import Event, Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Simulation
from tests.simulation.invariants import require
from tests.simulation.session import read_weights, weights

Head = tuple[Mapping[str, object], int, str]  # checkpoint, dataset version, token of its push


def check_reached(run: Simulation, *, sessions: int, pushes: int | None = None) -> None:
    """The chain is done with so many heads, by as many pushes if not said otherwise."""
    require(run.state.phase is Phase.DONE, "I11", f"it ended in phase {run.state.phase}")
    require(run.state.heads == sessions, "I11", f"it has {run.state.heads} heads")
    landed = [push for push in run.host.pushes(KERNEL) if push.token]
    needed = sessions if pushes is None else pushes
    require(len(landed) == needed, "I6", f"{len(landed)} sessions were started, {needed} needed")
    _check_watched(run)
    check_always(run)
    _check_output_folder(run)


def check_always(run: Simulation) -> None:
    """The invariants that no fault may break, whatever became of the chain."""
    _check_pushes(run)
    check_commits(run)
    run.watch.check_kept()
    _check_neighbours(run)


def check_commits(run: Simulation) -> None:
    """What holds even where a lost request may land after any time: commits are exactly once."""
    check_heads(run)
    _check_versions(run)


def _check_pushes(run: Simulation) -> None:
    """One live session at a time, one per token, each told to continue from the head."""
    told = _parents_by_token(run)
    landed = [push for push in run.host.pushes(KERNEL) if push.token]
    tokens = [push.token for push in landed]
    require(len(set(tokens)) == len(tokens), "I2", "a token landed twice")
    alone = all(push.live_beside == 0 for push in landed)
    require(alone, "I1", "two sessions were live at once")
    for push in landed:
        require(push.token in told, "I8", "a push that the journal does not know")
        same = push.parent == told[push.token]
        require(same, "I6", "a session was started with another parent")


def _check_watched(run: Simulation) -> None:
    """Each session that a controller started was known to a journal, and so waited for."""
    known = (Kind.PUSH_DONE, Kind.PUSH_LANDED_BAD)
    watched = {event.data["version"] for event in ever_recorded(run) if event.kind in known}
    recovered = [event for event in ever_recorded(run) if event.kind is Kind.RECOVERED_LIVE]
    watched |= {event.data["push"]["version"] for event in recovered}
    landed = {push.version for push in run.host.pushes(KERNEL) if push.token}
    require(landed <= watched, "I6", f"nobody watched the sessions of {landed - watched}")


def _parents_by_token(run: Simulation) -> dict[str | None, Mapping[str, object] | None]:
    """What each intent to push named as the parent: the head, as the watch saw to by then."""
    return {
        event.data["token"]: event.data["parent"]
        for event in ever_recorded(run)
        if event.kind is Kind.PUSH_INTENT
    }


def ever_recorded(run: Simulation) -> list[Event]:
    """The events of all journals, the lost ones too."""
    return [event for events in (*run.lost, run.events) for event in events]


def check_heads(run: Simulation) -> None:
    """Each head continues the one before it, and its weights are those of a straight training."""
    versions = {version.number: version for version in run.host.versions(DATASET)}
    parent, step = None, 0
    for checkpoint, number, token in _heads(run):
        manifest = json.loads(versions[number].files["manifest.json"])
        ours = manifest["token"] == token
        require(ours, "I3", "a head is another session's than the one pushed")
        continues = manifest["parent"] == parent
        require(continues, "I3", "a head does not continue the one before it")
        require(checkpoint["step"] > step, "I3", "a head goes back")
        step = checkpoint["step"]
        held = read_weights(versions[number].files[checkpoint["file"]])
        require(held == (step, weights(step)), "I3", "the training did not continue exactly")
        parent = _identity(checkpoint)


def _heads(run: Simulation) -> list[Head]:
    """Each accepted checkpoint, its dataset version and its push's token, from the journal."""
    heads, verified, token = [], {}, ""
    for event in ever_recorded(run):
        if event.kind is Kind.PUSH_INTENT:
            token = event.data["token"]
        if event.kind in (Kind.RECOVERED, Kind.RECOVERED_LIVE):
            heads, token = _recovered(event, heads, token)
        if event.kind is Kind.CHECKPOINT_VERIFIED:
            verified = event.data["checkpoint"]
        if event.kind is Kind.HEAD:
            heads.append((verified, event.data["version"], token))
    return heads


def _recovered(event: Event, heads: list[Head], token: str) -> tuple[list[Head], str]:
    """The heads after a recovery: those known before it, and one that was just being published."""
    body, known = event.data, len(heads)
    if body["heads"] == known + 1:
        heads = [*heads, (body["head"]["checkpoint"], body["head"]["version"], token)]
    else:
        # The same bytes; what the session said of itself may have been garbled either time.
        told = _identity(body["head"]["checkpoint"]) if body["head"] else None
        same = told == (_identity(heads[-1][0]) if heads else None)
        require(same, "I3", "another head was recovered")
    return heads, body.get("push", {}).get("token", token)


def _identity(checkpoint: Mapping[str, object]) -> Mapping[str, object]:
    """A checkpoint, as the next session is told it."""
    return {key: checkpoint[key] for key in ("file", "step", "bytes", "sha256", "manifest_sha256")}


def _check_versions(run: Simulation) -> None:
    """Each head has exactly one complete dataset version, and nothing else has any."""
    verified = {
        event.data["checkpoint"]["manifest_sha256"]: event.data["checkpoint"]
        for event in ever_recorded(run)
        if event.kind is Kind.CHECKPOINT_VERIFIED
    }
    complete: dict[str, list[int]] = {}
    for version in run.host.versions(DATASET):
        manifest_sha256 = hashlib.sha256(version.files.get("manifest.json", b"")).hexdigest()
        if version.token is None:
            continue
        is_known = hashlib.sha256(version.sent_manifest).hexdigest() in verified
        require(is_known, "I5", "a version of a checkpoint that nobody verified")
        if version.has_failed or manifest_sha256 not in verified:
            continue  # spoilt after it had left
        wanted = {*verified[manifest_sha256]["publish"], "manifest.json"}
        known = set(version.files) <= wanted
        require(known, "I5", "a version holds what nobody verified")
        if set(version.files) == wanted:
            complete.setdefault(manifest_sha256, []).append(version.number)
    for checkpoint, number, _token in _heads(run):
        found = complete.pop(checkpoint["manifest_sha256"], [])
        require(found == [number], "I2", f"versions {found} hold the checkpoint of {number}")
    if run.state.pending:
        found = complete.pop(run.state.pending.manifest_sha256, [])
        require(len(found) <= 1, "I2", f"versions {found} hold the same checkpoint")
    require(not complete, "I2", "a complete version that is no head's")


def _check_neighbours(run: Simulation) -> None:
    """What lies beside the chain in the same account, by like names, is as it was."""
    are_untouched = run.host.neighbours() == run.host.neighbours_as_made
    require(are_untouched, "I9", "a neighbour's kernel or dataset was changed")


def _check_output_folder(run: Simulation) -> None:
    """The user holds the newest checkpoint, and no older one."""
    head = run.state.head
    assert head
    held = sorted(path.name for path in run.output.glob("*.pt"))
    require(held == [head.checkpoint.file], "I4", f"the user holds {held}")
    step, _weights = read_weights((run.output / held[0]).read_bytes())
    require(step == head.checkpoint.step, "I4", f"the user holds step {step}")
