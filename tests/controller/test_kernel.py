"""The rendered notebook: valid, equal for equal input, and its parameters arrive unchanged."""

import json
import random
import shutil

import nbformat
import pytest

from orchestrator import config, fold, kernel, leaks
from orchestrator.errors import ConfigError
from orchestrator.machine import Event, Kind, State

TOKEN = "kc1." + "a" * 26
AWKWARD = {
    "quotes": "'''\"\"\"'\"`",
    "triple at the end": "x'''",
    "backslashes": "\\ \\\\ \\n \\u0027 \\",
    "a backslash at the end": "C:\\",
    "lines": "one\ntwo\r\nthree\u2028four\x85five",
    "unicode": "ünï 待つ 🙂 \x00 \x7f",
    "code": "'''); import os; os.abort(); ('''",
    "braces": "{parameters} {CODE_DIR} %%writefile $HOME !ls",
    "fence": "```\n```python parameters\n```",
}


SECRETS = [  # one of each shape, none of them real
    ("an API token of Kaggle", "KGAT_" + "0a1b2c3d" * 4),
    ("an API key of Kaggle", '{"username": "a", "key": "%s"}' % ("0a1b2c3d" * 4)),
    ("a token of Hugging Face", "hf_" + "aBcDeFgH1j" * 4),
    ("an access key of AWS", "AKIA" + "ABCDEFGH12345678"),
    ("a secret key of AWS", "aws_secret_access_key = " + "aBcDeFgH1j" * 4),
    ("a token of GitHub", "ghp_" + "aBcDeFgH1j" * 4),
    ("a fine-grained token of GitHub", "github_pat_" + "aBcDeFgH1j" * 6),
    ("a key of Google Cloud", "AIza" + "aBcDe" * 7),
    ("a key of Weights & Biases", 'os.environ["WANDB_API_KEY"] = "%s"' % ("0a1b2c3d" * 5)),
    ("a private key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("an address with a password", "postgres://me:" + "hunter2hunter2" + "@db.example/x"),
]


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "kchain.toml"
    path.write_text('[chain]\nname = "demo"\n[training]\npreset = "rehearsal"\n')
    return config.load(path, {}).settings


@pytest.fixture
def parameters(settings):
    return kernel.session_parameters(settings, State(), token=TOKEN, seconds=600)


@pytest.fixture
def template(tmp_path, line_template):
    """A copy of the small template, to be changed."""
    folder = tmp_path / "template"
    shutil.copytree(line_template, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(params=["line", "packaged"])
def any_template(request, line_template):
    return line_template if request.param == "line" else None


def told(source, folder):
    """Run the one cell that holds the parameters; return them, and what it wrote."""
    cells = [cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
    (cell,) = [cell for cell in cells if "What kchain told" in cell["source"]]
    scope = {"CODE_DIR": folder / "code", "WORKING_DIR": folder / "working"}
    for place in scope.values():
        place.mkdir()
    exec(cell["source"], scope)  # noqa: S102 - a notebook's cell is there to be run
    written = [
        json.loads((place / "session_parameters.json").read_text())
        for place in (scope["CODE_DIR"], scope["WORKING_DIR"])
    ]
    return scope["PARAMETERS"], written


def test_the_notebook_is_valid_and_carries_its_token(parameters, any_template):
    source = kernel.render(parameters, any_template)

    notebook = nbformat.reads(source, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert kernel.carries(source, TOKEN)
    assert not kernel.carries(source, "kc1." + "b" * 26)


def test_the_token_is_found_again_after_the_notebook_was_written_anew(parameters, any_template):
    source = kernel.render(parameters, any_template)

    again = nbformat.writes(nbformat.reads(source, as_version=4))

    assert again != source
    assert kernel.carries(again, TOKEN)


def test_equal_input_gives_equal_text(parameters, any_template):
    first = kernel.render(parameters, any_template)
    second = kernel.render(json.loads(json.dumps(parameters)), any_template)

    assert first == second
    assert kernel.source_sha256(first) == kernel.source_sha256(second)


def test_every_module_of_the_template_is_in_the_notebook(parameters, line_template):
    cells = json.loads(kernel.render(parameters, line_template))["cells"]

    (module,) = [cell["source"] for cell in cells if "%%writefile" in cell["source"]]
    first, _, rest = module.partition("\n")
    assert first == "%%writefile {CODE_DIR}/line.py"
    assert rest == (line_template / "line.py").read_text().rstrip()


def test_headings_begin_cells_of_text(parameters, line_template):
    cells = json.loads(kernel.render(parameters, line_template))["cells"]

    texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    assert [text.partition("\n")[0] for text in texts] == [
        "# A line fitted by gradient descent",
        "## 1. Where things are",
        "## 2. Settings",
        "## 3. Training",
    ]


def test_the_parameters_arrive_as_they_were_sent(parameters, any_template, tmp_path):
    sent, written = told(kernel.render(parameters, any_template), tmp_path)

    assert sent == parameters
    assert written == [parameters, parameters]


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_no_text_can_break_out_of_the_parameters(parameters, line_template, tmp_path, text):
    parameters["note"] = text
    parameters[text] = [text]

    sent, written = told(kernel.render(parameters, line_template), tmp_path)

    assert sent == parameters
    assert written == [parameters, parameters]


def test_a_name_that_is_not_unicode_is_refused(parameters, line_template):
    parameters["half a smile: \ud83d"] = 1

    with pytest.raises(ConfigError, match="surrogates not allowed"):
        kernel.render(parameters, line_template)


def test_random_text_arrives_as_it_was_sent(parameters, line_template, tmp_path):
    rng = random.Random(7)  # noqa: S311 - the same text on every run
    alphabet = "'\"\\\n\r{}`$%!#uU0027xN \t\x00ä\u2028𝄞"
    parameters["notes"] = ["".join(rng.choices(alphabet, k=40)) for _ in range(500)]

    sent, _ = told(kernel.render(parameters, line_template), tmp_path)

    assert sent == parameters


def test_the_second_session_is_told_its_parent(settings, binding, session_events):
    pairs = [("bound", binding), *session_events()]
    state = fold.fold(Event(n, 1.0, Kind(kind), data) for n, (kind, data) in enumerate(pairs))

    told_second = kernel.session_parameters(settings, state, token=TOKEN, seconds=600)

    assert (told_second["session"], told_second["attempt"]) == (2, 1)
    assert told_second["parent"] == {
        "file": "checkpoint_epoch1_step10.pt",
        "step": 10,
        "bytes": 100,
        "sha256": f"{10:064x}",
        "manifest_sha256": f"{11:064x}",
    }
    assert kernel.carries(kernel.render(told_second), TOKEN)


@pytest.mark.parametrize(
    ("key", "value"),
    [("token", "mine"), ("session", 0), ("parent", {}), ("accelerator", {"kind": "abacus"})],
)
def test_parameters_that_do_not_keep_the_contract_are_not_rendered(parameters, key, value):
    parameters[key] = value

    with pytest.raises(ConfigError, match=f"cannot be pushed: {key}"):
        kernel.render(parameters)


# Templates that cannot be used


def test_a_source_over_one_megabyte_is_refused_with_its_size(parameters, template):
    with (template / "line.py").open("a") as module:
        module.write("#" + "x" * 1_000_000)

    with pytest.raises(ConfigError, match=r"the notebook has 1,0\d\d,\d\d\d bytes, .*1,000,000"):
        kernel.render(parameters, template)


def test_bytes_are_counted_not_characters(parameters, template):
    with (template / "line.py").open("a", encoding="utf-8") as module:
        module.write("# " + "待" * 400_000)

    with pytest.raises(ConfigError, match="1,000,000"):
        kernel.render(parameters, template)


def test_a_source_just_under_one_megabyte_is_rendered(parameters, template):
    with (template / "line.py").open("a") as module:
        module.write("# " + "x" * 980_000)

    assert len(kernel.render(parameters, template)) < kernel.SOURCE_LIMIT_BYTES


def test_the_packaged_template_leaves_room_below_the_limit(parameters):
    assert len(kernel.render(parameters).encode()) < kernel.SOURCE_LIMIT_BYTES / 2


def test_a_template_that_is_not_there_is_named(parameters, tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path / 'nowhere'} cannot be read"):
        kernel.render(parameters, tmp_path / "nowhere")


def test_a_module_that_is_not_there_is_named(parameters, template):
    (template / "line.py").unlink()

    with pytest.raises(ConfigError, match=r"line\.py"):
        kernel.render(parameters, template)


def test_a_template_that_is_no_text_is_named(parameters, template):
    (template / "line.py").write_bytes(b"\xff\xfe\xff")

    with pytest.raises(ConfigError, match="cannot be read"):
        kernel.render(parameters, template)


def test_a_template_without_a_place_for_the_parameters_is_refused(parameters, template):
    page = template / "notebook.md"
    page.write_text(page.read_text().replace("```python parameters", "```python"))

    with pytest.raises(ConfigError, match="python parameters"):
        kernel.render(parameters, template)


def test_cells_of_equal_text_make_a_valid_notebook(parameters, template):
    with (template / "notebook.md").open("a") as page:
        page.write(
            "\n## Again\n\n```python\nprint(1)\n```\n\n## Again\n\n```python\nprint(1)\n```\n"
        )

    notebook = nbformat.reads(kernel.render(parameters, template), as_version=4)

    nbformat.validate(notebook)
    identities = [cell.id for cell in notebook.cells]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_what_a_session_was_told_is_read_back_from_its_source(parameters, any_template, text):
    parameters["accelerator"]["name"] = text  # the one word of a session's that may be any

    assert kernel.read_parameters(kernel.render(parameters, any_template)) == parameters


def test_a_source_whose_cells_are_lists_of_lines_is_read_back_too(parameters, line_template):
    notebook = json.loads(kernel.render(parameters, line_template))
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)

    assert kernel.read_parameters(json.dumps(notebook)) == parameters


@pytest.mark.parametrize(
    "damage",
    [
        lambda source: "",
        lambda source: "print('mine')",
        lambda source: "[]",
        lambda source: '{"cells": [{"source": 1}]}',
        lambda source: source.replace("PARAMETERS = ", "OTHERS = "),
        lambda source: source.replace(TOKEN, "kc1.short"),
        lambda source: source.replace("time_budget", "tame_budget"),
    ],
)
def test_a_source_that_we_did_not_render_tells_nothing(parameters, line_template, damage):
    source = kernel.render(parameters, line_template)
    damaged = damage(source)
    assert damaged != source

    assert kernel.read_parameters(damaged) is None


# Secrets


@pytest.mark.parametrize("secret", SECRETS, ids=[name for name, _ in SECRETS])
@pytest.mark.parametrize("place", ["module", "notebook"])
def test_a_notebook_with_a_secret_is_refused_and_the_secret_is_not_repeated(
    parameters, template, secret, place
):
    name, text = secret
    file = template / ("line.py" if place == "module" else "notebook.md")
    file.write_text(f"{file.read_text()}\n\nNOTE: {text}\n")

    with pytest.raises(ConfigError, match=f"holds {name}") as caught:
        kernel.render(parameters, template)

    assert text not in str(caught.value)
    assert str(template) in str(caught.value)


def test_every_shape_of_a_secret_has_a_canary():
    assert {name for name, _ in SECRETS} == set(leaks.SHAPES)


def test_a_key_file_that_lies_in_the_template_does_not_travel(parameters, template):
    (template / ".env").write_text("HF_TOKEN=canary-in-env")
    (template / "kaggle.json").write_text('{"username": "a", "key": "canary-in-key-file"}')

    assert "canary" not in kernel.render(parameters, template)


def test_a_key_file_that_the_notebook_asks_for_is_refused(parameters, template):
    (template / "kaggle.json").write_text('{"username": "a", "key": "%s"}' % ("0123" * 8))
    with (template / "notebook.md").open("a") as file:
        file.write("\n```python module=kaggle.json\n```\n")

    with pytest.raises(ConfigError, match="holds an API key of Kaggle"):
        kernel.render(parameters, template)


@pytest.mark.parametrize(
    "text",
    [
        "key = batch[0]  # " + "0123" * 8,
        f'"sha256": "{"0123" * 16}"',
        f"commit {'0123' * 10}",
        "HF_TOKEN = os.environ['HF_TOKEN']",
        f"the_hf_{'aBcDeFgH1j' * 4}",
        "from kaggle_secrets import UserSecretsClient",
        "https://user@host/path?KGAT_",
        "postgres://{user}:{password}@{host}/db",
    ],
)
def test_what_only_resembles_a_secret_is_sent(text):
    assert leaks.find(text) is None


def test_the_credential_in_use_is_known_whatever_it_looks_like():
    assert leaks.find("x = 'correct horse'", ["correct horse"]) is not None
    assert leaks.find("x = 'correct house'", ["correct horse"]) is None
