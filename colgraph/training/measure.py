"""What a run cost, and what it takes to repeat it: time, memory, the commit and the command."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn


def cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for, over all cores."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_memory_bytes(device: torch.device) -> int:
    """The most that was ever allocated on a CUDA device; elsewhere the most memory that this process ever held."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would also count what the parent process held when it started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def code_commit() -> str | None:
    """The commit of the checkout that this package lies in, with ``-dirty`` where files differ; None elsewhere."""
    package = Path(__file__).parents[1]
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changed else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command_line() -> str:
    """The command that started this process, as a shell would take it, without the paths of this installation."""
    words = sys.orig_argv[1:]
    if words[:2] == ["-m", "colgraph"]:
        return shlex.join(words[1:])
    if words and Path(words[0]).name == "colgraph" and Path(words[0]).parent == Path(sys.executable).parent:
        return shlex.join(["colgraph", *words[1:]])
    return shlex.join(["python", *words])


def machine(device: torch.device) -> dict[str, Any]:
    """What the run ran on: the processor (or the CUDA device), cores, and threads of torch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name, info = platform.processor(), Path("/proc/cpuinfo")
        if info.exists():
            names = [
                line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line[:10] == "model name"
            ]
            name = names[0] if names else name
    return {"processor": name or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def parameters_sha256(net: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters, in order of name: equal for equal models."""
    digest = hashlib.sha256()
    for name, parameter in sorted(net.named_parameters()):
        value = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
