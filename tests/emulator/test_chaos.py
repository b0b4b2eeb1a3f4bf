import threading
from collections import Counter
from math import sqrt

import pytest
import requests

from orchestrator.emulator.api import IMITATED
from orchestrator.emulator.catalogue import CATALOGUE
from orchestrator.emulator.chaos import Chaos, candidates
from orchestrator.emulator.faults import SESSION_END, SESSION_START, Wire
from orchestrator.emulator.server import LocalKaggle

COUNTED = [
    *(name.rpartition(".")[2] for name in IMITATED),
    *("/kf/", "/kaggle-data-sets/", "/upload/", SESSION_START, SESSION_END),
]
READS = ("ListKernels", "GetAcceleratorQuotaStatistics", "GetKernel")


def drive(call, method):
    """Forty calls of a method, whatever becomes of each."""
    for _ in range(40):
        try:
            call.post(f"KernelsApiService/{method}", userName="local", kernelSlug="none")
        except requests.RequestException:
            continue


def struck(server):
    return [(s.method, s.call, s.fault.name) for s in server.faults.strikes if s.by_chaos]


@pytest.fixture
def kaggle_under(tmp_path, quick):
    def start(name, chaos):
        return LocalKaggle(tmp_path / name, settings=quick, chaos=chaos)

    return start


def test_the_same_seed_strikes_the_same_calls_however_threads_interleave(kaggle_under, caller):
    chaos = Chaos(5, scale=3.0, longest_seconds=0.05)
    with kaggle_under("one", chaos) as one:
        for method in READS:
            drive(caller(one), method)
    with kaggle_under("two", chaos) as two:
        threads = [threading.Thread(target=drive, args=(caller(two), method)) for method in READS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(struck(one)) > 10
    assert sorted(struck(one)) == sorted(struck(two))


def test_every_entry_is_drawn_at_about_its_rate():
    calls, drawn = Counter(), Counter()
    for method in COUNTED:
        for entry in candidates(method):
            calls[entry.name] += 8000
        for seed in range(40):
            for call in range(200):
                fault = Chaos(seed).draw(method, call)
                drawn[fault.name if fault else None] += 1

    for name, entry in CATALOGUE.items():
        expected = calls[name] * entry.rate
        assert expected > 10, f"{name} is drawn too rarely to be counted"
        assert abs(drawn[name] - expected) < 5 * sqrt(expected), name


def test_no_call_has_more_chances_to_fail_than_to_succeed():
    for method in COUNTED:
        assert 0 < sum(entry.rate for entry in candidates(method)) < 0.25, method


def test_another_seed_strikes_other_calls():
    def drawn(seed):
        return [Chaos(seed).draw("KernelsApiService/SaveKernel", call) for call in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_drawn_fault_is_over_soon():
    chaos, lasting = Chaos(0, longest_seconds=0.5), 0
    for method in COUNTED:
        for call in range(3000):
            fault = chaos.draw(method, call)
            if fault is None:
                continue
            assert (fault.times, fault.every) == (1, 1)
            wait = fault.headers.get("Retry-After", "soon")
            if fault.effect in (Wire.HANG, Wire.HANG_AFTER, Wire.DRIP, Wire.DELAY):
                lasting += 1
                assert 0 < fault.seconds <= 0.5
            elif wait != "soon":
                lasting += 1
                assert float(wait) <= 0.5
    assert lasting > 100


def test_an_entry_can_be_left_out_without_changing_the_others():
    every = [Chaos(3).draw("session/end", call) for call in range(500)]
    fewer = [Chaos(3, without=frozenset({"wedged"})).draw("session/end", n) for n in range(500)]

    assert any(fault and fault.name == "wedged" for fault in every)
    assert fewer == [None if fault and fault.name == "wedged" else fault for fault in every]


def test_sessions_are_struck_too(kaggle_under, caller):
    endings = {entry.name: entry.rate for entry in candidates(SESSION_END)}
    others = frozenset(CATALOGUE) - endings.keys()
    always = Chaos(1, scale=1 / sum(endings.values()), without=others | {"wedged"})
    with kaggle_under("one", always) as server:
        call = caller(server)
        call.push("pass")
        told = call.ended()
        server.close(kill_sessions=True)

    [(method, number, name)] = struck(server)
    assert (method, number) == (SESSION_END, 1)
    assert CATALOGUE[name].group == "Sessions"
    assert told["status"] in ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")
