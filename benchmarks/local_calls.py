"""Calls per second of local Kaggle: through its rules in process, and over HTTP by the SDK."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_servers import client_env, cpu_seconds, hear, local_kaggle, program, tell

from orchestrator.emulator.ledger import Ledger
from orchestrator.emulator.records import Draft, Ending, File, NewFile, Push
from orchestrator.emulator.settings import Settings
from orchestrator.emulator.world import World

NOTHING_RUNS = {
    "queue_seconds": 1e9,
    "cpu_sessions": 10**6,
    "dataset_visible_seconds": 0.0,
    "dataset_processing_seconds": 0.0,
}
CHAINS = 200
ROUND_SECONDS = 6 * 3600.0  # of one chain's session and the wait for the next
SESSION_SECONDS = 3600.0
FILE_BYTES = 10**6  # so that the account's storage is never full


def script(number: int) -> str:
    return f"# chain {number}\n" + "print('a line of a training script')\n" * 100


def session_round(world: World, do: Callable[..., Any], chain: int, at: float) -> None:
    """One session of a chain: twelve calls, half of them changing state."""
    slug, hour = f"bench-chain-{chain}", SESSION_SECONDS
    upload = do(world.start_upload, at, name="model.pt", size_bytes=FILE_BYTES)
    files = [File(upload.name, f"key-{upload.upload_id}", FILE_BYTES)]
    do(world.finish_upload, at + 1, upload_id=upload.upload_id, files=files)
    new = [NewFile("", upload.token)]
    do(world.create_dataset_version, at + 2, owner="local", slug=slug, notes="next", files=new)
    seen = world.dataset(at + 3, owner="local", slug=slug)
    assert seen.current.files == tuple(files), "the new version is not seen"
    world.dataset_status(at + 4, owner="local", slug=slug)
    do(world.save_kernel, at + 5, push=_push(chain))
    session = world.session(at + 6, owner="local", slug=slug)
    world.next_due_at(at + 7)
    [due] = world.due_sessions(at + 60)
    do(world.start_session, at + 61, session_id=due.session_id)
    world.quotas(at + hour)
    do(
        world.end_session,
        at + hour,
        session_id=session.session_id,
        ending=Ending.COMPLETE,
        files=[File("checkpoints/model.pt", f"output-{session.session_id}", FILE_BYTES)],
        log_key=f"log-{session.session_id}",
    )


CALLS_PER_ROUND = 12


def _push(chain: int) -> Push:
    return Push(
        owner="local",
        slug=f"bench-chain-{chain}",
        title=f"Bench Chain {chain}",
        source=script(chain),
        enable_gpu=True,
        dataset_sources=(f"local/bench-chain-{chain}",),
    )


def first_publications(world: World, do: Callable[..., Any], chains: int, at: float) -> None:
    for chain in range(chains):
        upload = do(world.start_upload, at, name="model.pt", size_bytes=1)
        files = [File(upload.name, "key", 1)]
        do(world.finish_upload, at, upload_id=upload.upload_id, files=files)
        draft = Draft(owner="local", slug=f"bench-chain-{chain}", title=f"Bench Chain {chain}")
        do(world.create_dataset, at, draft=draft, files=[NewFile("", upload.token)])


def in_process(calls: int) -> list[float]:
    """Calls per second in each tenth of a history of so many calls."""
    world = World(Settings(seed=1))

    def do(operation: Callable[..., Any], now: float, **fields: Any) -> Any:
        return operation(now, **fields)

    at = 1.8e9
    first_publications(world, do, CHAINS, at)
    rounds = calls // CALLS_PER_ROUND // 10
    speeds = []
    for tenth in range(10):
        begun = time.perf_counter()
        for number in range(rounds):
            at += ROUND_SECONDS
            session_round(world, do, (tenth * rounds + number) % CHAINS, at)
        speeds.append(rounds * CALLS_PER_ROUND / (time.perf_counter() - begun))
    return speeds


def start_up(operations: int) -> tuple[float, int]:
    """Seconds to load a record of so many operations, and its size in bytes."""
    with tempfile.TemporaryDirectory(prefix="kchain-bench-") as folder:
        path = Path(folder) / "world.jsonl"
        now = [1.8e9]
        ledger = Ledger(path, Settings(seed=1), clock=lambda: now[0])

        def do(operation: Callable[..., Any], at: float, **fields: Any) -> Any:
            now[0] = at
            return ledger.do(operation, **fields)

        first_publications(ledger.world, do, CHAINS, now[0])
        for number in range(operations * 2 // CALLS_PER_ROUND):
            session_round(ledger.world, do, number % CHAINS, now[0] + ROUND_SECONDS)
        ledger.close()
        size_bytes, begun = path.stat().st_size, time.perf_counter()
        Ledger(path, Settings(seed=1), clock=lambda: now[0]).close()
        return time.perf_counter() - begun, size_bytes


@dataclass(frozen=True)
class Called:
    """What clients saw, and how many cores the server needed for it."""

    calls: int
    per_second: float
    median_seconds: float
    worst_seconds: float
    server_cores: float


def over_http(clients: int, seconds: float) -> Called:
    """Calls by so many clients at once, against a server of its own with its state on disk."""
    with (
        tempfile.TemporaryDirectory(prefix="kchain-bench-") as name,
        local_kaggle(Path(name), **NOTHING_RUNS) as server,
        contextlib.ExitStack() as running,
    ):
        env = client_env(server, Path(name) / "home")
        record = Path(name) / "state" / "world.jsonl"
        callers = [
            running.enter_context(program("calls", f"client-{number}", str(seconds), env=env))
            for number in range(clients)
        ]
        for caller in callers:
            hear(caller)  # it is warm
        recorded, used = _lines(record), cpu_seconds(server.pid)
        for caller in callers:
            tell(caller, "go")
        answers = [hear(caller) for caller in callers]
        recorded, used = _lines(record) - recorded, cpu_seconds(server.pid) - used
    latencies = [latency for answer in answers for latency in answer["latencies"]]
    assert abs(recorded - len(latencies) / 2) <= clients, "half of the calls are on disk"
    longest = max(answer["seconds"] for answer in answers)
    return Called(
        calls=len(latencies),
        per_second=len(latencies) / longest,
        median_seconds=statistics.median(latencies),
        worst_seconds=max(latencies),
        server_cores=used / longest,
    )


def _lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)
