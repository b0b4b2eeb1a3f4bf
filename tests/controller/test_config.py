"""Configuration: three sources, one line about what is wrong, and where."""

import pytest

from orchestrator import config
from orchestrator.errors import ConfigError

HEAD = '[chain]\nname = "demo"\n'


@pytest.fixture
def load(tmp_path):
    """Load a configuration from text; variables and flags on top."""

    def read(text=HEAD, environ=None, **flags):
        path = tmp_path / "kchain.toml"
        path.write_text(text, encoding="utf-8")
        dotted = {name.replace("__", "."): value for name, value in flags.items()}
        return config.load(path, environ or {}, dotted)

    return read


@pytest.fixture
def complaint(load):
    """The one line that a configuration is refused with."""

    def read(*args, **kwargs):
        with pytest.raises(ConfigError) as caught:
            load(*args, **kwargs)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return read


def test_a_name_is_all_that_is_needed(load):
    project = load()

    settings = project.settings
    assert (settings.chain.sessions, settings.chain.max_attempts) == (3, 3)
    assert settings.kernel_slug == "kchain-demo"
    assert settings.dataset_slug == "kchain-demo-checkpoints"
    assert settings.kaggle.endpoint == "https://api.kaggle.com"
    assert settings.kernel.time_budget_seconds == 41_400
    assert (settings.accelerator.shape, settings.accelerator.count) == ("NvidiaTeslaT4", 2)
    assert project.state_dir() == project.folder / ".kchain" / "demo"
    assert project.state_dir(local=True) == project.folder / ".kchain" / "local" / "demo"


@pytest.mark.parametrize(
    ("tables", "shape", "kind", "count"),
    [
        ('[training]\npreset = "rehearsal"', None, "none", 0),
        ('[kernel]\naccelerator = "none"', None, "none", 0),
        ('[training]\npreset = "wikitext103"', "NvidiaTeslaT4", "gpu", 2),
    ],
)
def test_the_accelerator_follows_from_the_preset_unless_it_is_named(
    load, tables, shape, kind, count
):
    accelerator = load(HEAD + tables).settings.accelerator

    assert (accelerator.shape, accelerator.kind, accelerator.count) == (shape, kind, count)


# (what follows the head, the key's line, the key, the bad value, what is allowed)
BAD_VALUES = [
    ("sessions = 0", (3, "chain.sessions", "0", "greater than or equal to 1")),
    ("sessions = -3", (3, "chain.sessions", "-3", "greater than or equal to 1")),
    ("sessions = 1001", (3, "chain.sessions", "1001", "less than or equal to 1000")),
    ("sessions = 2.5", (3, "chain.sessions", "2.5", "integer")),
    ('sessions = "three"', (3, "chain.sessions", "'three'", "integer")),
    ("max_attempts = 0", (3, "chain.max_attempts", "0", "greater than or equal to 1")),
    ("output = 3", (3, "chain.output", "3", "string")),
    ('\n\n[kaggle]\nkernel = "four"', (6, "kaggle.kernel", "'four'", "at least 5")),
    ('[kaggle]\nkernel = "Upper-case"', (4, "kaggle.kernel", "'Upper-case'", "lower-case")),
    ('[kaggle]\nkernel = "two--hyphens"', (4, "kaggle.kernel", "'two--hyphens'", "single hyphens")),
    ('[kaggle]\nkernel = "-hyphen-first"', (4, "kaggle.kernel", "'-hyphen-first'", "hyphens")),
    ('[kaggle]\nkernel = "hyphen-last-"', (4, "kaggle.kernel", "'hyphen-last-'", "hyphens")),
    ('[kaggle]\nkernel = "under_score"', (4, "kaggle.kernel", "'under_score'", "hyphens")),
    ('[kaggle]\nkernel = "owner/kernel"', (4, "kaggle.kernel", "'owner/kernel'", "hyphens")),
    ('[kaggle]\nkernel = "ümläute"', (4, "kaggle.kernel", "'ümläute'", "hyphens")),
    ('[kaggle]\nkernel = "line-end\\n"', (4, "kaggle.kernel", r"'line-end\n'", "hyphens")),
    (f'[kaggle]\nkernel = "{"k" * 51}"', (4, "kaggle.kernel", "k" * 51, "at most 50")),
    ('[kaggle]\ndataset = "seven"', (4, "kaggle.dataset", "'seven'", "at least 6")),
    (f'[kaggle]\ndataset = "{"d" * 51}"', (4, "kaggle.dataset", "d" * 51, "at most 50")),
    ('[kaggle]\nendpoint = "ftp://x"', (4, "kaggle.endpoint", "'ftp://x'", "must be a URL")),
    ('[kaggle]\nendpoint = "api.kaggle.com"', (4, "kaggle.endpoint", "'api.kag", "must be a URL")),
    ('[kaggle]\nendpoint = "https://"', (4, "kaggle.endpoint", "'https://'", "must be a URL")),
    ('[kaggle]\nendpoint = "https://["', (4, "kaggle.endpoint", "'https://['", "invalid IPv6 URL")),
    ('[kaggle]\nendpoint = "http://kaggle.com"', (4, "kaggle.endpoint", "'http://", "https")),
    ('[kaggle]\nendpoint = "http://127.0.0.1.evil.com"', (4, "kaggle.endpoint", "evil", "https")),
    ('[kaggle]\nendpoint = "http://localhost@evil.com"', (4, "kaggle.endpoint", "evil", "https")),
    ('[kernel]\naccelerator = "T4"', (4, "kernel.accelerator", "'T4'", "'NvidiaTeslaT4'")),
    ('[kernel]\ninternet = "perhaps"', (4, "kernel.internet", "'perhaps'", "boolean")),
    ("[kernel]\ntime_budget_seconds = 59", (4, "kernel.time_budget_seconds", "59", "60")),
    ("[kernel]\ntime_budget_seconds = 50000", (4, "kernel.time_budget_seconds", "50000", "43200")),
    ('[training]\npreset = "gpt5"', (4, "training.preset", "'gpt5'", "'rehearsal'")),
    ("[timing]\npoll_seconds = 0", (4, "timing.poll_seconds", "0", "greater than 0")),
    ("[timing]\npoll_seconds = nan", (4, "timing.poll_seconds", "nan", "finite")),
    ("[timing]\npoll_seconds = inf", (4, "timing.poll_seconds", "inf", "finite")),
    ("[timing]\nsettle_seconds = -1", (4, "timing.settle_seconds", "-1", "greater than or equal")),
]


