"""Protections for what lands, restarts and rots beside the plan."""

from tests.simulation.protections import Protection

_CONTEXT = "orchestrator/phases/context.py"
_LAUNCH = "orchestrator/phases/launch.py"
_WATCH = "orchestrator/phases/watch.py"
_STRAY = "orchestrator/phases/stray.py"
_PUBLISH = "orchestrator/phases/publish.py"
_COPIES = "orchestrator/phases/copies.py"
_PUSHES = "tests/simulation/test_pushes.py::test_"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_PUBLICATIONS = "tests/simulation/test_publications.py::test_"
_FOREIGN = "tests/simulation/test_foreign.py::test_"
_DAMAGED = "tests/simulation/test_copies.py::test_"
_CLOCKS = "tests/simulation/test_clock.py::test_"

STRAY = [
    Protection(
        "across a start of the machine only certain time permits another push",
        _CONTEXT,
        "self.journal.age - max(age or 0.0, self.state.boot_age)",
        "self.journal.age - (age or 0.0)",
        _CLOCKS + "a_machine_that_starts_anew_with_a_wrong_clock_does_not_shorten_a_wait",
        invariants=("I1", "I9"),
    ),
    Protection(
        "a start of the machine is written down, so that time is certain again",
        "orchestrator/engine.py",
        "if journal.is_restarted and is_due():",
        "if False:",
        _CLOCKS + "a_machine_that_starts_anew_with_a_wrong_clock_does_not_shorten_a_wait",
    ),
    Protection(
        "nothing is pushed while a session may run at another address",
        _STRAY,
        "if left > 0:",
        "if False:",
        _PUSHES + "nothing_is_pushed_while_a_session_may_run_at_another_address",
        invariants=("I1",),
    ),
    Protection(
        "versions that slip in before a push are looked at",
        _WATCH,
        "if stop := stray.overtaken(context, push):",
        "if stop := None:",
        _PUSHES + "somebody_who_pushes_between_the_last_look_and_ours_is_noticed",
    ),
    Protection(
        "a late push of the chain's own is nobody else's",
        _STRAY,
        "if isinstance(found, Gone | Unreadable) or not _is_ours(found.source, known):",
        "if True:",
        _PUSHES + "a_push_of_ours_that_slips_in_late_is_written_down_and_halts_nothing",
    ),
    Protection(
        "pushes that never become visible are limited",
        _LAUNCH,
        "elif state.unknown_pushes >= context.settings.chain.max_attempts:",
        "elif False:",
        _PUSHES + "pushes_that_never_become_visible_are_not_repeated_without_end",
    ),
    Protection(
        "publications that never become visible are limited",
        _PUBLISH,
        "elif state.unknown_publications >= limit:",
        "elif False:",
        _PUBLICATIONS + "publications_that_never_become_visible_are_not_repeated_without_end",
        invariants=("I11",),
    ),
    Protection(
        "a publication that never landed is no version that holds something else",
        "orchestrator/fold_publications.py",
        'return {"publication": None, "absent": 0, "unknown_publications": count}',
        'return {"publication": None, "absent": 0, "failed_publications": count}',
        _PUBLICATIONS
        + "kills_before_a_publication_leaves_are_no_version_that_holds_something_else",
    ),
    Protection(
        "a status that is unreadable for days halts the chain",
        _WATCH,
        "        return _unreadable(context, push, info)",
        '        return context.unreadable("the session", info)',
        _SESSIONS + "a_status_that_cannot_be_read_for_a_day_after_the_limit_halts_the_chain",
        invariants=("I11",),
    ),
    Protection(
        "a status that can be read in between begins the count anew",
        _WATCH,
        "    if context.state.wait_reason:\n",
        "    if False:\n",
        _SESSIONS + "reads_that_fail_now_and_then_do_not_add_up_to_a_status_that_cannot_be_read",
    ),
    Protection(
        "what is published is verified again before it leaves",
        _PUBLISH,
        "if not copies.is_whole(context, pending.manifest_sha256, names):",
        "if False:",
        _DAMAGED + "a_copy_that_is_damaged_before_it_is_published_is_fetched_anew",
    ),
    Protection(
        "a file of the user's own is named before it is set aside",
        _COPIES,
        "        context.journal.append(Kind.SET_ASIDE, file=name, kept_as=kept)\n",
        "        pass\n",
        "tests/simulation/test_output_folder.py::"
        "test_a_file_of_the_users_own_is_set_aside_and_named",
    ),
    Protection(
        "a damaged copy is not taken for what was kept",
        _COPIES,
        "return kept if has_needed and is_whole(context, manifest.sha256, kept) else []",
        "return kept",
        _DAMAGED + "a_copy_that_is_damaged_before_it_is_published_is_fetched_anew",
    ),
    Protection(
        "a damaged copy that nothing can replace halts the chain",
        "orchestrator/phases/collect.py",
        "    if context.state.is_damaged:\n",
        "    if False:\n",
        _DAMAGED + "a_damaged_copy_that_cannot_be_fetched_halts_the_chain_until_it_is_restored",
    ),
    Protection(
        "a version that failed is noticed at once",
        _PUBLISH,
        "    if info.has_failed:\n",
        "    if False:\n",
        _PUBLICATIONS + "a_version_that_kaggle_failed_to_process_is_noticed_at_once",
    ),
    Protection(
        "a read from before a version is not taken for its state",
        _PUBLISH,
        "if info.current_version < version or not info.is_ready:",
        "if not info.is_ready:",
        _PUBLICATIONS + "a_stale_read_of_a_version_that_was_seen_is_not_taken_for_its_state",
    ),
    Protection(
        "a version that Kaggle said yes to is waited for longer",
        _PUBLISH,
        "ACKNOWLEDGED_PATIENCE = 6.0",
        "ACKNOWLEDGED_PATIENCE = 1.0",
        _PUBLICATIONS + "a_version_that_kaggle_said_yes_to_is_waited_for_beyond_the_settle_window",
    ),
    Protection(
        "a version whose files never show is superseded",
        _PUBLISH,
        "if isinstance(files, Gone) and _is_stuck(context):",
        "if False:",
        _FOREIGN + "a_version_that_failed_behind_somebody_elses_is_published_again",
        invariants=("I11",),
    ),
]
