"""The seed reaches every measure, and what cannot be measured on a sheet is left out with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import torch

import colgraph as cg
from colgraph import analysis
from colgraph.geometry.registry import find_geometry, list_geometries
from colgraph.report.analyse import attempt
from colgraph.report.catalogue import Analysis
from colgraph.report.context import Context
from colgraph.report.loading import PlainImages, Run
from colgraph.report.measures import CATALOGUE
from colgraph.report.shown import Settings, make_probes
from colgraph.space import METRICS
from colgraph.training import TrainConfig
from colgraph.viz.style import new_figure


def small_run(sheet: cg.Sheet, *, steps: int = 3, counts: tuple[int, ...] = (9, 9, 9), size: int = 8) -> Run:
    """An untrained network with as many random images of each class as ``counts`` says."""
    torch.manual_seed(0)
    model = cg.Columnformer(sheet, dim=6, steps=steps, qk_dim=4, mlp_dim=4)
    patch = size // max(1, round(len(sheet.inputs) ** 0.5))
    net = cg.VisionColumnformer(model, size, patch, 1, len(counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 1, size, size)).astype(np.uint8)
    images += (labels * 9).astype(np.uint8)[:, None, None, None]
    names = [f"class {i}" for i in range(len(counts))]
    config = TrainConfig(data="digits", image_size=size, channels=1, dim=6, steps=steps)
    return Run(Path("none"), PlainImages(net, (0.5,), (0.3,)).eval(), config, names, images, labels, {})


def context_of(run: Run, settings: Settings) -> Context:
    return Context("run", "run", run.net, make_probes(run, settings), settings, run)


def same(first: Any, second: Any) -> bool:
    """The same bits in value, null and interval."""
    return all(
        np.array_equal(np.asarray(getattr(first, name)), np.asarray(getattr(second, name)), equal_nan=True)
        for name in ("value", "null", "interval")
    )


SETTINGS = Settings(probes=160, permutations=12, nulls=2, progress=False, batch_size=16)


@pytest.fixture(scope="module")
def grid_run() -> Run:
    shape = cg.geometry("grid", shape=(6, 6))
    shape = replace(shape, area=(shape.positions > 2.5) @ [1, 2, 0], area_names=list("abcd"))
    return small_run(cg.build_sheet(shape, neighbors="knn:7", num_inputs=16))


def test_edges_are_those_of_the_network_at_hand(grid_run: Run) -> None:
    """An earlier checkpoint of a run whose edges come and go has others, beside which its attention belongs."""
    earlier = small_run(cg.build_sheet("grid", shape=(6, 6), neighbors="knn:9", num_inputs=16))
    then = replace(context_of(grid_run, SETTINGS), net=earlier.net, shared={})
    assert np.array_equal(then.edges, earlier.sheet.edge_index.numpy())
    assert len(then.attention) == then.edges.shape[1] == len(then.distance)


@pytest.mark.parametrize("item", CATALOGUE, ids=lambda item: item.key)
def test_the_seed_reaches_every_measure(item: Analysis, grid_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same stimuli another seed gives other nulls or intervals, the same seed the same bits."""
    # So few shuffles leave no column that is selective beyond chance, and no loop for a pinwheel.
    monkeypatch.setattr(analysis.orientation.OrientationMap, "selective", lambda found, **_: found.selectivity >= 0)
    if item.key == "modularity":
        pytest.importorskip("sknetwork")
    if item.key == "attack":
        pytest.importorskip("foolbox")
    first = context_of(grid_run, SETTINGS)
    again = replace(first, shared={})
    other = replace(first, shared={}, settings=replace(SETTINGS, seed=5))
    result = item.compute(first)
    assert same(result, item.compute(again))
    changed = item.compute(other)
    # No field here is fitted well, whichever units are drawn; how well they are, differs.
    differs = not np.array_equal(result.r2, changed.r2) if item.key == "gabors" else not same(result, changed)
    assert differs


# ---------------------------------------------------------------------- what the network reads


