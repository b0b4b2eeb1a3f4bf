"""Execute one notebook as Kaggle does: `python notebook.py SOURCE TARGET`, output streamed.

Runs in the kernel's own environment and imports nothing of this project.
"""

import sys

try:
    import ipykernel  # noqa: F401  (it runs the cells, in a process of its own)
    import papermill
    from nbclient.exceptions import DeadKernelError
except ImportError as missing:
    sys.exit(
        f"Local Kaggle cannot run notebooks: {missing}.\n"
        'Install the notebook runner with: pip install "kchain[train]"'
    )

KILLED = 137  # what a shell reports for a process ended by SIGKILL


def main(source: str, target: str) -> int:
    try:
        papermill.execute_notebook(
            source,
            target,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            start_timeout=600,
        )
    except papermill.PapermillExecutionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except DeadKernelError as error:
        sys.stderr.write(f"{error}\n")
        return KILLED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
