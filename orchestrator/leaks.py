"""Does a text that is about to leave this machine hold a secret?

A notebook on Kaggle is kept for ever, and shown to whoever it is shared with. So what is known
to be a credential is refused before it is sent; a secret of a shape that nobody knows passes.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_QUOTE = r"""\\?["']"""


def _word(start: str, rest: str) -> str:
    """Return the shape of what is no part of a longer word; its start comes first, for speed."""
    return f"{start}(?<![A-Za-z0-9_]{start}){rest}"


SHAPES = {
    "an API token of Kaggle": _word("KGAT_", "[A-Za-z0-9_-]{16,}"),
    "an API key of Kaggle": rf"(?i:key{_QUOTE}?\]?\s*[:=]\s*{_QUOTE}?)[0-9a-f]{{32}}(?![0-9a-f])",
    "a token of Hugging Face": _word("hf_", "[A-Za-z0-9]{30,}"),
    "an access key of AWS": _word("A[KS]IA", "[A-Z0-9]{16}(?![A-Z0-9])"),
    "a secret key of AWS": (
        rf"(?i:aws_secret_access_key{_QUOTE}?\]?\s*[:=]\s*{_QUOTE}?)[A-Za-z0-9/+]{{40}}"
    ),
    "a token of GitHub": _word("gh[oprsu]_", "[A-Za-z0-9]{36,}"),
    "a fine-grained token of GitHub": _word("github_pat_", r"\w{50,}"),
    "a key of Google Cloud": _word("AIza", "[A-Za-z0-9_-]{35}"),
    "a key of Weights & Biases": (
        rf"(?i:wandb_api_key{_QUOTE}?\]?\s*[:=]\s*{_QUOTE}?)[0-9a-f]{{40}}"
    ),
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "an address with a password": r"://(?<=[a-z0-9+]{2}://)[^\s/:@\"']{1,64}:[^\s/:@\"'{}]{8,}@",
}
_SHAPES = {name: re.compile(shape) for name, shape in SHAPES.items()}


def find(text: str, own: Collection[str] = ()) -> str | None:
    """Name the first secret in a text, without repeating it; None if none is known.

    Args:
        text: what is about to be sent.
        own: the texts of the credential in use, whatever they look like.
    """
    if any(secret in text for secret in own):
        return "the Kaggle credential that is in use"
    return next((name for name, shape in _SHAPES.items() if shape.search(text)), None)
