"""The process that compiles the backward pass: what it compiles is what a step uses, and whoever needs it waits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import colgraph as cg
from colgraph.ops import _compile_backward, compile_ahead

pytest.importorskip("numba")


class Kernel:
    """A kernel as numba makes them, whose files lie in a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.signatures: list[Any] = []
        self.stats = type("Stats", (), {"cache_path": None if folder is None else str(folder)})
        self.py_func = lambda: None
        self.py_func.__qualname__ = "weight_gradients-0123abcd"


def test_a_step_needs_no_other_variants_than_those_compiled_ahead() -> None:
    _compile_backward.compile_backward()
    before = {kernel.py_func.__name__: len(kernel.signatures) for kernel in compile_ahead._kernels()}
    assert set(before.values()) == {1}
    sheet = cg.build_sheet("grid", shape=[4, 4], neighbors="knn:4")
    for options in ({}, {"num_heads": 2, "value_projection": True, "untied": ()}, {"edge_bias": None}):
        model = cg.Columnformer(sheet, dim=8, qk_dim=4, mlp_dim=8, steps=2, **options)
        model(torch.randn(16, 3, 8, requires_grad=True)).sum().backward()
    assert {kernel.py_func.__name__: len(kernel.signatures) for kernel in compile_ahead._kernels()} == before


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that were started, each a process that sleeps for a second."""
    commands: list[Any] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        commands.append(command)
        return popen([sys.executable, "-c", "import time; time.sleep(1)"])

    monkeypatch.setattr(compile_ahead.subprocess, "Popen", start)
    monkeypatch.setattr(compile_ahead, "_elsewhere", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return commands


def test_a_kernel_is_waited_for_until_it_is_on_disk(
    tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(compile_ahead, "_kernels", lambda: [kernel])
    compile_ahead.compile_ahead()
    assert len(started) == 1
    begin = time.monotonic()
    assert compile_ahead.ready(kernel) is kernel  # the process ends, and has not written it
    assert time.monotonic() - begin > 0.2
    (tmp_path / "_column_kernels.weight_gradients-0123abcd-123.py311.1.nbc").touch()
    monkeypatch.setattr(compile_ahead, "_elsewhere", None)
    compile_ahead.compile_ahead()
    assert len(started) == 1


def test_other_kernels_and_those_in_memory_are_not_waited_for(
    tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, other = Kernel(tmp_path), Kernel(tmp_path)
    monkeypatch.setattr(compile_ahead, "_kernels", lambda: [kernel])
    compile_ahead.compile_ahead()
    kernel.signatures = ["compiled"]
    monkeypatch.setattr(compile_ahead.time, "sleep", lambda _: pytest.fail("it waits"))
    compile_ahead.ready(other)
    compile_ahead.ready(kernel)


def test_the_other_process_does_it(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_ahead, "_on_disk", lambda kernel: False)
    compile_ahead.compile_ahead()
    (command,) = started
    monkeypatch.undo()
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("why", ["one thread", "a GPU", "nothing can be kept", "no numba"])
def test_no_process_where_it_would_not_help(
    why: str, tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_ahead, "_kernels", lambda: [Kernel(None if why == "nothing can be kept" else tmp_path)])
    if why == "one thread":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    if why == "no numba":
        monkeypatch.setattr(compile_ahead.importlib.util, "find_spec", lambda name: None)
    compile_ahead.compile_ahead("gpu" if why == "a GPU" else "auto")
    assert started == []
