"""Imports run downwards only, files stay short, and the package imports without its extras."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from colgraph.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "colgraph"

# What each room may import from the package; "" is the package's own top level.
ARROWS: dict[str, set[str]] = {
    "extras": set(),
    "text": set(),
    "array_files": set(),
    "colors": set(),
    "tiles": set(),
    "layout": {"tiles", "checks", "torch_internals"},
    "locality": set(),
    "describe": {"locality", "edges"},
    "rewire": {"edges"},
    "options": set(),
    "torch_internals": set(),
    "hints": set(),
    "modes": set(),
    "plugins": set(),
    "tasks": {"data", "plugins"},
    "checks": set(),
    "edges": set(),
    "space": {"layout", "edges"},
    "sheet": {"layout", "describe", "space", "checks", "edges", "output", "torch_internals"},
    "geometry": {"sheet", "space", "rewire", "text", "array_files", "checks", "edges", "plugins"},
    "ops": {"layout", "tiles", "torch_internals"},
    "nn": {"ops", "layout", "torch_internals", "options"},
    "models": {"nn", "ops", "sheet", "layout", "locality", "torch_internals", "options", "modes"},
    "plasticity": {"ops", "sheet", "space", "layout", "edges", "options"},
    "data": {"text", "options", "output", "script"},
    "viz": {"sheet", "output", "colors"},
    "analysis": {"rewire", "checks", "edges", "hints", "options", "output", "space", "colors", "modes"},
    "output": set(),
    "script": set(),
    "training": {"models", "ops", "options", "space", "data", "viz", "geometry", "sheet", "output", "script"}
    | {"distributed", "tasks", "plasticity", "plugins", "modes"},
    "distributed": {"models", "nn", "ops", "sheet", "layout", "describe", "torch_internals"},
    "report": {"analysis", "space", "training", "data", "models", "viz", "sheet", "output", "script", "text"}
    | {"tasks", "modes"},
    "brain": {"report", "analysis", "training", "data", "models", "viz", "sheet", "output", "script", "text"}
    | {"array_files"},
    "experiments": {"training", "tasks", "data", "analysis", "models", "viz", "sheet", "output", "script"},
    "cli": {"geometry", "viz", "sheet", "data", "output", "script", "report", "brain", "experiments"} | {"training"},
    "__init__": {"geometry", "models", "nn", "ops", "sheet", "layout", "tasks"},
    "__main__": {"cli"},
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    here = room(path)
    assert here in ARROWS, f"{here} is a new room: say in ARROWS what it may import"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "colgraph" and len(parts) > 1 and parts[1] != here:
            known = parts[1] in ARROWS
            # How a missing package is installed, and what a wrong name resembles, is said in one place, to all rooms.
            assert not known or parts[1] in ARROWS[here] | {"extras", "hints"}, f"{path.name} imports {name}"


def test_hints_at_extras_come_from_one_place():
    for path in FILES:
        assert "colgraph[" not in path.read_text() or room(path) == "extras", f"{path}: use extras.missing_package"


def test_commands_are_run_by_rooms_below_the_command_line():
    for name, (summary, place) in COMMANDS.items():
        module, function = place.split(":")
        assert module.split(".")[1] in ARROWS["cli"] | {"cli"}, f"{name} is run by {module}"
        assert f"def {function}(" in (ROOT / (module.replace(".", "/") + ".py")).read_text(), place
        assert summary, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_relative_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "write the import in full"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        *(("datasets", {"data"}), ("lightning", {"training"}), ("triton", {"ops"}), ("numba", {"ops", "nn"})),
        ("difflib", {"hints"}),
    ],
)
def test_a_library_is_known_in_its_room_only(library, rooms):
    users = {room(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path))}
    assert users <= rooms


def test_the_files_of_a_run_are_named_in_one_place():
    files = {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "checkpoints",
        "last.ckpt",
        "best.ckpt",
        "encoding.json",
        "rsa.json",
    }
    files |= {"predictions.npz", "plasticity.json"}
    named = {
        path.relative_to(PACKAGE).as_posix(): node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in (*files, "searchlight.json")
    }
    assert set(named) == {"training/folder.py"}, named


def test_geometry_knows_no_torch_nn():
    for path in (PACKAGE / "geometry").rglob("*.py"):
        assert not any(name.startswith(("torch.nn", "torch_geometric.nn")) for name in imports(path)), path


def names_defined(path: Path) -> set[str]:
    """What a file defines at its top: functions, classes and constants."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_what_newcomers_look_for_is_where_the_page_says():
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## Where does it live?")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+\?) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) >= 20
    for question, answer in rows:
        for place in re.findall("`(.+?)`", answer):
            file, _, name = place.partition(":")
            assert (ROOT / file).is_file(), f"{question}: {file}"
            assert not name or name in names_defined(ROOT / file), f"{question}: {place}"


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


