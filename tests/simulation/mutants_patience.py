"""Protections of waits: that each has an end, and none too early."""

from tests.simulation.protections import Protection

_CONTEXT = "orchestrator/phases/context.py"
_MISSING = "tests/simulation/test_missing_files.py::test_"
_PATIENCE_TESTS = "tests/simulation/test_patience.py::test_"

PATIENCE = [
    Protection(
        "what stays unreadable halts the chain",
        _CONTEXT,
        "if is_seen or self.seconds_since(since) < MISSING_SECONDS:",
        "if True:",
        _PATIENCE_TESTS
        + "a_version_before_ours_that_stays_unreadable_halts_the_chain_and_is_left_behind",
        invariants=("I11",),
    ),
    Protection(
        "what stays unreadable after a person has looked is given up",
        _CONTEXT,
        "if is_seen and self.is_settled(since):",
        "if False:",
        _MISSING + "an_output_that_is_still_gone_when_a_person_has_looked_costs_its_session",
        invariants=("I11",),
    ),
    Protection(
        "what a person has looked at is given up only after the settle window",
        _CONTEXT,
        "if is_seen and self.is_settled(since):",
        "if is_seen:",
        _MISSING + "an_output_that_flickers_when_a_person_has_looked_is_not_given_up",
        invariants=("I6",),
    ),
    Protection(
        "a version number that stays smaller than before halts the chain",
        _CONTEXT,
        "if self.seconds_since(state.wait_until_age) < MISSING_SECONDS:",
        "if True:",
        _PATIENCE_TESTS + "a_dataset_that_was_made_anew_is_published_to_only_when_told_to",
        invariants=("I11",),
    ),
    Protection(
        "a session is not mounted from a dataset that was made anew without the head",
        "orchestrator/phases/preflight.py",
        "if newest < head.version:",
        "if False:",
        _PATIENCE_TESTS + "a_dataset_that_was_made_anew_is_mounted_when_it_holds_the_head",
    ),
    Protection(
        "a listed file that is denied is waited for as long as anything that exists",
        "orchestrator/phases/fetch.py",
        "gap = MISSING_SECONDS / (FRESH_DOWNLOADS - 1)",
        "gap = context.settings.timing.settle_seconds / (FRESH_DOWNLOADS - 1)",
        _MISSING + "a_file_that_is_gone_for_hours_is_waited_for",
    ),
]
