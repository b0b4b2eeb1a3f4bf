"""Real sessions of the kernel template, as subprocesses, with a model that trains in a second."""

import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jsonschema_rs
import pytest

KERNEL = Path(__file__).parents[2] / "kernel_template"
TINY = {
    "n_layer": 1,
    "n_head": 2,
    "d_model": 32,
    "vocab_size": 320,
    "batch_size": 40,
    "learning_rate": 0.003,
    "warmup_steps": 2,
    "max_steps": 12,
    "steps_per_session": 4,
    "checkpoint_steps": 1,
    "evaluation_steps": 2,
    "evaluation_blocks": 4,
}
SECONDS = 90  # no session of these tests may take longer


class Place:
    """One session's folders, its parameters, and what it left."""

    def __init__(self, root):
        self.root = root
        self.input = root / "input"
        self.working = root / "working"
        self.checkpoints = self.working / "checkpoints"
        self.input.mkdir(parents=True)
        self.working.mkdir()

    @property
    def verdict(self):
        return json.loads((self.working / "session.json").read_text())

    @property
    def manifest(self):
        return json.loads((self.checkpoints / "manifest.json").read_text())

    @property
    def history(self):
        return json.loads((self.checkpoints / "training_history.json").read_text())

    def entry(self, name):
        return next(entry for entry in self.manifest["files"] if entry["name"] == name)

    def start(self, parameters, code=KERNEL, **environment):
        path = self.root / "session_parameters.json"
        path.write_text(json.dumps(parameters))
        told = {
            "KCHAIN_PARAMETERS": str(path),
            "KCHAIN_INPUT_DIR": str(self.input),
            "KCHAIN_WORKING_DIR": str(self.working),
            "HF_HOME": str(self.root / "hub"),
            **environment,
        }
        return subprocess.Popen(
            [sys.executable, str(code / "launch.py")],
            cwd=self.root,
            env={**os.environ, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, parameters, code=KERNEL, **environment):
        """The whole output of a session, which must end by itself with a verdict."""
        launcher = self.start(parameters, code, **environment)
        output, _ = launcher.communicate(timeout=SECONDS)
        assert launcher.returncode == 0, output
        return output

    def parent(self):
        """What a controller would tell the next session after this one."""
        entry = self.entry(self.manifest["latest"])
        raw = (self.checkpoints / "manifest.json").read_bytes()
        return {
            "file": entry["name"],
            "step": entry["step"],
            "bytes": entry["bytes"],
            "sha256": entry["sha256"],
            "manifest_sha256": hashlib.sha256(raw).hexdigest(),
        }

    def publish(self, folder):
        """Stage exactly what the manifest says, as Kaggle would mount it."""
        folder.mkdir(parents=True)
        for name in [*self.manifest["publish"], "manifest.json"]:
            shutil.copy(self.checkpoints / name, folder / name)


def _unpack(path):
    archive = path.with_suffix(".zip")
    path.rename(archive)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(path)
    archive.unlink()


@pytest.fixture(scope="session")
def kernel():
    return KERNEL


@pytest.fixture
def load(monkeypatch):
    """Import a module of the template by its bare name, as on Kaggle."""
    monkeypatch.syspath_prepend(str(KERNEL))
    return importlib.import_module


@pytest.fixture(scope="session")
def unpack():
    """Do to a .pt what Kaggle does to archives: a folder of the same name takes its place."""
    return _unpack


@pytest.fixture(scope="session")
def new_place(tmp_path_factory):
    return lambda: Place(tmp_path_factory.mktemp("session"))


@pytest.fixture(scope="session")
def parameters():
    """The parameter block of a session; `overrides` go on top of the tiny model's."""

    def make(session=1, parent=None, overrides=None, preset="rehearsal", **changes):
        return {
            "contract": 1,
            "chain": "tiny",
            "session": session,
            "attempt": 1,
            "token": "kc1." + "abcdefgh"[session] * 26,
            "parent": parent,
            "time_budget_seconds": 600,
            "sessions_planned": 3,
            "training": {"preset": preset, "overrides": {**TINY, **(overrides or {})}},
            "accelerator": {"kind": "none", "count": 0},
            **changes,
        }

    return make


class Trainer:
    """Starts sessions without their launcher, on data that is prepared already, in forks."""

    def __init__(self, context, data_dir):
        self._context = context
        self._data_dir = data_dir

    def start(self, place, parameters):
        import session_process  # noqa: PLC0415 - it imports torch

        told = place.root / "session_parameters.json"
        told.write_text(json.dumps(parameters))
        environment = {
            "KCHAIN_PARAMETERS": str(told),
            "KCHAIN_INPUT_DIR": str(place.input),
            "KCHAIN_WORKING_DIR": str(place.working),
            "KCHAIN_DATA_DIR": str(self._data_dir),
            "KCHAIN_SESSION_STARTED_AT": repr(time.time()),
        }
        place.log = place.root / "log.txt"
        process = self._context.Process(
            target=session_process.run, args=(environment, str(place.log))
        )
        process.start()
        return process

    def run(self, place, parameters):
        """The whole output of a session that ends by itself with a verdict."""
        process = self.start(place, parameters)
        process.join(SECONDS)
        output = place.log.read_text()
        assert process.exitcode is not None, output
        assert place.verdict["outcome"] != "running", output
        return output


@pytest.fixture(scope="session")
def trainer(parameters, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    place = Place(tmp_path_factory.mktemp("prepare"))
    told = place.root / "session_parameters.json"
    told.write_text(json.dumps(parameters()))
    paths = [str(Path(__file__).parent), str(KERNEL)]
    environment = {"KCHAIN_PARAMETERS": str(told), "KCHAIN_DATA_DIR": str(data_dir)}
    folders = {"KCHAIN_INPUT_DIR": str(place.input), "KCHAIN_WORKING_DIR": str(place.working)}
    subprocess.run(
        [sys.executable, str(KERNEL / "corpus.py")],
        env={**os.environ, **environment, **folders},
        check=True,
        timeout=SECONDS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("HF_HUB_OFFLINE", "1")
        for path in reversed(paths):
            patch.syspath_prepend(path)
        context = multiprocessing.get_context("forkserver")
        gpt2 = "transformers.models.gpt2.modeling_gpt2"  # what a finished model is exported with
        context.set_forkserver_preload(["session_process", gpt2])
        yield Trainer(context, data_dir)


@pytest.fixture(scope="session")
def digest():
    """The hash of everything that a resume must bring back: one bit elsewhere, another hash."""
    import torch  # noqa: PLC0415

    def compute(path, *, parameters_alone=False):
        state = torch.load(path, weights_only=True)
        sha256 = hashlib.sha256()
        for name in sorted(state["model"]):
            sha256.update(state["model"][name].numpy().tobytes())
        if parameters_alone:
            return sha256.hexdigest()
        for number, moments in sorted(state["optimizer"]["state"].items()):
            for key in ("step", "exp_avg", "exp_avg_sq"):
                sha256.update(f"{number}{key}".encode() + moments[key].numpy().tobytes())
        curves = {key: state["history"][key] for key in ("steps", "validations", "epochs")}
        rest = [state[key] for key in ("step", "epoch", "train_loss", "best_val_loss", "scaler")]
        sha256.update(json.dumps([curves, rest]).encode())
        return sha256.hexdigest()

    return compute


@pytest.fixture(scope="session")
def forge():
    """Change the newest checkpoint of a mounted dataset, and all hashes with it, unnoticeably.

    Returns what the next session must be told as its parent.
    """
    import torch  # noqa: PLC0415

    def change(mount, edit):
        manifest = json.loads((mount / "manifest.json").read_text())
        path = mount / manifest["latest"]
        state = torch.load(path, weights_only=True)
        edit(state)
        torch.save(state, path)
        entry = next(entry for entry in manifest["files"] if entry["name"] == path.name)
        entry.update(bytes=path.stat().st_size, step=state["step"], members=[])
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        raw = json.dumps(manifest).encode()
        (mount / "manifest.json").write_bytes(raw)
        facts = {key: entry[key] for key in ("step", "bytes", "sha256")}
        hashed = hashlib.sha256(raw).hexdigest()
        return {"file": path.name, **facts, "manifest_sha256": hashed}

    return change


@pytest.fixture(scope="session")
def first(new_place, parameters):
    """The first session of a chain, ended after its share of steps."""
    place = new_place()
    place.output = place.run(parameters())
    return place


@pytest.fixture(scope="session")
def chain(first, new_place, parameters):
    """Three sessions: the second finds a flat mount, the third a nested one, unpacked."""
    places = [first]
    for number, mount in ((2, "tiny-checkpoints"), (3, "datasets/owner/tiny-checkpoints")):
        place = new_place()
        parent = places[-1].parent()
        places[-1].publish(place.input / mount)
        if number == 3:
            for path in (place.input / mount).glob("*.pt"):
                _unpack(path)
        place.output = place.run(parameters(number, parent))
        places.append(place)
    return places


@pytest.fixture(scope="session")
def uninterrupted(new_place, parameters):
    """The same training in one session."""
    place = new_place()
    place.output = place.run(parameters(overrides={"steps_per_session": None}))
    return place


@pytest.fixture(scope="session")
def check():
    """Validate an instance against one of the contract's schemas."""

    def validate(name, instance):
        schema = json.loads((KERNEL / "contract" / f"{name}.schema.json").read_text())
        jsonschema_rs.Draft202012Validator(schema).validate(instance)

    return validate