@pytest.mark.parametrize(("text", "told"), BAD_VALUES)
def test_a_bad_value_is_told_with_file_line_key_value_and_what_is_allowed(
    complaint, tmp_path, text, told
):
    line, key, value, allowed = told
    message = complaint(HEAD + text)

    assert message.startswith(f"{tmp_path / 'kchain.toml'}, line {line}: {key} = ")
    assert value in message
    assert allowed in message


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("x" * 32, "at most 31 characters"),
        ("", "lower-case"),
        ("Demo", "lower-case"),
        ("a--b", "single hyphens"),
        ("a b", "single hyphens"),
        ("../up", "single hyphens"),
    ],
)
def test_a_chain_name_that_makes_no_slug_is_refused(complaint, name, allowed):
    message = complaint(f'[chain]\nname = "{name}"\n')

    assert f"line 2: chain.name = {name!r}" in message
    assert allowed in message


def test_the_longest_chain_name_makes_slugs_that_kaggle_takes(load):
    settings = load(f'[chain]\nname = "{"n" * 31}"\n').settings

    assert len(settings.dataset_slug) == 50
    assert len(settings.kernel_slug) == 38


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEAD + "sesions = 3", ["line 3: chain.sesions", "did you mean 'sessions'?"]),
        (HEAD + "colour = 1", ["line 3: chain.colour", "allowed: name, sessions"]),
        (HEAD + "[kagle]\nkernel = 1", ["line 3: kagle", "did you mean 'kaggle'?"]),
        ("nmae = 1\n" + HEAD, ["line 1: nmae", "allowed: chain, kaggle"]),
        (HEAD + "[kernel]\n'time budget' = 3", ["kernel.time budget", "time_budget_seconds"]),
    ],
)
def test_an_unknown_key_is_told_with_what_was_meant(complaint, text, parts):
    message = complaint(text)

    assert "unknown key" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["kchain.toml: chain is missing", "kchain init"]),
        ("[chain]\nsessions = 2", ["line 1: chain.name is missing", "kchain init"]),
        ("chain = 3", ["line 1: chain = 3", "dictionary"]),
        ('chain = { name = "demo", sessions = 0 }', ["line 1: chain.sessions = 0"]),
        ("[chain]\nname = \n", ["kchain.toml is not valid TOML", "line 2"]),
        (HEAD + 'name = "again"\n', ["kchain.toml is not valid TOML", "line 3"]),
    ],
)
def test_a_file_of_the_wrong_shape_is_told_with_its_place(complaint, text, parts):
    message = complaint(text)

    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("tables", "parts"),
    [
        (
            "[training]\noverrides = { lerning_rate = 1 }",
            ["line 4", "'lerning_rate'", "learning_rate"],
        ),
        (
            "[training.overrides]\nseed = 1\nlerning_rate = 1",
            ["line 3", "'lerning_rate'", "learning_rate"],
        ),
        ("[training.overrides]\nlearning_rate = -1", ["line 3", "learning_rate", "-1"]),
        ("[training.overrides]\nmax_steps = 'many'", ["line 3", "max_steps", "'many'"]),
        ("[training.overrides]\nprecision = 'int8'", ["line 3", "precision", "'int8'", "'fp16'"]),
        ("[training.overrides]\nlearning_rate = nan", ["line 3", "learning_rate", "nan"]),
    ],
)
def test_a_training_override_that_no_session_would_take_is_refused(complaint, tables, parts):
    message = complaint(HEAD + tables)

    for part in parts:
        assert part in message


