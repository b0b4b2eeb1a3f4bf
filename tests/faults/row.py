"""One row of the catalogue of what a chain has to live through."""

from dataclasses import dataclass

ONE_FAULT = "test_a_chain_gets_past_a_fault_without_losing_a_session"
CRASH = "crash"  # storms count it by itself


@dataclass(frozen=True)
class Row:
    """A fault, what kchain does about it, and what shows that it does.

    `kinds` are names of what strikes in the storms of `tests/simulation/storm.py`; `tests` are
    names of tests that are about this one, with one of their cases in brackets. What of a fault cannot happen is told in `not_here`.
    """

    fault: str
    answer: str
    kinds: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    not_here: str = ""