class Longer(PlainImages):
    """The same network with states multiplied by a power of two for each column and image: the same logits."""

    def unroll(self, images: Any, **options: Any) -> Any:
        out = super().unroll(images, **options)
        factor = powers(out.state)
        out.state = out.state * factor
        out.states = None if out.states is None else out.states * factor
        return out


def powers(state: torch.Tensor) -> torch.Tensor:
    """``[N,B,1]``, for no column and no image the same."""
    number = torch.arange(state.size(0) * state.size(1)).view(*state.shape[:2], 1)
    return 2.0 ** (number % 7 - 3)


def longer(run: Run) -> Run:
    return replace(run, net=Longer(run.net.net, (0.5,), (0.3,)).eval())


@pytest.fixture(scope="module")
def exact_run() -> Run:
    """Without the small number that a LayerNorm adds to the variance, so that no bit changes."""
    run = small_run(cg.build_sheet("grid", shape=(6, 6), neighbors="knn:7", num_inputs=16))
    run.net.net.norm.eps = 0.0
    with torch.no_grad():
        images = run.net.normalised(torch.from_numpy(run.images))
        state = run.net.net.unroll(images).state
        assert torch.equal(run.net.classify(state * powers(state)), run.net.classify(state))
    return run


READS = [item for item in CATALOGUE if item.family in ("topography", "representation", "fields")]


@pytest.mark.parametrize("signal", ["normed", 2, "norm"])
def test_the_length_of_states_changes_no_measure(signal: str | int, exact_run: Run) -> None:
    """Nothing reads it: every column's states are multiplied by a factor of its own. What is made of it does change."""
    settings = replace(SETTINGS, signal=signal, permutations=4)
    here, there = context_of(exact_run, settings), context_of(longer(exact_run), settings)
    changed = set()
    for item in READS:
        (first, why), (second, why_not) = attempt(item, here), attempt(item, there)
        assert why == why_not, item.key
        if first is not None and second is not None and not same(first, second):
            changed.add(item.key)
    if signal == "norm":
        assert {"correlation_by_distance", "orientation", "category", "moran"} <= changed
        assert {"dimensionality", "cka", "rsa", "reverse_correlation"} <= changed
        assert not {"energy", "transmission"} & changed, "activity is what the readout reads, whatever is mapped"
    else:
        assert not changed


@pytest.mark.parametrize("signal", ["normed", "evidence", "hidden", "norm", "mean", "state", "3", 1])
def test_every_signal_is_measured(signal: str | int, grid_run: Run) -> None:
    context = context_of(grid_run, replace(SETTINGS, signal=signal, permutations=4))
    one_number = signal in ("norm", "mean", "3", 1)
    channels = {"evidence": 3, "hidden": 4}.get(str(signal), 6)
    assert context.sample_states.shape == (27, 3, 36, 1 if one_number else channels)
    assert context.natural_states.shape == (27, 3, 36)
    assert context.activity.label
    if signal != "mean":  # an untrained LayerNorm takes the mean away
        assert context.units[0].shape == ((27, 36) if one_number else (27, 36, channels))
        item = next(item for item in CATALOGUE if item.key == "correlation_by_distance")
        assert attempt(item, context)[1] is None
    with pytest.raises(ValueError, match="did you mean 'hidden'"):
        Settings(signal="hiden")


def test_units_stand_where_they_should(grid_run: Run) -> None:
    """Of a run and of shuffled positions: what is at a pair's place is the column that stands there."""
    context = context_of(grid_run, replace(SETTINGS, signal="evidence"))
    for each in (context, context.shuffled()):
        x, points, pairs = each.units
        stands = np.argsort(each.place)[each.pairs.columns]
        whole = analysis.responses(grid_run.net, context.probes.natural, signal="evidence", progress=False)
        assert np.allclose(x, whole[:, stands], atol=1e-6)
        assert np.array_equal(points, grid_run.sheet.pos.numpy().astype(float)[each.pairs.columns])
        assert np.array_equal(each.pairs.columns[pairs.first], each.pairs.first)


