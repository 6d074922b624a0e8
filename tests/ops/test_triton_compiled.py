"""The Triton kernels through the real compiler, for GPUs that need not be there.

The interpreter runs code that no compiler would take. Here every launch is turned into a compilation for a named
architecture, and what comes out is read: it fits the shared memory that all GPUs since compute capability 8.0 have,
multiplies on tensor cores where it should, and has no atomic operation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from colgraph.layout import Layout
from colgraph.ops import _triton_base
from colgraph.ops.primitive import Back
from colgraph.ops.reference import Operands
from colgraph.ops.triton_attention import EDGES, TILES

pytestmark = pytest.mark.skipif(_triton_base.INTERPRETED, reason="the interpreter is on")

SHARED_MEMORY = 99 * 1024
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
}


@dataclass
class Compiler:
    """Takes the place of ``JITFunction.run``: compiles what would have been launched."""

    capability: int
    compiled: dict[str, list[Any]] = field(default_factory=dict)

    def run(self, kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        options = {name: named.pop(name) for name in ("num_warps", "num_stages") if name in named}
        values = dict(zip(kernel.arg_names, args, strict=False)) | named
        signature: dict[str, str] = {}
        constants: dict[str, Any] = {}
        attributes = {}
        for place, parameter in enumerate(kernel.params):
            value = values[parameter.name]
            if parameter.is_constexpr or (isinstance(value, int) and value == 1):
                signature[parameter.name] = "constexpr"
                constants[parameter.name] = value
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = TYPES[value.dtype]
                attributes[(place,)] = [["tt.divisibility", 16]]
            else:
                signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
        binary = triton.compile(source, target=GPUTarget("cuda", self.capability, 32), options=options)
        self.compiled.setdefault(kernel.__name__, []).append(binary)


def compile_all(
    monkeypatch: pytest.MonkeyPatch, capability: int, kernel: str, dtype: torch.dtype, qk_dim: int, channels: int
) -> dict[str, list[Any]]:
    """What one forward and backward pass launches, compiled."""
    compiler = Compiler(capability)
    monkeypatch.setattr(JITFunction, "run", lambda *args, **named: compiler.run(*args, **named))
    n = 32
    source, target = torch.arange(n).repeat(n), torch.arange(n).repeat_interleave(n)
    layout = Layout(torch.stack([source, target]), n, torch.rand(n, 3))
    query, value = torch.zeros(n, 8, 2, qk_dim, dtype=dtype), torch.zeros(n, 8, 2, channels, dtype=dtype)
    given = Operands(query, query, value, torch.zeros(layout.num_edges, 2), torch.zeros(layout.num_edges), 0.5)
    primitive, tables = {"edges": EDGES, "tiles": TILES}[kernel], layout.tables(kernel)
    results = primitive.forward(given, tables)
    primitive.backward(given, tables, Back(value, results[1], results, (True, True, True, True)))
    return compiler.compiled


def check(compiled: dict[str, list[Any]]) -> None:
    for name, binaries in compiled.items():
        for binary in binaries:
            assert binary.metadata.shared <= SHARED_MEMORY, name
            assert not re.search(r"\b(atom|red)\.", binary.asm["ptx"]), name


# The float32 size is the one that takes most shared memory.
@pytest.mark.parametrize(
    ("capability", "dtype", "qk_dim", "channels"), [(90, torch.bfloat16, 32, 64), (80, torch.float32, 64, 64)]
)
def test_tiles_compile_for_tensor_cores(monkeypatch, capability, dtype, qk_dim, channels):
    compiled = compile_all(monkeypatch, capability, "tiles", dtype, qk_dim, channels)
    check(compiled)
    assert set(compiled) == {"forward_kernel", "delta_kernel", "backward_target_kernel", "backward_source_kernel"}
    product = "f32.bf16.bf16.f32" if dtype == torch.bfloat16 else "f32.tf32.tf32.f32"
    for name, (binary,) in compiled.items():
        assert (product in binary.asm["ptx"]) == (name != "delta_kernel"), name


def test_chunks_of_channels_take_turns_in_shared_memory(monkeypatch):
    compiled = compile_all(monkeypatch, 90, "tiles", torch.float16, 32, 384)
    check(compiled)
    assert len(compiled["backward_source_kernel"]) == 2


@pytest.mark.parametrize(("qk_dim", "channels"), [(32, 64), (1, 1)])
def test_edges_compile(monkeypatch, qk_dim, channels):
    compiled = compile_all(monkeypatch, 80, "edges", torch.float32, qk_dim, channels)
    check(compiled)
    assert set(compiled) == {"forward_kernel", "backward_target_kernel", "backward_source_kernel"}
