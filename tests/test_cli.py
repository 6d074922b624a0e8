"""The ``colgraph`` command: what it prints, what it writes, and one line for every mistake."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import colgraph as cg
from colgraph import cli
from colgraph.script import OneLineParser, ScriptError, parse_options, run_script, spelled_as

PLUGIN = """
import numpy as np
import colgraph as cg


def line(columns: int = 5) -> cg.Geometry:
    return cg.Geometry(np.stack([np.arange(columns), 0 * np.arange(columns)], 1))
"""


def out(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.run(words)
    return capsys.readouterr().out


def test_list_names_every_geometry_with_its_options_and_every_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "list")
    for name in cg.list_geometries():
        assert f"  {name}: " in text
    for words in ("--widths", "--layer-distance float (default: 2.0)", ".graphml", ".gii", ".obj", "file.py:function"):
        assert words in text


@pytest.mark.parametrize("words", ["--help", *(f"{name} --help" for name in cli.COMMANDS)])
def test_help_is_printed(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words.split()[0] not in ("--help", "list", "describe", "view"):
        pytest.importorskip("lightning")
    with pytest.raises(SystemExit) as caught:
        cli.run(words.split())
    assert caught.value.code in (0, None)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: colgraph {words.removesuffix('--help')}")
    assert words != "--help" or set(cli.COMMANDS) <= {
        line.split()[0] for line in text.splitlines() if line.startswith("    ")
    }


def test_describe_is_the_report_of_the_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = out(capsys, "describe", "stack", "--widths", "3,3", "--neighbors", "knn:4", "--direction", "forward")
    sheet = cg.build_sheet("stack", widths=[3, 3], neighbors="knn:4", direction="forward")
    assert text.strip() == str(sheet.describe())
    (tmp_path / "mine.py").write_text(PLUGIN)
    text = out(capsys, "describe", f"{tmp_path}/mine.py:line", "--columns=7", "--num-inputs", "2", "--axis=-x")
    assert "2 / 7 columns" in text
    (tmp_path / "v1.label").write_text("#!ascii\n2\n3  0 0 0 0\n5  0 0 0 0\n")
    text = out(capsys, "describe", "ring", "--columns", "9", "--inputs", f"{tmp_path}/v1.label", "--outputs", "0-2,8")
    assert "2 / 4 columns" in text


def test_british_and_american_words_are_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["describe", "ring", "--columns", "9"]
    american = out(capsys, *words, "--neighbors", "knn:3")
    assert out(capsys, *words, "--neighbours", "knn:3") == out(capsys, *words, "--neighbours=knn:3") == american
    assert out(capsys, *words, "--neighbors", "knn:5") != american
    assert spelled_as("--num-neighbours", ["--num-neighbors", "--neighbors"]) == "--num-neighbors"
    assert spelled_as("--colors", ["--color"]) == "--colors"
    # An option of a geometry is its own, however it is spelled.
    parser = OneLineParser(others=["neighbours"])
    parser.add_argument("--neighbors")
    known, extra = parser.parse_known_args(["--neighbors", "3", "--neighbours", "4"])
    assert (known.neighbors, extra) == ("3", ["--neighbours", "4"])


def test_view_writes_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "s.svg"
    assert out(capsys, "view", "ring", "--columns", "30", "-o", str(target)).strip() == str(target)
    assert target.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no command"),
        ("lists", "did you mean list?"),
        ("describe", "GEOMETRY"),
        ("describe spher", "unknown geometry 'spher'"),
        ("describe ring --nieghbors knn:3", "did you mean --neighbors?"),
        ("describe ring --neighbours knn:300", "300"),
        ("describe ring --column 3", "unknown option 'column'"),
        ("describe ring --neighbors knn:300", "300"),
        ("describe ring --metric geodisic", "geodisic"),
        ("describe ring --input 3", "did you mean --inputs?"),
        ("describe ring --inputs 300", "inputs must lie in 0..255"),
        ("describe ring --inputs 3 --num-inputs 2", "give inputs or num_inputs, not both"),
        ("describe ring --outputs missing.label", "missing.label"),
        ("describe ring --neighbors edges:missing.csv", "missing.csv"),
        ("describe ring --columns many", "'columns' must be int, got 'many'"),
        ("describe missing.obj", "missing.obj"),
        ("describe ring stray", "unexpected 'stray'"),
        ("list everything", "takes no arguments"),
        ("view ring -o picture.xyz", "picture.xyz"),
        ("view ring -o no/such/folder/x.png", "no folder"),
        ("view ring --max-edges -3", "--max-edges"),
        ("analize runs/x", "did you mean analyze?"),
        ("analyze", "RUN"),
        ("analyze no/such/run", "'no/such/run' is no run folder"),
        ("analyse no/such/run", "'no/such/run' is no run folder"),
        ("analyze no/such/run --permutation 3", "did you mean --permutations?"),
        ("analyze a b", "unexpected 'b'"),
        ("report no/such/run -o x.html", "'no/such/run' is no run folder"),
        ("encode runs/x --responses r.npy", "--stimuli"),
    ],
)
def test_mistakes_are_one_line(words: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        cli.run(words.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_command_leaves_with_2_and_one_line_on_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "colgraph", "describe", "spher"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown geometry 'spher'")
    assert done.stderr.count("\n") == 1


def test_options_are_read_without_evaluating_anything() -> None:
    text = "--a 3 --b 1e-3 --c 4,4 --d [1,2] --e x,y --f --g=true --h __import__('os').getcwd() --i-j none"
    words = text.split()
    assert parse_options(words) == {
        "a": 3,
        "b": 1e-3,
        "c": [4, 4],
        "d": [1, 2],
        "e": ["x", "y"],
        "f": True,
        "g": True,
        "h": "__import__('os').getcwd()",
        "i_j": None,
    }


def test_option_that_resembles_a_flag_is_one_where_it_is_known_to_be() -> None:
    with pytest.raises(ValueError, match="did you mean --weights"):
        parse_options(["--weight", "3"], known=["--weights"])
    assert parse_options(["--weight", "3"], known=["--weights"], exact=["weight"]) == {"weight": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("two\nlines"), 2),
        (ImportError("no such package"), 2),
        (ScriptError("lost"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        warnings.warn("watch\nout", stacklevel=1)
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(fail)
    assert caught.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "warning: watch out"
    assert lines[1].startswith("error: ")
