"""The one door to the disk: names are checked, and nothing arrives by halves."""

import hashlib
import os

import pytest

from orchestrator.errors import CheckpointError
from orchestrator.names import check_name

TOKEN = "kc1." + "a" * 26
SHA = "5" * 64
HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "../../x",
    "/abs",
    "/dev/null",
    "a/b/c",
    "a/../b",
    "a//b",
    "a/",
    "/a",
    "a\\..\\b",
    "..\\x",
    "C:x",
    "C:\\x",
    "\\\\host\\share",
    "CON",
    "con.txt",
    "nul",
    "com1.pt",
    "LPT9",
    "trailing.",
    "trailing ",
    " leading",
    ".hidden",
    ".ssh/authorized_keys",
    "-rf",
    "~root",
    "x" * 101,
    "x" * 300,
    "\u202egpj.exe",
    "ümlaut",
    "\uff0e\uff0e",
    "new\nline",
    "ends in a line\n",
    "carriage\rreturn",
    "nul\0byte",
    "bell\x07",
    "a*b",
    "a?b",
    "$HOME",
    "a;b",
    "%2e%2e",
    "a:stream",
]


@pytest.fixture
def everything(tmp_path):
    """All paths below the test's folder, so that nothing can appear unnoticed."""
    return lambda: sorted(str(path) for path in tmp_path.rglob("*"))


@pytest.fixture
def arrive(files):
    """Write files into a new download attempt."""

    def write(contents, token=TOKEN):
        folder = files.incoming(token)
        for name, content in contents.items():
            with files.partial(folder, name) as sink:
                sink.write(content)
        return folder

    return write


@pytest.fixture
def stored(files, arrive):
    """Put files into the store."""

    def put(contents, sha=SHA, token=TOKEN):
        return files.promote(arrive(contents, token), sha, contents)

    return put


def contents_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# Names


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_refused_and_nothing_is_written(files, everything, name):
    folder = files.incoming(TOKEN)
    before = everything()

    for attempt in (
        lambda: files.partial(folder, name),
        lambda: files.read(folder, name, 10),
        lambda: files.size_bytes(folder, name),
        lambda: files.sha256(folder, name),
        lambda: files.discard(folder, name),
        lambda: files.promote(folder, SHA, [name]),
        lambda: files.stage(TOKEN, SHA, [name]),
    ):
        with pytest.raises(CheckpointError, match="refused file name"):
            attempt()

    assert [path for path in everything() if path not in before and not is_ours(path)] == []


def is_ours(path):
    """An empty folder that a refused attempt had already made for itself."""
    return path.endswith((f"staging/{TOKEN}", "/.verified"))


@pytest.mark.parametrize("name", [*HOSTILE, "a/b"], ids=ascii)
def test_a_hostile_token_makes_no_folder(files, everything, name):
    before = everything()

    for attempt in (files.incoming, files.stored, lambda token: files.stage(token, SHA, [])):
        with pytest.raises(CheckpointError, match="refused file name"):
            attempt(name)

    assert everything() == before


@pytest.mark.parametrize(
    "name", ["a", "_", "checkpoint_epoch1_step10.pt", "x" * 100, "A-b_c.d", "console.txt", "0"]
)
def test_an_ordinary_name_is_fine(name):
    assert check_name(name) == name


def test_a_name_below_the_model_folder_is_fine(files, arrive):
    folder = arrive({"final_model/config.json": b"{}"})

    assert (folder / "final_model" / "config.json").read_bytes() == b"{}"


# Arriving


def test_a_partial_file_goes_on_where_it_stands(files):
    folder = files.incoming(TOKEN)
    with files.partial(folder, "file") as sink:
        sink.write(b"one ")
    with files.partial(folder, "file") as sink:
        assert sink.size_bytes == 4
        sink.write(b"two")
        assert sink.size_bytes == 7

    assert files.read(folder, "file", 7) == b"one two"


def test_a_partial_file_can_start_again(files):
    folder = files.incoming(TOKEN)
    with files.partial(folder, "file") as sink:
        sink.write(b"a long wrong beginning")
        sink.restart()
        assert sink.size_bytes == 0
        sink.write(b"right")

    assert files.read(folder, "file", 100) == b"right"


def test_what_arrived_before_an_error_is_kept_to_go_on_with(files):
    folder = files.incoming(TOKEN)

    def break_off():
        with files.partial(folder, "file") as sink:
            sink.write(b"half")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()

    assert files.size_bytes(folder, "file") == 4


def test_a_symlink_planted_where_a_file_arrives_is_not_followed(files, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    folder = files.incoming(TOKEN)
    (folder / "file").symlink_to(precious)
    (folder / "dangling").symlink_to(tmp_path / "made")

    for name in ("file", "dangling"):
        for touch in (files.partial, files.size_bytes, files.sha256):
            with pytest.raises(CheckpointError, match="symbolic"):
                touch(folder, name)
        files.discard(folder, name)
        assert files.size_bytes(folder, name) is None

    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "made").exists()


