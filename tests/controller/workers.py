"""A credential for workers under test, and a worker of ten lines."""

import sys

from orchestrator.kaggle import credentials

KEY = "c0ffee" * 6  # a legacy key that no pattern would recognise
TOKEN = "KGAT_" + "canary" * 5
CREDENTIAL = credentials.from_key("local", KEY, "the test")

# A worker of ten lines: greets, then does with each call what the test says.
WORKER = """
import json, os, pathlib, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
hello = json.loads(sys.stdin.readline())
say(id=0, result={"username": "local"})
for line in sys.stdin:
    call = json.loads(line)
    name, args = call["verb"], call["args"]
"""


def script(body):
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", WORKER + indented]
