"""Signed links: URLs that need no credentials, name one file and expire.

Nothing is stored for a link: what it grants is in its path, signed with the server's secret.
"""

import base64
import hashlib
import hmac
from urllib.parse import quote

from orchestrator.emulator.records import Refusal

EXPIRED = (
    "<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code>"
    "<Message>The provided token has expired.</Message></Error>"
)
_PREFIX = "eyJhbGciOiJkaXIi"  # how Kaggle's own begin


class Links:
    """Makes and checks links below one base URL."""

    def __init__(self, secret: str, base_url: str) -> None:
        self._secret = secret.encode()
        self.base_url = base_url

    def output(self, session_id: int, name: str, expires_at: float) -> str:
        token = _PREFIX + self._sign(f"kf/{session_id}", expires_at)
        return f"{self.base_url}/kf/{session_id}/{token}/{quote(name)}"

    def dataset(self, dataset_id: int, version: int, name: str, expires_at: float) -> str:
        """One file of a version, or for no name all of it as a zip."""
        inside = f"raw/{name}" if name else "bundle/archive.zip"
        path = f"kaggle-data-sets/{dataset_id}/{version}/{inside}"
        signature = self._sign(path, expires_at)
        return f"{self.base_url}/{quote(path)}?X-Goog-Signature={signature}"

    def check_output(self, session_id: int, token: str, now: float) -> None:
        self._check(f"kf/{session_id}", token.removeprefix(_PREFIX), now)

    def check_dataset(self, path: str, signature: str, now: float) -> None:
        self._check(path, signature, now)

    def _sign(self, path: str, expires_at: float) -> str:
        expiry = f"{int(expires_at * 1000):x}"
        digest = hmac.new(self._secret, f"{expiry} {path}".encode(), hashlib.sha256).digest()
        return f"{expiry}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def _check(self, path: str, signature: str, now: float) -> None:
        expiry = signature.partition(".")[0]
        try:
            expires_at = int(expiry, 16) / 1000
        except ValueError:
            raise Refusal(403, EXPIRED) from None
        genuine = hmac.compare_digest(self._sign(path, expires_at).encode(), signature.encode())
        if not genuine or now >= expires_at:
            raise Refusal(403, EXPIRED)
