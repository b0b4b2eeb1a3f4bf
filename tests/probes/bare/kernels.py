"""C25 to C32: push, status, pull."""

import json

from tests.probes.bare.bench import KERNEL, Reply, caught, stdout

METADATA = {
    "id": KERNEL,
    "title": "Train Loop",
    "code_file": "script.py",
    "language": "python",
    "kernel_type": "script",
}
LANDED = Reply(200, {"ref": f"/code/{KERNEL}", "versionNumber": 1})


def _push(bench, source="pass", **fields):
    folder = bench.folder / "kernel"
    folder.mkdir(exist_ok=True)
    (folder / "kernel-metadata.json").write_text(json.dumps({**METADATA, **fields}))
    (folder / "script.py").write_text(source)
    return bench.client().kernels_push(str(folder))


def c25(bench):
    full = {"error": "Maximum batch GPU session count of 2 reached."}
    without = {"versionNumber": 1, "invalidDatasetSources": ["local/gone"]}
    bench.on("SaveKernel", Reply(200, full), Reply(200, without), Reply(200, {}))
    answers = [_push(bench) for _ in range(3)]
    return bool(
        answers[0].error and answers[1].invalid_dataset_sources and not answers[2].version_number
    )


def c26(bench):
    bench.on("SaveKernel", Reply(200, {"ref": "/code/local/other-title", "versionNumber": 1}))
    with stdout() as text:
        answer = _push(bench, title="Other Title")
    return "does not resolve to the specified" in text.getvalue() and "other-title" in answer.ref


def c27(bench):
    bench.on("SaveKernel", LANDED)
    secret = bench.folder / "secret.txt"
    secret.write_text("not to be pushed")
    _push(bench, code_file=str(secret), id_no=7)
    (body,) = bench.bodies("SaveKernel")
    return (body["id"], body["text"]) == (7, "not to be pushed")


def c28(bench):
    bench.on("SaveKernel", LANDED)
    source = '{"cells":[{"cell_type":"code","source":["a\\n","b"],"outputs":[1]}]}'
    _push(bench, source, kernel_type="notebook")
    (body,) = bench.bodies("SaveKernel")
    return body["text"] != source


def c29(bench):
    bench.on("SaveKernel", LANDED)
    _push(bench)
    (body,) = bench.bodies("SaveKernel")
    return body["enableInternet"] is True and body["isPrivate"] is True


def c31(bench):
    bench.on("GetKernelSessionStatus", Reply(200, {}))
    bench.client().kernels_status(f"{KERNEL}/2")
    (body,) = bench.bodies("GetKernelSessionStatus")
    return "versionLabel" not in body


def c32(bench):
    metadata = {"slug": "../outside", "language": "python", "kernelType": "script"}
    blob = {"source": "pass", "language": "python", "kernelType": "script", "slug": "../outside"}
    bench.on("GetKernel", Reply(200, {"metadata": metadata, "blob": blob}))
    error = caught(bench.client().kernels_pull, KERNEL, str(bench.target))
    assert bench.asked("GetKernel"), error
    return (bench.folder / "outside.py").exists()
