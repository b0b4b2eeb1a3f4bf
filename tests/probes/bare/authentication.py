"""C1 to C14: import, authentication, configuration."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata

from tests.probes.bare.bench import NO, TOKEN, USER, Reply, caught, stdout

QUOTA = "GetAcceleratorQuotaStatistics"
MODES = []  # of credential files, at the moment in which they are being closed to others


def _note_modes(event, args):
    if event == "os.chmod" and str(args[0]).endswith("credentials.json"):
        MODES.append(os.stat(args[0]).st_mode & 0o077)


sys.addaudithook(_note_modes)


def c1(_bench):
    from kaggle.models import upload_file  # noqa: PLC0415

    declared = [*metadata.requires("kaggle"), *(metadata.requires("kagglesdk") or [])]
    return hasattr(upload_file, "six") and not any(line.startswith("six") for line in declared)


def c2(bench):
    bench.on("IntrospectToken", Reply(then="silent"))
    names = ("PATH", "PYTHONPATH", "KCHAIN_KAGGLE_ENDPOINT")
    environ = {name: os.environ[name] for name in names}
    process = subprocess.Popen(
        [sys.executable, "-c", "import kaggle"],
        env={**environ, "HOME": str(bench.home), "KAGGLE_API_TOKEN": TOKEN},
    )
    try:
        _await(lambda: bench.asked("IntrospectToken"))
        return isinstance(caught(process.wait, 0.5), subprocess.TimeoutExpired)
    finally:
        process.kill()
        process.wait()


def _await(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        os.sched_yield()


def c3(bench):
    from kaggle.api.kaggle_api_extended import KaggleApi  # noqa: PLC0415

    with stdout() as text:
        ended = caught(KaggleApi().authenticate)
    return isinstance(ended, SystemExit) and ended.code == 1 and text.getvalue() != ""


def c4(bench):
    return bench.python("import kaggle", HOME="/dev/null/nowhere").returncode != 0


def c5(bench):
    bench.on("IntrospectToken", Reply(200, {"active": False}))
    bench.on(QUOTA, Reply(200, {}))
    client = bench.client(**USER, KAGGLE_API_TOKEN=TOKEN)
    client.quota_view()
    (request,) = bench.asked(QUOTA)
    return client.config_values["auth_method"].endswith("LEGACY_API_KEY") and (
        request["headers"]["Authorization"] == f"Bearer {TOKEN}"
    )


def c6(bench):
    bench.on("IntrospectToken", Reply(200, {"active": True, "username": "somebody-else"}))
    client = bench.client(**USER, KAGGLE_API_TOKEN=TOKEN)
    return client.config_values["username"] == "somebody-else"


def c7(bench):
    path = _oauth(bench)
    bench.on("GenerateAccessToken", NO)
    caught(bench.client, KAGGLE_UNUSED="1")
    assert bench.asked("GenerateAccessToken")
    return not path.exists()


def c8(_bench):
    from kagglesdk.kaggle_creds import KaggleCredentials  # noqa: PLC0415

    past = datetime.now(UTC) - timedelta(minutes=10)
    return not KaggleCredentials(None, access_token_expiration=past).access_token_has_expired()


def c9(bench):
    path = _oauth(bench)
    path.unlink()
    os.umask(0o022)
    credentials = _credentials(path)
    MODES.clear()
    credentials.save(str(path))
    return MODES == [0o044]


def c10(bench):
    return isinstance(caught(bench.client, KAGGLE_API_TOKEN="x" * 5000), OSError)


def c11(bench):
    bench.on(QUOTA, Reply(200, {}))
    code = "import kaggle; kaggle.api.quota_view()"
    done = bench.python(code, VERBOSE="1", KAGGLE_USERNAME="local", KAGGLE_KEY="k" * 32)
    assert bench.asked(QUOTA), done.stderr
    return "Authorization: Basic " in done.stdout


def c12(bench):
    from kagglesdk.kaggle_env import KaggleEnv, get_env  # noqa: PLC0415

    client = bench.client(**USER, KAGGLE_PATH="/elsewhere", KAGGLE_API_ENVIRONMENT="LOCALHOST")
    return client.config_values["path"] == "/elsewhere" and get_env() is KaggleEnv.LOCAL


def c13(bench):
    bench.on(QUOTA, Reply(200, {}, {"X-Kaggle-APIVersion": "99.0.0"}))
    client = bench.client()
    with stdout() as text:
        client.quota_view()
    return "outdated" in text.getvalue()


def c14(_bench):
    import kaggle  # noqa: PLC0415
    from kaggle.api.kaggle_api_extended import KaggleApi  # noqa: PLC0415

    return isinstance(kaggle.api, KaggleApi)


def _oauth(bench):
    path = bench.home / ".kaggle" / "credentials.json"
    path.write_text(json.dumps({"refresh_token": "r" * 40, "username": "local", "scopes": []}))
    return path


def _credentials(_path):
    from kagglesdk.kaggle_creds import KaggleCredentials  # noqa: PLC0415

    return KaggleCredentials(None, refresh_token="r" * 40, username="local")
