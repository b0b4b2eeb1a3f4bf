"""Protections of a chain whose journal is an older one, or not the only one."""

from tests.simulation.protections import Protection

_ADOPT = "orchestrator/phases/adopt.py"
_RECOVER = "orchestrator/phases/recover.py"
_PREFLIGHT = "orchestrator/phases/preflight.py"
_PUBLISH = "orchestrator/phases/publish.py"
_BACKUPS = "tests/simulation/test_backups.py::test_"
_LATE = "tests/simulation/test_late_pushes.py::test_"
_CONTROLLERS = (
    _BACKUPS + "of_two_controllers_with_a_journal_each_one_halts_and_no_session_runs_twice"
)

ADOPTING = [
    Protection(
        "versions that continue an older journal are adopted",
        _ADOPT,
        "if not own and not _continues_here(context, found, head):",
        "if not own:",
        _BACKUPS + "a_backup_of_any_event_goes_on_from_where_the_chain_is",
    ),
    Protection(
        "only what descends from the journal's head is adopted",
        _ADOPT,
        "is_ours = head is not None and found.descends(head, state.head.checkpoint)",
        "is_ours = True",
        _BACKUPS + "the_folder_of_another_lineage_is_not_taken_for_the_chains",
    ),
    Protection(
        "a push of the journal's own that lands late is nobody else's",
        _ADOPT,
        "own = _own_pushes(context, found)",
        "own = found.pushes[:0]",
        _LATE + "a_push_that_landed_late_is_waited_for_before_the_next_one",
    ),
    Protection(
        "a session that came late is waited for, not pushed beside",
        _RECOVER,
        "return _wait_for_duplicate(context, push, held)",
        "return None",
        _LATE + "a_push_that_landed_late_is_waited_for_before_the_next_one",
    ),
    Protection(
        "a session that came late is not waited for without end",
        _RECOVER,
        "if context.certain_since(context.state.recovering_age) > limit:",
        "if False:",
        _LATE + "a_late_push_that_never_ends_is_waited_for_until_it_must_have_ended",
        invariants=("I11",),
    ),
    Protection(
        "a checkpoint in hand comes before a push that landed late",
        _ADOPT,
        "if context.state.pending:",
        "if False:",
        _LATE + "a_checkpoint_in_hand_comes_before_a_push_that_landed_late",
    ),
    Protection(
        "a chain never goes back behind the head that its journal knows",
        _RECOVER,
        "for check in (_lost_sight, _in_motion):",
        "for check in (_in_motion,):",
        _BACKUPS + "a_head_that_kaggle_denies_for_a_moment_is_never_gone_back_behind",
    ),
    Protection(
        "an adoption waits until what was sent before must be visible",
        "orchestrator/fold.py",
        '"recovering_age": event.age}',
        '"recovering_age": 0.0}',
        _BACKUPS + "what_was_sent_just_before_a_backup_was_put_back_is_waited_for",
    ),
    Protection(
        "nothing is published behind a head that the chain has reached already",
        _PUBLISH,
        "if info.current_version > known and (stop := _adopt(context)):",
        "if False:",
        _BACKUPS + "a_checkpoint_that_the_chain_went_on_without_is_not_published",
    ),
    Protection(
        "a first session whose checkpoint was accepted already is not repeated",
        _PREFLIGHT,
        "if isinstance(info, Gone) or info.current_version <= context.state.dataset_version:",
        "if True:",
        _BACKUPS + "a_head_whose_session_looks_fruitless_to_an_older_journal_is_adopted",
    ),
    Protection(
        "a version that cannot be read for a moment is not called somebody else's",
        _PREFLIGHT,
        "if stop := _unread(context, range(known + 1, newest + 1)):",
        "if stop := None:",
        _BACKUPS + "a_version_that_cannot_be_read_for_a_moment_is_not_called_somebody_elses",
    ),
    Protection(
        "a chain that somebody else drives on again and again halts",
        _ADOPT,
        "if not own and was_overtaken(context):",
        "if False:",
        _CONTROLLERS,
    ),
    Protection(
        "whoever drove a chain on is left the next push",
        _PREFLIGHT,
        "return leave_others_the_first_move(context)",
        "return None",
        _CONTROLLERS,
    ),
    Protection(
        "whoever drove a chain on is left the next publication",
        _PUBLISH,
        "if stop := leave_others_the_first_move(context):",
        "if stop := None:",
        _CONTROLLERS,
        invariants=("I2",),
    ),
]
