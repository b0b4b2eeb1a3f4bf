"""Protections of the journal, and of rebuilding it when it was lost."""

from tests.mutation import Edit
from tests.simulation.protections import Protection

_RETRIEVE = "orchestrator/phases/retrieve.py"
_RECOVER = "orchestrator/phases/recover.py"
_SURVEY = "orchestrator/phases/survey.py"
_JOURNAL = "orchestrator/journal.py"
_TESTS = "tests/simulation/test_"
_RECOVERY = "tests/simulation/test_recovery.py::test_"

RECOVERY = [
    # The journal
    Protection(
        "what was written is durable before anything is sent",
        _JOURNAL,
        '            with self._db:\n                self._db.execute("INSERT',
        '            if True:\n                self._db.execute("INSERT',
        _TESTS + "clean_chains.py::test_a_chain_reaches_its_target",
        invariants=("I8",),
    ),
    Protection(
        "of two controllers only one can write an event",
        _JOURNAL,
        "INSERT INTO events",
        "INSERT OR REPLACE INTO events",
        _TESTS
        + "crashes.py::test_a_controller_that_comes_back_beside_another_one_does_nothing[18]",
        invariants=("I8",),
    ),
    # Recovery
    Protection(
        "a recovered head is one whose parents lead back to the first session",
        _SURVEY,
        "        return self._has_lineage(found)\n",
        "        return True\n",
        _RECOVERY + "a_checkpoint_of_another_lineage_is_not_taken_for_the_head",
        invariants=("I3",),
    ),
    Protection(
        "a recovered head is one whose session was told what its manifest says",
        _SURVEY,
        "if push and expectation(push.parameters) != found.expected:",
        "if False:",
        _RECOVERY + "a_manifest_that_says_other_things_than_its_session_was_told_is_not_believed",
        invariants=("I3",),
    ),
    Protection(
        "a recovered head is a version that is complete",
        _RECOVER,
        "if is_complete(version.manifest, listed, was_accepted=was_accepted):",
        "if True:",
        _RECOVERY + "a_newest_version_that_is_unusable_is_superseded",
        invariants=("I2", "I3", "I4"),
    ),
    Protection(
        "a recovery waits until what was sent before must be visible",
        _RECOVER,
        "if not context.is_settled(since):",
        "if False:",
        _RECOVERY + "a_push_that_becomes_visible_late_is_waited_for",
        invariants=("I1",),
    ),
    Protection(
        "a session is adopted only if it continues the recovered head",
        _RECOVER,
        "elif push.continues(checkpoint, heads):",
        "elif True:",
        _RECOVERY + "a_session_that_continues_a_checkpoint_that_is_gone_halts_the_recovery",
        invariants=("I3",),
    ),
    Protection(
        "a session that runs is adopted by a recovery, not pushed again",
        _RECOVER,
        "if push is None or push.session <= heads:",
        "if True:",
        _RECOVERY + "a_session_that_runs_is_watched_again_at_once",
        invariants=("I1",),
    ),
    Protection(
        "what a recovery brings is verified, file by file",
        _RETRIEVE,
        "    try:\n        verify_file(files, folder, entry)\n",
        "    try:\n        pass\n",
        _RECOVERY + "a_damaged_download_is_fetched_anew",
        (
            Edit(
                _RETRIEVE,
                "        verify_file(files, stored, manifest.entry(name))",
                "        pass",
            ),
        ),
        invariants=("I4",),
    ),
    Protection(
        "a head that was continued is one, though it lacks what is rebuilt",
        _RECOVER,
        "was_accepted = found.was_accepted(version)",
        "was_accepted = False",
        _RECOVERY + "a_head_that_was_accepted_without_its_history_is_found_again",
        invariants=("I11",),
    ),
    Protection(
        "a recovery sets no journal aside that sent anything",
        _RECOVER,
        "if has_sent and not is_left_behind(journal.state):",
        "if False:",
        _TESTS + "set_aside.py::test_a_journal_that_sent_a_push_is_not_set_aside",
    ),
    Protection(
        "a read that fails does not hide a version from a recovery",
        _SURVEY,
        'if stop := self.given_up(f"dataset {slug} version {number}", content):',
        "if stop := None:",
        _RECOVERY + "a_read_that_fails_is_asked_again[dataset_file]",
        invariants=("I3",),
    ),
    Protection(
        "a token from outside names no folder but its own",
        "orchestrator/files.py",
        "self._incoming / check_name(token)",
        "self._incoming / token",
        _RECOVERY + "a_token_from_outside_that_names_another_folder_costs_no_checkpoint",
        (
            Edit(
                "orchestrator/contract.py",
                "        _validator(name).validate(document)  # its first error",
                "        pass  # its first error",
            ),
        ),
        invariants=("I7",),
    ),
]
