"""The launcher: checks what a session was given, prepares the data, starts the training, and says
how it ended.

Standard library only, and it never touches CUDA: the training processes, one for each GPU, must be
the first to do so. Whatever happens to them, session.json says why the session ended, and the exit
status is 0; anything else means that not even that was possible.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from parameters import Parameters, parse_parameters, read_parameters
from search import find_promised
from session import (
    Ending,
    Paths,
    Refusal,
    Session,
    find_paths,
    pretended_gpus,
    session_started_at,
)

CODE_DIR = Path(__file__).resolve().parent
PROBE_SECONDS = 120.0  # a broken driver hangs rather than fails
# One product on every GPU: a P100 says "available" and dies at its first operation.
PROBE = """
import json, torch
names = []
for index in range(torch.cuda.device_count()):
    ones = torch.ones(64, 64, device=f"cuda:{index}", dtype=torch.float16)
    assert (ones @ ones)[0, 0].item() == 64.0
    names.append(torch.cuda.get_device_name(index))
print(json.dumps(names))
"""
HANG_SECONDS = 60.0  # before the limit, when a program that still runs is ended
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
TORCHRUN_SPEAKS = re.compile(r"^[WE]\d{4} .* torch/distributed/elastic/", re.MULTILINE)
ROOT_CAUSE = re.compile(r"Root Cause.*?rank +: (\d+).*?exitcode +: (-?\d+)", re.DOTALL)
ERROR_WORDS = {  # how Python and PyTorch spell what has a reason of its own in the verdict
    "OutOfMemoryError": "out_of_memory",
    "MemoryError": "out_of_memory",
    "can't allocate memory": "out_of_memory",
    "No space left on device": "disk_full",
    "(out_of_memory)": "out_of_memory",  # how a silent process of several says it
}


def main() -> int:
    paths = find_paths()
    raw = read_parameters(paths)
    started_at = session_started_at(paths)
    session = Session(raw, paths, started_at)
    session.write_verdict("running", detail="checking what this session was given")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        parameters = parse_parameters(raw)
        find_promised(paths, parameters)  # again by the trainer; here before torch is imported
        processes = count_processes(parameters, check_accelerator(parameters.accelerator))
    except Ending as ending:
        print(f"{ending.outcome} ({ending.reason}): {ending.detail}")
        session.finish(ending)
        return 0
    last_moment = started_at + raw["time_budget_seconds"]
    last_moment -= min(HANG_SECONDS, raw["time_budget_seconds"] / 8)
    with tempfile.TemporaryDirectory(prefix="kchain-data-") as folder:
        environment = make_environment(parameters, started_at, folder)
        torchrun = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes > 1 else []
        signals: list[int] = []
        death = run_child(["corpus.py"], environment, signals, last_moment)
        if death is None and not has_ended(paths):
            death = run_child([*torchrun, "train.py"], environment, signals, last_moment)
            death = death or Ending("failed", "exception", "the training ended without a word")
    if not has_ended(paths):  # it could not say itself how it ended
        Session(raw, paths, started_at, since="idle").finish(death)
    return 0


def stop(number: int, _frame) -> None:
    """What a signal does before there is a program to pass it on to."""
    name = signal.Signals(number).name
    raise Ending("stopped", "signal", f"{name} came before the first step")


def has_ended(paths: Paths) -> bool:
    return json.loads(paths.verdict.read_text(encoding="utf-8"))["outcome"] != "running"


def check_accelerator(expected: dict) -> list[str]:
    """Names of the GPUs; refused if expected ones are missing, others, or cannot compute."""
    if expected["kind"] == "none":
        return []
    names = pretended_gpus()
    if names is None:
        names = probe_gpus()
    print(f"GPUs: {', '.join(names) or 'none'}")
    refuse_other_gpus(expected, names)
    return names


def probe_gpus() -> list[str]:
    """Names of the GPUs that compute; refused if one cannot."""
    command = [sys.executable, "-c", PROBE]
    try:
        probe = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        detail = f"the GPUs did not answer within {PROBE_SECONDS:.0f} s"
        raise Refusal("accelerator_mismatch", detail) from error
    if probe.returncode != 0:
        raise Refusal("accelerator_mismatch", f"a GPU cannot compute: {last_line(probe.stderr)}")
    return json.loads(last_line(probe.stdout))


def refuse_other_gpus(expected: dict, names: list[str]) -> None:
    word, count = expected.get("name", ""), max(1, expected["count"])
    if sum(word in name for name in names) < count:
        here = ", ".join(names) or "none; in the notebook's settings the accelerator may be off"
        detail = f"expected {count} x {word or 'GPU'}, here: {here}"
        raise Refusal("accelerator_mismatch", detail)


def count_processes(parameters: Parameters, gpus: list[str]) -> int:
    """One for each expected GPU; on the CPU one, or KCHAIN_PROCESSES."""
    count = int(os.environ.get("KCHAIN_PROCESSES", "1"))
    if gpus:
        count = max(1, parameters.accelerator["count"])
    if count < 1:
        raise Refusal("config_mismatch", f"KCHAIN_PROCESSES is {count}, must be 1 or more")
    if parameters.settings.accumulation % count:
        detail = f"accumulation is {parameters.settings.accumulation}, no multiple of {count}"
        raise Refusal("config_mismatch", f"{detail} devices, which share a step's micro-batches")
    return count


def make_environment(parameters: Parameters, started_at: float, data_dir: str) -> dict[str, str]:
    environment = {
        **os.environ,
        "KCHAIN_SESSION_STARTED_AT": repr(started_at),
        "KCHAIN_DATA_DIR": data_dir,
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads made steps 3x slower on two busy cores
        # glibc gives large blocks back to the system and gets them again, page by page, at every
        # step: a third to two thirds of a plain loop's time on the CPU (docs/benchmarks.md).
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # repeatable matrix products on CUDA
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # thousands of lines in Kaggle's log
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if parameters.accelerator["kind"] == "none" or pretended_gpus() is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def run_child(
    command: list[str], environment: dict[str, str], signals: list[int], last_moment: float
) -> Ending | None:
    """Run one of our programs, its output passed on line by line; returns what its death was.

    Signals are passed on and noted in `signals`, those between two programs as well. A program
    that hangs is ended at `last_moment`, in Unix seconds, while a verdict can still be written.
    """
    *runner, program = command
    child = subprocess.Popen(
        [sys.executable, "-u", *runner, str(CODE_DIR / program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    came_before = [*signals]

    def forward(number, _frame):
        signals.append(number)
        child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    for number in came_before:
        child.send_signal(number)
    tail, left = deque(maxlen=200), max(0.0, last_moment - time.time())
    overdue_at = time.monotonic() + left  # the wall clock may jump while the program runs
    timers = [threading.Timer(left, child.terminate)]
    timers.append(threading.Timer(left + min(HANG_SECONDS / 2, left / 16), child.kill))
    for timer in timers:
        timer.start()
    for line in child.stdout:
        print(line, end="", flush=True)
        tail.append(line)
    status = child.wait()
    for timer in timers:
        timer.cancel()
    if status != 0 and time.monotonic() >= overdue_at:
        detail = f"{program} did not end by itself before the session's limit"
        return Ending("out_of_time", None, detail)
    return explain_death(status, "".join(tail), signals) if status != 0 else None


def explain_death(status: int, output: str, told: list[int]) -> Ending:
    """The verdict for a program that wrote none, from its exit status and its last lines."""
    if cause := ROOT_CAUSE.search(output):  # of torchrun's own report nothing else is of use
        mark, status = f"[rank{cause[1]}]: ", int(cause[2])
        said = TORCHRUN_SPEAKS.split(output)[0].splitlines()
        output = "\n".join(line.removeprefix(mark) for line in said)
    last = last_line(output)
    interrupted = last.startswith("KeyboardInterrupt") or "SignalException" in last
    if told and (status == -told[0] or interrupted):
        name = signal.Signals(told[0]).name
        return Ending("stopped", "signal", f"{name} came before the first step")
    if status < 0:
        name = signal.Signals(-status).name
        return Ending("failed", "signal", f"the trainer was killed by {name}")
    reason = next((ERROR_WORDS[word] for word in ERROR_WORDS if word in last), "exception")
    return Ending("failed", reason, last or f"the trainer ended with status {status}")


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
