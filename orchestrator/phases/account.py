"""Whose account the credential opens: nothing is read or changed before that is known.

The client addresses kernel and dataset by the credential's own name, so another account's
credential would find nothing there of what this chain sent, and send it again.
"""

from __future__ import annotations

from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import Unreadable
from orchestrator.phases.context import Context, Wake


def is_not_known(context: Context) -> Wake:
    """Return None if the credential is the chain's own account's; when to ask again if unknown.

    Raises:
        ConfigError: it is another account's.
    """
    owner = context.kaggle.identity()
    if isinstance(owner, Unreadable):
        return context.unreadable("the credential's account", owner)
    refuse_another(context, owner)
    return None


def refuse_another(context: Context, owner: str) -> None:
    """Raise ConfigError unless `owner` is the account that the chain is bound to, if it is."""
    binding = context.state.binding
    if binding and owner != binding.owner:
        raise ConfigError(
            f"the credential is {owner}'s, chain {context.settings.chain.name!r} belongs to"
            f" {binding.owner}; use that account's credential"
        )
