"""What the handlers of local Kaggle's endpoints work with."""

import threading
from dataclasses import dataclass
from pathlib import Path

from orchestrator.emulator.accounts import Account
from orchestrator.emulator.blobs import Blobs
from orchestrator.emulator.faults import FaultPlan
from orchestrator.emulator.hosting import Host
from orchestrator.emulator.ledger import Ledger
from orchestrator.emulator.links import Links


@dataclass(frozen=True)
class Platform:
    """The parts of one running local Kaggle."""

    ledger: Ledger
    blobs: Blobs
    host: Host
    account: Account
    links: Links
    faults: FaultPlan
    scratch: Path  # parts of uploads, bundles for download
    wake: threading.Event  # set when sessions may need attention
    closing: threading.Event
