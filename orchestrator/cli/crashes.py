"""How an error of ours is told: with its whole traceback, without the secrets in its message."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Collection
from types import TracebackType

from orchestrator import leaks


def hide(secrets: Collection[str] = ()) -> None:
    """From now on, blank out these texts and all known shapes in what is told of a crash."""

    def tell(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(leaks.redact(text, secrets))

    sys.excepthook = tell
    threading.excepthook = lambda crash: tell(crash.exc_type, crash.exc_value, crash.exc_traceback)
