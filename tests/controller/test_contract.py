"""The contract's schemas, and reading what a session left: strictly, or not at all."""

import json

import jsonschema_rs
import pytest

from orchestrator import contract
from orchestrator.errors import CheckpointError

NAMES = ("parameters", "manifest", "verdict", "history", "progress")


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_a_valid_schema_of_this_contract(name):
    schema = contract.schema(name)

    jsonschema_rs.meta.validate(schema)
    assert schema["$id"].endswith(f"/contract/{contract.CONTRACT}/{name}.schema.json")


@pytest.mark.parametrize("name", ["parameters", "manifest", "verdict", "history"])
def test_every_document_names_its_contract(name):
    assert "contract" in contract.schema(name)["required"]
    assert contract.schema(name)["properties"]["contract"]["const"] == contract.CONTRACT


def test_a_document_that_keeps_the_contract_is_returned_whole(output):
    left = output()
    left.body["from_a_later_version"] = {"unknown": "fields are ignored"}

    assert contract.parse("manifest", left.content) == left.body


@pytest.mark.parametrize("number", [0, 2, "1", None, True])
def test_another_contract_is_refused(output, number):
    left = output()
    left.body["contract"] = number

    with pytest.raises(CheckpointError, match="manifest does not keep the contract: contract"):
        contract.parse("manifest", left.content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        '{"contract": 1} and more',
        '{"contract": 1, "contract": 1}',
        '{"contract": 1, "files": [{"name": "a", "name": "b"}]}',
        '{"created_at": NaN}',
        '{"created_at": Infinity}',
        '{"created_at": -Infinity}',
        '{"created_at": 1e999}',
        '{"created_at": -1e999}',
        '{"bytes": 1' + "0" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_not_strict_json_is_refused(text):
    with pytest.raises(CheckpointError, match="manifest is not valid JSON"):
        contract.parse("manifest", text.encode())


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(CheckpointError, match="verdict is not valid JSON"):
        contract.parse("verdict", b"\xff\xfe\xfd")


@pytest.mark.parametrize("document", [[], "text", 7, None, {}])
def test_json_of_the_wrong_shape_is_refused(document):
    with pytest.raises(CheckpointError, match="manifest does not keep the contract"):
        contract.parse("manifest", json.dumps(document).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token", "kc1.short"),
        ("token", "kc1." + "A" * 26),
        ("session", 0),
        ("attempt", -1),
        ("chain", "../up"),
        ("parent", {}),
        ("files", []),
        ("publish", []),
        ("publish", ["../../etc/passwd"]),
        ("publish", ["twice", "twice"]),
        ("training_complete", "no"),
        ("created_at", "yesterday"),
    ],
)
def test_a_manifest_with_a_field_of_the_wrong_kind_is_refused(output, key, value):
    left = output()
    left.body[key] = value

    with pytest.raises(CheckpointError, match=key):
        contract.parse("manifest", left.content)


@pytest.mark.parametrize("key", ["bytes", "sha256", "epoch", "step", "train_loss", "members"])
def test_a_checkpoint_entry_must_be_whole(output, key):
    left = output()
    del left.checkpoint[key]

    with pytest.raises(CheckpointError, match=key):
        contract.parse("manifest", left.content)


def test_a_refusal_stays_short_however_long_the_document(output):
    left = output()
    left.body["chain"] = "x" * 1_000_000

    with pytest.raises(CheckpointError) as caught:
        contract.parse("manifest", left.content)

    assert len(str(caught.value)) < 500