def files_imported(node: ast.AST) -> Iterator[str]:
    """The modules that are imported below a node, in functions too; not those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in MODULES else str(child.module) for name in names)
        elif not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from files_imported(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_name_with_an_underscore_stays_in_its_file(path):
    for node in ast.walk(ast.parse(path.read_text())):
        for alias in node.names if isinstance(node, ast.ImportFrom) and str(node.module).startswith("colgraph") else ():
            is_module = f"{node.module}.{alias.name}" in MODULES
            assert is_module or not alias.name.startswith("_"), f"{node.module} has {alias.name} for itself"


def test_no_circle_of_imports():
    graph = nx.DiGraph()
    for name, path in MODULES.items():
        found = set(files_imported(ast.parse(path.read_text())))
        graph.add_edges_from((name, other) for other in found if other in MODULES)
    circles = [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1]
    assert not circles


# Files of one name in several rooms, and why nobody takes one for the other.
NAMESAKES = {
    "__init__.py": "Python's",
    "arrays.py": "arrays that an analysis takes (analysis), and those that a geometry is made of (readers)",
    "attention.py": "the module (nn), and figures of what columns listen to (viz)",
    "checkpoint.py": "of a run (training), and of a module in parts over several processes (distributed)",
    "commands.py": "a room's command lines, which the table in cli.py names in full",
    "controls.py": "control graphs (geometry), and the runs that were trained on them (report)",
    "figures.py": "what a room draws, with viz/, of a run as it trains (training) and of its analyses (report)",
    "options.py": "of models (the package), and of geometries and readers (geometry)",
    "results.py": "rows of results (experiments), and the figure of them (viz)",
    "vision.py": "the model (models), and the same over several processes (distributed)",
}


def test_a_file_has_no_namesake_to_be_mixed_up_with():
    count = Counter(path.name for path in FILES)
    assert {name for name in count if count[name] > 1} == set(NAMESAKES)


LENGTHS = {"colgraph": 450, "examples": 450, "tests": 500}


def test_files_stay_short():
    for folder, most in LENGTHS.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= most, path


def test_nothing_is_pickled_or_asserted():
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), f"{path} validates by assert"
        assert not imports(path) & {"pickle", "cPickle", "dill", "joblib"}, path


EXTRAS = [
    *("lightning", "datasets", "PIL", "torchmetrics", "tensorboard", "sklearn", "yaml", "trimesh", "nibabel"),
    *("nilearn", "matplotlib", "plotly", "triton", "torch_scatter", "pandas", "numba", "foolbox", "h5py", "kornia"),
    "rsatoolbox",
]


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


_TAKEN = re.compile(r"^from (colgraph[.\w]*) import ([\w, ]+)$", re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_import_what_is_there(path):
    """Also in the texts that they run in fresh processes, which no type checker reads."""
    for room, names in _TAKEN.findall(path.read_text(encoding="utf-8")):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(room), name) or importlib.import_module(f"{room}.{name}")


def test_import_touches_no_extra():
    """PyG imports some of them by itself where they are installed; colgraph adds none."""
    out = run(
        "import sys, torch, torch_geometric\n"
        f"extras = {EXTRAS!r}\n"
        "before = {m for m in extras if m in sys.modules}\n"
        "import colgraph\n"
        "print({m for m in extras if m in sys.modules} - before)\n"
    )
    assert out.strip() == "set()"


def test_works_without_the_extras():
    run(
        "import sys\n"
        f"for name in {EXTRAS!r}: sys.modules[name] = None\n"
        "import colgraph as cg, torch\n"
        "sheet = cg.build_sheet('stack', widths=[3, 3], neighbors='knn:4')\n"
        "model = cg.Columnformer(sheet, dim=8, backend='reference')\n"
        "assert model(torch.randn(9, 2, 8)).shape == (18, 2, 8)\n"
        "try:\n"
        "    cg.build_sheet('cortex')\n"
        "except ImportError as error:\n"
        "    assert 'pip install' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('cortex needs nilearn')\n"
    )
