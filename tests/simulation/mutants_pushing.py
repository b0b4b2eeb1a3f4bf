"""Protections of pushing sessions and of watching them."""

from tests.simulation.protections import Protection

_CONTEXT = "orchestrator/phases/context.py"
_LAUNCH = "orchestrator/phases/launch.py"
_PREFLIGHT = "orchestrator/phases/preflight.py"
_WATCH = "orchestrator/phases/watch.py"
_TESTS = "tests/simulation/test_"
_PUSHES = "tests/simulation/test_pushes.py::test_"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_FOREIGN = "tests/simulation/test_foreign.py::test_"

PUSHING = [
    # Pushing
    Protection(
        "a push whose answer was lost is looked for before it is repeated",
        _LAUNCH,
        "    newest = context.kaggle.kernel(slug)\n    if isinstance(newest, Unreadable) or",
        '    if push.sent_age is not None:\n        context.journal.append(Kind.PUSH_GIVEN_UP, message="")'
        "\n        return None\n    newest = context.kaggle.kernel(slug)\n"
        "    if isinstance(newest, Unreadable) or",
        invariants=("I1", "I6"),
    ),
    Protection(
        "a push is given up only after the settle window",
        _LAUNCH,
        "if not context.is_settled(push.sent_age):",
        "if False:",
        invariants=("I1", "I6"),
    ),
    Protection(
        "a push is given up only after three agreeing reads",
        _LAUNCH,
        "AGREEING_READS = 3",
        "AGREEING_READS = 2",
        _PUSHES + "reads_that_disagree_do_not_add_up_to_an_absence",
        invariants=("I11",),
    ),
    Protection(
        "a version is adopted only if it carries the push's token",
        _LAUNCH,
        "if kernel.carries(found.source, push.token):",
        "if found:",
        _PUSHES + "somebody_elses_version_is_not_taken_for_a_push_whose_answer_was_lost",
        invariants=("I2",),
    ),
    Protection(
        "a read that fails does not show that a push is absent",
        _LAUNCH,
        "    if isinstance(newest, Unreadable) or (isinstance(newest, Gone) and push.base_version):\n"
        '        return context.missing(f"kernel {slug}", newest)\n'
        "    current = 0 if isinstance(newest, Gone) else newest.current_version",
        "    absent = isinstance(newest, Gone | Unreadable)\n"
        "    current = 0 if absent else newest.current_version",
        _PUSHES + "reads_that_fail_do_not_add_up_to_an_absence",
        invariants=("I11",),
    ),
    Protection(
        "SENT is written before a push leaves",
        _LAUNCH,
        "    context.journal.append(Kind.PUSH_SENT)\n    answer = context.kaggle.push(request)\n",
        "    answer = context.kaggle.push(request)\n    context.journal.append(Kind.PUSH_SENT)\n",
        invariants=("I8",),
    ),
    Protection(
        "each push has a token of its own",
        _CONTEXT,
        "bits = self.rng.getrandbits(128)",
        "bits = (7)",
        invariants=("I2", "I6"),
    ),
    Protection(
        "nothing is pushed on top of a version that the journal does not know",
        _PREFLIGHT,
        "if info.current_version > known:",
        "if False:",
        invariants=("I9",),
    ),
    Protection(
        "the kernel is looked at right before a push, however old the intent",
        _LAUNCH,
        "for check in (preflight.kernel_is_ours, preflight.dataset_is_ours, _has_quota):",
        "for check in (preflight.dataset_is_ours, _has_quota):",
        invariants=("I9",),
    ),
    Protection(
        "no session is pushed onto a dataset whose newest version is not the head's",
        _LAUNCH,
        "for check in (preflight.kernel_is_ours, preflight.dataset_is_ours, _has_quota):",
        "for check in (preflight.kernel_is_ours, _has_quota):",
        invariants=("I6", "I9"),
    ),
    Protection(
        "a dataset version that somebody added must hold the head, byte for byte",
        _PREFLIGHT,
        "if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() == wanted:",
        "if True:",
        invariants=("I6", "I11"),
    ),
    Protection(
        "no session is pushed before the head can be mounted",
        _PREFLIGHT,
        "if not info.is_ready:",
        "if False:",
        _FOREIGN + "the_head_that_somebody_published_again_is_waited_for_until_it_can_be_mounted",
        invariants=("I6",),
    ),
    Protection(
        "no session is pushed after a stop was asked for",
        _LAUNCH,
        "    if context.files.is_stop_asked():\n        return _withdraw",
        "    if False:\n        return _withdraw",
        _TESTS + "stop.py::test_a_push_that_waits_for_an_answer_is_withdrawn",
        invariants=("I6",),
    ),
    Protection(
        "a stop ends the chain where nothing runs",
        _LAUNCH,
        "for check in (_has_failed, _is_finished, _is_stopped):",
        "for check in (_has_failed, _is_finished):",
        _TESTS + "stop.py::test_the_session_that_runs_is_the_last_one_and_its_checkpoint_counts",
        invariants=("I11",),
    ),
    Protection(
        "no session is pushed after too many fruitless ones",
        _CONTEXT,
        "or state.fruitless >= limit",
        "or False",
        _SESSIONS + "a_chain_halts_after_as_many_different_failures_as_are_allowed",
        invariants=("I6",),
    ),
    Protection(
        "a session needs quota",
        _LAUNCH,
        "        return seconds\n    now = context.clock.now()",
        "        return seconds\n    return budget\n    now = context.clock.now()",
        invariants=("I6",),
    ),
    # Watching
    Protection(
        "a status that cannot be read does not end a session",
        _WATCH,
        "if isinstance(info, Gone) and _is_overdue(context, push):",
        "if isinstance(info, Gone | Unreadable):",
        invariants=("I1",),
    ),
    Protection(
        "a session that Kaggle does not know yet is not given up",
        _WATCH,
        "if isinstance(info, Gone) and _is_overdue(context, push):",
        "if isinstance(info, Gone):",
        invariants=("I1", "I11"),
    ),
    Protection(
        "the status asked for is that of the version pushed",
        _WATCH,
        "info = context.kaggle.session(slug, push.version)\n    if isinstance(info, Gone) and",
        "info = context.kaggle.session(slug, None)\n    if isinstance(info, Gone) and",
        invariants=("I1",),
    ),
    Protection(
        "a session that never ends is given up after its limit and grace",
        _WATCH,
        "if late > 2 * grace:",
        "if False:",
        _SESSIONS + "a_session_that_is_called_running_for_ever_costs_an_attempt_only",
        invariants=("I11",),
    ),
    Protection(
        "a session is given up only after its limit and grace",
        _WATCH,
        "if late > 2 * grace:",
        "if late > -push.time_budget_seconds:",
        invariants=("I1",),
    ),
]
