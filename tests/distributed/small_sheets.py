"""Small sheets of all kinds that parts are tried on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import colgraph as cg
from colgraph.sheet import Sheet


def _sheet(edges: Tensor, n: int, seed: int = 0, inputs: int = 9, outputs: int = 7) -> Sheet:
    """Random positions; inputs and outputs scattered over the whole sheet."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(n, 3, generator=generator)
    scattered = torch.randperm(n, generator=generator)
    distance = (pos[edges[0]] - pos[edges[1]]).norm(dim=1)
    return Sheet.from_edges(
        edges, n, edge_distance=distance, pos=pos, inputs=scattered[:inputs], outputs=scattered[-outputs:]
    )


def knn() -> Sheet:
    return cg.build_sheet("torus", shape=(6, 7), neighbors=cg.KNN(6), num_inputs=9, num_outputs=7)


def directed() -> Sheet:
    """One way only: a column hears columns of lower number, so that some ranks send and never receive."""
    generator = torch.Generator().manual_seed(1)
    n = 30
    edges = torch.randint(0, n, (2, 120), generator=generator).sort(0).values
    chain = torch.arange(n - 1)
    sheet = _sheet(torch.cat([edges, torch.stack([chain, chain + 1])], 1), n)
    sheet.pos[:, 0] = torch.arange(n) * 10.0
    return sheet


def disconnected() -> Sheet:
    """Two pieces that do not hear each other, and columns that hear nobody."""
    ring = torch.arange(10)
    one = torch.stack([ring, (ring + 1) % 10])
    edges = torch.cat([one, one + 10, torch.stack([torch.arange(20), torch.arange(20)])], 1)
    sheet = _sheet(edges, 23)
    sheet.pos[:10, 0] -= 50
    return sheet


def hub() -> Sheet:
    """Column 0 hears all others and all hear it."""
    n = 25
    others = torch.arange(1, n)
    zero = torch.zeros_like(others)
    edges = torch.cat([torch.stack([others, zero]), torch.stack([zero, others]), torch.arange(n).expand(2, n)], 1)
    return _sheet(edges, n)


def complete() -> Sheet:
    n = 12
    return _sheet(torch.stack([torch.arange(n).repeat(n), torch.arange(n).repeat_interleave(n)]), n)


GRAPHS: dict[str, Callable[[], Sheet]] = {f.__name__: f for f in (knn, directed, disconnected, hub, complete)}
