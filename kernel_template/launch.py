"""The launcher: checks what a session was given, starts the trainer, and says how it ended.

Standard library only, and it never touches CUDA: the trainer (later: one process per GPU) must be
the first to do so. Whatever happens to the trainer, session.json says why the session ended, and
the exit status is 0; anything else means that not even that was possible.
"""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

from parameters import Parameters, parse_parameters, read_parameters
from search import find_promised
from session import Ending, Refusal, Session, find_paths, session_started_at

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
ERROR_WORDS = {  # how Python and PyTorch spell what has a reason of its own in the verdict
    "OutOfMemoryError": "out_of_memory",
    "MemoryError": "out_of_memory",
    "can't allocate memory": "out_of_memory",
    "No space left on device": "disk_full",
}


def main() -> int:
    paths = find_paths()
    raw = read_parameters(paths)
    started_at = session_started_at(paths)
    session = Session(raw, paths, started_at)
    session.write_verdict("running", detail="checking what this session was given")
    try:
        parameters = parse_parameters(raw)
        find_promised(paths, parameters)  # again by the trainer; here before torch is imported
        check_accelerator(parameters.accelerator)
    except Refusal as refusal:
        print(f"refused ({refusal.reason}): {refusal.detail}")
        session.finish(refusal)
        return 0
    death = run_trainer(make_environment(parameters, started_at))
    verdict = json.loads(paths.verdict.read_text(encoding="utf-8"))
    if verdict["outcome"] == "running":  # the trainer could not say how it ended
        Session(raw, paths, started_at, since="idle").finish(death)
    return 0


def check_accelerator(expected: dict) -> None:
    """Refuse a machine without the expected GPUs, or with GPUs that cannot compute."""
    if expected["kind"] == "none":
        return
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
    names = json.loads(last_line(probe.stdout))
    print(f"GPUs: {', '.join(names) or 'none'}")
    if len(names) < max(1, expected["count"]):
        detail = f"{expected['count']} GPUs were expected, {len(names)} are here"
        raise Refusal("accelerator_mismatch", detail)


def make_environment(parameters: Parameters, started_at: float) -> dict[str, str]:
    environment = {
        **os.environ,
        "KCHAIN_SESSION_STARTED_AT": repr(started_at),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads made steps 3x slower on two busy cores
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # repeatable matrix products on CUDA
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # thousands of lines in Kaggle's log
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if parameters.accelerator["kind"] == "none":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def run_trainer(environment: dict[str, str]) -> Ending:
    """Run train.py with its output passed on line by line; returns what its death looked like."""
    trainer = subprocess.Popen(
        [sys.executable, "-u", str(CODE_DIR / "train.py")],  # DDP: torchrun goes here
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    told = []

    def forward(number, _frame):
        told.append(number)
        trainer.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    tail = deque(maxlen=20)
    for line in trainer.stdout:
        print(line, end="", flush=True)
        tail.append(line)
    return explain_death(trainer.wait(), "".join(tail), told)


def explain_death(status: int, output: str, told: list[int]) -> Ending:
    """The verdict for a trainer that wrote none, from its exit status and its last lines."""
    last = last_line(output)
    if told and (status == -told[0] or last.startswith("KeyboardInterrupt")):
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
