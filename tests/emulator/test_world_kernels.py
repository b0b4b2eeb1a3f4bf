import pytest

from orchestrator.emulator.records import Draft, Push, Refusal
from orchestrator.emulator.world import World


def status(world, now, label="", slug="train-loop"):
    return world.session(now, owner="local", slug=slug, label=label).status


def test_versions_count_from_one_and_keep_their_source(driver, push):
    world = driver().world

    pushed = [world.save_kernel(0, push=push(source=source)).version for source in "ab"]

    assert pushed == [1, 2]
    first = world.kernel_version(2, owner="local", slug="train-loop", label="v1")
    assert (first.number, first.push.source) == (1, "a")
    assert world.kernel_version(2, owner="local", slug="train-loop").push.source == "b"


def test_a_session_goes_from_queued_to_running_to_its_end(driver, push):
    world = driver(queue_seconds=10).world
    world.save_kernel(100, push=push())

    assert status(world, 109) == "QUEUED"
    assert not world.due_sessions(109)
    [due] = world.due_sessions(110)
    world.start_session(110, session_id=due.session_id)
    assert status(world, 111) == "RUNNING"
    world.end_session(200, session_id=due.session_id, ending="complete")
    assert status(world, 201) == "COMPLETE"


def test_looking_changes_nothing(driver, push):
    looked, not_looked = driver().world, driver().world
    for world in (looked, not_looked):
        world.save_kernel(0, push=push())

    for now in range(50):
        status(looked, now)
        looked.due_sessions(now)
        looked.kernels(now)
        looked.quotas(now)

    assert looked.dump(60) == not_looked.dump(60)


def test_a_second_push_leaves_the_first_session_running_and_billing(driver, push):
    driver = driver(queue_seconds=0)
    driver.start(0, enable_gpu=True)

    driver.start(3600, enable_gpu=True)

    assert status(driver.world, 7200, "v1") == "RUNNING"
    assert driver.world.quotas(7200)[1].used_seconds == 3600 * 3


@pytest.mark.parametrize(
    ("ending", "expected", "kept"),
    [
        ("complete", "COMPLETE", True),
        ("exception", "ERROR", True),
        ("timeout", "CANCEL_ACKNOWLEDGED", True),
        ("out_of_memory", "ERROR", False),
        ("cancelled", "CANCEL_ACKNOWLEDGED", False),
        ("vanished", "ERROR", False),
    ],
)
def test_the_kind_of_ending_decides_status_and_survival_of_outputs(driver, ending, expected, kept):
    session = driver().run(0, ending=ending)

    assert session.status == expected
    assert bool(session.outputs) is kept


def test_survival_of_outputs_is_a_setting(driver):
    assert not driver(outputs_survive=frozenset()).run(0, ending="timeout").outputs
    assert driver(outputs_survive=frozenset({"cancelled"})).run(0, ending="cancelled").outputs


def test_a_timeout_says_why_and_a_cancelled_session_keeps_no_log(driver):
    assert "max allowed execution duration" in driver().run(0, ending="timeout").failure_message
    assert driver().run(0, ending="cancelled").log_key == ""


@pytest.mark.parametrize(
    ("slug", "label", "code"),
    [
        ("train-loop", "1", 404),
        ("train-loop", "v0", 404),
        ("train-loop", "v2", 404),
        ("train-loop/1", "", 403),
        ("other-loop", "", 403),
    ],
)
def test_only_the_label_v1_names_version_1(driver, push, slug, label, code):
    world = driver().world
    world.save_kernel(0, push=push())

    with pytest.raises(Refusal) as refused:
        status(world, 1, label, slug)

    assert refused.value.status == code
    assert status(world, 1, "v1") == "QUEUED"


def test_a_quick_save_has_a_version_and_no_session(driver, push):
    world = driver().world
    world.save_kernel(0, push=push(runs=False))

    with pytest.raises(Refusal) as refused:
        status(world, 1)

    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"source": "x" * 1_141_256}, 400, "1 MB"),
        ({"language": "cobol"}, 400, "language"),
        ({"kernel_type": "movie"}, 400, "kernel type"),
        ({"title": "abc"}, 200, "between 5 and 50"),
        ({"title": "Another Title"}, 200, "Notebook not found"),
        ({"title": "3 Trains", "slug": "3-trains"}, 200, "Notebook not found"),
        ({"title": "Train Loop \N{ROCKET}"}, 200, "Notebook not found"),
        ({"kernel_id": 5}, 200, "Notebook not found"),
        ({"machine_shape": "NvidiaAbacus"}, 200, "Invalid machine shape"),
    ],
)
def test_a_refused_push_makes_no_version(driver, push, fields, code, message):
    world = driver().world

    with pytest.raises(Refusal, match=message) as refused:
        world.save_kernel(0, push=push(**fields))

    assert refused.value.status == code
    assert not world.kernels(1)


def test_source_just_below_the_limit_is_accepted(driver, push):
    driver().world.save_kernel(0, push=push(source="x" * 933_761))


def test_another_owners_kernel_is_denied():
    with pytest.raises(Refusal) as refused:
        World().save_kernel(0, push=Push("bob", "train-loop", "Train Loop", ""))

    assert refused.value.status == 403


def test_a_title_in_use_by_another_kernel_is_a_conflict(driver, push):
    world = driver().world
    world.save_kernel(0, push=push())

    with pytest.raises(Refusal) as refused:
        world.save_kernel(1, push=push("train-loop-2", title="Train Loop"))

    assert refused.value.status == 409


def test_a_kernel_can_be_addressed_by_its_number(driver, push):
    world = driver().world
    first = world.save_kernel(0, push=push())

    second = world.save_kernel(1, push=push("", kernel_id=first.kernel_id, title=""))

    assert (second.slug, second.version) == ("train-loop", 2)


