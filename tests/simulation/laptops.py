"""A laptop that is lost with its journal, and what a recovery must bring."""

from tests.simulation.truth import check_heads


def lose_and_recover(run):
    """Lose the laptop and recover on another one; return the states before and after."""
    before = run.lose_the_laptop()
    after = run.recover()
    check_heads(run)
    return before, after


def check_recovered(before, after):
    """The same head; or the next one, if it was on Kaggle already and only not yet recorded."""
    if after.heads == before.heads:
        assert after.head == before.head
    else:
        assert (after.heads, after.head.checkpoint) == (before.heads + 1, before.pending)
