"""Protections of collecting what a session left, and of publishing it."""

from tests.mutation import Edit
from tests.simulation.protections import Protection

_COLLECT = "orchestrator/phases/collect.py"
_FETCH = "orchestrator/phases/fetch.py"
_PUBLISH = "orchestrator/phases/publish.py"
_CHECKPOINTS = "orchestrator/checkpoints.py"
_FOLD = "orchestrator/fold_publications.py"
_TESTS = "tests/simulation/test_"
_PUSHES = "tests/simulation/test_pushes.py::test_"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_PUBLICATIONS = "tests/simulation/test_publications.py::test_"
_FOREIGN = "tests/simulation/test_foreign.py::test_"
_RECOVERY = "tests/simulation/test_recovery.py::test_"

PUBLISHING = [
    # Collecting
    Protection(
        "an output counts only with the push's own token",
        _CHECKPOINTS,
        "if body[key] != getattr(expected, key):",
        "if False:",
        _SESSIONS + "the_output_of_an_attempt_that_was_given_up_is_not_taken_for_the_next_ones",
        invariants=("I3",),
    ),
    Protection(
        "a checkpoint counts only if its parent is the head",
        _CHECKPOINTS,
        'if "parent" in body and body["parent"] != parent:',
        "if False:",
        invariants=("I3",),
    ),
    Protection(
        "a checkpoint counts only if its step is beyond the head's",
        _CHECKPOINTS,
        "if expected.parent and step <= expected.parent.step:",
        "if False:",
        also=(
            Edit(_CHECKPOINTS, "and reached < entry", "and -1 < entry"),
            Edit(
                _FOLD,
                "assert state.head is None or pending.step > state.head.checkpoint.step",
                "assert state",
            ),
        ),
        invariants=("I3",),
    ),
    Protection(
        "a file counts only if its hash is the manifest's",
        _CHECKPOINTS,
        'if files.sha256(folder, name) != entry["sha256"]:',
        "if False:",
        also=(
            Edit(
                _CHECKPOINTS,
                'return bool(files.sha256(folder, name) == entry["sha256"])',
                "return True",
            ),
        ),
        invariants=("I5",),
    ),
    Protection(
        "what a session left is complete only when two listings agree",
        _COLLECT,
        "    if push.listing != digest:\n",
        "    if push.listing != digest:\n        return True\n",
        _TESTS + "faults.py::test_a_chain_gets_past_a_fault_without_losing_a_session"
        "[output list empty for a while]",
        invariants=("I6",),
    ),
    Protection(
        "an output without any file is waited for until it must be there",
        _COLLECT,
        "    if not context.is_settled(push.ended_age):\n        return False",
        "    if False:\n        return False",
        _SESSIONS + "outputs_that_take_minutes_to_appear_are_waited_for",
        invariants=("I11",),
    ),
    Protection(
        "what was kept by a process that died stays what it was",
        _COLLECT,
        'kept, why = copies.promoted(context, manifest), ""',
        'kept, why = [], ""',
        _SESSIONS
        + "an_older_checkpoint_that_was_kept_stays_when_the_process_dies_before_it_says_so",
    ),
    Protection(
        "an older checkpoint is turned to only when nothing more can come",
        _COLLECT,
        "            if not _is_listing_stable(context, push, listed):\n                break\n",
        "",
        _SESSIONS + "an_older_checkpoint_is_turned_to_only_when_nothing_more_can_come",
    ),
    Protection(
        "a file that is wrong is fetched anew",
        _FETCH,
        "            context.files.discard(folder, name)\n            raise",
        "            raise",
        _TESTS + "faults.py::test_a_chain_gets_past_a_fault_without_losing_a_session"
        "[checkpoint download with a flipped bit]",
        invariants=("I6",),
    ),
    # Publishing
    Protection(
        "SENT is written before a publication leaves",
        _PUBLISH,
        "    context.journal.append(Kind.PUBLISH_SENT)\n"
        "    send = context.kaggle.create_dataset if publication.create else"
        " context.kaggle.publish_version\n"
        "    answer = send(request)\n",
        "    send = context.kaggle.create_dataset if publication.create else"
        " context.kaggle.publish_version\n"
        "    answer = send(request)\n"
        "    context.journal.append(Kind.PUBLISH_SENT)\n",
        invariants=("I8",),
    ),
    Protection(
        "nothing is published to a dataset that the chain did not make",
        _PUBLISH,
        "    if not known:\n        context.halt(",
        "    if False:\n        context.halt(",
        _FOREIGN + "a_dataset_that_somebody_else_made_is_left_alone_until_told_otherwise",
        invariants=("I9",),
    ),
    Protection(
        "a publication is read, not returned",
        _PUBLISH,
        "context.journal.append(Kind.PUBLISH_DONE)",
        "context.journal.append(Kind.PUBLISH_SEEN, version=publication.base_version + 1)",
        invariants=("I2", "I4"),
    ),
    Protection(
        "a publication is repeated only after the settle window",
        _PUBLISH,
        "if not context.is_settled(publication.sent_age, patience):",
        "if False:",
        invariants=("I2", "I11", "I12"),
    ),
    Protection(
        "a read that fails does not show that a version is absent",
        _PUBLISH,
        "    if isinstance(info, Unreadable) or (isinstance(info, Gone) and publication.base_version):\n"
        '        return context.missing(f"dataset {slug}", info)\n'
        "    found = None if isinstance(info, Gone) else _find_ours(context, info)",
        "    found = None if isinstance(info, Gone | Unreadable) else _find_ours(context, info)",
        _PUSHES + "reads_that_fail_do_not_add_up_to_an_absence[publish_version]",
        (
            Edit(
                _PUBLISH,
                "    if stop := _published_already(context, info):\n        return stop\n",
                "",
            ),
        ),
        invariants=("I2",),
    ),
    Protection(
        "a version is ours only by its token or its manifest",
        _PUBLISH,
        "    return _holds(context, version)\n\n\ndef _holds",
        "    return True\n\n\ndef _holds",
        _FOREIGN + "somebody_elses_version_is_not_taken_for_one_whose_answer_was_lost",
    ),
    Protection(
        "a version that was published late is adopted, not published again",
        _PUBLISH,
        "    if stop := _published_already(context, info):\n        return stop\n",
        "",
        _RECOVERY + "an_older_journal_that_was_restored_adopts_what_was_published_since[1]",
        invariants=("I2",),
    ),
    Protection(
        "versions only grow, whatever a stale read shows",
        _PUBLISH,
        "if info.current_version < known:",
        "if False:",
        _PUBLICATIONS + "a_stale_read_before_publishing_again_does_not_double_a_version",
        invariants=("I2",),
    ),
    Protection(
        "a version that is being processed is not published again for six hours",
        _PUBLISH,
        "PROCESSING_SECONDS = 6 * 3600",
        "PROCESSING_SECONDS = 60",
        _PUBLICATIONS + "a_version_that_is_processed_for_hours_is_waited_for[publish_version]",
        invariants=("I2",),
    ),
    Protection(
        "the head is a version that holds exactly what was published",
        _PUBLISH,
        "if published_names(files, manifest) != set(_files(pending)):",
        "if False:",
        invariants=("I2", "I4", "I11", "I12"),
    ),
    Protection(
        "the head is a version whose files have their sizes",
        _PUBLISH,
        "if files.get(name, size) != size]",
        "if False]",
        _PUBLICATIONS + "a_version_whose_checkpoint_was_cut_short_is_published_again",
        invariants=("I4",),
    ),
    Protection(
        "the head is a version whose manifest is the one published",
        _PUBLISH,
        "    if hashlib.sha256(content).hexdigest() != pending.manifest_sha256:\n"
        "        return Stop(_incomplete",
        "    if False:\n        return Stop(_incomplete",
        _PUBLICATIONS + "a_version_whose_manifest_is_not_the_one_published_is_published_again",
        invariants=("I2",),
    ),
    Protection(
        "the head is a version that is ready",
        _PUBLISH,
        '            return _incomplete(context, "Kaggle has been processing it for hours")\n'
        "        return context.poll()",
        '            return _incomplete(context, "Kaggle has been processing it for hours")\n'
        "        if info.current_version < version:\n            return context.poll()",
        _PUBLICATIONS + "a_version_whose_files_show_before_it_is_ready_is_waited_for",
        invariants=("I11",),
    ),
    Protection(
        "a version that is stuck is superseded",
        _PUBLISH,
        "        if _is_stuck(context):",
        "        if False:",
        invariants=("I11",),
    ),
]
