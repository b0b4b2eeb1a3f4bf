"""The table of facts about Kaggle is complete, and each row shows or gives its reason."""

import re
from dataclasses import fields, replace

import pytest

from docs import facts
from orchestrator.emulator import api
from orchestrator.emulator.records import Twist
from orchestrator.emulator.settings import Settings

FACTS = facts.read_facts(facts.PAGE.read_text())
PLACES = facts.where_tests_are()


def test_every_imitated_fact_has_a_test_and_every_other_a_reason():
    assert facts.complaints(FACTS, PLACES) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tests": ()}, "no test"),
        ({"tests": (("emulator/test_http.py", "test_that_was_renamed"),)}, "no such test"),
        ({"tests": (("emulator/test_wire.py", "test_outputs_come_in_pages"),)}, "no such test"),
        ({"here": "no:"}, "no reason"),
        ({"confidence": "sure"}, "no confidence"),
    ],
)
def test_a_row_that_does_not_hold_is_noticed(change, complaint):
    row = next(fact for fact in FACTS if fact.is_imitated)

    [found] = facts.complaints([replace(row, **change)], PLACES)

    assert found.startswith(complaint)


def test_a_test_that_moved_is_found_and_one_that_is_gone_is_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test_a.py").write_text("def test_one(x):\n    def test_inner(): ...\n")

    assert facts.where_tests_are(tmp_path) == {"test_one": ["sub/test_a.py"]}


def test_the_table_has_a_row_for_each_section():
    numbers = {int(fact.section.partition(".")[0]) for fact in FACTS}

    assert numbers == {*range(10), 11}
    assert len({fact.fact for fact in FACTS}) == len(FACTS)


def test_every_setting_twist_and_method_is_in_the_table():
    text = " ".join(f"{fact.fact} {fact.here}" for fact in FACTS)
    words = set(re.findall(r"[A-Za-z_]\w+", text))

    methods = {name.rpartition("/")[2] for name in api.IMITATED}
    assert {field.name for field in fields(Settings)} <= words
    assert set(Twist) <= words
    assert methods <= words


def test_the_rows_are_counted(capsys):
    facts.main()

    *sections, total = capsys.readouterr().out.splitlines()
    numbers = [[int(n) for n in re.findall(r" (\d+) ", line)[-2:]] for line in sections]
    imitated, others = (sum(column) for column in zip(*numbers, strict=True))
    assert total == f"Of {len(FACTS)} facts, {imitated} are imitated and {others} are not."
    assert total in facts.PAGE.read_text()
    assert imitated + others == len(FACTS)
