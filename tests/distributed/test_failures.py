"""A rank that fails ends the others, soon and with a clear message."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from colgraph.distributed.launch import mesh_shape, session


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_a_run_that_goes_well(run_to_the_end):
    for end in run_to_the_end("good", 2):
        assert (end.code, end.said) == (0, "")


def test_a_rank_that_is_killed_ends_the_others(run_to_the_end):
    first, killed, last = run_to_the_end("killed", 3)
    assert killed.code == -9
    assert first.code == last.code == 1
    assert errors(first.said) == ["error: rank 1 died"]
    assert errors(last.said) == []
    assert max(first.seconds, last.seconds) < 40


def test_the_first_rank_is_killed_and_the_others_say_so(run_to_the_end):
    killed, *others = run_to_the_end("first_killed", 3)
    assert killed.code == -9
    for end in others:
        assert end.code == 1
        assert errors(end.said) == ["error: rank 0, which keeps the store, is gone"]
        assert end.seconds < 40


def test_a_rank_that_falls_silent_is_noticed(run_to_the_end):
    """Its connections stay open, so that no collective ever fails."""
    first, frozen = run_to_the_end("silent", 2, frozen=1)
    assert first.code == 1
    assert errors(first.said) == ["error: rank 1 has not been heard of for 2 s"]
    assert first.seconds < 20
    assert frozen.code == -9


def test_the_error_of_one_rank_is_told_by_the_first(run_to_the_end):
    first, raising = run_to_the_end("raising", 2)
    assert errors(first.said) == ["error: rank 1: image 7 cannot be read"]
    assert (raising.code, errors(raising.said)) == (2, [])
    assert first.code == 1


def test_a_programming_error_keeps_its_traceback(run_to_the_end):
    first, bug = run_to_the_end("bug", 2)
    assert "Traceback" in bug.said
    assert "no such thing" in bug.said
    assert "Traceback" not in first.said
    assert errors(first.said) == ["error: rank 1: KeyError: 'no such thing'"]


def test_an_error_that_looks_like_a_lost_contact_is_its_own_ranks(run_to_the_end):
    """Whose it is follows from what the ranks say, and not from the words in it."""
    first, broken = run_to_the_end("broken", 2)
    assert "Traceback" in broken.said
    assert "Connection reset by peer" in broken.said
    assert "Traceback" not in first.said
    assert errors(first.said) == ["error: rank 1: RuntimeError: [/x/gloo/pair.cc:5] Connection reset by peer"]
    assert first.code == broken.code == 1


def test_a_rank_that_never_comes(run_to_the_end):
    first, _ = run_to_the_end("missing", 2)
    assert first.code == 2
    assert re.fullmatch(
        r"error: not all of the 2 ranks came within 2 s: no sign of rank 1; start all .* WORLD_SIZE\n", first.said
    )


def test_a_first_rank_that_never_comes(run_to_the_end):
    _, second = run_to_the_end("headless", 2)
    assert second.code == 2
    assert re.fullmatch(r"error: rank 1 did not find rank 0 at 127.0.0.1:\d+ within 2 s\n", second.said)


@pytest.mark.parametrize(
    ("name", "ranks", "message"),
    [
        ("indivisible", 3, "3 processes do not divide into data x sheet = 1 x 2"),
        ("other_sheet", 3, "rank 1 has another sheet and geometry than rank 0"),
        ("other_options", 2, "rank 1 has another configuration than rank 0"),
        ("crowded", 3, "3 parts are more than the 2 columns of the sheet: give at most 2"),
    ],
)
def test_bad_input_is_one_line_on_the_first_rank(run_to_the_end, name, ranks, message):
    first, *others = run_to_the_end(name, ranks)
    assert len(first.said.splitlines()) == 1
    assert first.said.startswith(f"error: {message}")
    assert {end.code for end in (first, *others)} == {2}
    assert all(errors(end.said) == [] for end in others)


def test_one_process_needs_no_launcher(run_to_the_end):
    (end,) = run_to_the_end("alone", 1)
    assert (end.code, end.said) == (0, "")


@pytest.mark.parametrize(
    ("world", "sheet", "data", "shape"),
    [(1, None, None, (1, 1)), (8, None, None, (1, 8)), (8, 2, None, (4, 2)), (8, None, 2, (2, 4)), (6, 3, 2, (2, 3))],
)
def test_mesh_shapes(world, sheet, data, shape):
    assert mesh_shape(world, sheet, data) == shape


@pytest.mark.parametrize(
    ("world", "sheet", "data", "message"),
    [
        (4, 3, None, "4 processes do not divide into data x sheet = 1 x 3: start 3 processes"),
        (4, 8, None, "data x sheet = 1 x 8"),
        (4, 2, 3, "data x sheet = 3 x 2"),
        (4, 0, None, "sheet must be a whole number of at least 1, got 0"),
        (4, None, -1, "data must be a whole number of at least 1, got -1"),
        (4, 1.5, None, "got 1.5"),
    ],
)
def test_mesh_shapes_that_cannot_be(world, sheet, data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mesh_shape(world, sheet, data)


def test_a_shape_that_cannot_be_ends_before_anything_is_opened(monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end, session(sheet=2):
        pass
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: 3 processes do not divide")


def test_a_watch_that_nobody_ended_is_ended_at_exit():
    code = (
        "import atexit, os, threading\n"
        "from colgraph.distributed.launch import _free_port\n"
        "os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(_free_port())}\n"
        "atexit.register(lambda: print([t.name for t in threading.enumerate()], flush=True))\n"
        "from colgraph.distributed.watch import Watch\n"
        "watch = Watch(0, 2, 30.0)\n"
        "print([t.name for t in threading.enumerate()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['MainThread', 'colgraph-watch']", "['MainThread']"]
