"""The template's trainer in a forked process: what it imports is imported once for all of them.

A session's own code from its first line to its last; only the two seconds that a new interpreter
spends on importing torch are shared.
"""

import os
import sys

import train


def run(environment, log):
    """Be the trainer of one session, its output in the file `log`."""
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    train.main()
