"""Which versions of the official client the tests have, and that each is the one it is called."""

import os
import subprocess
import sys

from orchestrator.kaggle import child as child_module

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


def test_kchains_worker_gets_the_version_that_it_is_tested_with(version, command, tmp_path):
    told = subprocess.run(
        [*command[:-2], "-c", ASK],
        env=child_module._environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert told.stdout.split() == [version, "True"]
