"""The nouns travel through JSON and back; errors carry the exit code they stand for."""

import json

import pytest

from orchestrator import errors
from orchestrator.model import Accelerator, Binding, Checkpoint, Parent, Quota, SessionStatus


def test_every_record_survives_a_journey_through_json(checkpoint, parent, binding):
    records = [
        checkpoint(),
        checkpoint(first_loss=None, reason="nonfinite_loss", training_complete=True),
        parent,
        Binding(**binding),
        Accelerator("NvidiaTeslaT4", 2),
        Quota(1.5, 0.0, 108_000.0, None),
    ]

    for record in records:
        again = type(record).from_body(json.loads(json.dumps(record.to_body())))
        assert again == record


def test_a_checkpoint_is_the_parent_of_the_next_session(checkpoint):
    accepted = checkpoint(20)

    assert accepted.as_parent() == Parent(
        "checkpoint_epoch1_step20.pt", 20, 100, accepted.sha256, accepted.manifest_sha256
    )
    assert isinstance(accepted, Checkpoint)


@pytest.mark.parametrize("status", SessionStatus)
def test_only_three_statuses_end_a_session(status):
    ended = {SessionStatus.COMPLETE, SessionStatus.ERROR, SessionStatus.CANCEL_ACKNOWLEDGED}

    assert status.is_terminal == (status in ended)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.IllegalTransition, 1),
        (errors.ConfigError, 2),
        (errors.MissingExtra, 2),
        (errors.NotNow, 3),
        (errors.ChainError, 4),
        (errors.JournalError, 4),
        (errors.JournalConflict, 4),
        (errors.CheckpointError, 4),
    ],
)
def test_an_error_leaves_with_the_code_of_its_kind(kind, code):
    assert kind("what happened").exit_code == code
    assert str(kind("what happened")) == "what happened"
    assert isinstance(kind("what happened"), errors.KchainError)
