"""Runs the probes of one section against the client of this process; prints what they found.

A probe is a function named after its hazard: it says whether the hazard is present.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from tests.probes.bare.bench import Bench
from tests.scripted import serving


def main(section):
    """Run every probe of a section, each on a bench of its own."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    probes = vars(importlib.import_module(f"tests.probes.bare.{section}"))
    with serving() as serve, tempfile.TemporaryDirectory() as folder:
        server = serve()
        import kaggle  # noqa: F401, PLC0415 - once, before the benches; it prints its help
        from kagglesdk import kaggle_env  # noqa: PLC0415

        for environment in kaggle_env._env_to_endpoint:
            kaggle_env._env_to_endpoint[environment] = server.url
        os.environ["KCHAIN_KAGGLE_ENDPOINT"] = server.url  # for processes of a probe's own
        found = {
            name.upper(): _run(probe, server, Path(folder) / name)
            for name, probe in probes.items()
            if name[0] == "c" and name[1:].isdecimal()
        }
    json.dump(found, answers)
    answers.close()


def _run(probe, server, folder):
    with Bench(server, folder).laid_out() as bench:
        try:
            return {"present": bool(probe(bench))}
        except (Exception, SystemExit):  # noqa: BLE001 - reported whole; the others still run
            return {"error": traceback.format_exc()}


if __name__ == "__main__":
    main(sys.argv[1])