@pytest.mark.parametrize(
    ("fields", "limit", "kind"), [({"enable_gpu": True}, 2, "GPU"), ({}, 5, "CPU")]
)
def test_only_so_many_sessions_of_a_kind_at_once(driver, push, fields, limit, kind):
    driver = driver()
    for index in range(limit):
        driver.start(index * 10, **fields)

    with pytest.raises(Refusal) as refused:
        driver.world.save_kernel(1000, push=push(**fields))

    text = f"Maximum batch {kind} session count of {limit} reached."
    assert (refused.value.status, refused.value.message) == (200, text)
    other = push(enable_gpu=kind == "CPU")
    assert driver.world.save_kernel(1001, push=other).version == limit + 1


def test_a_shape_alone_makes_a_gpu_session(driver):
    assert driver().start(0, machine_shape="NvidiaTeslaT4").accelerator == "GPU"


def test_unknown_sources_are_reported_and_dropped(driver, push):
    world = driver().world

    answer = world.save_kernel(
        0,
        push=push(
            dataset_sources=("local/nothing",),
            kernel_sources=("local/no-kernel",),
            competition_sources=("titanic",),
            model_sources=("a/b/c/d/1",),
        ),
    )

    assert answer.version == 1
    assert answer.invalid_dataset_sources == ("local/nothing",)
    assert answer.invalid_kernel_sources == ("local/no-kernel",)
    assert answer.invalid_competition_sources == ("titanic",)
    assert answer.invalid_model_sources == ("a/b/c/d/1",)


def test_a_kernel_that_lists_itself_runs_without_itself(driver):
    driver = driver()
    driver.run(0)

    session = driver.start(1000, kernel_sources=("local/train-loop",))

    assert session.mounts == ()


def test_a_kernel_source_is_its_latest_complete_version(driver):
    driver = driver()
    driver.run(0, slug="producer")
    driver.run(1000, slug="producer")
    driver.run(2000, slug="producer", ending="exception")
    driver.start(3000, slug="producer")

    [mount] = driver.start(4000, kernel_sources=("local/producer",)).mounts

    assert (mount.source, mount.version) == ("local/producer", 2)
    assert [file.name for file in mount.files] == ["out.txt"]


def test_mounts_follow_the_layout(driver):
    old, new = driver(layout="old"), driver(layout="new")
    paths = {}
    for name, world in (("old", old), ("new", new)):
        world.run(0, slug="producer")
        world.world.create_dataset(0, draft=_draft(), files=[world.upload(0)])
        session = world.start(
            1000, dataset_sources=("local/my-data/1",), kernel_sources=("local/producer",)
        )
        paths[name] = [mount.path for mount in session.mounts]

    assert paths["old"] == ["my-data", "producer"]
    assert paths["new"] == ["datasets/local/my-data", "notebooks/local/producer"]


def test_the_layout_is_drawn_for_each_session(driver):
    driver = driver(cpu_sessions=100)

    layouts = [driver.start(index).layout for index in range(0, 60, 3)]

    assert set(layouts) == {"old", "new"}


def test_a_dataset_is_mounted_at_the_version_that_was_ready_at_the_push(driver, push):
    driver = driver(queue_seconds=100, dataset_visible_seconds=5, dataset_processing_seconds=10)
    world = driver.world
    world.create_dataset(0, draft=_draft(), files=[driver.upload(0)])

    def publish_push_and_start(published_at: float, pushed_at: float) -> int:
        world.create_dataset_version(
            published_at, owner="local", slug="my-data", notes="", files=[driver.upload(0)]
        )
        world.save_kernel(pushed_at, push=push(dataset_sources=("local/my-data/1",)))
        session = world.session(pushed_at, owner="local", slug="train-loop")
        started = world.start_session(pushed_at + 100, session_id=session.session_id)
        [mount] = started.mounts
        return mount.version

    assert publish_push_and_start(1000, 1009) == 1  # not ready yet when it was pushed
    assert publish_push_and_start(2000, 2010) == 3


def test_a_source_without_any_ready_version_mounts_nothing(driver):
    driver = driver(dataset_processing_seconds=1000)
    driver.world.create_dataset(0, draft=_draft(), files=[driver.upload(0)])

    assert driver.start(1, dataset_sources=("local/my-data",)).mounts == ()


def test_a_new_dataset_that_becomes_ready_in_the_queue_is_mounted(driver):
    driver = driver(queue_seconds=100, dataset_processing_seconds=50)
    driver.world.create_dataset(0, draft=_draft(), files=[driver.upload(0)])

    assert driver.start(1, dataset_sources=("local/my-data",)).mounts[0].version == 1


def test_the_same_calls_lead_to_the_same_world(driver):
    dumps = []
    for _ in range(2):
        one = driver(seed=7, cpu_sessions=50)
        for index in range(10):
            one.run(index * 100)
            one.upload(index * 100)
        dumps.append(one.world.dump(5000))

    assert dumps[0] == dumps[1]


def test_time_never_goes_back(driver, push):
    world = driver(queue_seconds=10).world
    world.save_kernel(100, push=push())

    world.advance(5)

    assert world.now == 100


def test_the_world_says_when_something_will_happen_next(driver, push):
    driver = driver(queue_seconds=30)
    assert driver.world.next_due_at(0) is None

    driver.world.save_kernel(0, push=push())
    assert driver.world.next_due_at(1) == 30
    driver.world.start_session(30, session_id=driver.world.sessions(30)[0].session_id)
    assert driver.world.next_due_at(30) is None


def _draft():
    return Draft(owner="local", slug="my-data", title="My Data")
