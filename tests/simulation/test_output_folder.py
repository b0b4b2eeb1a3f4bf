"""Files of the user's own in the output folder: never lost, and never moved in silence."""

import pytest

from orchestrator.machine import Kind
from tests.simulation.chain import Act, live_in_session
from tests.simulation.truth import check_reached

FILE = "checkpoint_epoch1_step20.pt"  # of the second session
MINE = {"file": FILE, "kept_as": f"{FILE}.yours"}


def put_mine(run):
    (run.output / FILE).write_bytes(b"mine")


@pytest.fixture
def with_a_file_of_my_own(simulate):
    """A chain in whose output folder a person puts a file while the second session runs."""

    def make(**options):
        return simulate(sessions=2, acts=[Act(live_in_session(2), put_mine)], **options)

    return make


def check_said_and_kept(run):
    check_reached(run, sessions=2)
    said = run.kinds(Kind.SET_ASIDE)
    assert said
    assert all(event.data == MINE for event in said)
    assert (run.output / MINE["kept_as"]).read_bytes() == b"mine"


def test_a_file_of_the_users_own_is_set_aside_and_named(with_a_file_of_my_own):
    run = with_a_file_of_my_own()

    run.run()

    check_said_and_kept(run)
    assert len(run.kinds(Kind.SET_ASIDE)) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", ["journal.append set_aside", "files.deliver"])
def test_a_process_that_dies_as_it_sets_a_file_aside_names_it(
    with_a_file_of_my_own, effect, moment
):
    clean = with_a_file_of_my_own()
    clean.run()
    last = max(n for n, name in enumerate(clean.effects.names) if name == effect)
    run = with_a_file_of_my_own(kills=[(last, moment)])

    run.run()

    assert run.effects.fired == [(last, moment)]
    check_said_and_kept(run)


def test_a_recovery_names_what_it_sets_aside(simulate):
    run = simulate(sessions=2)
    run.run()
    before = run.lose_the_laptop()
    put_mine(run)

    after = run.recover()

    assert after.head == before.head
    run.run()
    check_said_and_kept(run)
