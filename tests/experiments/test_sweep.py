"""Sweeps: the plan and its refusals, the queue with its failures, signals and locks, and one real run."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest

pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from colgraph.cli import run
from colgraph.experiments.jobs import Job, parse_seeds, parse_share, plan, setting_words
from colgraph.experiments.queue import Outcome, _lock, run_jobs
from colgraph.script import ScriptError
from colgraph.training.errors import InterruptedRunError

# A training script as the queue sees one: quick, with checkpoints, and with a will of its own by seed.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path

words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
out, seed = Path(value("--out")), int(value("--seed"))
last = out / "checkpoints" / "last.ckpt"
assert last.is_file() == ("--resume" in words), words
assert (out / "config.yaml").is_file() == ("--resume" in words or "--overwrite" in words), words
last.parent.mkdir(parents=True, exist_ok=True)
(out / "config.yaml").write_text(Path(value("--config")).read_text() + f"seed: {seed}\\nlr: 0.25\\n")
with (out / "starts").open("a") as file:
    file.write(" ".join(words) + f" threads={os.environ['OMP_NUM_THREADS']}\\n")

def stop(number, frame):
    last.write_text("saved")
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
if seed == 7 and "--resume" not in words:
    last.write_text("half way")
    print("error: out of luck", file=sys.stderr)
    sys.exit(1)
if seed == 9 and "--resume" not in words:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
if seed == 8:
    os.kill(os.getpid(), signal.SIGKILL)
summary = {"test_accuracy": 0.5 + seed / 100, "seed": seed, "data": "digits", "parameters_sha256": f"{out.name}"}
(out / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"data: digits\nimage_size: 8\ndim: {8 if name == 'a' else 16}\n")
    return tmp_path


def jobs_of(place: Path, *seeds: int, configs: str = "ab", out: str = "out") -> list[Job]:
    files = [str(place / f"{name}.yaml") for name in configs]
    return plan(files, seeds, place / out, sets=["lr=0.25"], script=str(place / "train.py"))


def starts(job: Job) -> list[str]:
    return (job.folder / "starts").read_text().splitlines()


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.job.name: outcome.state for outcome in outcomes}


def test_plan_is_configs_times_seeds_as_commands(place: Path) -> None:
    jobs = jobs_of(place, 0, 3)
    assert [job.name for job in jobs] == ["a-seed0", "a-seed3", "b-seed0", "b-seed3"]
    assert [(job.settings.dim, job.settings.seed, job.settings.lr) for job in jobs[1:3]] == [
        (8, 3, 0.25),
        (16, 0, 0.25),
    ]
    words = jobs[1].text().split()
    assert words[0] == "python"
    assert words[2:] == f"--config {place}/a.yaml --seed 3 --out {place}/out/a-seed3 --lr=0.25".split()
    assert not (place / "out").exists()


def test_settings_seeds_and_shares_are_read_strictly() -> None:
    assert setting_words("weight_decay=0.1") == ["--weight-decay=0.1"]
    assert setting_words("widths=8,8") == ["--widths=8,8"]
    assert setting_words("tensorboard=false") == ["--no-tensorboard"]
    assert setting_words("time-embedding=True") == ["--time-embedding"]
    assert parse_seeds("0,2-4") == [0, 2, 3, 4]
    assert parse_share("2/3") == (2, 3)
    for function, text in (
        *((setting_words, text) for text in ("epochs", "seed=3", "out=x", "tensorboard=maybe", "=3")),
        *((parse_seeds, text) for text in ("", "a", "1,1", "4-2", "-1")),
        *((parse_share, text) for text in ("0/3", "4/3", "3", "a/b")),
    ):
        with pytest.raises(ValueError, match=r"--(set|seeds|only)"):
            function(text)


def test_what_cannot_be_is_refused_before_anything_runs(place: Path) -> None:
    (place / "x").mkdir()
    (place / "x" / "a.yaml").write_text("data: digits\n")
    (place / "bad.yaml").write_text("epoch: 3\n")
    for configs, message in (
        (["a.yaml", "x/a.yaml"], "two configs are called 'a'"),
        (["a.yaml", "a.yaml"], "two configs are called 'a'"),
        (["bad.yaml"], "bad.yaml: unknown key 'epoch'"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ):
        with pytest.raises(ValueError, match=message):
            plan([str(place / name) for name in configs], [0], place / "out", script=str(place / "train.py"))
    with pytest.raises(ValueError, match=r"nothing\.py"):
        plan([str(place / "a.yaml")], [0], place / "out", script=str(place / "nothing.py"))
    (place / "out" / "a-seed0").mkdir(parents=True)
    (place / "out" / "a-seed0" / "thesis.tex").write_text("important")
    with pytest.raises(ValueError, match="not a run folder"):
        jobs_of(place, 0)


def test_presets_by_name_and_by_pattern_are_trained_by_the_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    jobs = plan(["digits-wiring-0.01", "digits-vit-*", "b.yaml"], [2], Path("out"))
    assert [job.name for job in jobs] == [
        "digits-wiring-0.01-seed2",
        *(f"digits-vit-{name}-seed2" for name in ("flops", "parameters-long", "parameters")),
        "b-seed2",
    ]
    assert jobs[0].text() == "colgraph train --config digits-wiring-0.01 --seed 2 --out out/digits-wiring-0.01-seed2"
    assert jobs[0].command()[:4] == [sys.executable, "-m", "colgraph", "train"]
    assert "--config examples/configs/digits-vit-flops.yaml" in jobs[1].text()
    assert (jobs[0].settings.image_size, jobs[1].settings.model) == (8, "vit")
    with pytest.raises(ValueError, match="two configs are called 'digits-tied'"):
        plan(["digits-tied", "examples/configs/digits-tied.yaml"], [0], Path("out"))
    with pytest.raises(ValueError, match=r"no preset matches 'digist\*'"):
        plan(["digist*"], [0], Path("out"))
    script = Path(__file__).parents[2] / "examples" / "imagenet100.py"
    (job,) = plan(["b.yaml"], [2], Path("out"), script=str(script))
    assert job.settings == jobs[-1].settings
    assert job.text().startswith(f"python {script} --config b.yaml")


def test_failures_are_reported_and_stop_nothing_and_are_tried_again(place: Path) -> None:
    first = run_jobs(jobs_of(place, 7, 8, 1, configs="a"), place / "out", 2)
    assert states(first) == {"a-seed7": "failed", "a-seed8": "failed", "a-seed1": "done"}
    reasons = {outcome.job.name: outcome.reason for outcome in first}
    assert reasons["a-seed7"].startswith("exit code 1: out of luck (log: ")
    assert reasons["a-seed8"].startswith("ended by signal 9 (out of memory?)")
    jobs = jobs_of(place, 7, 8, 1, configs="a")
    again = run_jobs(jobs, place / "out", 2)
    assert states(again) == {"a-seed7": "done", "a-seed8": "failed", "a-seed1": "finished before"}
    assert [("--resume" in line, "--overwrite" in line) for line in starts(jobs[0])] == [(False, False), (True, False)]
    assert [("--resume" in line, "--overwrite" in line) for line in starts(jobs[1])] == [(False, False), (False, True)]
    assert len(starts(jobs[2])) == 1


def test_cores_are_shared_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    for given, at_once, expected in ((None, 1, cores), (None, cores, 1), ("3", 1, 3)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        (job,) = jobs_of(place, 1, configs="a", out=f"out-{given}-{at_once}")
        run_jobs([job], job.folder.parent, at_once)
        assert starts(job)[0].endswith(f"threads={expected}")


def test_interrupt_lets_runs_save_and_a_second_start_goes_on(place: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    jobs = jobs_of(place, 1, 9, 2, configs="a")
    with pytest.raises(InterruptedRunError, match="the same command goes on"):
        run_jobs(jobs, place / "out", 1)
    assert signal.getsignal(signal.SIGINT) == handler
    assert [job.finished for job in jobs] == [True, False, False]
    assert (jobs[1].folder / "checkpoints" / "last.ckpt").read_text() == "saved"
    assert states(run_jobs(jobs, place / "out", 1)) == {
        "a-seed1": "finished before",
        "a-seed9": "done",
        "a-seed2": "done",
    }
    assert "--resume" in starts(jobs[1])[1]


def test_sweep_started_twice_runs_everything_once(place: Path) -> None:
    jobs = jobs_of(place, *range(4))
    both: list[Outcome] = []
    threads = [threading.Thread(target=lambda: both.extend(run_jobs(jobs, place / "out", 2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(starts(job)) == 1 for job in jobs)
    assert sorted(o.job.name for o in both if o.state == "done") == sorted(job.name for job in jobs)


def test_run_that_another_holds_is_left_alone(place: Path) -> None:
    jobs = jobs_of(place, 1, 2, configs="a")
    (place / "out" / "locks").mkdir(parents=True)
    handle = _lock(place / "out" / "locks" / "a-seed1")
    assert handle is not None
    assert states(run_jobs(jobs, place / "out")) == {"a-seed1": "running elsewhere", "a-seed2": "done"}
    os.close(handle)
    assert states(run_jobs(jobs, place / "out")) == {"a-seed1": "done", "a-seed2": "finished before"}


def test_command_writes_tables_and_refuses_other_settings(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", str(place / "a.yaml"), str(place / "b.yaml"), "--out", str(place / "out"), "--set", "lr=0.25"]
    words += ["--script", str(place / "train.py"), "--jobs", "2"]
    run([*words, "--seeds", "1-2", "--dry-run"])
    assert capsys.readouterr().out.count("to run: python ") == 4
    run([*words, "--seeds", "1-2", "--only", "1/2"])
    run([*words, "--seeds", "1-2", "--only", "2/2"])
    rows = json.loads((place / "out" / "results.json").read_text())
    assert [(row["config"], row["seed"]) for row in rows] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert rows[0]["wiring_cost"] is None
    assert "| a | 2 | 51.5 ± 0.5 |" in (place / "out" / "results.md").read_text()
    assert (place / "out" / "results.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    with pytest.raises(ScriptError, match=r"1 of 3 runs failed"):
        run([*words[:2], *words[3:], "--seeds", "1,2,7"])
    said = capsys.readouterr()
    assert "a-seed1 finished before: test accuracy 51.0%" in said.out
    assert "a-seed7 failed: exit code 1: out of luck" in said.err
    words[words.index("lr=0.25")] = "lr=0.5"
    with pytest.raises(ValueError, match=r"holds a run with lr=0.25, the sweep asks for 0.5"):
        run([*words, "--seeds", "1"])


def test_bad_words_are_refused(place: Path) -> None:
    for words, message in (
        ("sweep", "CONFIG"),
        (f"sweep {place}/a.yaml", "--out"),
        (f"sweep {place}/a.yaml --out {place}/a.yaml", "is a file"),
        (f"sweep {place}/a.yaml --out {place}/o --jobs 0", "--jobs must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            run(words.split())


def test_real_run_from_a_config(tmp_path: Path) -> None:
    for package in ("lightning", "sklearn", "datasets"):
        pytest.importorskip(package)
    (tmp_path / "tiny.yaml").write_text(
        "data: digits\nwidths: [2, 2]\npatch_size: 4\nneighbors: knn:4\ndim: 8\nsteps: 2\nqk_dim: 4\nmlp_dim: 8\n"
    )
    run(["sweep", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--set", "epochs=1"])
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["train_flops"] > 0
    assert row["command"].startswith("colgraph train --config ")
    assert "--epochs=1" in row["command"]
    assert sys.executable not in row["command"]
