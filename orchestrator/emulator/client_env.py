"""Point any client of Kaggle, in a process of its own, at a local Kaggle."""

import os
import sys
from pathlib import Path

REDIRECT = Path(__file__).with_name("redirect")


def client_environment(url: str, token: str, home: Path) -> dict[str, str]:
    """The whole environment for a client: the official command, kagglehub or kagglesdk.

    Nothing of the caller's own environment, least of all its credentials, is in it; laid over
    another environment it still wins. The redirection is a `sitecustomize` module, so it works
    for every Python program that is started in it, and without privileges.
    """
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONPATH": str(REDIRECT),
        "NO_PROXY": "*",
        "no_proxy": "*",
        "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
        "KAGGLE_API_TOKEN": token,
        "KCHAIN_KAGGLE_ENDPOINT": url,
    }
