"""Which versions of the official client the tests have, and that each is the one it is called."""

import os
import subprocess
import sys

ASK = """
from importlib import metadata
from pathlib import Path
import kagglesdk
print(metadata.version("kaggle"), Path(kagglesdk.__file__).is_file())
"""


def test_each_version_of_the_client_is_the_one_that_its_process_gets(client_versions):
    told = {
        version: subprocess.run(
            [sys.executable, "-c", ASK],
            env={**os.environ, **additions},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split()
        for version, additions in client_versions.items()
    }

    assert told == {version: [version, "True"] for version in client_versions}
    assert {"2.2.4", "2.2.5"} <= set(client_versions)
