"""Protections that look once more right before something is sent."""

from tests.simulation.protections import Protection

_LAUNCH = "orchestrator/phases/launch.py"
_PREFLIGHT = "orchestrator/phases/preflight.py"
_PUBLISH = "orchestrator/phases/publish.py"
_LAST_LOOK = "tests/simulation/test_last_look.py::test_"

LAST_LOOK = [
    Protection(
        "the dataset is looked at right before a publication, however old the intent",
        _PUBLISH,
        "if stop := preflight.dataset_is_as_intended(context, publication):",
        "if stop := None:",
        _LAST_LOOK + "nothing_is_uploaded_into_a_dataset_that_was_made_public_since_the_intent",
        invariants=("I9",),
    ),
    Protection(
        "nothing is published where everybody can read it",
        _PREFLIGHT,
        "return None if info.is_private else _public",
        "return None if info else _public",
        invariants=("I9",),
    ),
    Protection(
        "a version that is seen where everybody can read it is no success",
        _PUBLISH,
        "    if stop := preflight.dataset_is_private(context, info):\n        return stop\n    for",
        "    for",
        _LAST_LOOK + "no_version_becomes_the_head_where_everybody_can_read_it[publish_unknown]",
    ),
    Protection(
        "no version becomes the head where everybody can read it",
        _PREFLIGHT,
        "return dataset_is_private(context, info) or info",
        "return info",
        _LAST_LOOK + "no_version_becomes_the_head_where_everybody_can_read_it[published]",
    ),
    Protection(
        "a publication is withdrawn when the dataset changed since its intent",
        _PREFLIGHT,
        "if info.current_version != publication.base_version:",
        "if False:",
        _LAST_LOOK + "a_dataset_that_somebody_made_since_the_intent_is_left_alone",
    ),
    Protection(
        "the quota is read again before a push whose intent is old",
        _LAUNCH,
        "context.seconds_since(push.intent_age) < FRESH_SECONDS",
        "context",
        _LAST_LOOK + "a_push_that_waited_while_the_quota_shrank_asks_for_no_more_than_is_left",
    ),
    Protection(
        "after a start of the machine no quota counts as just read",
        _LAUNCH,
        "is_of_this_start = push.intent_age > context.state.boot_age",
        "is_of_this_start = True",
        _LAST_LOOK + "after_a_start_of_the_machine_no_quota_counts_as_just_read[-86400.0]",
    ),
    Protection(
        "a push that asks for more than is left is withdrawn",
        _LAUNCH,
        "if seconds < push.time_budget_seconds:",
        "if False:",
        _LAST_LOOK + "a_push_that_waited_while_the_quota_shrank_asks_for_no_more_than_is_left",
    ),
    Protection(
        "what is sent is the notebook that was written down",
        _LAUNCH,
        "if kernel.source_sha256(source) != push.source_sha256:",
        "if False:",
        _LAST_LOOK + "a_notebook_that_is_not_the_one_written_down_is_not_sent",
    ),
    Protection(
        "nothing is sent before it is known from which account",
        "orchestrator/engine.py",
        "if state.binding and not is_account_known and not _may_stop(context):",
        "if False:",
        invariants=("I9",),
    ),
    Protection(
        "an account that cannot be read is not taken for the chain's own",
        "orchestrator/phases/account.py",
        'return context.unreadable("the credential\'s account", owner)',
        "return None",
        invariants=("I9",),
    ),
]
