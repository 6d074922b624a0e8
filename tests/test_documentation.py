"""The pages say what works: their code runs, their commands run in small, and what they name is there.

A block that is not run says why in the page's source, in a line above it: ``<!-- not run: it needs the Hub -->``.
Indented blocks are commands of a shell, fenced ones say what they are. Commands run in a folder that looks like this
repository, with a small run in place of each run folder that the pages name, and with the flags of ``SMALL`` behind
them; those that train build sheet, model and data, and show them two images. What is not run is still read: its flags
must exist.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("torchmetrics")

from colgraph import cli
from colgraph.data import load_images
from colgraph.experiments.results import read_results, write_rows
from colgraph.plugins import is_plugin
from colgraph.tasks import make_task
from colgraph.training import (
    RunFlags,
    TrainConfig,
    command,
    make_model,
    make_sheet,
    open_run_folder,
    parse_flags,
    train,
)
from colgraph.training.flags import load_settings
from colgraph.training.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "RESULTS.md", "geometries/README.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

# What commands get in addition, to be quick.
SMALL = {
    "colgraph analyze": "--probes 60 --permutations 4 --only wiring,moran",
    "colgraph report": "--probes 60 --permutations 4 --only wiring,moran",
    "colgraph encode": "--columns 12 --folds 2 --permutations 3",
    "colgraph rsa": "--bootstraps 20",
    "colgraph data": "--train 30 --val 5 --test 5 --harder 3",
    "colgraph sweep": "--dry-run --out runs/new",
    "colgraph train": "--dim 8 --mlp-dim 8 --overwrite",
    "examples/recordings.py": "--stimuli 30 --targets 2 --repeats 2",
    "examples/imagenet100.py": "--dim 8 --mlp-dim 8 --overwrite",
    "examples/cortex.py": "--mesh fsaverage3 --image-size 16 --num-outputs 32 --overwrite",
}
RUNS = ("make-train", "digits-stack-seed0", "sweep/digits-seed0", "digits/digits-tied-seed0")
SEEDS = 5  # runs/digits/digits-seed0 to 4
COMMANDS = ("colgraph", "python", "torchrun", "make", "pip", "sbatch", "sh")


# ---------------------------------------------------------------------- blocks of a page


@dataclass(frozen=True)
class Block:
    """A piece of code in a page.

    Attributes:
        page: where it stands, from the root.
        line: its first line.
        kind: "shell", or what the fence says.
        text: the code.
        not_run: why it is not run, or None.
    """

    page: str
    line: int
    kind: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    found, reason, i = [], None, 0
    while i < len(lines):
        line = lines[i]
        start = i
        if mark := re.fullmatch(r"<!-- not run: (.+) -->", line.strip()):
            reason = mark[1]
        elif line.startswith("```"):
            i = next(j for j in range(i + 1, len(lines)) if lines[j].startswith("```"))
            text = "\n".join(lines[start + 1 : i])
            found.append(Block(str(page.relative_to(ROOT)), start + 2, line[3:].strip() or "nothing", text, reason))
            reason = None
        elif line.startswith("    ") and (not i or not lines[i - 1].strip()):
            while i + 1 < len(lines) and (lines[i + 1].startswith("    ") or _goes_on(lines, i + 1)):
                i += 1
            text = "\n".join(part[4:] for part in lines[start : i + 1])
            found.append(Block(str(page.relative_to(ROOT)), start + 1, "shell", text, reason))
            reason = None
        elif line.strip():
            reason = None
        i += 1
    return found


def _goes_on(lines: list[str], i: int) -> bool:
    """A blank line within an indented block."""
    return not lines[i].strip() and i + 1 < len(lines) and lines[i + 1].startswith("    ")


BLOCKS = {page: blocks_of(page) for page in PAGES}


def recorded(block: Block, folder: Path) -> list[list[str]]:
    """The commands of a shell block as lists of words: bash reads it, with its loops and patterns, and runs none."""
    options = "set -eu; shopt -s failglob" if block.not_run is None else "set -e"
    functions = "".join(f"{name}() {{ printf '%s\\x1f' {name} \"$@\"; echo; }}\n" for name in COMMANDS)
    done = subprocess.run(
        ["bash", "-c", f"{options}\n{functions}{block.text}"],
        cwd=folder,
        env={"PATH": "/nowhere", "SLURM_ARRAY_TASK_ID": "1"},
        executable=shutil.which("bash"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.place}: {done.stderr.strip()}"
    return [line.rstrip("\x1f").split("\x1f") for line in done.stdout.splitlines()]


# ---------------------------------------------------------------------- a place to run them


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repository's files, images, and small runs by the names that the pages use."""
    place = tmp_path_factory.mktemp("pages")
    for name in ("examples", "geometries", "benchmarks", "docs", "colgraph", "Makefile", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "RESULTS.md", place)
    _write_images(place / "path" / "to" / "images")
    _train(place / "runs" / RUNS[0])
    with contextlib.chdir(place):
        cli.run(["analyze", f"runs/{RUNS[0]}", *SMALL["colgraph analyze"].split()])
    for name in (*RUNS[1:], *(f"digits/digits-seed{seed}" for seed in range(SEEDS))):
        copy = place / "runs" / name
        shutil.copytree(place / "runs" / RUNS[0], copy)
        seed = name.rpartition("seed")[2]
        for file, mark in (("config.yaml", "\nseed: {}\n"), ("summary.json", '"seed": {},')):
            text = (copy / file).read_text()
            assert mark.format(0) in text
            (copy / file).write_text(text.replace(mark.format(0), mark.format(seed)))
    rows = [{**row, "config": "elsewhere"} for row in read_results([str(place / "runs" / "sweep")])]
    (place / "other").mkdir()
    write_rows(place / "other" / "results.json", rows)
    return place


