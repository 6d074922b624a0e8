"""Hints at missing packages work where they are said."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from colgraph import extras

ROOT = Path(__file__).parent.parent
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_in_a_checkout_the_checkout_is_installed(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert extras.install_line("viz") == "pip install -e '.[viz]'"
    monkeypatch.chdir(tmp_path)
    assert shlex.split(extras.install_line("viz"))[-1] == f"{ROOT}[viz]"


def test_elsewhere_the_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "_ROOT", tmp_path)
    lines = [
        "torch>=2.6",
        "matplotlib>=3.8; extra == 'viz'",
        'colgraph[viz]; extra == "train"',
        'x>=1; extra == "train"',
    ]
    monkeypatch.setattr(extras.metadata, "requires", lambda name: lines)
    assert extras.install_line("train") == "pip install 'matplotlib>=3.8' 'x>=1'"


def test_a_package_that_lacks_another_is_not_called_missing():
    for module, said in (("datasets", "datasets, which is"), ("yaml", "datasets, which needs pyyaml, which is")):
        try:
            raise ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part")
        except ImportError:
            error = extras.missing_package("reading images needs", "datasets", "train")
        assert str(error).startswith(f"reading images needs {said} not installed: pip install ")
        assert error.name == "datasets"


def test_a_module_that_is_imported_late_is_called_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "drawing_kit.py").write_text("import no_such_solver")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ImportError, match="figures need drawing_kit, which needs no_such_solver, which is not installed"
    ):
        extras.optional("figures need", "drawing_kit", "viz")


def test_every_extra_that_is_named_is_declared():
    named = set()
    for path in (ROOT / "colgraph").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("missing_package", "optional"):
                named |= {each.value for each in node.args[-1:] if isinstance(each, ast.Constant)}
    assert {"viz", "train", "mesh", "analysis"} <= named <= set(DECLARED)


@pytest.mark.parametrize("missing", ["lightning", "yaml", "tensorboard"])
def test_the_training_script_says_what_is_missing_in_one_line(tmp_path, missing):
    flags = "train --data digits --epochs 1 --widths 2,2 --neighbors knn:2 --dim 8 --patch-size 4 --out r"
    code = (
        f"import sys, runpy; sys.modules[{missing!r}] = None; sys.argv = {flags!r}.split()\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'imagenet100.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "pip install" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r" / "summary.json").exists()
