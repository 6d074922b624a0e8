"""Sweeps on SLURM: what is asked of it, what it answers, preemption; and two runs on a real one, where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit")
pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from colgraph.cli import run
from colgraph.experiments import slurm
from colgraph.experiments.jobs import plan
from colgraph.experiments.slurm import SlurmRun, minutes, parse_parameters, run_on_slurm
from colgraph.script import ScriptError
from colgraph.training.errors import InterruptedRunError

# A training script as a node sees one: seed 2 takes its time, and saves when it is asked to end.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path

words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
out, seed = Path(value("--out")), int(value("--seed"))
last = out / "checkpoints" / "last.ckpt"
last.parent.mkdir(parents=True, exist_ok=True)
(out / "config.yaml").write_text(Path(value("--config")).read_text() + f"seed: {seed}\\nlr: 0.25\\n")
(out / "slurm.txt").write_text(" ".join(sorted(name for name in os.environ if name.startswith("SLURM_"))))

def stop(number, frame):
    last.write_text("saved")
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
if seed == 2 and "--resume" not in words:
    (out / "waits").write_text("")
    time.sleep(60)
if seed == 7:
    print("error: out of luck", file=sys.stderr)
    sys.exit(1)
summary = {"test_accuracy": 0.5 + seed / 100, "seed": seed, "data": "digits", "parameters_sha256": out.name}
(out / "summary.json").write_text(json.dumps(summary))
"""

