"""What commands write: refused in one line before the work where it cannot be, and written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from colgraph import cli
from colgraph.output import check_different, check_file, check_folder, replacing, write_text
from colgraph.script import run_script

ROOT = Path(__file__).parents[1]
REAL = "/proc/1" if Path("/proc/1").is_dir() else "/dev"

# Each command with the output in place of OUT; its other arguments are not there, so that an error about them would
# mean that the output was looked at too late. The suffix is what the output should end in.
FILES = {
    "view": ("view ring -o OUT", ".png"),
    "results": ("results nowhere -o OUT", ".md"),
    "results --json": ("results nowhere --json OUT", ".json"),
    "results --csv": ("results nowhere --csv OUT", ".csv"),
    "results --plot": ("results nowhere --plot OUT", ".svg"),
    "results --into": ("results nowhere --into OUT", ".md"),
    "evaluate": ("evaluate nowhere -o OUT", ".json"),
    "report": ("report nowhere -o OUT", ".html"),
    "compare": ("compare nowhere -o OUT", ".md"),
    "compare --json": ("compare nowhere --json OUT", ".json"),
    "encode": ("encode nowhere --responses no.npy --stimuli no -o OUT", ".json"),
}
FOLDERS = {"sweep": "sweep nowhere.yaml --out OUT", "share": "share nowhere OUT", "recordings": "nowhere --out OUT"}


def error_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a command line ends with exit code 2."""
    words = command.split()

    def main() -> None:
        if "--out" in words and words[0] == "nowhere":
            runpy.run_path(str(ROOT / "examples" / "recordings.py"))["main"](words)
        else:
            cli.run(words)

    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run_script(main)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").touch()
    return {"below a file": tmp_path / "file", "no folder": tmp_path / "missing", "not writable": Path(REAL)}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_written_are_refused_before_anything_is_read(
    name: str, places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("lightning")
    command, suffix = FILES[name]
    for place in places.values():
        line = error_of(command.replace("OUT", f"{place}/out{suffix}"), capsys)
        assert str(place) in line
        assert "nowhere" not in line
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    assert "is a folder: name a file" in error_of(command.replace("OUT", str(folder)), capsys)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_cannot_be_written_are_refused_before_anything_is_read(
    name: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    for case in ("below a file", "not writable"):
        line = error_of(FOLDERS[name].replace("OUT", f"{places[case]}/out"), capsys)
        assert str(places[case]) in line
        assert "'nowhere" not in line
    if name != "recordings":
        assert "is a file: name a folder" in error_of(FOLDERS[name].replace("OUT", str(places["below a file"])), capsys)


def test_two_outputs_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    path = tmp_path / "x.md"
    line = error_of(f"results nowhere -o {path} --csv {tmp_path}/./x.md", capsys)
    assert "--output and --csv name the same file" in line
    check_different({"--a": "x", "--b": None, "--c": "y"})


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "sheet.png"
    path.write_bytes(b"the one before")
    with full_disk(4000):
        line = error_of(f"view ring -o {path}", capsys)
    assert str(path) in line
    assert "File too large" in line
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_text(path, json.dumps({"a": 1}))
    assert json.loads(path.read_text()) == {"a": 1}
    with full_disk(4000), pytest.raises(OSError) as caught:
        write_text(path, "x" * 5000)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_can_be_written_pass(tmp_path: Path) -> None:
    assert check_file("-o", tmp_path / "x.md", [".md"]) == tmp_path / "x.md"
    assert check_folder("--out", tmp_path / "a" / "b") == tmp_path / "a" / "b"
    with pytest.raises(ValueError, match=r"-o .*x\.txt': give it a name that ends in \.md or \.html"):
        check_file("-o", tmp_path / "x.txt", [".md", ".html"])
    assert not list(tmp_path.iterdir())
