"""Optional packages: the one place that says how a missing one is installed."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]

# What packages are called where they are installed, if it is not what they are called where they are imported.
_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "sknetwork": "scikit-network", "yaml": "pyyaml"}


def missing_package(need: str, package: str, extra: str) -> ImportError:
    """The error of one line for an optional package that is not there, or that lacks another one.

    Args:
        need: what needs it, such as ``figures need``.
        package: its name, or that of a module in it.
        extra: the extra of colgraph that brings it.
    """
    module = package.partition(".")[0]
    raised = sys.exc_info()[1]
    lacking = raised.name if isinstance(raised, ImportError) and raised.name else module
    chain = dict.fromkeys(_NAMES.get(each, each) for each in (module, lacking.partition(".")[0]))
    return ImportError(
        f"{need} {', which needs '.join(chain)}, which is not installed: {install_line(extra)}", name=module
    )


def optional(need: str, module: str, extra: str) -> Any:
    """A module of an optional package; arguments and error as of :func:`missing_package`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(need, module, extra) from error


def missing_module(error: ImportError) -> ImportError:
    """The error of one line for a package that was not found where nobody said what needs it."""
    if error.name is None or "pip install" in str(error):
        return error
    return missing_package("this needs", error.name, "all")


def install_line(extra: str) -> str:
    """The pip line that brings an extra of colgraph here.

    No index has colgraph. In a checkout that is the checkout with the extra; elsewhere it is what the extra consists
    of, as the installed package says.
    """
    if (_ROOT / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{_ROOT if Path.cwd() != _ROOT else os.curdir}[{extra}]')}"
    return f"pip install {' '.join(map(shlex.quote, _requirements(extra)))}"


def _requirements(extra: str) -> list[str]:
    """What the installed package's metadata list under an extra; extras of colgraph's own are looked up in turn."""
    try:
        lines = metadata.requires("colgraph") or []
    except metadata.PackageNotFoundError:
        return [f"colgraph[{extra}]"]
    found: list[str] = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if f"extra == '{extra}'" not in marker.replace('"', "'"):
            continue
        name, bracket, more = requirement.strip().partition("[")
        if name == "colgraph" and bracket:
            found += [each for part in more.rstrip("]").split(",") for each in _requirements(part.strip())]
        else:
            found.append(requirement.strip())
    return list(dict.fromkeys(found))
