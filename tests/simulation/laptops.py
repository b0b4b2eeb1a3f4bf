"""A laptop that is lost with its journal, and what a recovery must bring."""

from tests.simulation.truth import check_heads

SAME, NEXT, OTHER = "the same head", "the next head", "another head"


def lose_and_recover(run):
    """Lose the laptop and recover on another one; return the states before and after."""
    before = run.lose_the_laptop()
    after = run.recover()
    check_heads(run)
    return before, after


def head_found(before, after):
    """Tell which head was found, by the bytes of its manifest and its version."""
    found, known = _bytes_of(after.head), _bytes_of(before.head)
    if (after.heads, found) == (before.heads, known):
        return SAME
    pending = before.pending and before.pending.manifest_sha256
    is_next = found and (after.heads, found[0]) == (before.heads + 1, pending)
    return NEXT if is_next else OTHER


def _bytes_of(head):
    return (head.checkpoint.manifest_sha256, head.version) if head else None


def check_recovered(before, after):
    """The same head; or the next one, if it was on Kaggle already and only not yet recorded."""
    assert head_found(before, after) in (SAME, NEXT)
    if after.heads == before.heads:
        assert after.head == before.head
