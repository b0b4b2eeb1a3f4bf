"""Local Kaggle and its clients as processes, for the benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestrator.emulator.client_env import client_environment

PROGRAMS = Path(__file__).with_name("local_programs.py")
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Served:
    """A server in a process of its own."""

    url: str
    token: str
    pid: int


@contextmanager
def program(*arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run one of `local_programs`; ended at the latest when the block ends."""
    env = env or {"PATH": os.defpath}
    path = os.pathsep.join([env.get("PYTHONPATH", ""), str(ROOT)]).strip(os.pathsep)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS), *arguments],
        env={**env, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        process.wait()


def hear(process: subprocess.Popen[str]) -> Any:
    """The next line that a program says."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


@contextmanager
def local_kaggle(folder: Path, **settings: Any) -> Iterator[Served]:
    with program("serve", str(folder / "state"), json.dumps(settings)) as process:
        yield Served(pid=process.pid, **hear(process))


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    with program("plain", str(folder)) as process:
        yield str(hear(process)["url"])


def client_env(server: Served, home: Path) -> dict[str, str]:
    return client_environment(server.url, server.token, home)


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
