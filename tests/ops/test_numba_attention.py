"""Backend "numba" against the float64 reference, and what an operator must be beyond being right."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import colgraph as cg
from colgraph.layout import Layout
from colgraph.ops import _numba_groups, _threads, numba_attention
from colgraph.ops._processor import PAST_CACHES

sheet_attention = functools.partial(cg.ops.sheet_attention, backend="numba")
sheet_attention_reference = functools.partial(cg.ops.sheet_attention, backend="reference")
INPUTS = ("query", "key", "value", "edge_bias")


@pytest.fixture
def two_threads():
    """Two threads, and every problem large enough for them."""
    threads, worth = torch.get_num_threads(), _threads._WORTH_A_THREAD
    torch.set_num_threads(2)
    _threads._WORTH_A_THREAD = 1
    yield
    torch.set_num_threads(threads)
    _threads._WORTH_A_THREAD = worth


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------- right


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_errs_no_more_than_the_reference(attention_case, compare_with_reference, dtype):
    compare_with_reference(attention_case, sheet_attention, dtype)


@pytest.mark.parametrize("channels", [8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 80, 96, 112, 128, 200])
def test_widths_around_the_vector_sizes(make_attention_case, compare_with_reference, channels):
    case = make_attention_case("width", "random", 20, 2, 1, channels // 3, channels, seed=channels)
    compare_with_reference(case, sheet_attention, torch.float32)


@pytest.mark.parametrize(("batch", "depth", "channels"), [(16, 64, 64), (8, 128, 384), (256, 4, 20)])
@pytest.mark.parametrize("graph", ["grid", "random", "hub"])
def test_rows_that_fall_on_the_same_lines_of_the_cache(
    make_attention_case, compare_with_reference, graph, batch, depth, channels
):
    """They are copied before use where the columns of a group share them (grid), and not elsewhere."""
    edges = cg.build_sheet("grid", shape=(6, 7), neighbors="knn:9").edge_index if graph == "grid" else graph
    case = make_attention_case("period", edges, 42, batch, 1, depth, channels)
    compare_with_reference(case, sheet_attention, torch.float32)


@pytest.mark.parametrize("degree", [1, 3, 4, 5, 15, 16, 17, 33, 64])
def test_degrees_around_the_vector_size(make_attention_case, compare_with_reference, degree):
    target = torch.arange(70).repeat_interleave(degree)
    source = (torch.arange(degree).repeat(70) + target) % 70
    order = torch.argsort(target * 70 + source)
    case = make_attention_case("degree", torch.stack([source, target])[:, order], 70, 1, 2, 8, 8, seed=degree)
    compare_with_reference(case, sheet_attention, torch.float32)


def test_a_column_that_hears_thousands(make_attention_case, compare_with_reference):
    case = make_attention_case("large hub", "hub", 2500, 1, 1, 4, 6)
    compare_with_reference(case, sheet_attention, torch.float32)


@settings(max_examples=40)
@given(
    n=st.integers(1, 12),
    density=st.floats(0, 1),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    qk_dim=st.integers(1, 20),
    channels=st.integers(1, 40),
    bias=st.sampled_from([None, "edge", "head"]),
    cost=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_random_directed_graphs(
    make_attention_case, compare_with_reference, n, density, batch, heads, qk_dim, channels, bias, cost, seed
):
    target, source = np.nonzero(np.random.default_rng(seed).random((n, n)) < density)
    edges = torch.from_numpy(np.stack([source, target]))
    case = make_attention_case("random", edges, n, batch, heads, qk_dim, channels, bias, cost, seed)
    compare_with_reference(case, sheet_attention, torch.float32)


def test_scores_far_from_zero_neither_overflow_nor_vanish(make_attention_case):
    case = make_attention_case("plain", "random", 12, 2, 1, 4, 5)
    case.edge_bias.add_(300.0)
    far = case.solve(sheet_attention, torch.float32)
    case.edge_bias.sub_(600.0)
    assert all(torch.allclose(far[name], other) for name, other in case.solve(sheet_attention, torch.float32).items())


@pytest.mark.parametrize("name", INPUTS[:3])
def test_not_a_number_is_not_hidden(make_attention_case, name):
    case = make_attention_case("plain", "complete", 6, 1, 1, 4, 5)
    getattr(case, name)[2] = torch.nan
    assert bool(case.solve(sheet_attention, torch.float32)["out"].isnan().any())


def test_agrees_with_the_reference_through_the_public_function(make_attention_case):
    case = make_attention_case("plain", "random", 14, 2, 2, 5, 6)
    q, k, v, b = (getattr(case, name).float() for name in INPUTS)
    args = (q, k, v, b, case.layout, None, case.edge_cost.float())
    for mine, theirs in zip(cg.ops.sheet_attention(*args, "numba"), cg.ops.sheet_attention(*args, "reference")):
        torch.testing.assert_close(mine, theirs)


# ---------------------------------------------------------------------- inputs of every kind


@pytest.mark.parametrize("needs", [(), ("query",), ("key",), ("value",), ("edge_bias",), ("key", "edge_bias")])
def test_only_the_gradients_asked_for(make_attention_case, needs):
    case = make_attention_case("plain", "random", 15, 2, 2, 5, 6)
    everything = case.solve(sheet_attention, torch.float32)
    some = case.solve(sheet_attention, torch.float32, needs_grad=needs)
    assert set(some) == {"out", "cost", *(f"grad_{name}" for name in needs)}
    assert all(torch.equal(some[name], everything[name]) for name in some)


@pytest.mark.parametrize("used", [0, 1])
def test_one_of_the_two_results_may_go_unused(make_attention_case, used):
    case = make_attention_case("plain", "random", 15, 2, 1, 5, 6)
    grads = []
    for attention in (sheet_attention, sheet_attention_reference):
        inputs = [getattr(case, name).float().requires_grad_() for name in INPUTS]
        results = attention(*inputs, case.layout, case.scale, case.edge_cost.float())
        results[used].square().sum().backward()
        grads.append([tensor.grad for tensor in inputs])
    for mine, theirs in zip(*grads):
        zero = torch.zeros(())
        torch.testing.assert_close(
            *torch.broadcast_tensors(zero if mine is None else mine, zero if theirs is None else theirs),
            rtol=1e-4,
            atol=1e-5,
        )


def test_inputs_need_not_be_contiguous(make_attention_case):
    case = make_attention_case("plain", "random", 15, 3, 2, 5, 6)
    query, key, value, bias = (getattr(case, name).float() for name in INPUTS)
    cost = case.edge_cost.float()
    scattered = [
        query.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        torch.cat([key, key], -1)[..., :5],
        value.transpose(1, 2).contiguous().transpose(1, 2),
        bias.T.contiguous().T,
    ]
    assert not any(tensor.is_contiguous() for tensor in scattered)
    results = []
    for inputs in ([query, key, value, bias], scattered):
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        out, total = sheet_attention(*leaves, case.layout, 0.4, cost.repeat_interleave(2)[::2])
        (out.sum() + total.sum()).backward()  # sums give expanded, stride-0 gradients
        results.append([out, total, *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_inputs_are_not_written_to(make_attention_case):
    case = make_attention_case("plain", "random", 15, 2, 1, 5, 6)
    inputs = [getattr(case, name).float() for name in INPUTS]
    before = [tensor.clone() for tensor in inputs]
    out, _ = sheet_attention(*(tensor.requires_grad_() for tensor in inputs), case.layout, 0.4)
    out.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(inputs, before))


def test_an_empty_batch(make_attention_case):
    case = make_attention_case("empty batch", "random", 8, 0, 1, 5, 6)
    result = case.solve(sheet_attention, torch.float32)
    assert result["out"].shape == (8, 0, 1, 6)
    assert not result["grad_edge_bias"].any()


def test_gradients_of_gradients(make_attention_case, second_derivatives):
    for name in ("plain", "masked", "far"):
        case = make_attention_case(name, "random" if name == "plain" else name, 8, 1, 2, 5, 6)
        exact = second_derivatives(case, sheet_attention_reference, torch.float64)
        for found, truth in zip(second_derivatives(case, sheet_attention, torch.float32), exact, strict=True):
            torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-4)


def test_columns_without_edges_get_and_give_nothing(make_attention_case):
    edges = torch.tensor([[1], [2]])  # 2 hears 1; 0 and 3 are alone
    case = make_attention_case("one edge", edges, 4, 2, 1, 3, 5)
    result = case.solve(sheet_attention, torch.float32)
    assert not result["out"][[0, 1, 3]].any()
    assert not result["cost"][[0, 1, 3]].any()
    assert torch.equal(result["out"][2], case.value[1].float().double())
    assert not result["grad_value"][[0, 2, 3]].any()
    assert not result["grad_query"].any(), "the softmax of one score is constant"


# ---------------------------------------------------------------------- the same bits every time


def test_bitwise_the_same_on_every_run_and_for_every_number_of_threads(make_attention_case, two_threads):
    case = make_attention_case("plain", "random", 90, 2, 2, 7, 40)
    runs = []
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        runs.append(case.solve(sheet_attention, torch.float32))
    assert all(equal(runs[0], other) for other in runs[1:])


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 200])
@pytest.mark.parametrize("degrees", [[5], [3] * 1000, [0] * 50, [0, 0, 2000, 1, 1, 0], list(range(90))])
def test_pieces_are_all_columns_once_and_become_smaller(threads, degrees):
    work = np.concatenate([[0], np.cumsum(np.array(degrees) + 1)])
    counter, *cuts = numba_attention._pieces(work, threads).tolist()
    assert counter == 0
    assert cuts[0] == 0
    assert cuts[-1] == len(degrees)
    assert cuts == sorted(cuts)
    if threads > 1 and len(degrees) == 1000:
        sizes = np.diff(cuts)
        assert abs(sizes[0] - 500 / threads) <= 1
        assert max(sizes[-threads:]) <= max(1000 / 32 / threads, 1) + 1


def test_rows_to_ask_for_are_those_not_met_by_the_groups_just_before():
    layout = cg.build_sheet("grid", shape=(30, 40), neighbors=cg.KNN(5)).layout
    edges = numba_attention._unpack_tables(layout.walk, layout.num_columns).listening.edges
    of_column = [edges.neighbors[edges.indptr[i] : edges.indptr[i + 1]].tolist() for i in edges.order]
    group, before = _numba_groups.COLUMNS, _numba_groups.RECENT
    for place, heard in enumerate(of_column):
        met = [j for other in of_column[max(0, place // group - before) * group : place] for j in other]
        wanted = [j for at, j in enumerate(heard) if j not in met and j not in heard[:at]]
        assert edges.fresh[edges.fresh_indptr[place] : edges.fresh_indptr[place + 1]].tolist() == wanted
    assert edges.fresh.size == edges.fresh_indptr[-1] >= layout.num_columns


def test_bitwise_the_same_however_small_the_scratch(make_attention_case, monkeypatch):
    case = make_attention_case("plain", "random", 30, 3, 2, 7, 20)
    whole = case.solve(sheet_attention, torch.float32)
    monkeypatch.setattr(numba_attention, "SCRATCH_FLOATS", 1)
    assert equal(whole, case.solve(sheet_attention, torch.float32))
    monkeypatch.setattr(numba_attention, "_LINE", 2)  # one slice a round
    assert equal(whole, case.solve(sheet_attention, torch.float32))


@pytest.mark.parametrize(
    ("slices", "edges", "room", "widths"),
    [
        (5, 10, 0, [5]),  # all fit
        (20, 100, 1600, [8, 8, 4]),  # more than fits, less than the inputs take: a cache line per edge
        (5, 100, 1600, [5]),
        (5, 100, 450, [2, 2, 1]),
        (3, 1000, 1600, [1, 1, 1]),  # a dense graph: two floats per edge
    ],
)
def test_rounds_of_the_scratch(monkeypatch, slices, edges, room, widths):
    monkeypatch.setattr(numba_attention, "SCRATCH_FLOATS", 100)
    rounds = list(numba_attention._rounds(slices, edges, room, True))
    assert [stop - start for start, stop, *_ in rounds] == widths
    assert [start for start, *_ in rounds] == [sum(widths[:i]) for i in range(len(widths))]
    assert all(scratch.size == edges * apart and apart >= 2 * widths[0] for *_, apart, scratch in rounds)


@pytest.mark.parametrize("channels", [128, 144, 150])
def test_bitwise_the_same_where_results_are_written_past_the_caches(channels, two_threads):
    """Large results take another way to memory: two samples at once are large, one alone is not."""
    n = 8192
    assert n * channels < PAST_CACHES <= 2 * n * channels
    layout = cg.build_sheet("grid", shape=(64, 128), neighbors=cg.KNN(6)).layout
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(n, 2, 1, 4, generator=generator) for _ in range(2))
    value, grad = (torch.randn(n, 2, 1, channels, generator=generator) for _ in range(2))

    def solve(samples: slice) -> list[Tensor]:
        inputs = [tensor[:, samples].clone().requires_grad_() for tensor in (query, key, value)]
        out, _ = sheet_attention(*inputs, None, layout, 0.5)
        out.backward(grad[:, samples].contiguous())
        return [out.detach(), *(tensor.grad for tensor in inputs)]

    together, alone = solve(slice(0, 2)), [solve(slice(i, i + 1)) for i in range(2)]
    for whole, *parts in zip(together, *alone, strict=True):
        assert torch.equal(whole, torch.cat(parts, dim=1))


def test_does_not_depend_on_the_order_of_work(make_attention_case):
    case = make_attention_case("plain", "random", 40, 2, 1, 7, 20)
    ordered = case.solve(sheet_attention, torch.float32)
    plain = Layout(case.layout.edge_index, 40)  # no positions: columns in order of their numbers
    assert not torch.equal(plain.order, case.layout.order)
    object.__setattr__(case, "layout", plain)
    assert equal(ordered, case.solve(sheet_attention, torch.float32))


def test_two_models_on_one_sheet(make_attention_case):
    first = make_attention_case("first", "random", 20, 2, 1, 4, 6, seed=1)
    second = make_attention_case("second", first.layout.edge_index, 20, 3, 2, 5, 7, seed=2)
    alone = second.solve(sheet_attention, torch.float32)
    object.__setattr__(second, "layout", first.layout)
    first.solve(sheet_attention, torch.float32)
    assert equal(alone, second.solve(sheet_attention, torch.float32))


# ---------------------------------------------------------------------- threads and processes


def test_several_python_threads_at_once(make_attention_case, two_threads):
    cases = [make_attention_case("plain", "random", 60, 2, 1, 8, 33, seed=seed) for seed in range(4)]
    alone = [case.solve(sheet_attention, torch.float32) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: case.solve(sheet_attention, torch.float32), cases * 4))
    assert all(equal(result, alone[i % 4]) for i, result in enumerate(together))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_the_same(make_attention_case, two_threads):
    case = make_attention_case("plain", "random", 60, 2, 1, 8, 33)
    expected = case.solve(sheet_attention, torch.float32, needs_grad=())  # the parent's threads are running now
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        good = equal(expected, case.solve(sheet_attention, torch.float32, needs_grad=()))
        os.write(writer, b"same" if good else b"else")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"same"
    os.waitpid(child, 0)


class _AttendedSamples(torch.utils.data.Dataset):
    def __init__(self, case):
        self.case = case

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return self.case.solve(sheet_attention, torch.float32)["out"]


def test_in_data_loader_workers(make_attention_case, two_threads):
    data = _AttendedSamples(make_attention_case("plain", "random", 20, 1, 1, 8, 8))
    expected = data[0]
    for sample in torch.utils.data.DataLoader(data, batch_size=None, num_workers=2):
        assert torch.equal(sample, expected)


# ---------------------------------------------------------------------- torch's own checks


def _operator_arguments(case) -> tuple:
    inputs = tuple(getattr(case, name).float().requires_grad_() for name in INPUTS)
    return (*inputs, case.edge_cost.float(), 0.4, case.layout.edge_index, [case.layout.walk])


def test_operator_check(make_attention_case):
    case = make_attention_case("plain", "random", 10, 2, 2, 5, 6)
    torch.library.opcheck(torch.ops.colgraph.numba_attention.default, _operator_arguments(case))


def test_operator_check_without_bias_and_cost(make_attention_case):
    query, key, value, _, _, *rest = _operator_arguments(make_attention_case("plain", "random", 10, 2, 2, 5, 6))
    torch.library.opcheck(torch.ops.colgraph.numba_attention.default, (query, key, value, None, None, *rest))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_operator_check(make_attention_case, dtype, tmp_path):
    case = make_attention_case("plain", "random", 10, 2, 2, 5, 6)
    *operands, edge_index, tables = (
        a.detach().to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in _operator_arguments(case)
    )
    out, total, softmax = torch.ops.colgraph.numba_attention(*operands, edge_index, tables)
    torch.save([operands, tables, out, total, softmax], tmp_path / "given.pt")
    subprocess.run([sys.executable, "-c", _CHECK, str(tmp_path / "given.pt")], check=True)


# In a process of its own: after many other tests torch's check has failed now and then, on the same arguments.
_CHECK = """
import sys, torch
import colgraph.ops.numba_attention
operands, tables, out, total, softmax = torch.load(sys.argv[1], weights_only=True)
for grad_cost in (total, None):
    args = (*operands, tables, out, grad_cost, [softmax], [True, False, True, True])
    torch.library.opcheck(torch.ops.colgraph.numba_attention_backward.default, args)
