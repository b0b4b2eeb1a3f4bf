"""The loop that people write first, over the same storms: push, poll, download, publish.

No journal, no read-back, no verification. After a death it begins anew from what the dataset
shows; an answer that did not come is an error, and an error is a reason to try again.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from orchestrator import kernel
from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import DatasetInfo, Done, PublishRequest, PushRequest, SessionInfo
from orchestrator.machine import Head, State
from orchestrator.model import Checkpoint
from tests.simulation.chain import DATASET, KERNEL, TEMPLATE, Simulation
from tests.simulation.clock import MONDAY_AT
from tests.simulation.crashes import Killed, Watched
from tests.simulation.faults import FaultyKaggle, Memory
from tests.simulation.host import TrueVersion
from tests.simulation.session import read_weights, weights
from tests.simulation.storm import draw

PAUSE_SECONDS = 1800.0
LONGEST_SECONDS = 30 * 86_400.0
FOLDER = "checkpoints/"
INVARIANTS = {  # what is counted, and which invariant it breaks
    "sessions started twice": "I1",
    "versions duplicated": "I2",
    "went back or off course": "I3",
    "unverified published": "I5",
    "not finished in 30 days": "I11",
}


def violations(seed: int) -> Counter[str]:
    """Run the naive loop through a storm; return how often it broke what must not break."""
    with draw(seed) as run:
        run.host.on_landing = None
        loop = _Naive(run)
        while run.clock.true_at < MONDAY_AT + LONGEST_SECONDS:
            try:
                if loop.survive():
                    break
            except (ValueError, KeyError, ConfigError):
                break  # it published what neither it nor its session can read
        else:
            return _count(run) + Counter({"not finished in 30 days": 1})
        return _count(run)


class _Naive:
    def __init__(self, run: Simulation) -> None:
        self._run = run
        struck = FaultyKaggle(run.kaggle, run.plan.strike)
        self._kaggle = Watched("kaggle", struck, run.effects)
        self._rng = random.Random(run.seed)  # noqa: S311

    def survive(self) -> bool:
        """Do one session, and begin anew after a death."""
        try:
            return self.go_on()
        except Killed:
            self._run.clock.sleep(PAUSE_SECONDS)
            return False

    def go_on(self) -> bool:
        """Do one session from the newest dataset version; tell whether all are done."""
        info = self._kaggle.dataset(DATASET)
        if not isinstance(info, DatasetInfo):
            state = State()
        else:
            state = self._state_of(info)
            if state.heads >= self._run.settings.chain.sessions:
                return True
        self._run.watch.heads = state.heads
        version = self._push(state)
        if version is not None and self._has_ended(version):
            self._publish(state, version)
        self._run.clock.sleep(PAUSE_SECONDS)
        return False

    def _state_of(self, info: DatasetInfo) -> State:
        """What the newest version's manifest says, taken for granted."""
        content = self._kaggle.dataset_file(DATASET, info.current_version, "manifest.json", 1 << 20)
        if not isinstance(content, bytes):
            return State(heads=info.current_version)
        manifest = json.loads(content)
        head = Head(_checkpoint(manifest, content), info.current_version)
        return replace(State(), heads=manifest["session"], head=head)

    def _push(self, state: State) -> int | None:
        token = "kc1." + "".join(self._rng.choices("abcdefghij", k=26))
        settings = self._run.settings
        parameters = kernel.session_parameters(settings, state, token=token, seconds=41_400)
        answer = self._kaggle.push(
            PushRequest(
                kernel=KERNEL,
                title=KERNEL,
                source=kernel.render(parameters, TEMPLATE),
                dataset_sources=(f"local/{DATASET}",) if state.head else (),
                machine_shape=settings.accelerator.shape,
                enable_internet=True,
                session_timeout_seconds=41_400,
            )
        )
        return answer.value.version if isinstance(answer, Done) else None

    def _has_ended(self, version: int) -> bool:
        deadline = self._run.clock.true_at + 2 * 86_400
        while self._run.clock.true_at < deadline:
            info = self._kaggle.session(KERNEL, version)
            if isinstance(info, SessionInfo) and info.status.is_terminal:
                return True
            self._run.clock.sleep(PAUSE_SECONDS)
        return False

    def _publish(self, state: State, version: int) -> None:
        folder = self._run.folder / "naive"
        folder.mkdir(exist_ok=True)
        names = self._download(folder, version)
        if "manifest.json" not in names:
            return
        request = PublishRequest(
            dataset=DATASET, title=DATASET, folder=folder, files=tuple(names), notes="naive"
        )
        send = self._kaggle.publish_version if state.head else self._kaggle.create_dataset
        while not isinstance(send(request), Done):
            self._run.clock.sleep(PAUSE_SECONDS)
            if self._run.plan.gusts.is_calm:
                return

    def _download(self, folder: Path, version: int) -> list[str]:
        names = []
        listed = self._kaggle.outputs(KERNEL, version)
        for file in listed if isinstance(listed, tuple) else ():
            if file.name.startswith(FOLDER):
                sink = Memory()
                if isinstance(self._kaggle.download(file, sink, 1 << 20), int):
                    name = file.name.removeprefix(FOLDER)
                    (folder / name).write_bytes(bytes(sink.data))
                    names.append(name)
        return names


def _checkpoint(manifest: Mapping[str, Any], content: bytes) -> Checkpoint:
    latest = next(entry for entry in manifest["files"] if entry["name"] == manifest["latest"])
    return Checkpoint(
        **{key: latest[key] for key in ("epoch", "step", "bytes", "sha256")},
        file=latest["name"],
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        publish=manifest["publish"],
        first_step=0,
        first_loss=None,
        last_loss=None,
        val_loss=None,
        outcome="unknown",
        reason=None,
        training_complete=False,
    )


def _count(run: Simulation) -> Counter[str]:
    counted: Counter[str] = Counter()
    counted["sessions started twice"] = sum(p.live_beside > 0 for p in run.host.pushes(KERNEL))
    seen: Counter[bytes] = Counter()
    step = 0
    for version in run.host.versions(DATASET):
        seen[version.files.get("manifest.json", b"")] += 1
        held = _held(version)
        counted["unverified published"] += held is None
        if held is not None:
            counted["went back or off course"] += held[0] <= step or held[1] != weights(held[0])
            step = max(step, held[0])
    counted["versions duplicated"] = sum(count - 1 for count in seen.values())
    return counted


def _held(version: TrueVersion) -> tuple[int, str] | None:
    """Step and weights of a version that holds what its manifest says; None if it does not."""
    try:
        manifest = json.loads(version.files["manifest.json"])
        entries = {entry["name"]: entry for entry in manifest["files"]}
        for name in manifest["publish"]:
            if hashlib.sha256(version.files[name]).hexdigest() != entries[name]["sha256"]:
                return None
        return read_weights(version.files[manifest["latest"]])
    except (KeyError, ValueError, BadZipFile):
        return None
