"""Random graphs with the degrees of a given one: arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import edge_codes


def swap_ends(
    edges: NDArray[np.int64], columns: int, *, directed: bool = True, rounds: int = 10, seed: int = 0
) -> NDArray[np.int64]:
    """A random graph with the same degrees: ``[2,E]``.

    Pairs of edges ``a -> b, c -> d`` become ``a -> d, c -> b``, all pairs of a random matching at once, unless that
    would make a self-loop or an edge that is there already. In- and out-degrees (undirected: degrees) stay, and so does
    the number of edges: a null of another density would make any graph look like a small world. Self-loops stay where
    they are. Source: Maslov and Sneppen (2002), "Specificity and stability in topology of protein networks".

    Args:
        edges: ``[2,E]`` between 0 and ``columns - 1``, without duplicates; undirected graphs have each edge once.
        columns: number of columns.
        directed: False swaps ends regardless of direction.
        rounds: each tries to swap every edge once.
        seed: of the matching.

    Raises:
        ValueError: for edges given twice.
    """
    links = edges.copy()
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(links[0] != links[1])
    if len(np.unique(edge_codes(links, columns, directed))) != links.shape[1]:
        raise ValueError("edges are given more than once: merge them before rewiring")
    for _ in range(rounds):
        order = rng.permutation(places)
        one, two = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
        if not directed:
            flip = one[rng.random(len(one)) < 0.5]
            links[:, flip] = links[::-1, flip]
        first = np.stack([links[0, one], links[1, two]])
        second = np.stack([links[0, two], links[1, one]])
        proposed = np.concatenate([edge_codes(first, columns, directed), edge_codes(second, columns, directed)])
        taken = _repeated(proposed) | _among(proposed, np.sort(edge_codes(links, columns, directed)))
        good = ~taken.reshape(2, -1).any(0) & (first[0] != first[1]) & (second[0] != second[1])
        links[:, one[good]], links[:, two[good]] = first[:, good], second[:, good]
    return links


def _repeated(code: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which entries occur more than once."""
    order = np.argsort(code)
    same = np.concatenate([[False], code[order][1:] == code[order][:-1], [False]])
    out = np.empty(len(code), dtype=bool)
    out[order] = same[1:] | same[:-1]
    return out


def _among(code: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which entries are in a sorted array."""
    place = np.minimum(np.searchsorted(ascending, code), len(ascending) - 1)
    return np.asarray(ascending[place] == code)
