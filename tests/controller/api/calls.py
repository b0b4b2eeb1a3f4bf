"""What is asked of Kaggle, and what is no answer to it."""

from orchestrator.kaggle.port import PushRequest

KEY = "c0ffee" * 6
HTML = b"<!DOCTYPE html><html>Sign in to the hotel's network</html>"
PUSH = PushRequest(
    kernel="kchain-demo",
    title="kchain-demo",
    source="{}",
    dataset_sources=("local/kchain-demo-checkpoints",),
    machine_shape="NvidiaTeslaT4",
    enable_internet=True,
    session_timeout_seconds=600,
)
QUOTA = {"gpuQuota": {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}}
NONSENSE = {
    "html": ((200, HTML, {"Content-Type": "text/html"}), {}),
    "html as json": ((200, HTML, {"Content-Type": "application/json"}), {}),
    "half of it": ((200, b'{"versionNumber": 7, "re', {"Content-Type": "application/json"}), {}),
    "cut": ((200, b'{"ver', {"Content-Type": "application/json", "Content-Length": 50}), {}),
    "reset": ((), {"then": "reset_first"}),
    "500": ((500, {"code": 500, "message": "Internal"}), {}),
    "502": ((502, HTML, {"Content-Type": "text/html"}), {}),
    "503": ((503, b""), {}),
    "504": ((504, b""), {}),
    "200 that says 500": ((200, {"code": 500, "message": "Internal"}), {}),
    "a code that is text": ((200, {"code": "500", "message": "Internal"}), {}),
    "null": ((200, b"null", {"Content-Type": "application/json"}), {}),
    "a list": ((200, []), {}),
    "a code without a message": ((200, {"code": 404}), {}),
    "a number": ((200, b"7", {"Content-Type": "application/json"}), {}),
    "odd version header": ((200, {}, {"X-Kaggle-APIVersion": "not a version"}), {}),
}
READS = {
    "kernel": ("GetKernel", lambda kaggle: kaggle.kernel("kchain-demo", 7)),
    "session": ("GetKernelSessionStatus", lambda kaggle: kaggle.session("kchain-demo", 7)),
    "outputs": ("ListKernelSessionOutput", lambda kaggle: kaggle.outputs("kchain-demo", 7)),
    "log": ("ListKernelSessionOutput", lambda kaggle: kaggle.log("kchain-demo", 7)),
    "dataset": ("GetDataset", lambda kaggle: kaggle.dataset("kchain-demo-checkpoints")),
    "dataset status": (
        "GetDatasetStatus",
        lambda kaggle: kaggle.dataset("kchain-demo-checkpoints"),
    ),
    "dataset files": (
        "ListDatasetFiles",
        lambda kaggle: kaggle.dataset_files("kchain-demo-checkpoints", 2),
    ),
    "quota": ("GetAcceleratorQuotaStatistics", lambda kaggle: kaggle.quota()),
    "identity": ("GetAcceleratorQuotaStatistics", lambda kaggle: kaggle.identity()),
}