def test_category_selectivity_is_of_the_class_itself(grid_run: Run) -> None:
    context = context_of(grid_run, SETTINGS)
    evidence = analysis.responses(grid_run.net, context.probes.natural, signal="evidence", progress=False)
    relative = evidence - evidence.mean(-1, keepdims=True)
    assert np.allclose(context.class_responses([2, 0]), relative[..., [2, 0]], atol=1e-6)
    assert np.allclose(context.natural, evidence.std(-1), atol=1e-6)


# ---------------------------------------------------------------------- one distance


def connectome(columns: int = 30) -> cg.Geometry:
    """A ring of connections of uneven lengths, whose positions are a layout for plotting."""
    here, there = np.arange(columns), (np.arange(columns) + 1) % columns
    lengths = 1 + 0.1 * np.arange(columns)
    return cg.Geometry(
        np.random.default_rng(0).normal(size=(columns, 3)),
        edges=np.concatenate([np.stack([here, there]), np.stack([there, here])], 1),
        edge_distance=np.concatenate([lengths, lengths]),
        metric="given",
        spatial=False,
        inputs=[0],
        name="connectome",
    )


PLACES: dict[str, Callable[[], cg.Geometry]] = {
    "grid": lambda: cg.geometry("grid", shape=(5, 6)),
    "hexagonal": lambda: cg.geometry("hexagonal", shape=(5, 6)),
    "torus": lambda: cg.geometry("torus", shape=(5, 6)),
    "ring": lambda: cg.geometry("ring", columns=26),
    "sphere": lambda: cg.geometry("sphere", subdivisions=1),
    "stack": lambda: cg.geometry("stack", widths=(3, 4)),
    "cortex": lambda: cg.geometry("cortex", mesh="fsaverage3"),
    "connectome": connectome,
}
KEPT = [
    *(("euclidean", name) for name in ("grid", "hexagonal", "torus", "ring", "sphere", "stack")),
    *(("great_circle", name) for name in ("ring", "sphere")),
    ("periodic", "torus"),
    *((metric, "sphere") for metric in ("geodesic", "hops", "given")),
    ("geodesic", "cortex"),
    *((metric, "connectome") for metric in ("hops", "given")),
]


def test_every_geometry_of_the_package_is_tried_by_every_metric_that_it_has() -> None:
    own = {name for name in list_geometries() if find_geometry(name).__module__.startswith("colgraph.")}
    assert own == PLACES.keys() - {"connectome"}
    for name in own - {"cortex"}:  # a mesh, as the sphere, which has all metrics of meshes
        for metric in METRICS:
            if (metric, name) not in KEPT:
                with pytest.raises(ValueError, match=f"metric '{metric}' needs"):
                    cg.build_sheet(PLACES[name](), neighbors="complete", metric=metric, num_inputs=1)


def listening(sheet: cg.Sheet, equal: bool = True) -> Context:
    """A context whose columns listen to all of their sources alike, or by chance."""
    context = context_of(small_run(sheet), SETTINGS)
    target = context.edges[1]
    heard = np.ones(len(target)) if equal else np.random.default_rng(1).random(len(target))
    context.__dict__["attention"] = heard / np.bincount(target, heard)[target]
    return context


@pytest.mark.parametrize(("metric", "name"), KEPT)
def test_on_a_complete_graph_shuffled_positions_change_no_distance(metric: str, name: str) -> None:
    """Where everyone listens to everyone alike, it does not matter who stands where, by whatever metric."""
    inputs = {} if name == "connectome" else {"num_inputs": 1}
    if name == "cortex":
        pytest.importorskip("nilearn")
    sheet = cg.build_sheet(PLACES[name](), neighbors="complete", metric=metric, **inputs)
    context = listening(sheet)
    moved = context.shuffled()
    assert not np.allclose(moved.distance, context.distance)
    assert np.allclose(np.sort(moved.distance), np.sort(context.distance), rtol=1e-5, atol=1e-6)
    for item in CATALOGUE:
        if item.key in ("wiring", "edge_lengths"):
            (here, why), (there, why_not) = attempt(item, context), attempt(item, moved)
            assert why == why_not, item.key
            if here is not None and there is not None:
                assert there.value == pytest.approx(here.value, rel=1e-5), item.key
    if context.active.all():
        assert np.allclose(np.sort(moved.pairs.distance), np.sort(context.pairs.distance), rtol=1e-5)
    assert context.active.all() or name == "cortex"
    assert moved.pairs.spacing == context.pairs.spacing == sheet.spacing
    # What the run itself is measured by is the sheet's distance, too.
    first, second = (np.flatnonzero(context.taken)[ends] for ends in (context.pairs.first, context.pairs.second))
    assert np.allclose(context.pairs.distance, sheet.space.between(first, second), rtol=1e-9)


