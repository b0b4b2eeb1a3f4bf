"""Secrets that nobody has seen before, and where each of them comes to light."""

import os
from collections.abc import Iterable
from pathlib import Path


class Canaries:
    """Secrets, and where each was planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def plant(self, place: str) -> str:
        canary = f"canary{len(self.planted):03}{os.urandom(10).hex()}"
        return self.know(canary, place)

    def know(self, secret: str, place: str) -> str:
        """Count a secret that is there anyway."""
        self.planted[secret] = place
        return secret

    def sighted(self, text: str | bytes) -> list[str]:
        content = text if isinstance(text, bytes) else text.encode()
        return [place for canary, place in self.planted.items() if canary.encode() in content]

    def sighted_in_files(self, *folders: Path) -> dict[str, list[str]]:
        """What was sighted in the files below these folders, by file."""
        return {
            str(path): found
            for path in files_below(folders)
            if (found := self.sighted(path.read_bytes()))
        }


def files_below(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]
