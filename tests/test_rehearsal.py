"""The rehearsal that a newcomer sees first: real training, chained, with nothing set up."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.running import COMMAND, environment, run


def test_a_dry_run_validates_the_configuration_and_chains_real_sessions(kchain, tmp_path):
    assert kchain("init", "--preset", "rehearsal", ".").returncode == 0

    done = kchain("run", "--sessions", 3, "--dry-run", "--json", timeout=280)

    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["first_step"], row["last_step"]) for row in rows] == [(0, 40), (40, 80), (80, 120)]
    assert [row["dataset_version"] for row in rows] == [1, 2, 3]
    assert rows[-1]["last_loss"] < rows[0]["first_loss"] - 1
    assert set(rows[0]["seconds"]) == {"push", "queue", "run", "download", "publish", "live"}
    for phrase in (
        "kchain.toml is valid",
        "queued",
        "running",
        "tokens/s",
        "downloading",
        "verified checkpoint_epoch",
        "publishing a new dataset version",
        "is live",
        "training is complete",
        "dry run passed: 3 sessions chained",
    ):
        assert phrase in done.stderr
    assert re.search(
        r"resuming from checkpoint_epoch\d+_step80\.pt \(sha256 [0-9a-f]{12}\)", done.stderr
    )
    scratch = re.search(r"local Kaggle, in (\S+)", done.stderr)[1]
    assert not Path(scratch).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kchain.toml"]


OPEN = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
output = Path(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(output / "final_model")
tokenizer = AutoTokenizer.from_pretrained(output / "final_model")
state = torch.load(next(output.glob("checkpoint_*.pt")), weights_only=True)
words = model.state_dict()["transformer.wte.weight"]
assert torch.equal(words, state["model"]["wte.weight"][: len(words)])
tokens = tokenizer("The yield statement", return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=3, do_sample=False)[0]))
"""


def test_the_finished_model_reaches_the_users_folder_and_opens_there(kchain, tmp_path):
    (tmp_path / "kchain.toml").write_text(
        '[chain]\nname = "demo"\n[training]\npreset = "rehearsal"\n'
        "overrides = { max_steps = 4, n_layer = 1 }\n"
    )

    done = kchain("run", "--local", "--sessions", 1)
    opened = run(
        [sys.executable, "-c", OPEN, str(tmp_path / "output")],
        env=environment({"HF_HUB_OFFLINE": "1"}),
    )

    assert done.returncode == 0, done.stderr
    assert opened.stdout.startswith("The yield statement"), opened.stderr
    names = {path.name for path in (tmp_path / "output" / "final_model").iterdir()}
    assert names >= {"config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"}


def test_a_chain_on_local_kaggle_goes_on_with_ticks_and_shows_its_state(kchain, project_folder):
    folder = project_folder()

    first = kchain("run", "--local", "--sessions", 1)
    tick = kchain("tick", "--local", "--sessions", 2)
    status = kchain("status", "--local")
    logs = kchain("logs", "--local", "--version", 1)
    rest = kchain("run", "--local", "--sessions", 2)

    assert first.returncode == 0, first.stderr
    assert tick.returncode == 3, tick.stderr
    assert "call again later" in tick.stdout
    assert "1 of 3 sessions done" in status.stdout
    assert "checkpoint_epoch1_step10.pt" in status.stdout
    assert '"event": "step"' in logs.stdout
    assert rest.returncode == 0, rest.stderr
    assert (folder / "output" / "checkpoint_epoch1_step20.pt").exists()


def test_in_a_terminal_the_live_step_is_drawn_in_place(project_folder):
    folder = project_folder()
    reader, writer = pty.openpty()

    with subprocess.Popen(
        [*COMMAND, "run", "--local", "--sessions", "1"],
        cwd=folder,
        env=environment({"TERM": "xterm", "COLUMNS": "100"}),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    ) as process:
        os.close(writer)
        screen = read_to_end(reader)
    os.close(reader)

    assert process.returncode == 0, screen
    assert "session 1: queued" in screen
    assert "\x1b[2K" in screen  # a line that was drawn over
    assert "checkpoint_epoch1_step10.pt" in screen


def read_to_end(descriptor):
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # how a terminal says that its other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")
