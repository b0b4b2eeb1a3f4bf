"""docs/client-hazards.md says what the probes find, of each version of the client."""

import importlib

import pytest

from tests.probes.catalogue import HAZARDS
from tests.probes.page import (
    PAGE,
    ROOT,
    SECTIONS,
    VERSIONS,
    find,
    parse,
    render,
    verdicts,
    written_tests,
)

KINDS = {"probe", "platform", "never called"}


@pytest.mark.usefixtures("client_versions")
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_hazard_is_there_where_the_page_says_so(version, section):
    found = find(version, section)

    written = parse(PAGE.read_text(encoding="utf-8"))[version]
    assert found == {hazard: written.get(hazard) for hazard in found}, "look; then `make hazards`"


def test_all_hazards_are_catalogued_once_in_their_order():
    assert [hazard.id for hazard in HAZARDS] == [f"C{number}" for number in range(1, 63)]
    assert {hazard.kind for hazard in HAZARDS} == KINDS


def test_a_hazard_has_a_probe_unless_it_is_the_platforms():
    modules = [importlib.import_module(f"tests.probes.bare.{name}") for name in SECTIONS]
    probes = [name.upper() for module in modules for name in vars(module) if name[1:].isdecimal()]

    assert sorted(probes) == sorted(h.id for h in HAZARDS if h.kind != "platform")


def test_every_hazard_has_its_test_and_every_test_exists():
    for hazard, tests in written_tests().items():
        assert tests, f"{hazard} has no test"
        for test in tests:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(), test


def test_the_page_is_what_a_run_writes_when_all_is_contained():
    page, tests = PAGE.read_text(encoding="utf-8"), written_tests()
    every = {test: set(VERSIONS) for each in tests.values() for test in each}

    assert page == render(parse(page), verdicts(tests, every), tests), "run `make hazards`"


def test_a_hazard_whose_test_fails_in_one_version_is_not_contained():
    tests = written_tests()
    every = {test: set(VERSIONS) for each in tests.values() for test in each}
    every[tests["C16"][0]] = {VERSIONS[0]}

    words = verdicts(tests, every)

    assert [name for name, word in words.items() if word == "**not contained**"] == ["C16"]
