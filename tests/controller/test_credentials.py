"""Which credential is found: one, in the official client's own order, and never changed."""

import json
import os

import pytest

from orchestrator.errors import ConfigError
from orchestrator.kaggle import credentials

KEY_FILE = json.dumps({"username": "from-file", "key": "k" * 32})
OAUTH_FILE = json.dumps({"refresh_token": "r" * 40})


@pytest.fixture
def home(tmp_path):
    """A home in which files below .kaggle can be put."""
    folder = tmp_path / "home"
    folder.mkdir()

    class Home:
        path = folder

        def put(self, name, content, below=".kaggle"):
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o600)
            return path

        def find(self, environ=None):
            return credentials.find(environ or {}, folder)

    return Home()


def test_the_order_is_the_official_clients(home):
    environ = {"KAGGLE_USERNAME": "from-env", "KAGGLE_KEY": "e" * 32}
    oauth = home.put("credentials.json", OAUTH_FILE)
    assert home.find().source == str(oauth)
    key = home.put("kaggle.json", KEY_FILE)
    assert home.find().source == str(key)
    assert home.find(environ).source == "KAGGLE_USERNAME"
    text = home.put("access_token.txt", "KGAT_text\n")
    assert home.find(environ).source == str(text)
    token = home.put("access_token", " KGAT_file \n")
    assert home.find(environ).source == str(token)
    assert home.find({**environ, "KAGGLE_API_TOKEN": "KGAT_env"}).source == "KAGGLE_API_TOKEN"


def test_a_token_is_handed_over_as_the_file_the_client_reads(home):
    home.put("access_token", " KGAT_file \n")

    found = home.find()

    assert (found.file, found.content) == ("access_token", "KGAT_file")


def test_a_key_is_handed_over_as_the_file_the_client_reads(home):
    found = home.find({"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "k" * 32})

    assert found.file == "kaggle.json"
    assert json.loads(found.content) == {"username": "somebody", "key": "k" * 32}


def test_an_access_token_is_not_handed_over_so_that_each_worker_gets_a_fresh_one(home):
    home.put("credentials.json", json.dumps({"refresh_token": "r", "access_token": "a"}))

    handed = json.loads(home.find().content)

    assert (handed["refresh_token"], handed["access_token"]) == ("r", "")


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "7", "null"])
def test_an_oauth_file_that_is_none_is_named(home, content):
    path = home.put("credentials.json", content)

    with pytest.raises(ConfigError, match="holds no OAuth credentials") as caught:
        home.find()

    assert str(path) in str(caught.value)


def test_only_the_name_and_the_key_of_a_key_file_are_handed_over(home):
    home.put("kaggle.json", json.dumps({"username": "a ", "key": " b", "proxy": "http://evil"}))

    assert json.loads(home.find().content) == {"username": "a", "key": "b"}


def test_a_variable_may_name_a_file_with_the_token(home):
    path = home.put("my-token", "KGAT_elsewhere\n", below="secrets")

    assert home.find({"KAGGLE_API_TOKEN": str(path)}).content == "KGAT_elsewhere"


def test_a_token_longer_than_a_file_name_is_a_token(home):
    token = "KGAT_" + "x" * 5000

    assert home.find({"KAGGLE_API_TOKEN": token}).content == token


@pytest.mark.parametrize("environ", [{"KAGGLE_USERNAME": "a"}, {"KAGGLE_KEY": "b"}])
def test_half_a_credential_is_none(home, environ):
    with pytest.raises(ConfigError, match="no Kaggle credential was found"):
        home.find(environ)


def test_empty_variables_and_files_are_passed_over(home):
    home.put("access_token", " \n")
    home.put("kaggle.json", KEY_FILE)

    environ = {"KAGGLE_API_TOKEN": " ", "KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}

    assert home.find(environ).file == "kaggle.json"


def test_a_configuration_folder_holds_the_key_file_alone(home):
    home.put("access_token", "KGAT_wrong-place", below="elsewhere")
    home.put("kaggle.json", KEY_FILE, below="elsewhere")
    environ = {"KAGGLE_CONFIG_DIR": str(home.path / "elsewhere")}

    assert home.find(environ).file == "kaggle.json"
    home.put("access_token", "KGAT_right-place")
    assert home.find(environ).content == "KGAT_right-place"


@pytest.mark.parametrize("below", [".config/kaggle", "xdg/kaggle"])
def test_without_a_kaggle_folder_the_desktops_own_is_looked_at(home, below):
    path = home.put("kaggle.json", KEY_FILE, below=below)
    environ = {"XDG_CONFIG_HOME": str(home.path / "xdg")} if below.startswith("xdg") else {}

    assert home.find(environ).source == str(path)
    (home.path / ".kaggle").mkdir()
    with pytest.raises(ConfigError, match="no Kaggle credential"):
        home.find(environ)


@pytest.mark.parametrize(
    "content",
    ["", "nonsense", "[]", "{}", '{"username": "a"}', '{"username": 1, "key": 2}', "null"],
)
def test_a_key_file_that_holds_no_key_is_named(home, content):
    path = home.put("kaggle.json", content)

    with pytest.raises(ConfigError, match="holds no user name and key") as caught:
        home.find()

    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_named(home):
    path = home.put("access_token", "")
    path.write_bytes(b"\xff\xfe\xfd")

    with pytest.raises(ConfigError, match="cannot be read") as caught:
        home.find()

    assert str(path) in str(caught.value)


def test_none_at_all_says_where_to_get_one(home):
    with pytest.raises(ConfigError, match=r"https://www\.kaggle\.com/settings"):
        home.find()


def test_nothing_is_written(home):
    home.put("credentials.json", OAUTH_FILE)
    before = sorted(home.path.rglob("*"))

    home.find()

    assert sorted(home.path.rglob("*")) == before


# Files that are not their user's alone


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o602, 0o777])
@pytest.mark.parametrize("name", ["access_token", "kaggle.json", "credentials.json"])
def test_a_file_that_others_may_use_is_refused_with_the_way_out(home, name, mode):
    path = home.put(name, KEY_FILE)
    path.chmod(mode)

    with pytest.raises(ConfigError, match=r"other users may (read|change)") as caught:
        home.find()

    assert str(caught.value).endswith(f"chmod 600 {path}")
    assert "k" * 32 not in str(caught.value)
    path.chmod(0o400)
    assert home.find().source == str(path)


def test_a_file_that_a_variable_names_is_judged_as_well(home):
    path = home.put("my-token", "KGAT_elsewhere", below="secrets")
    path.chmod(0o644)

    with pytest.raises(ConfigError, match="other users may read"):
        home.find({"KAGGLE_API_TOKEN": str(path)})


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(home):
    path = home.put("access_token", "KGAT_file")
    os.chown(path, 12_345, -1)

    with pytest.raises(ConfigError, match="belongs to another user"):
        home.find()


def test_behind_a_symlink_it_is_the_file_that_counts(home):
    target = home.put("token", "KGAT_target", below="vault")
    folder = home.path / ".kaggle"
    folder.mkdir()
    (folder / "access_token").symlink_to(target)

    assert home.find().content == "KGAT_target"
    target.chmod(0o644)
    with pytest.raises(ConfigError, match="other users may read"):
        home.find()


def test_a_credential_without_end_is_not_read_to_its_end(home):
    path = home.put("access_token", "KGAT_")
    with path.open("r+b") as file:
        file.truncate(1 << 40)

    assert len(home.find().content) <= 100_000
