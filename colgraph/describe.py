"""A printed report on a graph: what to look at before training on it. Plain arrays in, text and numbers out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from colgraph.edges import edge_codes
from colgraph.locality import dead_edges, default_sigma

# The sizes of `Columnformer(sheet)` as it comes; a test holds them to the model's signature.
DEFAULT_SIZES = {"dim": 64, "num_heads": 1, "qk_dim": 16, "mlp_dim": 32}


class SheetReport(str):
    """The report as text, with the numbers behind it in ``values``."""

    values: dict[str, Any]

    def __new__(cls, text: str, values: dict[str, Any]) -> Self:
        out = super().__new__(cls, text)
        out.values = values
        return out

    def __repr__(self) -> str:
        return str(self)


def default_parameters(columns: int, edges: int) -> int:
    """Parameters of an untied ``Columnformer`` of default sizes on a graph of N columns and E edges.

    ``N (4C + 2 H (D C + D) + 2 M C + M + C + C) + E H``: two norms, query and key, the MLP, the position embedding,
    and the edge biases.
    """
    c, h, d, m = (DEFAULT_SIZES[name] for name in ("dim", "num_heads", "qk_dim", "mlp_dim"))
    return columns * (4 * c + 2 * h * d * (c + 1) + 2 * m * c + m + c + c) + edges * h


def report(
    *,
    geometry: str,
    metric: str,
    positions: np.ndarray,
    edge_index: np.ndarray,
    distance: np.ndarray,
    spacing: float,
    is_tract: np.ndarray,
    areas: tuple[np.ndarray, list[str]] | None,
    num_inputs: int,
    num_outputs: int,
    fingerprint: str,
) -> SheetReport:
    """Measure a graph; see :meth:`colgraph.Sheet.describe`.

    The mean neighbor offset is ``|mean over edges of (pos_j - pos_i)| / spacing``: 0 on a regular geometry unless
    equal distances were broken in a preferred direction.
    """
    n, (source, target) = positions.shape[0], edge_index
    others = source != target
    degree = np.bincount(target, minlength=n)
    listens = np.bincount(target[others], minlength=n)
    speaks = np.bincount(source[others], minlength=n)
    code = edge_codes(edge_index[:, others], n)
    one_way = int((~np.isin(edge_codes(edge_index[::-1, others], n), code)).sum())
    graph = coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(n, n))
    components = int(connected_components(graph, directed=True, connection="weak")[0])
    offset = (positions[source] - positions[target])[others].astype(np.float64)
    lengths = distance[others]
    quantiles = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]) if len(lengths) else np.zeros(5)
    sigma = default_sigma(edge_index, distance, spacing, metric, is_tract)
    bias = -(distance.astype(np.float64) ** 2) / (2 * sigma**2)
    parameters = default_parameters(n, edge_index.shape[1])
    values: dict[str, Any] = {
        "geometry": geometry,
        "metric": metric,
        "columns": n,
        "edges": int(edge_index.shape[1]),
        "self_loops": int((~others).sum()),
        "in_degree": (int(degree.min()), float(np.median(degree)), int(degree.max())),
        "isolated": int(((listens == 0) & (speaks == 0)).sum()),
        "one_way": one_way,
        "one_way_fraction": one_way / max(len(code), 1),
        "components": components,
        "distance_quantiles": quantiles.tolist(),
        "spacing": spacing,
        "sigma": sigma,
        "dead_edges": dead_edges(target, bias, n),
        "mean_neighbor_offset": float(np.linalg.norm(offset.mean(0)) / spacing) if len(offset) else 0.0,
        "inputs": num_inputs,
        "outputs": num_outputs,
        "parameters": parameters,
        "training_bytes": 16 * parameters,
        "fingerprint": fingerprint,
        "areas": None if areas is None else _area_sizes(*areas),
        "tracts": None if not is_tract.any() else _tract_values(target, distance, bias, is_tract, n),
    }
    return SheetReport(_text(values), values)


def _area_sizes(area: np.ndarray, names: list[str]) -> dict[str, Any]:
    sizes = np.bincount(area[area >= 0], minlength=len(names))
    return {"columns": dict(zip(names, sizes.tolist(), strict=True)), "in_none": int((area < 0).sum())}


def _tract_values(
    target: np.ndarray, distance: np.ndarray, bias: np.ndarray, is_tract: np.ndarray, n: int
) -> dict[str, Any]:
    """Long-range edges, and the share of attention that their columns give them where queries and keys are zero."""
    best = np.full(n, -np.inf)
    np.maximum.at(best, target, bias)
    weight = np.exp(bias - best[target])
    share = np.bincount(target, weight * is_tract, n) / np.maximum(np.bincount(target, weight, n), 1e-300)
    listens = np.bincount(target, is_tract, n) > 0
    return {
        "edges": int(is_tract.sum()),
        "listening_columns": int(listens.sum()),
        "distance": [float(d) for d in np.quantile(distance[is_tract], [0, 0.5, 1])],
        "initial_attention": float(share[listens].mean()),
    }


def _text(v: dict[str, Any]) -> str:
    low, middle, high = v["in_degree"]
    rows = [
        ("geometry", f"{v['geometry']} (distance: {v['metric']})"),
        ("columns", f"{v['columns']:,}"),
        ("edges", f"{v['edges']:,} ({v['self_loops']:,} self-loops)"),
        ("in-degree", f"min {low}, median {middle:g}, max {high} (with self-loops)"),
        ("isolated columns", f"{v['isolated']:,}"),
        ("one-way edges", f"{v['one_way']:,} ({v['one_way_fraction']:.1%})"),
        ("connected components", f"{v['components']:,}"),
        ("spacing", f"{v['spacing']:.4g} (median nearest-neighbor distance)"),
        ("distance", "min {:.4g}, quartiles {:.4g} {:.4g} {:.4g}, max {:.4g}".format(*v["distance_quantiles"])),
        (
            "dead edges",
            f"{v['dead_edges']:,} ({v['dead_edges'] / max(v['edges'], 1):.1%}) start without weight in practice, at "
            f"the default sigma {v['sigma']:.4g}",
        ),
        ("mean neighbor offset", f"{v['mean_neighbor_offset']:.4f} spacings"),
        ("inputs / outputs", f"{v['inputs']:,} / {v['outputs']:,} columns"),
        (
            "default model",
            f"{v['parameters']:,} parameters, {v['training_bytes'] / 2**20:,.1f} MiB to train "
            "(parameters, gradients, AdamW; without activations)",
        ),
        ("fingerprint", v["fingerprint"][:16]),
    ]
    if v["tracts"] is not None:
        t = v["tracts"]
        text = "{:,}, {:.3g} to {:.4g} long (median {:.3g})".format(t["edges"], *(t["distance"][i] for i in (0, 2, 1)))
        text += f"; the {t['listening_columns']:,} columns that have some start with {t['initial_attention']:.0%} of"
        rows.insert(-1, ("long-range edges", f"{text} their attention on them"))
    if v["areas"] is not None:
        sizes = [size for size in v["areas"]["columns"].values() if size]
        text = f"{len(sizes)} of {min(sizes, default=0):,} to {max(sizes, default=0):,} columns"
        rows.insert(2, ("areas", f"{text}; {v['areas']['in_none']:,} columns in none"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
