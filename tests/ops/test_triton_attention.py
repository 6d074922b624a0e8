"""The Triton kernels against the float64 reference, on a GPU or in Triton's interpreter.

The interpreter must be chosen before Triton is first imported, so that ``test_triton_interpreted.py`` runs this file in
a process of its own with ``TRITON_INTERPRET=1``. In any other process only the GPU tests run, where there is one.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

import triton
import triton.language as tl

from colgraph.layout import Layout
from colgraph.ops import _triton_base, _triton_edges, _triton_tiles, sheet_attention
from colgraph.ops.primitive import run
from colgraph.ops.reference import Operands
from colgraph.ops.triton_attention import choose

INTERPRETED = _triton_base.INTERPRETED
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("run by test_triton_interpreted.py; no CUDA device", allow_module_level=True)

sheet_attention_reference = functools.partial(sheet_attention, backend="reference")


def attend(query, key, value, edge_bias, layout, scale, edge_cost=None, *, backend="triton"):
    """The public function, on the CPU too: there it takes the interpreter for no backend."""
    return run(choose(backend, query, layout), Operands(query, key, value, edge_bias, edge_cost, scale), layout)


KERNELS = {name: functools.partial(attend, backend=f"triton_{name}") for name in ("edges", "tiles")}
INPUTS = ("query", "key", "value", "edge_bias")
# The interpreter takes some ten milliseconds per program, and the edge kernel has one per column and head: there, cases
# are left out whose parts others have. Half precision differs from float32 only in how blocks are loaded and rounded.
HALF_CASES = {"edges": {"wide", "far-masks"}, "tiles": {"wide", "odd-sizes", "masked", "far-masks"}}


def left_to_the_gpu(name: str, kernel: str, dtype: torch.dtype) -> bool:
    if dtype == torch.float32:
        return kernel == "edges" and name in {"plain", "heads", "complete"}
    return name not in HALF_CASES[kernel]


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="the interpreter is off")),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=list(KERNELS))
def kernel(request: pytest.FixtureRequest) -> str:
    return request.param


def check(case, kernel: str, dtype: torch.dtype, device: str, factor: float = 4.0) -> None:
    """Errors against float64 are at most ``factor`` times those of the reference in ``dtype``.

    Gradients of one-neighbor columns are zero only up to rounding (``<dO, V> - <dO, O>``), so what is allowed has a
    floor of a few roundings of the largest gradient.
    """
    fields = {k: v.to(dtype).double() for k, v in vars(case).items() if isinstance(v, Tensor)}
    rounded = replace(case, **fields)
    exact = rounded.solve(sheet_attention_reference, torch.float64)
    usual = rounded.solve(sheet_attention_reference, dtype)
    tested = rounded.solve(KERNELS[kernel], dtype, device)
    assert set(tested) == set(exact)
    largest = max([1.0, *(float(truth.abs().max()) for truth in exact.values() if truth.numel())])
    for name, truth in exact.items():
        assert tested[name].shape == truth.shape
        if truth.numel():
            error = float((tested[name] - truth).abs().max())
            allowed = factor * float((usual[name] - truth).abs().max()) + 4 * torch.finfo(dtype).eps * largest
            assert error <= allowed, f"{case.name}: {name} is off by {error:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_as_exact_as_the_reference(attention_case, kernel, dtype, device):
    if kernel == "tiles" and attention_case.query.size(3) > _triton_tiles.widest_qk(dtype):
        pytest.skip("wider than a tile holds")
    if device == "cpu" and left_to_the_gpu(attention_case.name, kernel, dtype):
        pytest.skip("left to the GPU")
    # Three TF32 products keep 21 bits or more of the 24 of float32.
    three_products = kernel == "tiles" and device == "cuda" and dtype == torch.float32
    check(attention_case, kernel, dtype, device, 16.0 if three_products else 4.0)


# name: (graph, columns, batch, heads, D, C): more samples, channels or edges than one block holds.
LARGE = {
    "blocks-of-samples": ("random", 5, 9, 2, 3, 300),
    "chunks-of-channels": ("random", 9, 2, 1, 20, 150),
    "blocks-of-edges": ("complete", 18, 1, 1, 4, 4),
}


@pytest.mark.parametrize("name", list(LARGE))
def test_problems_of_several_blocks(name, make_attention_case, kernel, device):
    check(make_attention_case(name, *LARGE[name]), kernel, torch.float32, device, 16.0)


def test_sizes_above_are_of_several_blocks():
    assert _triton_edges.choose_blocks(9, 3, 300, 3.0)["BLOCK_B"] < 9
    assert _triton_tiles.choose_blocks(9, 3, 300, 4)["BLOCK_B"] < 9
    assert _triton_tiles.choose_blocks(2, 20, 150, 4)["BLOCK_C"] < 150
    assert _triton_edges.choose_blocks(1, 4, 4, 18.0)["BLOCK_E"] < 18
    assert _triton_tiles.choose_blocks(1, 4, 4, 4)["BLOCK_U"] < 18


def test_bias_gradients_are_summed_in_rounds(make_attention_case, kernel, device, monkeypatch):
    case = make_attention_case("rounds", "complete", 3, 9, 1, 2, 300)
    whole = case.solve(KERNELS[kernel], torch.float32, device)
    monkeypatch.setattr(_triton_base, "BLOCKS_IN_ROUND", 2)
    rounds = case.solve(KERNELS[kernel], torch.float32, device)
    for name in ("out", "grad_query", "grad_edge_bias"):
        torch.testing.assert_close(rounds[name], whole[name], rtol=1e-6, atol=1e-6)


def test_the_same_bits_on_every_run(make_attention_case, kernel, device):
    case = make_attention_case("again", "random", 5, 6, 2, 5, 9)
    first, second = (case.solve(KERNELS[kernel], torch.float32, device) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("needs_grad", [("query",), ("key",), ("value",), ("edge_bias",), ()])
def test_only_what_is_asked_for_gets_a_gradient(make_attention_case, kernel, device, needs_grad):
    case = make_attention_case("some", "random", 4, 2, 1, 4, 6)
    every = case.solve(KERNELS[kernel], torch.float32, device)
    some = case.solve(KERNELS[kernel], torch.float32, device, needs_grad)
    assert {name for name in some if name.startswith("grad_")} == {f"grad_{name}" for name in needs_grad}
    assert all(torch.equal(some[name], every[name]) for name in some)


@pytest.mark.parametrize("part", ["out", "cost"])
def test_either_output_alone_may_be_used(make_attention_case, kernel, device, part):
    case = make_attention_case("one", "random", 5, 2, 1, 4, 6)
    grads = []
    for function, dtype, place in ((sheet_attention_reference, torch.float64, "cpu"), (KERNELS[kernel], None, device)):
        leaves = [getattr(case, name).to(place, dtype or torch.float32, copy=True).requires_grad_() for name in INPUTS]
        out, cost = function(*leaves, case.layout.to(place), case.scale, case.edge_cost.to(leaves[0]))
        (out if part == "out" else cost).sum().backward()
        grads.append([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])
    for truth, grad in zip(*grads, strict=True):
        torch.testing.assert_close(grad.cpu().double(), truth, rtol=1e-4, atol=1e-5)


def test_inputs_need_not_be_contiguous(make_attention_case, kernel, device):
    case = make_attention_case("views", "random", 4, 3, 2, 4, 6)

    def spread(tensor: Tensor) -> Tensor:
        """The same numbers, every second one in memory, dimensions the other way round."""
        turned = torch.empty(*reversed(tensor.shape), 2, dtype=tensor.dtype)[..., 0].permute(
            *reversed(range(tensor.dim()))
        )
        return turned.copy_(tensor)

    fields = (*INPUTS, "edge_cost", "grad_out", "grad_cost")
    views = replace(case, **{name: spread(getattr(case, name)) for name in fields})
    assert not views.query.is_contiguous()

    def attend(*args):
        tensors = [spread(a) if isinstance(a, Tensor) and device == "cpu" else a for a in args]
        return KERNELS[kernel](*tensors)

    straight, turned = case.solve(KERNELS[kernel], torch.float32, device), views.solve(attend, torch.float32, device)
    assert all(torch.equal(straight[name], turned[name]) for name in straight)


def test_an_empty_batch_is_empty(kernel, make_attention_case, device):
    case = make_attention_case("empty", "random", 5, 0, 1, 3, 4)
    result = case.solve(KERNELS[kernel], torch.float32, device)
    assert result["out"].shape == (5, 0, 1, 4)
    assert result["cost"].shape == (5, 0, 1)
    assert float(result["grad_edge_bias"].abs().sum()) == 0.0


def test_two_models_may_share_a_layout(make_attention_case, kernel, device):
    narrow = make_attention_case("narrow", "random", 5, 2, 1, 4, 6)
    wide = replace(make_attention_case("wide", "random", 5, 3, 2, 5, 9), layout=narrow.layout)
    alone = wide.solve(KERNELS[kernel], torch.float32, device)
    narrow.solve(KERNELS[kernel], torch.float32, device)
    again = wide.solve(KERNELS[kernel], torch.float32, device)
    assert all(torch.equal(alone[name], again[name]) for name in alone)


def test_nothing_has_a_row_per_edge_and_sample(make_attention_case, kernel, device, monkeypatch):
    batch = 48
    case = make_attention_case("large-batch", "complete", 12, batch, 1, 1, 1)
    case = replace(case, layout=case.layout.to(device))
    KERNELS[kernel](*(getattr(case, n).float().to(device) for n in INPUTS), case.layout, 1.0)  # makes the tables
    sizes = []
    make = torch.empty

    def counted(*args, **kwargs):
        made = make(*args, **kwargs)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(torch, "empty", counted)
    case.solve(KERNELS[kernel], torch.float32, device)
    assert len(sizes) >= 5
    assert max(sizes) <= case.layout.num_edges * _triton_base.BLOCKS_IN_ROUND
    assert max(sizes) < case.layout.num_edges * batch / 4


# ---------------------------------------------------------------------- which kernel runs


def grid(side: int, reach: float) -> Layout:
    pos = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    target, source = torch.nonzero(torch.cdist(pos, pos) <= reach, as_tuple=True)
    return Layout(torch.stack([source, target]), side * side, pos)


def test_full_tiles_choose_the_tile_kernel(make_attention_case):
    assert grid(12, 2.0).best_kernel() == "tiles"
    assert make_attention_case("all", "complete", 32, 1, 1, 1, 1).layout.best_kernel() == "tiles"
    assert make_attention_case("self", "self", 40, 1, 1, 1, 1).layout.best_kernel() == "edges"
    assert make_attention_case("none", "none", 4, 1, 1, 1, 1).layout.best_kernel() == "edges"


def test_tables_are_made_once():
    layout = grid(8, 1.5)
    assert layout.best_kernel() == "tiles"
    for kernel in ("edges", "tiles"):
        assert all(a is b for a, b in zip(layout.tables(kernel), layout.tables(kernel), strict=True))


def test_wide_queries_go_to_the_edge_kernel_or_are_refused(make_attention_case, device):
    case = make_attention_case("wide", "complete", 6, 1, 1, 200, 3, cost=False)
    wide = case.solve(attend, torch.float32, device)
    edges = case.solve(KERNELS["edges"], torch.float32, device)
    assert torch.equal(wide["out"], edges["out"])
    with pytest.raises(ValueError, match=r"'triton_tiles' serves D up to 64 in float32, query has D=200"):
        case.solve(KERNELS["tiles"], torch.float32, device)


def test_the_chosen_kernel_runs(make_attention_case, device):
    layout = grid(5, 1.5)
    case = make_attention_case("grid", layout.edge_index, 25, 2, 1, 4, 6)
    case = replace(case, layout=layout)
    assert layout.best_kernel() == "tiles"
    chosen = case.solve(attend, torch.float32, device)
    tiles = case.solve(KERNELS["tiles"], torch.float32, device)
    assert all(torch.equal(chosen[name], tiles[name]) for name in tiles)


# ---------------------------------------------------------------------- torch.library and torch.compile


def operands(case, device: str) -> list[Tensor]:
    return [getattr(case, name).to(device, torch.float32).requires_grad_() for name in INPUTS]


def test_opcheck(make_attention_case, kernel, device):
    case = make_attention_case("op", "random", 3, 2, 1, 3, 4)
    layout = case.layout.to(device)
    graph = (case.scale, layout.edge_index, layout.tables(kernel))
    inputs = operands(case, device)
    operator = getattr(torch.ops.colgraph, f"triton_{kernel}").default
    torch.library.opcheck(operator, (*inputs, case.edge_cost.to(inputs[0]), *graph))
    torch.library.opcheck(operator, (*inputs[:3], None, None, *graph))


@pytest.mark.parametrize("name", ["auto", "edges", "tiles"])
def test_compiles_whole_and_follows_the_layout(make_attention_case, device, name):
    attention = {"auto": attend, **KERNELS}[name]
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    # Two graphs of one size: compiled code must not use the tables of the first for the second.
    for seed in (0, 1):
        case = make_attention_case("compiled", "random", 5, 2, 1, 4, 6, seed=seed)
        straight, traced = (case.solve(f, torch.float32, device) for f in (attention, compiled))
        assert all(torch.equal(straight[key], traced[key]) for key in straight)


def test_gradients_of_gradients(make_attention_case, second_derivatives, kernel, device):
    case = make_attention_case("twice", "masked", 20, 1, 2, 2, 3)
    exact = second_derivatives(case, sheet_attention_reference, torch.float64)
    for found, truth in zip(second_derivatives(case, KERNELS[kernel], torch.float32, device), exact, strict=True):
        torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no CUDA device")
def test_forward_and_backward_fit_in_a_cuda_graph(make_attention_case, kernel):
    case = make_attention_case("graph", "random", 20, 3, 1, 8, 16)
    layout = case.layout.to("cuda")
    inputs = operands(case, "cuda")
    grad = case.grad_out.to(inputs[0])

    def step() -> tuple[Tensor, ...]:
        out, _ = KERNELS[kernel](*inputs, layout, case.scale)
        return (out, *torch.autograd.grad(out, inputs, grad))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs[0].mul_(0.5)
    graph.replay()
    expected = step()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no CUDA device")
def test_peak_memory_has_no_row_per_edge_and_sample(kernel):
    layout = grid(64, 4.0).to("cuda")
    n, batch, width = layout.num_columns, 32, 16
    inputs = [torch.randn(n, batch, 1, width, device="cuda", requires_grad=True) for _ in range(3)]
    KERNELS[kernel](*inputs, None, layout, 0.25)[0].sum().backward()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    KERNELS[kernel](*inputs, None, layout, 0.25)[0].sum().backward()
    extra = torch.cuda.max_memory_allocated() - before
    # Output and its gradient, three input gradients held twice while they are added up, three numbers per row.
    assert extra < 4 * n * batch * (8 * width + 8)
    assert 4 * n * batch * (8 * width + 8) < 4 * layout.num_edges * batch * width


# ---------------------------------------------------------------------- addresses


@triton.jit
def address_kernel(column, edge, rows, biases, num_samples, num_heads, sample, head):
    at = tl.arange(0, 4)
    tl.store(rows + at, _triton_base.row_index(tl.load(column + at), sample, head, num_samples, num_heads))
    tl.store(biases + at, _triton_base.edge_row(tl.load(edge + at), head, num_heads, 2))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_addresses_are_computed_in_64_bits(device, dtype):
    column = torch.tensor([0, 1, 1_000_000, 2**31 - 1], dtype=dtype, device=device)
    rows, biases = (torch.zeros(4, dtype=torch.int64, device=device) for _ in range(2))
    address_kernel[(1,)](column, column, rows, biases, 4096, 12, 4095, 11)
    expected = [(int(c) * 4096 + 4095) * 12 + 11 for c in column]
    assert max(expected) > 2**46
    assert rows.tolist() == expected
    assert biases.tolist() == [int(c) * 12 + 11 for c in column]
