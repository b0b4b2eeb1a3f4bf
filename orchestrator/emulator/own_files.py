"""The files of Kaggle's own that a mounted kernel output holds beside the kernel's.

Their names are Kaggle's. The code and the log are what the session had; page and style are
plain, because nbconvert is not run. The output listing does not show them.
"""

import html
import json
from collections.abc import Iterator

NAMES = (
    "__script__.py",
    "__script__.ipynb",
    "__notebook__.ipynb",
    "__output__.json",
    "__results__.html",
    "custom.css",
)
_PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Results</title>
<link rel="stylesheet" href="custom.css"></head>
<body><pre>{}</pre></body></html>
"""


def own_files(kernel_type: str, source: str, log: str) -> Iterator[tuple[str, str]]:
    """Names and texts of Kaggle's files about one session; the log is its JSON array."""
    printed = "".join(entry["data"] for entry in json.loads(log))
    yield "__output__.json", log
    yield "__results__.html", _PAGE.format(html.escape(printed))
    yield "custom.css", ""
    if kernel_type == "script":  # an executed notebook is among the outputs
        yield "__script__.py", source
        yield "__script__.ipynb", json.dumps(_as_notebook(source))


def _as_notebook(source: str) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "script",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
