"""One process at a time writes to a run folder, however the one before has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colgraph.training import RunFlags, TrainConfig, open_run_folder
from colgraph.training.errors import UnwritableRunError
from colgraph.training.lock import LOCK_NAME, check_settled, hold_folder, holder_of
from colgraph.training.resume import RunRecord

HOLD = """
import sys, time
from pathlib import Path
from colgraph.training.lock import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    {then}
    sys.stdin.readline()
"""
FORK = "import os; child = os.fork(); child or (print(os.getpid(), flush=True), time.sleep(60))"


@contextmanager
def another(path: Path, then: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder."""
    words = [sys.executable, "-c", HOLD.format(then=then), str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    config, run = TrainConfig(), tmp_path / "run"
    folder = open_run_folder(config, RunFlags(run))
    folder.prepare(RunRecord(config))
    with another(run) as process:
        for flags in (RunFlags(run, overwrite=True), RunFlags(run, resume=True)):
            with pytest.raises(ValueError, match=rf"is in use by process {process.pid} on .*--out"):
                open_run_folder(config, flags)
        with pytest.raises(ValueError, match=f"is in use by process {process.pid}"), hold_folder(run):
            pass
        with pytest.raises(ValueError, match=f"in use by process {process.pid} .*wait"):
            check_settled(run)
    assert open_run_folder(config, RunFlags(run, overwrite=True)).overwrite


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with another(run) as process:
        process.kill()
        process.wait()
        assert (run / LOCK_NAME).exists()
        assert holder_of(run) is None
        with hold_folder(run):
            assert holder_of(run) is None  # its own
    assert list(run.iterdir()) == []


def test_worker_processes_do_not_keep_it(tmp_path: Path) -> None:
    """Loaders of images live on for a while when the one that started them is killed."""
    run = tmp_path / "run"
    with another(run, FORK) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            process.kill()
            process.wait()
            with hold_folder(run):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_process_that_looks_does_not_let_go_of_its_own_lock(tmp_path: Path) -> None:
    with hold_folder(tmp_path):
        check_settled(tmp_path)
        assert holder_of(tmp_path) is None
        look = "from colgraph.training.lock import holder_of; from pathlib import Path; "
        look += f"print(holder_of(Path({str(tmp_path)!r})))"
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
        assert f"process {os.getpid()} on" in done.stdout
        with pytest.raises(ValueError, match="in use"), hold_folder(tmp_path):
            pass
    assert holder_of(tmp_path) is None


def test_a_folder_that_stays_empty_is_removed_and_an_unwritable_one_said(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableRunError, match="cannot write"), hold_folder(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out": 3}, "out must be the path of a folder, got 3"),
        ({"resume": "no"}, "resume must be True or False, got 'no'"),
    ],
)
def test_flags_of_a_run_are_what_they_must_be(given, message):
    with pytest.raises(ValueError, match=message):
        RunFlags(**given)