def _write_images(folder: Path) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / label / f"{number}.png")


def _train(path: Path) -> None:
    small: dict[str, Any] = {"dim": 8, "qk_dim": 4, "mlp_dim": 8, "steps": 2, "epochs": 1, "warmup": 0}
    config = TrainConfig(
        data="digits",
        image_size=8,
        channels=1,
        patch_size=2,
        neighbors="knn:6",
        options={"widths": [4, 4]},
        batch_size=256,
        figure_every=0,
        tensorboard=False,
        **small,
    )
    images = load_images("digits", image_size=8, channels=1)
    torch.manual_seed(0)
    net = make_model(config, make_sheet(config), len(images.classes))
    train(net, images, config, open_run_folder(config, RunFlags(path)))


def _instead_of_training(net: Any, images: Any, config: TrainConfig, folder: Any) -> dict[str, Any]:
    """What a command trains is made, and answers two images."""
    with torch.no_grad():
        logits = net.eval()(images.transform().evaluate(images.train.batch(range(2))[0]))
    answers = (2,) if config.readout != "columns" else (2, net.output_patches.numel())
    assert logits.shape == (*answers, make_task(config).outputs(images, net.patch_size))
    return {"test_accuracy": 0.0, "test_images": 0, "accuracy_is": "share of nothing"}


def run_command(words: list[str]) -> None:
    """One command line of a page, in this process."""
    if words[0] == "colgraph":
        with mock.patch.object(command, "train", _instead_of_training):
            cli.run([*words[1:], *_small(words)])
        return
    assert words[0] == "python", f"{' '.join(words)}: a command like this is not run: say why above the block"
    script, *given = words[1:]
    assert script in SMALL, f"{script}: scripts other than {', '.join(SMALL)} are not run: say why above the block"
    main = runpy.run_path(script)["main"]
    if "train" in main.__globals__:
        main.__globals__["train"] = _instead_of_training
    with mock.patch.object(command, "train", _instead_of_training):
        main([*given, *SMALL[script].split()])


def _small(words: list[str]) -> list[str]:
    # A network of one's own has sizes of its own.
    if "--model" in words and is_plugin(words[words.index("--model") + 1]):
        return ["--overwrite"]
    return SMALL.get(f"colgraph {words[1]}", "").split()