"""


class Names(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_who_looks_on_sees_an_operator_and_the_same_numbers(make_attention_case):
    case = make_attention_case("plain", "random", 14, 2, 2, 5, 6)
    direct = case.solve(sheet_attention, torch.float32)
    with Names() as names:
        watched = case.solve(sheet_attention, torch.float32)
    assert {"colgraph.numba_attention.default", "colgraph.numba_attention_backward.default"} <= set(names.seen)
    assert equal(direct, watched)


def test_compiles_as_one_graph_on_a_layout_never_used_before(make_attention_case):
    case = make_attention_case("plain", "random", 18, 2, 1, 5, 6)
    cost = case.edge_cost.float()

    def loss(query, key, value, bias):
        out, total = cg.ops.sheet_attention(query, key, value, bias, case.layout, None, cost, backend="numba")
        return out.sin().sum() + total.sum()

    results = []
    for function in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss):
        inputs = [getattr(case, name).float().requires_grad_() for name in INPUTS]
        value = function(*inputs)
        value.backward()
        results.append([value, *(tensor.grad for tensor in inputs)])
    for compiled, eager in zip(*results):
        torch.testing.assert_close(compiled, eager)


def test_under_autocast(make_attention_case):
    case = make_attention_case("plain", "random", 18, 2, 1, 5, 6)
    query, key, value, bias = (getattr(case, name).float().requires_grad_() for name in INPUTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = [tensor @ torch.eye(tensor.size(-1)) for tensor in (query, key, value)]
        out, _ = sheet_attention(*halves, bias, case.layout, 0.4)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert bias.grad.dtype == query.grad.dtype == torch.float32


# ---------------------------------------------------------------------- compilation


def test_importing_the_backend_compiles_nothing():
    code = "import sys, colgraph.ops.numba_attention; sys.exit('colgraph.ops._numba_kernels' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_place_for_the_cache_is_no_error(monkeypatch):
    from colgraph.ops import _numba_cache

    def no_locator(*args, cache=False, **kwargs):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(_numba_cache, "njit", no_locator)

    def kernel() -> None:
        """Nothing."""

    assert _numba_cache.cached_kernel("_numba_kernels.py")(kernel) is kernel
