"""The wheel is all that a user needs: built, installed into an environment of its own, run far from the checkout."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def done(*words: str | Path, cwd: Path, code: int = 0) -> str:
    """What a command says, in an environment that knows of no checkout."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == code, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of what is to be packed: building leaves files behind."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    shutil.copytree(ROOT / "colgraph", place / "colgraph", ignore=shutil.ignore_patterns("__pycache__"))
    words = "-m pip wheel --quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check -w dist ."
    done(sys.executable, *words.split(), cwd=place)
    (found,) = (place / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that has the wheel, and the packages of this one without its colgraph."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    words = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--python"]
    done(sys.executable, *words, python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched last, and its own .pth files, of editable installs, are not read.
    folders = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (packages / "others.pth").write_text("\n".join(folders))
    return place / "bin"


def test_the_wheel_has_all_that_the_package_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "colgraph").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len([name for name in files if name.startswith("colgraph/configs/")]) > 50
    assert files - names == set()
    assert {name.split("/")[0] for name in names - files} == {f"colgraph-{wheel.name.split('-')[1]}.dist-info"}


def test_the_main_job_runs_from_the_wheel_alone(clean: Path, tmp_path: Path) -> None:
    colgraph = clean / "colgraph"
    where = done(
        clean / "python", "-c", "import colgraph; print(colgraph.__file__, colgraph.__version__)", cwd=tmp_path
    )
    assert str(clean.parent) in where
    assert runpy.run_path(str(ROOT / ".ci" / "check_version.py"))["check"](ROOT) in where
    for package in ("lightning", "sklearn", "datasets", "matplotlib", "torchmetrics"):
        pytest.importorskip(package)
    small = "--dim 8 --steps 2 --qk-dim 4 --mlp-dim 8 --epochs 1 --batch-size 512 --figure-every 0 --no-tensorboard"
    said = done(colgraph, "train", "--config", "digits-tied", *small.split(), "--out", "run", cwd=tmp_path)
    assert "test accuracy" in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["command"].startswith("colgraph train --config digits-tied")
    said = done(colgraph, "sweep", "digits-vit-*", "--out", "many", "--dry-run", cwd=tmp_path)
    assert said.count("to run: colgraph train --config examples/configs/digits-vit-") == 3
    said = done(colgraph, "train", "--config", "digits-teid", cwd=tmp_path, code=2)
    assert said.splitlines()[-1].endswith("did you mean 'examples/configs/digits-tied.yaml'?")


def test_a_wheel_without_its_extras_names_the_line_that_brings_them(clean: Path, tmp_path: Path) -> None:
    for missing, words in (("lightning", "train --data digits"), ("yaml", "train --config digits-tied")):
        code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {words.split()!r}\n"
        said = done(clean / "python", "-c", f"{code}from colgraph.cli import main; main()", cwd=tmp_path, code=2)
        last = said.splitlines()[-1]
        assert last.startswith("error: ")
        line = last.partition("pip install ")[2]
        assert {"lightning>=2.6", "pyyaml>=6.0", "torchmetrics>=1.3"} <= {word.strip("'") for word in line.split()}
        assert "-e" not in line.split()


def test_a_tag_that_is_not_the_version_is_refused(tmp_path: Path) -> None:
    check = runpy.run_path(str(ROOT / ".ci" / "check_version.py"))["check"]
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    version = check(tmp_path)
    assert check(tmp_path, f"v{version}") == version
    for tag in (version, f"v{version}.post1", "v9.9.9"):
        with pytest.raises(ValueError, match=f"tag {tag} is not v{version}"):
            check(tmp_path, tag)
    project = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace(f'version = "{version}"', 'version = "9.9.9"'))
    with pytest.raises(ValueError, match=rf"CITATION\.cff is of version {version}, pyproject\.toml of 9\.9\.9"):
        check(tmp_path)
    (tmp_path / "CITATION.cff").write_text("version: 9.9.9\n")
    with pytest.raises(ValueError, match=r"no section '## 9\.9\.9'"):
        check(tmp_path, "v9.9.9")


def test_the_release_is_built_checked_and_run_before_it_is_published() -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    lines = " ; ".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert re.search("check_version.* python -m build .*twine check .*colgraph train", lines, re.S)
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