def read_command(words: list[str]) -> None:
    """What can be checked of a command that is not run: its flags, and that its files are there."""
    script = next((word for word in words if word.endswith(".py")), None)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
    elif "colgraph" in words[:1] or "-m colgraph train" in " ".join(words):
        behind = words[words.index("colgraph") + 1 :]
        assert behind[0] in cli.COMMANDS, words
        if behind[0] == "train":
            parse_flags(behind[1:], presets=PRESETS)
    elif words[0] == "sh":
        assert (ROOT / words[1]).is_file(), words
    elif script in ("examples/imagenet100.py", "examples/cortex.py"):
        parse_flags(words[words.index(script) + 1 :], presets=PRESETS)


# ---------------------------------------------------------------------- the tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    there = set(os.listdir())
    try:
        _run_blocks(BLOCKS[page], sandbox)
    finally:
        for name in set(os.listdir()) - there:
            shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def _run_blocks(blocks: list[Block], sandbox: Path) -> None:
    names: dict[str, Any] = {}  # a block may set what the next ones read, as in an interpreter of one's own
    for block in blocks:
        if block.kind == "shell":
            for words in recorded(block, sandbox):
                with _named(block, " ".join(words)):
                    run_command(words) if block.not_run is None else read_command(words)
        elif block.not_run is None and block.kind == "python":
            with _named(block, "this block"):
                exec(compile(block.text, block.place, "exec"), names)
        elif block.not_run is None and block.kind == "yaml":
            with _named(block, "this block"):
                _load_yaml(block, sandbox)


def _load_yaml(block: Block, sandbox: Path) -> None:
    """A file of settings, which may have a preset as its base."""
    folder = sandbox / "settings"
    folder.mkdir(exist_ok=True)
    (folder / "page.yaml").write_text(block.text)
    assert load_settings(folder / "page.yaml")
    parse_flags(["--config", str(folder / "page.yaml")])


@contextlib.contextmanager
def _named(block: Block, what: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{block.place}: {what}: {type(error).__name__}: {error}") from error


def test_every_block_is_of_a_kind_that_is_run_or_says_why_not() -> None:
    for block in (block for page in PAGES for block in BLOCKS[page]):
        assert block.kind in ("shell", "python", "yaml", "text"), f"{block.place}: a block of {block.kind}"
        assert block.not_run != "", block.place
    assert sum(block.not_run is None for page in PAGES for block in BLOCKS[page]) > 20


def test_a_page_that_does_not_work_is_noticed(tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    for text, message in (
        ("    colgraph describe ring --columms 9", "unknown option 'columms'"),
        ("    colgrap describe ring", "not found"),
        ("    python benchmarks/attention.py", "say why above the block"),
        ("    colgraph report runs/gone?", "no match"),
        ("```python\nimport colgraph as cg\ncg.build_sheet('bunny.ply')\n```", "bunny.ply"),
        ("```yaml\nepocs: 3\n```", "did you mean 'epochs'"),
        ("<!-- not run: it takes hours -->\n\n    python examples/imagenet100.py --epocs 3", "--epocs"),
    ):
        page = ROOT / "docs" / "x.md"
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", lambda self, text=text, **_: text)
            blocks = blocks_of(page)
        monkeypatch.setitem(BLOCKS, page, blocks)
        with pytest.raises(AssertionError, match=re.escape(message)):
            test_blocks_run(page, sandbox, monkeypatch)


# ---------------------------------------------------------------------- what pages name

_TOP = "docs|examples|geometries|benchmarks|tests|colgraph"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.relative_to(ROOT)} links to {target}"
        if anchor:
            assert anchor in _anchors(there), f"{page.relative_to(ROOT)} links to {target}: no such heading"
    words = [word for span in re.findall(r"`([^`\n]+)`", prose) for word in span.split()]
    words += [word for block in BLOCKS[page] if block.kind == "shell" for word in block.text.split()]
    for word in words:
        name = re.sub("^examples/configs/", "colgraph/configs/", word.strip(",;()").split(":")[0])
        if re.fullmatch(rf"({_TOP})/[\w./*?-]+", name):
            assert list(ROOT.glob(name)), f"{page.relative_to(ROOT)} names {name}, which is not there"


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_anchors_are_those_of_the_headings() -> None:
    assert "many-runs-colgraph-sweep" in _anchors(ROOT / "docs" / "training.md")
    assert json.dumps(sorted(os.listdir(ROOT / "docs"))).count(".md") >= 7
