"""Does a text hold a secret? What leaves this machine is refused, what is told is blanked out.

A notebook on Kaggle is kept for ever, and shown to whoever it is shared with. So what is known
to be a credential is refused before it is sent. What Kaggle, its client or a session says is kept
in the journal and printed, where others may read it; there secrets and signed addresses are
replaced. A secret of a shape that nobody knows passes.
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
# What shows up in texts about requests; the first group stays.
_ON_THE_WAY = re.compile(
    r"((?:Bearer|Basic) )[A-Za-z0-9+/=_.~-]{16,}"
    r"|(KGAT_|uthorization: (?:Bearer|Basic) |[?&](?:X-Goog-[A-Za-z-]+|upload_id|Signature|token|key)=)[^\s&'\"]+"
    r"|eyJ[A-Za-z0-9_.-]{20,}"  # a signed token, also within a path
)
_TO_THE_END_OF_A_KEY = r"(?s:.*?(?:-----END|\Z))"
_BLANKED = [
    re.compile(shape + (_TO_THE_END_OF_A_KEY if name == "a private key" else ""))
    for name, shape in SHAPES.items()
]
HIDDEN = "[redacted]"


def find(text: str, own: Collection[str] = ()) -> str | None:
    """Name the first secret in a text, without repeating it; None if none is known.

    Args:
        text: what is about to be sent.
        own: the texts of the credential in use, whatever they look like.
    """
    if any(secret in text for secret in own):
        return "the Kaggle credential that is in use"
    return next((name for name, shape in _SHAPES.items() if shape.search(text)), None)


def redact(text: str, own: Collection[str] = ()) -> str:
    """Blank out what is known to be secret: the credential in use, known shapes, signed URLs."""
    for secret in own:
        text = text.replace(secret, HIDDEN)
    text = _ON_THE_WAY.sub(lambda found: (found[1] or found[2] or "") + HIDDEN, text)
    for shape in _BLANKED:
        text = shape.sub(HIDDEN, text)
    return text
