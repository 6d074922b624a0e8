"""All that is used of torch and PyG without being part of their documented interfaces, each behind a name of its own.

Every function has a test in ``tests/test_torch_internals.py``, which is what fails when a new release changes one.
"""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.nn.modules import module as _module
from torch_geometric.nn import MessagePassing

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_MESSAGE_HOOKS = tuple(
    f"_{part}_forward{when}_hooks"
    for part in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for when in ("_pre", "")
)


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether a ``torch.func`` transform runs, or a level of forward-mode differentiation is open.

    Or whether one of ``tensors`` is many at once, as under ``torch.autograd.grad(..., is_grads_batched=True)``.
    """
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    many = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and many(tensor) for tensor in tensors)


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Tensors made inside outlive inference mode and transforms of ``torch.func`` that are on: autograd takes them."""
    with torch.inference_mode(False), temporarily_clear_interpreter_stack():
        yield


def is_dispatched() -> bool:
    """Whether a mode of ``torch.utils._python_dispatch`` looks on (fake tensors, counters of operations)."""
    return torch._C._len_torch_dispatch_stack() > 0


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` looks on, or the exporter to ONNX that builds on it."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined]


def is_traced() -> bool:
    """Whether ``torch.jit.trace`` or an exporter to ONNX writes down what runs, for programs without this package."""
    if is_tracing():
        return True
    return torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export()


def has_hooks(module: nn.Module | None = None) -> bool:
    """Whether hooks fire when this module is called, or, without one, when any module is.

    A ``forward`` put on the object itself counts: some libraries wrap modules that way.
    """
    if module is None:
        return bool(_module._has_any_global_hook())
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)


def watches_messages(conv: MessagePassing) -> bool:
    """Whether hooks or an explainer wait for the messages that ``propagate`` makes."""
    return bool(conv.explain) or any(getattr(conv, hooks) for hooks in _MESSAGE_HOOKS)


def will_run(node: Any) -> bool:
    """Within a backward pass, whether the engine will run ``node``: whether anybody wants its gradient."""
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # torch.autograd.grad was asked for this very leaf, and the engine does not say so
        return True


def static_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape as numbers to check. ``torch.jit.trace`` makes tensors of sizes, which equal nothing."""
    if not is_tracing():
        return tuple(tensor.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return tuple(int(size) for size in tensor.shape)


def parallel_region() -> Callable[[Callable[[], None], int], None] | None:
    """``run(body, threads)`` on the threads of the OpenMP runtime that torch runs on; None where it has none.

    GNU's libgomp defines ``GOMP_parallel``, and LLVM's and Intel's have it for programs compiled by GCC. A symbol is
    looked up in the library and in those it is linked with, so this is torch's runtime even where the process has
    loaded others. Nothing may be raised within.
    """
    if not torch.backends.openmp.is_available():
        return None
    try:
        region = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    region.argtypes, region.restype = (kind, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return lambda body, threads: region(kind(lambda _: body()), None, threads, 0)