# Programs that answer as SLURM's do; jobs are processes, which squeue lists while they live.
PROGRAMS = {
    "sbatch": """
import os, re, subprocess, sys
place = os.path.dirname(sys.argv[0])
text = open(sys.argv[-1]).read()
if "--partition=nope" in text:
    sys.exit("sbatch: error: invalid partition specified: nope")
tasks = range(int((re.search(r"--array=0-([0-9]+)", text) or [0, 0])[1]) + 1)
array = "--array" in text
for task in tasks:
    env = {**os.environ, "SLURM_JOB_ID": str(41 + task), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    env |= {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": str(task)} if array else {}
    name = f"40_{task}" if array else "41"
    job = subprocess.Popen(["sh", sys.argv[-1]], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    open(os.path.join(place, f"job-{name}"), "w").write(str(job.pid))
print("Submitted batch job", 40 if array else 41)
""",
    "srun": """
import os, sys
words = sys.argv[words.index("-u") - 1 :] if (words := sys.argv) else []
os.execv(words[0], words)
""",
    "squeue": """
import glob, os, sys
place = os.path.dirname(sys.argv[0])
if os.path.exists(os.path.join(place, "down")):
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
for path in glob.glob(os.path.join(place, "job-*")):
    pid = open(path).read()
    try:
        state = open(f"/proc/{pid}/stat").read().split(") ")[1][0]
    except OSError:
        continue
    if state != "Z":
        print(os.path.basename(path)[4:], "RUNNING")
""",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "a.yaml").write_text("data: digits\nimage_size: 8\ndim: 8\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "_POLL", 0.1)
    return tmp_path


@pytest.fixture
def cluster(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of programs that answer as SLURM's."""
    folder = place / "bin"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def sweep(place: Path, seeds: str, *words: str) -> None:
    run(
        ["sweep", "a.yaml", "--seeds", seeds, "--out", "out", "--script", "train.py", "--executor", "slurm", *words],
    )


def jobs_of(place: Path, *seeds: int) -> list:
    return plan(["a.yaml"], seeds, place / "out", script=str(place / "train.py"))


@pytest.mark.parametrize(
    ("text", "found"), [("90", 90), ("90:30", 90), ("2:00:00", 120), ("1-0", 1440), ("1-02:30", 1590), ("1:00", 1)]
)
def test_time_limits_are_read_as_slurm_does(text: str, found: int) -> None:
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["soon", "", "0", "0:30", "-5", "1.5", "1-", "1:2:3:4"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--slurm time="):
        minutes(text)


def test_parameters_are_words_with_a_value_each_once() -> None:
    assert parse_parameters(["cpus-per-task=4", "gres=gpu:1"]) == {"cpus_per_task": "4", "gres": "gpu:1"}
    for words, said in ((["gpu"], "expected key=value"), (["mem=1", "mem=2"], "mem is given twice"), (["a="], "expec")):
        with pytest.raises(ValueError, match=said):
            parse_parameters(words)


def test_runs_become_jobs_and_their_table(place: Path, cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ScriptError, match="1 of 3 runs failed"):
        sweep(place, "0,1,7", "--jobs", "2", "--slurm", "gres=gpu:1", "--slurm", "time=2:00:00")
    said = capsys.readouterr()
    assert "2 done" in said.out
    assert "a-seed7 failed: SLURM's job 40_2 ended: out of luck" in said.err
    (script,) = (place / "out" / "slurm").glob("*_submission.sh")
    text = script.read_text()
    for part in ("--array=0-2%2", "--gres=gpu:1", "--time=120", "--signal=USR2@90"):
        assert part in text
    # The run's own processes are not tasks of the job.
    assert (place / "out" / "a-seed0" / "slurm.txt").read_text() == ""
    assert (place / "out" / "results.md").is_file()


def ask_to_end(place: Path) -> None:
    """SIGTERM to the run that takes its time, once it does."""
    while not (place / "out" / "a-seed2" / "waits").exists():
        time.sleep(0.05)
    subprocess.run(["pkill", "-TERM", "-f", f"train.py .*--out {place / 'out'}"], check=False)


def test_the_same_command_waits_for_jobs_in_line_and_then_goes_on(place: Path, cluster: Path) -> None:
    jobs = jobs_of(place, 2)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(InterruptedRunError, match=r"1 jobs go on \(41; scancel ends them\)"):
        run_on_slurm(jobs, place / "out")
    threading.Thread(target=ask_to_end, args=(place,), daemon=True).start()
    (outcome,) = run_on_slurm(jobs, place / "out")
    assert (outcome.state, len(list((place / "out" / "slurm").glob("*_submission.sh")))) == ("failed", 1)
    (outcome,) = run_on_slurm(jobs, place / "out")
    assert outcome.state == "done"
    (outcome,) = run_on_slurm(jobs, place / "out")
    assert outcome.state == "finished before"


def test_a_job_that_is_preempted_saves_and_goes_on(place: Path) -> None:
    (job,) = jobs_of(place, 2)
    submitted, states = SlurmRun(job, place / "out"), list[str]()
    waits = place / "out" / "a-seed2" / "waits"

    def preempt() -> None:
        while not waits.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR2)

    again: list = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: again.append(submitted.checkpoint()))
    try:
        threading.Thread(target=preempt, daemon=True).start()
        states.append(submitted())
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert states == ["failed"]
    assert (place / "out" / "a-seed2" / "checkpoints" / "last.ckpt").read_text() == "saved"
    assert again[0].function() == "done"
    assert SlurmRun(job, place / "out")() == "finished before"


def test_what_slurm_refuses_is_said_in_its_words(place: Path, cluster: Path) -> None:
    with pytest.raises(ValueError, match=r"SLURM refuses: invalid partition specified: nope$"):
        sweep(place, "0", "--slurm", "partition=nope")
    (cluster / "down").write_text("")
    with pytest.raises(ValueError, match=r"SLURM does not answer: .*Unable to contact slurm controller"):
        sweep(place, "0")


def test_no_slurm_and_parameters_of_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(ValueError, match="there is no sbatch here"):
        sweep(place, "0")
    with pytest.raises(ValueError, match="--slurm mem=2 needs --executor slurm"):
        run(["sweep", "a.yaml", "--out", "out", "--script", "train.py", "--slurm", "mem=2"])


def test_a_run_has_one_node(place: Path, cluster: Path) -> None:
    with pytest.raises(ValueError, match="a run of a sweep has one node"):
        sweep(place, "0", "--slurm", "nodes=2")


def has_slurm() -> bool:
    if shutil.which("sbatch") is None:
        return False
    return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=20, check=False).returncode == 0


@pytest.mark.skipif(not has_slurm(), reason="no SLURM here: tests/cluster/one_node.sh starts one")
def test_two_runs_on_a_real_slurm(place: Path) -> None:
    sweep(place, "0,1")
    assert all((place / "out" / f"a-seed{seed}" / "summary.json").is_file() for seed in (0, 1))
    assert set(slurm._known(place / "out")) == {"a-seed0", "a-seed1"}