def test_training_overrides_are_kept_as_they_are(load):
    settings = load(HEAD + "[training.overrides]\nseed = 7\nlearning_rate = 1e-3").settings

    assert settings.training.overrides == {"seed": 7, "learning_rate": 1e-3}


def test_a_file_that_is_not_text_is_told(tmp_path):
    path = tmp_path / "kchain.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(path, {})


# The three sources


def test_variables_override_the_file_and_flags_override_variables(load):
    text = HEAD + "sessions = 4\n"
    environ = {"KCHAIN_CHAIN_SESSIONS": "5"}

    assert load(text).settings.chain.sessions == 4
    assert load(text, environ).settings.chain.sessions == 5
    assert load(text, environ, chain__sessions=6).settings.chain.sessions == 6
    assert load(text, environ, chain__sessions=None).settings.chain.sessions == 5


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("KCHAIN_CHAIN_NAME", "other", "chain", "name", "other"),
        (
            "KCHAIN_KAGGLE_ENDPOINT",
            "http://127.0.0.1:1/",
            "kaggle",
            "endpoint",
            "http://127.0.0.1:1",
        ),
        ("KCHAIN_KERNEL_INTERNET", "false", "kernel", "internet", False),
        ("KCHAIN_KERNEL_TIME_BUDGET_SECONDS", "600", "kernel", "time_budget_seconds", 600),
        ("KCHAIN_TRAINING_PRESET", "rehearsal", "training", "preset", "rehearsal"),
        ("KCHAIN_TIMING_POLL_SECONDS", "0.5", "timing", "poll_seconds", 0.5),
    ],
)
def test_every_section_can_be_set_by_variables(load, variable, value, section, key, expected):
    settings = load(environ={variable: value}).settings

    assert getattr(getattr(settings, section), key) == expected


def test_a_variable_can_replace_a_bad_value_in_the_file(load):
    text = HEAD + "sessions = 0\n"

    assert load(text, {"KCHAIN_CHAIN_SESSIONS": "2"}).settings.chain.sessions == 2


def test_a_bad_variable_is_named_instead_of_the_file(complaint):
    message = complaint(HEAD + "sessions = 4", {"KCHAIN_CHAIN_SESSIONS": "many"})

    assert message.startswith("KCHAIN_CHAIN_SESSIONS = 'many': ")
    assert "integer" in message


def test_a_bad_flag_is_named_instead_of_the_variable(complaint):
    message = complaint(environ={"KCHAIN_CHAIN_SESSIONS": "2"}, chain__sessions=0)

    assert message.startswith("--sessions = 0: ")


def test_other_variables_are_none_of_our_business(load):
    environ = {"KCHAIN_INPUT_DIR": "/in", "CHAIN_SESSIONS": "9", "KCHAIN_SESSIONS": "9"}

    assert load(environ=environ).settings.chain.sessions == 3


def test_a_variable_that_begins_like_a_setting_and_is_none_is_named(load):
    with pytest.raises(ConfigError, match="KCHAIN_CHAIN_SESSION: there is no such setting"):
        load(environ={"KCHAIN_CHAIN_SESSION": "9"})


@pytest.mark.parametrize("name", ["local", "kaggle"])
def test_a_chain_cannot_take_the_name_of_a_folder_of_local_kaggle(load, name):
    with pytest.raises(ConfigError, match="taken by local Kaggle"):
        load(environ={"KCHAIN_CHAIN_NAME": name})


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:8080",
        "http://127.0.0.1:1",
        "http://[::1]:9",
        "https://kaggle.internal:8443",
        "HTTPS://api.kaggle.com",
    ],
)
def test_an_endpoint_is_this_machine_or_encrypted(load, endpoint):
    assert load(environ={"KCHAIN_KAGGLE_ENDPOINT": endpoint}).settings.kaggle.endpoint == endpoint


def test_a_configuration_is_found_by_file_by_folder_and_where_one_stands(tmp_path):
    path = tmp_path / "kchain.toml"
    path.write_text(HEAD)

    assert config.find_file(None, tmp_path) == path
    assert config.find_file(str(tmp_path), tmp_path / "elsewhere") == path
    assert config.find_file(str(path), tmp_path / "elsewhere") == path


def test_no_configuration_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*kchain\.toml; `kchain init` writes one"):
        config.find_file(None, tmp_path)


def test_a_rehearsal_needs_no_file_and_takes_flags(tmp_path):
    project = config.rehearsal(tmp_path, {"chain.sessions": 5})

    assert project.settings.chain.sessions == 5
    assert project.settings.accelerator.shape is None
    with pytest.raises(ConfigError, match=r"^--sessions = 0: "):
        config.rehearsal(tmp_path, {"chain.sessions": 0})