def test_on_any_other_graph_shuffled_positions_measure_by_the_metric() -> None:
    """Around the torus, and over the surface; where the graph has a wire between two places, by the wire."""
    for name, metric in (("torus", "periodic"), ("sphere", "geodesic"), ("ring", "great_circle")):
        sheet = cg.build_sheet(PLACES[name](), neighbors="knn:5", metric=metric, num_inputs=1)
        moved = listening(sheet).shuffled()
        ends = moved.place[moved.edges]
        assert np.allclose(moved.distance, sheet.space.between(*ends), rtol=1e-5, atol=1e-6), name
        straight = np.linalg.norm(np.subtract(*sheet.pos.numpy().astype(float)[ends]), axis=1)
        assert not np.allclose(moved.distance, straight, rtol=1e-2), name


def test_lengths_that_follow_no_metric_belong_to_places() -> None:
    """Wires that are longer than the shortest way, as tracts are: who stands at their ends has them."""
    n, rng = 12, np.random.default_rng(3)
    source, target = np.divmod(np.arange(n * n), n)
    lengths = np.where(source == target, 0, rng.uniform(1, 9, n * n))
    sheet = cg.Sheet.from_edges(
        np.stack([source, target]), n, edge_distance=lengths, pos=rng.random((n, 3)), inputs=[0]
    )
    context = listening(sheet)
    assert np.allclose(np.sort(context.shuffled().distance), np.sort(context.distance))


def test_where_the_metric_knows_no_way_shuffled_positions_say_so() -> None:
    sheet = drawn([[*range(12), *range(11)], [*range(12), *range(1, 12)]], STRAIGHT)
    context = listening(sheet)
    with pytest.raises(ValueError, match=r"metric 'given' does not say how far all columns of 'custom' are"):
        _ = context.shuffled().distance
    # Pairs are of columns, whichever of them hears the other.
    gap = np.abs(context.pairs.first - context.pairs.second)
    assert np.allclose(context.pairs.distance, gap)


def test_shuffled_maps_stand_at_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a surface and in the layers of a stack, too, a shuffled column's value is that of its place."""
    monkeypatch.setattr(analysis.orientation.OrientationMap, "selective", lambda found, **_: found.selectivity >= 0)
    for name in ("sphere", "stack"):
        context = listening(cg.build_sheet(PLACES[name](), neighbors="knn:5", num_inputs=4))
        moved = context.shuffled()
        for item in CATALOGUE:
            if item.key in ("moran", "pinwheels", "smoothness", "correlation_by_distance"):
                here, there = attempt(item, context)[0], attempt(item, moved)[0]
                assert here is not None, item.key
                assert there is not None, item.key
                assert not same(there, here), (name, item.key)
    values = np.arange(sheet_size := len(context.active), dtype=float)[context.active]
    assert np.array_equal(moved.at_places(values), np.argsort(moved.place)[moved.taken].astype(float))
    assert sheet_size == len(moved.taken)


# ---------------------------------------------------------------------- what does not apply


def drawn(edges: list[list[int]], pos: Any, inputs: tuple[int, ...] = (0,)) -> cg.Sheet:
    import torch

    return cg.Sheet.from_edges(torch.tensor(edges), len(pos), pos=torch.tensor(pos), inputs=list(inputs))


def grid(**options: Any) -> cg.Sheet:
    return cg.build_sheet("grid", shape=(5, 5), neighbors="knn:6", **{"num_inputs": 4, **options})