def test_files_are_the_users_alone(files):
    folder = files.incoming(TOKEN)
    with files.partial(folder, "file"):
        pass

    assert (folder / "file").stat().st_mode & 0o077 == 0
    assert folder.parent.stat().st_mode & 0o077 == 0


def test_sizes_and_hashes_are_those_of_the_bytes(files, arrive):
    folder = arrive({"file": b"content"})

    assert files.size_bytes(folder, "file") == 7
    assert files.size_bytes(folder, "missing") is None
    assert files.size_bytes(folder, "final_model") is None
    assert files.sha256(folder, "file") == hashlib.sha256(b"content").hexdigest()
    files.discard(folder, "file")
    files.discard(folder, "file")
    assert files.size_bytes(folder, "file") is None


def test_a_document_that_is_too_large_is_not_read(files, arrive):
    folder = arrive({"manifest.json": b"x" * 11})

    with pytest.raises(CheckpointError, match="larger than 10 bytes"):
        files.read(folder, "manifest.json", 10)


# The store


def test_promotion_moves_exactly_the_named_files_and_ends_the_attempt(files, arrive):
    folder = arrive({"a.pt": b"a", "final_model/b.json": b"b", "session.json": b"verdict"})

    final = files.promote(folder, SHA, ["a.pt", "final_model/b.json"])

    assert final == files.stored(SHA)
    assert contents_of(final) == {"a.pt": b"a", "final_model/b.json": b"b"}
    assert not folder.exists()


def test_promotion_is_all_or_nothing(files, arrive):
    folder = arrive({"a.pt": b"a"})

    with pytest.raises(FileNotFoundError):
        files.promote(folder, SHA, ["a.pt", "missing"])

    assert not files.stored(SHA).exists()
    assert files.read(folder, "a.pt", 10) == b"a"


def test_a_promotion_that_died_half_way_is_made_again(files, arrive):
    folder = arrive({"a.pt": b"a", "b.json": b"b"})
    with pytest.raises(FileNotFoundError):
        files.promote(folder, SHA, ["a.pt", "missing"])

    final = files.promote(folder, SHA, ["a.pt", "b.json"])

    assert contents_of(final) == {"a.pt": b"a", "b.json": b"b"}


def test_promotion_is_idempotent(files, stored):
    first = stored({"a.pt": b"a"})

    again = stored({"a.pt": b"another"})

    assert again == first
    assert contents_of(first) == {"a.pt": b"a"}


def test_a_promotion_anew_replaces_what_is_damaged_and_keeps_the_rest(files, arrive, stored):
    final = stored({"a.pt": b"spoilt", "session.json": b"verdict"})

    files.promote(arrive({"a.pt": b"a", "b.json": b"b"}), SHA, ["a.pt", "b.json"], anew=True)

    assert contents_of(final) == {"a.pt": b"a", "b.json": b"b", "session.json": b"verdict"}


@pytest.mark.parametrize("name", ["verified", "store", "incoming", "partial"])
def test_no_name_gets_in_the_way_of_a_promotion(files, stored, name):
    assert contents_of(stored({name: b"x", "a.pt": b"a"})) == {name: b"x", "a.pt": b"a"}


# Staging


def test_a_staging_holds_exactly_its_files(files, stored):
    stored({"a.pt": b"a", "manifest.json": b"m", "final_model/config.json": b"{}"})

    folder = files.stage(TOKEN, SHA, ["a.pt", "manifest.json"])

    assert contents_of(folder) == {"a.pt": b"a", "manifest.json": b"m"}
    assert folder.name == TOKEN


def test_a_new_staging_replaces_older_ones_and_its_own_remains(files, stored):
    stored({"a.pt": b"a", "b.pt": b"b"})
    old = files.stage("kc1.old", SHA, ["a.pt", "b.pt"])
    files.stage(TOKEN, SHA, ["a.pt", "b.pt"])

    folder = files.stage(TOKEN, SHA, ["a.pt"])

    assert contents_of(folder) == {"a.pt": b"a"}
    assert not old.exists()
    assert contents_of(files.stored(SHA)) == {"a.pt": b"a", "b.pt": b"b"}


def test_staging_what_is_not_in_the_store_fails(files, stored):
    stored({"a.pt": b"a"})

    with pytest.raises(FileNotFoundError):
        files.stage(TOKEN, SHA, ["a.pt", "missing"])


# Delivery


def test_a_delivery_replaces_whole_files_by_renaming(files, stored):
    stored({"best_model.pt": b"old"}, sha="6" * 64)
    stored({"best_model.pt": b"new", "final_model/config.json": b"{}"})
    target = files.output_dir / "best_model.pt"
    files.deliver("6" * 64)
    reader = target.open("rb")
    before = os.fstat(reader.fileno()).st_ino

    files.deliver(SHA)

    assert reader.read() == b"old"
    reader.close()
    assert target.stat().st_ino != before
    assert contents_of(files.output_dir) == {
        "best_model.pt": b"new",
        "final_model/config.json": b"{}",
    }


