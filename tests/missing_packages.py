"""Commands without an optional package: ``python missing_packages.py RUN`` reads ``{package: [command, ...]}`` as JSON.

Prints a line of JSON per command: the package, the command, its exit code and what it said. Other packages are imported
once; each package is then taken away in a process of its own, which imports colgraph without it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
THERE = (
    *("torch", "torch_geometric", "lightning.pytorch", "torchmetrics.classification", "matplotlib.figure", "yaml"),
    *("sklearn.datasets", "PIL.Image", "foolbox", "sknetwork.clustering", "huggingface_hub", "safetensors.torch"),
    "rsatoolbox",
)


def run(command: str) -> tuple[object, str]:
    """The exit code and the last lines of a command, or the end of its traceback."""
    from colgraph.script import run_script

    words = command.split()

    def main() -> None:
        if words[0].endswith(".py"):
            runpy.run_path(str(EXAMPLES / words[0]))["main"](words[1:])
        else:
            importlib.import_module("colgraph.cli").run(words)

    said, wrong = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            run_script(main)
    except SystemExit as error:
        return error.code, wrong.getvalue()
    except BaseException:
        return "traceback", traceback.format_exc()
    return 0, said.getvalue()


def without(package: str, commands: list[str]) -> None:
    """Run commands in this process, in which a package cannot be imported."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]
    for command in commands:
        code, text = run(command)
        print(json.dumps([package, command, code, text]), flush=True)


if __name__ == "__main__":
    for module in THERE:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for package, commands in json.load(sys.stdin).items():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        without(package, commands)
        os._exit(0)
