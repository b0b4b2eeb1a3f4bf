"""A session's log: followed while it runs, whole afterwards."""

import json
import time

import requests

from orchestrator.emulator.logfile import LINE_BYTES


def test_while_running_outputs_and_log_are_empty_and_the_stream_is_live(local, call, wait_until):
    call.push("import time\nprint('one', flush=True)\nopen('a', 'w')\ntime.sleep(600)")
    url = f"{local.url}/api/v1/kernels/logs/stream/local/train-loop?versionLabel=v1"

    for _ in range(2):  # every connection starts from the beginning
        with requests.get(url, headers=call.headers, stream=True, timeout=30) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            line = next(stream.iter_lines())
        entry = json.loads(line.removeprefix(b"data: "))
        assert (entry["stream_name"], entry["data"]) == ("stdout", "one\n")
    assert call.status() == {"status": "RUNNING"}
    assert call.listing() == {}


def test_a_stream_ends_with_the_session_and_is_json_afterwards(local, call, wait_until):
    call.push("import time\nprint('one', flush=True)\ntime.sleep(0.5)\nprint('two')")
    wait_until(lambda: call.status() == {"status": "RUNNING"})

    live = call.post(
        "KernelsApiService/GetKernelSessionLogsStream", userName="local", kernelSlug="train-loop"
    )
    call.ended()
    after = requests.get(
        f"{local.url}/v1/kernels/logs/stream/local/train-loop", headers=call.headers, timeout=30
    )

    lines = [line for line in live.text.splitlines() if line]
    assert [json.loads(line[6:])["data"] for line in lines[:-1]] == ["one\n", "two\n"]
    assert lines[-1] == "data: END_OF_LOG"
    assert after.headers["Content-Type"] == "application/json"
    assert [entry["data"] for entry in after.json()] == ["one\n", "two\n"]


def test_output_without_a_newline_is_logged_all_the_same(call):
    call.push("import sys; sys.stdout.write('no newline'); sys.stdout.buffer.write(b'\\xff')")
    call.ended()

    assert call.log() == "no newline\ufffd"


def test_a_line_is_seen_soon_after_it_is_printed(local, call, tmp_path):
    gate = tmp_path / "gate"
    call.push(
        "import os, time\nprint('ready', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "print('now', flush=True)\ntime.sleep(600)"
    )
    url = f"{local.url}/api/v1/kernels/logs/stream/local/train-loop?versionLabel=v1"

    with requests.get(url, headers=call.headers, stream=True, timeout=30) as stream:
        lines = (line for line in stream.iter_lines(chunk_size=1) if line)
        assert b"ready" in next(lines)
        printed_at = time.monotonic()
        gate.touch()
        assert b"now" in next(lines)

    assert time.monotonic() - printed_at < 2.0


def test_a_huge_line_comes_in_pieces_that_cut_no_character(call):
    call.push("import sys; sys.stdout.write('a' + '\u20ac' * 1_000_000 + '\\n')")
    call.ended()

    pieces = [entry["data"] for entry in json.loads(call.listing()["log"])]
    assert "".join(pieces) == "a" + "\u20ac" * 1_000_000 + "\n"
    assert len(pieces) == 3
    assert all(len(piece.encode()) < LINE_BYTES + 65536 for piece in pieces)


def test_bytes_that_are_no_text_do_not_break_the_log(call):
    call.push("import sys; sys.stdout.buffer.write(bytes(range(128, 256)) * 20_000 + b'\\nend\\n')")

    assert call.ended() == {"status": "COMPLETE"}
    assert call.log().endswith("\nend\n")
