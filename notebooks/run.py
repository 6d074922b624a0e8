"""Run the tutorials from their first cell to their last, and keep what they show.

    python notebooks/run.py                  # all of them
    python notebooks/run.py playground 06_mazes

Each runs in a process of its own, with this interpreter, in an empty folder that is removed afterwards. Outputs are
written into the notebook, whole or not at all, without times, paths of this machine and progress; a notebook that fails
stays as it was. ``outcome.json`` says of each how long it took, with which versions, and of which sources (SHA-256).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

FOLDER = Path(__file__).resolve().parent
OUTCOME = FOLDER / "outcome.json"
PACKAGES = ("colgraph", "torch", "torch-geometric", "numpy", "matplotlib", "lightning", "nbclient")
LIMIT = 600
"""Seconds that a cell may take."""


class ThisInterpreter(AsyncKernelManager):
    """A kernel of the interpreter that runs this file: no kernel has to be installed by name."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """What starts it; Jupyter puts in where to talk to it."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def notebooks(names: list[str] | None = None) -> list[Path]:
    """The tutorials in their order, ``playground`` first; or those of some names, with or without their ending.

    Raises:
        ValueError: for a name that is none, with those that are.
    """
    found = sorted(FOLDER.glob("*.ipynb"), key=lambda path: (path.stem != "playground", path.stem))
    known = {path.stem: path for path in found}
    wanted = [name.removesuffix(".ipynb").rpartition("/")[2] for name in names or known]
    for name in wanted:
        if name not in known:
            raise ValueError(f"no notebook is called {name!r}: {', '.join(known)}")
    return [known[name] for name in wanted]


def sources_sha256(notebook: Any) -> str:
    """Of the code in its order: not of outputs, nor of prose, which may be mended without a run."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def execute(path: Path) -> tuple[Any, float]:
    """The notebook with its outputs, and the seconds of a processor that it took; nothing is written.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails; CellTimeoutError and DeadKernelError where it takes too
            long, or its process dies.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        path_of_modules = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path_of_modules)}
        client = NotebookClient(
            notebook,
            timeout=LIMIT,
            km=ThisInterpreter(),
            startup_timeout=LIMIT,
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        used = [0.0]
        client.on_notebook_complete = lambda notebook: used.append(_processor_seconds(client))
        client.execute(env=environment)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                shown = [_without_paths(each, folder) for each in cell.outputs if not _is_progress(each)]
                cell.outputs = _joined(map(_with_small_pictures, shown))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook, used[-1]


def _processor_seconds(client: NotebookClient) -> float:
    """Of the kernel, and of the processes that it has waited for; 0 where it has died."""
    try:
        times = psutil.Process(client.km.provisioner.pid).cpu_times()  # type: ignore[union-attr]
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def _is_progress(output: Any) -> bool:
    """Bars and the like go to standard error, where a reader should see warnings, but for those about bars."""
    if output.output_type != "stream" or output.name != "stderr":
        return False
    return "Warning" not in output.text or "IProgress not found" in output.text


def _without_paths(output: Any, folder: str) -> Any:
    """Paths of this machine and its processes, as what they are from the notebook."""
    if isinstance(output, dict):
        kept = {key: _without_paths(value, folder) for key, value in output.items() if key != "image/png"}
        return type(output)({**output, **kept})
    if isinstance(output, list):
        return [_without_paths(each, folder) for each in output]
    if not isinstance(output, str):
        return output
    for place in (folder, str(Path(folder).resolve()), str(FOLDER.parent)):
        output = output.replace(f"{place}/", "").replace(place, ".")
    if "site-packages" in output or "ipykernel_" in output:
        output = re.sub(r"(?<!\S)\S*/site-packages/", "", output)
        output = re.sub(r"(?<!\S)\S*/ipykernel_\d+/\d+\.py", "this cell", output)
    return output


def _with_small_pictures(output: Any) -> Any:
    """PNG in at most 256 colors, which figures hardly need more of: half as large, or less."""
    data = output.get("data", {})
    if "image/png" in data:
        with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture, io.BytesIO() as file:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
            if len(file.getvalue()) < len(base64.b64decode(data["image/png"])):
                data["image/png"] = base64.b64encode(file.getvalue()).decode()
    return output


def _joined(outputs: Any) -> list[Any]:
    """Pieces of one stream, which come as the system hands them over, as one."""
    found: list[Any] = []
    for each in outputs:
        before = found[-1] if found else None
        if before is not None and each.output_type == before.output_type == "stream" and each.name == before.name:
            before.text += each.text
        else:
            found.append(each)
    return found


def write(path: Path, text: str) -> None:
    """A file that is there whole, or as it was."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def run(path: Path) -> bool:
    """Execute a notebook, keep its outputs and what came of it, and say so in a line."""
    begin, used = time.monotonic(), 0.0
    entry: dict[str, Any] = {"ok": True, "sources_sha256": sources_sha256(nbformat.read(path, as_version=4))}
    try:
        notebook, used = execute(path)
    except CellExecutionError as error:
        entry |= {"ok": False, "error": f"{error.ename}: {error.evalue}"}
        sys.stderr.write(f"{error}\n")
    except (CellTimeoutError, DeadKernelError) as error:
        entry |= {"ok": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    else:
        write(path, nbformat.writes(notebook) + "\n")
    entry |= {"seconds": round(time.monotonic() - begin, 1), "processor_seconds": round(used, 1)}
    entry["versions"] = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    outcome = json.loads(OUTCOME.read_text(encoding="utf-8")) if OUTCOME.exists() else {}
    outcome = {one.stem: {**outcome, path.stem: entry}.get(one.stem) for one in notebooks()}
    kept = {name: each for name, each in outcome.items() if each is not None}
    write(OUTCOME, json.dumps(kept, indent=1) + "\n")
    took = f"{entry['seconds']:6.1f} s, {entry['processor_seconds']:5.1f} s of a processor"
    print(f"{path.stem:28} {took}  {'ok' if entry['ok'] else 'failed: ' + entry['error']}", flush=True)
    return bool(entry["ok"])


def main(arguments: list[str] | None = None) -> int:
    """Run those that are named, or all; the exit code is 1 if one fails."""
    parser = argparse.ArgumentParser(description="Run the tutorials and keep what they show.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="playground, 02_your_own_cortex, ... (all)")
    try:
        chosen = notebooks(parser.parse_args(arguments).names)
    except ValueError as error:
        parser.error(str(error))
    done = [run(path) for path in chosen]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
