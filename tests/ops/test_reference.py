"""The specification itself: against a plain loop, gradcheck, and the corner cases every backend inherits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import softmax

from colgraph.layout import Layout
from colgraph.nn import SheetAttention
from colgraph.ops import attention_weights, sheet_attention
from colgraph.ops.reference import ByTarget, edge_softmax


def make_layout(pairs: list[tuple[int, int]], n: int) -> Layout:
    """From (source, target) pairs."""
    ordered = sorted(set(pairs), key=lambda pair: (pair[1], pair[0]))
    return Layout(torch.tensor(ordered, dtype=torch.int64).reshape(-1, 2).T.contiguous(), n)


def draw(layout: Layout, batch=2, heads=2, d=3, c=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n, e = layout.num_columns, layout.num_edges

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(n, batch, heads, d), normal(n, batch, heads, d), normal(n, batch, heads, c), normal(e, heads)


def plain_loop(query, key, value, bias, layout, cost):
    """Attention as a person would write it, one number at a time."""
    n, batch, heads, d = query.shape
    out, spent = torch.zeros_like(value), query.new_zeros(n, batch, heads)
    for i in range(n):
        listens = [(e, int(j)) for e, (j, t) in enumerate(layout.edge_index.T) if int(t) == i]
        for b in range(batch):
            for h in range(heads):
                scores = [float(query[i, b, h] @ key[j, b, h]) / math.sqrt(d) + float(bias[e, h]) for e, j in listens]
                total = sum(math.exp(s) for s in scores)
                for (e, j), s in zip(listens, scores, strict=True):
                    a = math.exp(s) / total
                    out[i, b, h] += a * value[j, b, h]
                    spent[i, b, h] += a * cost[e]
    return out, spent


graphs = st.integers(1, 6).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
)


@settings(max_examples=40)
@given(graphs, st.integers(1, 3))
def test_it_is_the_plain_loop(graph, heads):
    n, pairs = graph
    layout = make_layout(pairs, n)
    q, k, v, b = draw(layout, heads=heads)
    cost = torch.rand(layout.num_edges, dtype=torch.float64)
    out, spent = sheet_attention(q, k, v, b, layout, edge_cost=cost, backend="reference")
    expected_out, expected_spent = plain_loop(q, k, v, b, layout, cost)
    torch.testing.assert_close(out, expected_out, rtol=0, atol=1e-12)
    torch.testing.assert_close(spent, expected_spent, rtol=0, atol=1e-12)


def test_gradcheck():
    layout = make_layout([(0, 1), (1, 1), (2, 1), (0, 2), (2, 2), (3, 0)], 5)
    q, k, v, b = (t.requires_grad_() for t in draw(layout, batch=2, heads=2, d=2, c=3))
    cost = torch.rand(layout.num_edges, dtype=torch.float64)

    def run(*tensors):
        return sheet_attention(*tensors, layout, edge_cost=cost, backend="reference")

    assert torch.autograd.gradcheck(run, (q, k, v, b))


def test_a_column_without_edges_gets_zeros():
    layout = make_layout([(0, 1)], 3)
    q, k, v, b = (t.requires_grad_() for t in draw(layout))
    out, cost = sheet_attention(q, k, v, b, layout, edge_cost=torch.ones(1), backend="reference")
    assert torch.equal(out[[0, 2]], torch.zeros_like(out[[0, 2]]))
    assert torch.equal(cost[[0, 2]], torch.zeros_like(cost[[0, 2]]))
    out.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (q, k, v, b))


def test_a_masked_column_gets_zeros():
    layout = make_layout([(0, 0), (1, 0), (0, 1), (1, 1)], 2)
    q, k, v, b = draw(layout)
    b[:2] = -torch.inf
    b[2] = -torch.inf
    tensors = [t.requires_grad_() for t in (q, k, v, b)]
    out, _ = sheet_attention(*tensors, layout, backend="reference")
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    torch.testing.assert_close(out[1], v[1])
    out.square().sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in tensors)


def test_edge_softmax_is_pygs_softmax():
    target = torch.tensor([0, 0, 1, 3, 3, 3])
    score = torch.randn(6, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(edge_softmax(score, ByTarget(target, 5)), softmax(score, target, num_nodes=5))


def test_bias_may_be_per_edge_or_missing():
    layout = make_layout([(0, 1), (1, 1), (2, 0)], 3)
    q, k, v, b = draw(layout, heads=2)
    per_edge = sheet_attention(q, k, v, b[:, 0], layout, backend="reference")[0]
    repeated = sheet_attention(q, k, v, b[:, :1].repeat(1, 2), layout, backend="reference")[0]
    torch.testing.assert_close(per_edge, repeated)
    none, cost = sheet_attention(q, k, v, None, layout, backend="reference")
    torch.testing.assert_close(none, sheet_attention(q, k, v, b * 0, layout, backend="reference")[0])
    assert cost is None
    assert attention_weights(q, k, None, layout).shape == (3, 2, 2)


@pytest.mark.parametrize("with_cost", [False, True])
def test_message_passing_is_the_reference(with_cost, assert_same):
    layout = make_layout([(0, 1), (1, 1), (2, 1), (3, 2), (0, 2), (3, 3)], 5)
    q, k, v, b = draw(layout, heads=2, d=3, c=2)
    cost = torch.rand(layout.num_edges, dtype=torch.float64) if with_cost else None
    module = SheetAttention(4, 2, 3, 5, edge_bias=b, backend="reference").double()
    calls = []
    module.register_propagate_forward_hook(lambda *_: calls.append(1))

    def propagated(t):
        module.edge_bias = None
        del module.edge_bias
        module.edge_bias = t["b"]
        out, spent = module._propagate(t["q"], t["k"], t["v"], layout, cost, module.edge_bias, (5, 5))
        return (out, spent) if with_cost else out

    def reference(t):
        out, spent = sheet_attention(t["q"], t["k"], t["v"], t["b"], layout, edge_cost=cost, backend="reference")
        return (out, spent) if with_cost else out

    assert_same(propagated, reference, {"q": q, "k": k, "v": v, "b": b}, 1e-12)
    assert calls