THREE = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
STRAIGHT = [[float(i), float(i), 0] for i in range(12)]


def silent() -> Run:
    """A network whose columns answer everything alike."""
    import torch

    run = small_run(grid())
    with torch.no_grad():
        for parameter in run.net.parameters():
            parameter.zero_()
    return run


# Where a quarter of the columns, or those that are selective beyond chance, are too few.
FEW = {"smoothness", "pinwheels"}
UNUSUAL: dict[str, tuple[Any, set[str]]] = {
    "one class": (lambda: small_run(grid(), counts=(12,)), FEW | {"category", "patches", "rsa"}),
    "one image of a class": (lambda: small_run(grid(), counts=(9, 1, 9)), FEW),
    "one image of each class": (lambda: small_run(grid(), counts=(1, 1, 1, 1)), FEW | {"category", "patches", "rsa"}),
    "one image": (
        lambda: small_run(grid(), counts=(1,)),
        {"correlation_by_distance", "category", "patches", "rsa", "dimensionality", "cka", "energy", "transmission"}
        | {"correlation_given_input", *FEW},
    ),
    "one step": (lambda: small_run(grid(), steps=1), FEW | {"cka"}),
    "one input": (lambda: small_run(grid(num_inputs=1)), FEW | {"correlation_given_input"}),
    "a mesh": (
        lambda: small_run(cg.build_sheet("sphere", subdivisions=1, neighbors="knn:5", num_inputs=4)),
        {"pinwheels"},
    ),
    "three columns": (
        lambda: small_run(drawn([[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]], THREE)),
        {"correlation_by_distance", "wiring", "edge_lengths", "small_world", "rich_club"}
        | {"correlation_given_input", *FEW},
    ),
    "one column": (
        lambda: small_run(drawn([[0], [0]], THREE[:1])),
        {"correlation_by_distance", "smoothness", "pinwheels", "moran", "wiring", "edge_lengths", "strengths"}
        | {
            "modularity",
            "small_world",
            "rich_club",
            "communicability",
            "lesions",
            "patches",
            "correlation_given_input",
        },
    ),
    "isolated columns": (
        lambda: small_run(drawn([[0, 0, 1, 2], [0, 1, 2, 2]], STRAIGHT)),
        {"correlation_by_distance", "wiring", "edge_lengths", "small_world", "rich_club"}
        | {"correlation_given_input", *FEW},
    ),
    "a slanted line": (
        lambda: small_run(drawn([[*range(12), *range(11)], [*range(12), *range(1, 12)]], STRAIGHT), steps=12),
        FEW | {"correlation_given_input", "wiring", "edge_lengths", "small_world"},
    ),
    "no column answers": (
        silent,
        {"correlation_by_distance", "orientation", "smoothness", "pinwheels", "category", "patches", "moran"}
        | {"dimensionality", "cka", "rsa", "fields", "reverse_correlation", "correlation_given_input", "gabors"},
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_each_analysis_is_right_or_left_out_with_a_reason(name: str) -> None:
    """Never a number that is none, never the words of numpy, and nothing is left out because something else is."""
    for package in ("sknetwork", "foolbox"):
        pytest.importorskip(package)
    make, left_out = UNUSUAL[name]
    few = replace(SETTINGS, probes=60, permutations=3)
    context = context_of(make(), few)
    found = set()
    for item in CATALOGUE:
        result, reason = attempt(item, context)
        assert (result is None) != (reason is None), item.key
        if reason is not None and "in no areas" in reason:
            assert item.key in ("activity_by_area", "attention_between_areas", "classes_by_area")
            continue
        if result is None:
            found.add(item.key)
            assert "\n" not in reason
            assert not re.search(r"zero-size|identity|nan\b|broadcast|operands|Qhull|QH\d", reason), reason
            continue
        numbers = result.summary()
        assert numbers["value"] is not None, item.key
        figure = new_figure(4, 3)
        axes = result.plot(figure.subplots())
        assert not re.search(r"\bnan\b|\binf\b", axes.get_title()), item.key
    assert found == left_out
