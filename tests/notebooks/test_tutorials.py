"""The tutorials hold what they last showed, of the sources they now have; two of them are run to the end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "notebooks"
RUN = ("playground", "02_your_own_cortex")
"""Run here to the end; all are by `make docs-full`."""
LARGEST = 400_000


def _load_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run = _load_run()
PATHS = run.notebooks()


def notebook(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in notebook(path).cells if cell.cell_type == "code"]


def pictures(path: Path) -> list[Any]:
    data = [output.get("data", {}) for cell in code_cells(path) for output in cell.outputs]
    return [each for each in data if "image/png" in each or "<iframe" in each.get("text/html", "")]


each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_there_are_eleven_and_the_playground_is_first():
    assert [path.stem[:2] for path in PATHS] == ["pl", *(f"{number:02d}" for number in range(2, 12))]


@each
def test_a_notebook_is_valid_and_of_any_python_kernel(path):
    nbformat.validate(notebook(path))
    assert notebook(path).metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@each
def test_every_notebook_has_run_in_order_without_error(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs, path.name
    assert not [output for output in outputs if output.output_type == "error"]
    assert len(pictures(path)) >= 2, f"{path.name} has {len(pictures(path))} pictures"


@each
def test_outputs_are_of_the_sources_that_are_there(path):
    outcome = json.loads((FOLDER / "outcome.json").read_text())[path.stem]
    assert outcome["ok"], f"{path.name}: {outcome.get('error')}"
    hint = f"{path.name} was changed after it last ran: make docs-full, or python notebooks/run.py {path.stem}"
    assert outcome["sources_sha256"] == run.sources_sha256(notebook(path)), hint
    assert outcome["processor_seconds"] < 60
    assert set(outcome["versions"]) >= {"python", "torch", "colgraph"}


def test_the_outcome_is_of_these_notebooks():
    assert list(json.loads((FOLDER / "outcome.json").read_text())) == [path.stem for path in PATHS]


@each
def test_no_machine_and_nothing_volatile_is_in_it(path):
    cells = notebook(path).cells
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/png", None)  # whose letters may be anything
    text = json.dumps(cells)
    found = re.search(r"/(?:home|root|tmp|work|Users|usr)/[\w.-]+|site-packages|ipykernel_\d", text)
    assert found is None, f"{path.name} holds {text[found.start() - 40 : found.end() + 40]!r}"
    assert not any(cell.metadata for cell in cells)


@each
def test_a_notebook_is_small(path):
    assert path.stat().st_size < LARGEST, f"{path.name} has {path.stat().st_size:,} bytes"


@each
def test_links_lead_to_files(path):
    prose = "\n".join(cell.source for cell in notebook(path).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(\s*([^)\s#]+)", prose)
    assert targets, path.name
    for target in targets:
        assert re.match("https?:", target) or (FOLDER / target).exists(), f"{path.name} links to {target}"


@each
def test_pictures_ask_no_other_host(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            html = output.get("data", {}).get("text/html", "")
            assert not re.search(r"(?:src|href)=(?:\"|&quot;)?https?:", html), path.name


# ---------------------------------------------------------------------- running them


def kinds(cell: Any) -> list[list[str]]:
    return [sorted(output.get("data", {output.output_type: 0})) for output in cell.outputs]


@pytest.mark.parametrize("name", RUN)
def test_a_notebook_runs_to_its_end(name, tmp_path):
    # About 30 s of one core together, and many times that of threads that wait for cores which other tests keep busy.
    # In a process of its own, as make docs-full: the event loop of one that fails stays, in the way of browser tests.
    (path,) = run.notebooks([name])
    for needed in (path, FOLDER / "run.py"):
        shutil.copy(needed, tmp_path)
    path_of_modules = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    alone = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment = {**os.environ, **alone, "PYTHONPATH": path_of_modules}
    command = [sys.executable, str(tmp_path / "run.py"), name]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = notebook(tmp_path / path.name)
    assert run.sources_sha256(done) == run.sources_sha256(notebook(path))
    fresh = [cell for cell in done.cells if cell.cell_type == "code"]
    for cell, kept in zip(fresh, code_cells(path), strict=True):
        assert kinds(cell) == kinds(kept), cell.source


def _written(folder: Path, name: str, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "OUTCOME", tmp_path / "outcome.json")
    return tmp_path


def test_what_a_run_writes(elsewhere, capsys):
    place = _written(
        elsewhere,
        "playground",
        "import os, sys, warnings\nprint(os.getcwd() + '/file')\nprint('50%', file=sys.stderr)",
        "warnings.warn('look here')",
        "import colgraph; colgraph.viz.style.new_figure(1, 1)",
    )
    assert run.main(["playground.ipynb"]) == 0
    assert "playground" in capsys.readouterr().out
    first, second, third = code_cells(place)
    assert [output.text for output in first.outputs] == ["file\n"]
    assert second.outputs[0].text.startswith("this cell:1: UserWarning: look here")
    assert "image/png" in third.outputs[0].data
    outcome = json.loads((elsewhere / "outcome.json").read_text())["playground"]
    assert outcome["ok"]
    assert outcome["sources_sha256"] == run.sources_sha256(notebook(place))
    assert sorted(path.name for path in elsewhere.iterdir()) == ["outcome.json", "playground.ipynb"]


def test_one_that_fails_stays_as_it_was_and_is_named(elsewhere, capsys):
    good = _written(elsewhere, "03_good", "1 + 1")
    bad = _written(elsewhere, "02_bad", "raise ValueError('no such thing')")
    before = bad.read_bytes()
    assert run.main([]) == 1
    assert "failed: ValueError: no such thing" in capsys.readouterr().out
    assert bad.read_bytes() == before
    assert code_cells(good)[0].outputs[0].data["text/plain"] == "2"
    outcome = json.loads((elsewhere / "outcome.json").read_text())
    assert {name: entry["ok"] for name, entry in outcome.items()} == {"02_bad": False, "03_good": True}


def test_a_process_that_dies_is_said_in_a_line(elsewhere, capsys):
    _written(elsewhere, "02_gone", "import os; os._exit(3)")
    assert run.main([]) == 1
    assert "failed: DeadKernelError: Kernel died" in capsys.readouterr().out


def test_a_name_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as error:
        run.main(["06_maze"])
    assert error.value.code == 2
    assert "no notebook is called '06_maze'" in capsys.readouterr().err