def test_a_delivered_file_is_a_copy_that_its_user_may_change(files, stored):
    stored({"a.pt": b"a"})
    files.deliver(SHA)

    (files.output_dir / "a.pt").write_bytes(b"changed")

    assert contents_of(files.stored(SHA)) == {"a.pt": b"a"}


def test_a_delivery_does_not_follow_a_symlink_at_its_target(files, stored, tmp_path):
    stored({"a.pt": b"new"})
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (files.output_dir / "a.pt").symlink_to(precious)
    (files.output_dir / ".a.pt.part").symlink_to(precious)

    files.deliver(SHA)

    assert precious.read_bytes() == b"precious"
    assert (files.output_dir / "a.pt.yours").readlink() == precious
    assert not (files.output_dir / "a.pt").is_symlink()
    assert (files.output_dir / "a.pt").read_bytes() == b"new"


@pytest.mark.parametrize("own", [b"more than old", b"odd", b""])
def test_a_delivery_sets_aside_a_file_that_is_not_its_own(files, stored, own):
    stored({"a.pt": b"old"}, sha="6" * 64)
    stored({"a.pt": b"new", "final_model/config.json": b"{}"})
    (files.output_dir / "final_model").mkdir()
    for name in ("a.pt", "final_model/config.json"):
        (files.output_dir / name).write_bytes(own)

    files.deliver(SHA)

    assert contents_of(files.output_dir) == {
        "a.pt": b"new",
        "a.pt.yours": own,
        "final_model/config.json": b"{}",
        "final_model/config.json.yours": own,
    }


def test_what_was_set_aside_stays_when_more_is(files, stored):
    stored({"a.pt": b"new"})
    for own in (b"one", b"two", b"three"):
        (files.output_dir / "a.pt").write_bytes(own)
        files.deliver(SHA)
        files.deliver(SHA)

    assert contents_of(files.output_dir) == {
        "a.pt": b"new",
        "a.pt.yours": b"one",
        "a.pt.yours-2": b"two",
        "a.pt.yours-3": b"three",
    }


def test_a_folder_where_a_file_goes_and_a_file_where_a_folder_goes_stop_no_delivery(files, stored):
    stored({"a.pt": b"new", "final_model/config.json": b"{}"})
    (files.output_dir / "a.pt").mkdir()
    (files.output_dir / "a.pt" / "mine").write_bytes(b"mine")
    (files.output_dir / "final_model").write_bytes(b"mine too")

    told = []
    files.deliver(SHA, lambda *names: told.append(names))

    assert contents_of(files.output_dir) == {
        "a.pt": b"new",
        "a.pt.yours/mine": b"mine",
        "final_model/config.json": b"{}",
        "final_model.yours": b"mine too",
    }
    assert told == [("a.pt", "a.pt.yours"), ("final_model", "final_model.yours")]


def test_a_delivery_deletes_no_checkpoint_that_its_user_changed(files, stored):
    stored({"checkpoint_epoch1_step10.pt": b"ten"})
    files.deliver(SHA)
    (files.output_dir / "checkpoint_epoch1_step10.pt").write_bytes(b"TEN")
    stored({"checkpoint_epoch1_step20.pt": b"twenty"}, sha="6" * 64)

    files.deliver("6" * 64)

    assert contents_of(files.output_dir) == {
        "checkpoint_epoch1_step10.pt": b"TEN",
        "checkpoint_epoch1_step20.pt": b"twenty",
    }


def test_a_delivery_removes_the_checkpoint_that_it_delivered_before(files, stored):
    stored({"checkpoint_epoch1_step10.pt": b"ten"})
    files.deliver(SHA)
    stored({"checkpoint_epoch1_step20.pt": b"twenty"}, sha="6" * 64)

    files.deliver("6" * 64)
    files.deliver("6" * 64)

    assert contents_of(files.output_dir) == {"checkpoint_epoch1_step20.pt": b"twenty"}


def test_a_delivery_leaves_alone_what_is_not_its_own(files, stored):
    stored({"checkpoint_epoch1_step10.pt": b"ten"})
    stored({"checkpoint_epoch1_step20.pt": b"twenty"}, sha="6" * 64)
    own = {
        "checkpoint_epoch1_step5.pt": b"saved by hand",
        "checkpoint_epoch1_step10.pt": b"of another chain",
        "notes.txt": b"mine",
    }
    for name, content in own.items():
        (files.output_dir / name).write_bytes(content)
    (files.output_dir / "checkpoint_epoch9_step9.pt").mkdir()

    files.deliver("6" * 64)

    delivered = {"checkpoint_epoch1_step20.pt": b"twenty"}
    assert contents_of(files.output_dir) == {**own, **delivered}
    assert (files.output_dir / "checkpoint_epoch9_step9.pt").is_dir()


def test_the_space_left_is_a_number_of_bytes(files):
    assert files.free_bytes() > 0
