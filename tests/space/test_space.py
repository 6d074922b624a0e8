"""Every metric against a plain dense computation, or a closed form."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

import colgraph as cg
from colgraph.geometry.base import Geometry
from colgraph.geometry.builtin import icosphere
from colgraph.space import make_space, paths
from colgraph.space.connections import listening_matrix
from colgraph.space.points import Euclidean, GreatCircle, Periodic
from colgraph.space.unfold import surface_lines

RNG = np.random.default_rng


def dense(space, n):
    """``D[i, j]`` by asking for every pair."""
    target, source = np.divmod(np.arange(n * n), n)
    return space.between(source, target).reshape(n, n)


def check_queries(space, distance, targets, sources, k, radius):
    """nearest and within agree with the dense matrix."""
    links = space.nearest(k, targets, sources)
    for i in targets:
        mine = links.target == i
        others = sources[sources != i]
        reachable = np.sort(distance[i, others][np.isfinite(distance[i, others])])
        np.testing.assert_allclose(np.sort(links.distance[mine]), reachable[:k], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(distance[i, links.source[mine]], links.distance[mine], rtol=1e-9, atol=1e-12)
        assert len(set(links.source[mine].tolist())) == mine.sum()
        assert i not in links.source[mine]
    links = space.within(radius, targets, sources, 10**6)
    expected = {(int(i), int(j)) for i in targets for j in sources if i != j and distance[i, j] <= radius * (1 + 1e-6)}
    assert set(zip(links.target.tolist(), links.source.tolist(), strict=True)) == expected
    assert len(expected) == links.source.size
    np.testing.assert_allclose(distance[links.target, links.source], links.distance, rtol=1e-9, atol=1e-12)


def some(n, rng):
    return np.sort(rng.choice(n, size=max(1, n // 2), replace=False))


def test_euclidean_matches_dense():
    rng = RNG(0)
    points = rng.normal(size=(60, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    space = Euclidean(points)
    np.testing.assert_allclose(dense(space, 60), distance, atol=1e-12)
    check_queries(space, distance, np.arange(60), np.arange(60), 7, 1.2)
    check_queries(space, distance, some(60, rng), some(60, rng), 7, 1.2)
    nearest = np.sort(distance, axis=1)[:, 1]
    assert space.spacing() == pytest.approx(np.median(nearest))


def test_great_circle_matches_arccos_wherever_the_sphere_lies():
    rng = RNG(1)
    unit = rng.normal(size=(50, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    angle = np.arccos(np.clip(unit @ unit.T, -1, 1))
    for centre in (np.zeros(3), np.array([5.0, -3.0, 20.0])):
        space = GreatCircle(3 * unit + centre)
        found = dense(space, 50)
        np.testing.assert_allclose(found, 3 * angle, atol=1e-6)
        check_queries(space, found, np.arange(50), np.arange(50), 5, 2.0)
        check_queries(space, found, some(50, rng), np.arange(50), 5, 100.0)
    # A cap: its centroid is far from the centre of the sphere.
    cap = unit[unit[:, 2] > 0.2]
    np.testing.assert_allclose(
        dense(GreatCircle(cap + 9), len(cap)), angle[unit[:, 2] > 0.2][:, unit[:, 2] > 0.2], atol=1e-6
    )


def test_great_circle_refuses_what_is_no_sphere():
    points = RNG(2).normal(size=(50, 3))
    with pytest.raises(ValueError, match=r"points on one sphere, but those of 'cloud' are .* from the centre"):
        cg.build_sheet(Geometry(points, name="cloud"), metric="great_circle")


def test_periodic_matches_the_shortest_of_all_images():
    rng = RNG(3)
    points = rng.uniform(-5, 15, size=(40, 3))
    period = (4.0, 0.0, 7.0)
    shifts = [np.array([4.0 * a, 0, 7.0 * b]) for a in range(-6, 7) for b in range(-4, 5)]
    distance = np.min([np.linalg.norm(points[:, None] - points[None] + s, axis=2) for s in shifts], axis=0)
    space = Periodic(points, period)
    np.testing.assert_allclose(dense(space, 40), distance, atol=1e-9)
    check_queries(space, distance, np.arange(40), np.arange(40), 6, 2.5)


def mesh_geometry(name):
    if name == "saddle":
        x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
        points = np.stack([x.ravel(), y.ravel(), (x**2 - y**2).ravel()], 1)
    elif name == "crumpled":
        x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
        points = np.stack([x.ravel(), y.ravel(), 2 * RNG(4).random(81)], 1)
    else:
        points, faces = icosphere(2)
        return Geometry(points, faces=faces, metric="geodesic")
    corner = (9 * np.arange(8)[:, None] + np.arange(8)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 10], 1), np.stack([corner, corner + 10, corner + 9], 1)]
    )
    return Geometry(points, faces=faces, metric="geodesic")


@pytest.mark.parametrize("name", ["saddle", "crumpled", "sphere"])
@pytest.mark.parametrize("metric", ["geodesic", "given", "hops"])
def test_paths_on_meshes_match_one_dense_search(name, metric):
    g = mesh_geometry(name)
    n = g.num_columns
    space = make_space(g.place, metric)
    distance = dense(space, n)
    if metric == "geodesic":
        graph = listening_matrix(*surface_lines(g.positions, g.faces), n)
        np.testing.assert_allclose(distance, dijkstra(graph), rtol=1e-12)
        straight = np.linalg.norm(g.positions[:, None] - g.positions[None], axis=2)
        assert (distance >= straight - 1e-12).all()
    np.testing.assert_allclose(distance, distance.T, rtol=1e-12)
    rng = RNG(5)
    check_queries(space, distance, np.arange(n), np.arange(n), 10, 2.0 if metric == "hops" else 0.8)
    check_queries(space, distance, some(n, rng), some(n, rng), 30, 3.0)


@settings(max_examples=25)
@given(st.integers(2, 25), st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_paths_on_random_directed_graphs(n, e, seed):
    rng = RNG(seed)
    edges = rng.integers(0, n, size=(2, e))
    # Lengths of zero are edges too; parallel edges count once, with the shortest.
    length = rng.integers(0, 4, size=e).astype(float)
    g = Geometry(rng.normal(size=(n, 3)), edges=edges, edge_distance=length, metric="given", spatial=False)
    space = make_space(g.place, "given")
    expected = np.full((n, n), np.inf)
    np.fill_diagonal(expected, 0)
    for (j, i), d in zip(edges.T, length, strict=True):
        expected[i, j] = min(expected[i, j], d)
    for middle in range(n):
        expected = np.minimum(expected, expected[:, middle, None] + expected[middle])
    np.testing.assert_array_equal(dense(space, n), expected)
    check_queries(space, expected, np.arange(n), np.arange(n), min(3, n - 1), 2.0)
    hops = np.full((n, n), 0.0)
    hops[edges[1], edges[0]] = 1
    np.testing.assert_array_equal(dense(make_space(g.place, "hops"), n), dijkstra(csr_array(hops), unweighted=True))


@pytest.mark.parametrize("rows", [1, 7])
def test_parts_grow_until_nothing_outside_can_be_nearer(monkeypatch, rows):
    monkeypatch.setattr(paths, "_ROWS", rows)
    # A lattice whose edges differ in length by orders of magnitude: short ways take many edges.
    index = np.arange(144).reshape(12, 12)
    edges = np.concatenate(
        [np.stack([index[:, 1:], index[:, :-1]]).reshape(2, -1), np.stack([index[1:], index[:-1]]).reshape(2, -1)],
        axis=1,
    )
    edges = np.concatenate([edges, edges[::-1]], axis=1)
    length = np.exp(4 * RNG(6).normal(size=edges.shape[1]))
    g = Geometry(np.zeros((144, 3)), edges=edges, edge_distance=length, metric="given", spatial=False)
    expected = dijkstra(listening_matrix(*edges, length, 144))
    space = make_space(g.place, "given")
    some_columns, everyone = np.arange(0, 144, 9), np.arange(144)
    check_queries(space, expected, some_columns, everyone, 12, float(np.median(expected)))
    check_queries(space, expected, some_columns, everyone[::5], 3, float(np.quantile(expected, 0.1)))
    np.testing.assert_allclose(dense(space, 144), expected, rtol=1e-12)
    # The ends of many edges are nearer to each other the long way round.
    found = make_space(g.place, "given").between(*edges)
    np.testing.assert_allclose(found, expected[edges[1], edges[0]], rtol=1e-12)
    assert (found < length).mean() > 0.3


def test_given_paths_follow_the_direction_of_edges():
    # 0 -> 1 -> 2: column 2 hears of 0, column 0 of nobody.
    g = Geometry(np.zeros((3, 3)), edges=[[0, 1], [1, 2]], edge_distance=[2, 3], metric="given", spatial=False)
    assert make_space(g.place, "given").between(np.array([0, 2]), np.array([2, 0])).tolist() == [5, np.inf]
    with pytest.warns(UserWarning, match="2 of 3 columns reach fewer than 2 others"):
        sheet = cg.build_sheet(g, neighbors=cg.KNN(2, self_loops=False))
    assert sheet.edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]
    assert sheet.distance.tolist() == [2, 5, 3]


@pytest.mark.parametrize("neighborhood", ["knn:16", "radius:0.2"])
def test_geodesics_on_an_icosphere_are_great_circles(neighborhood):
    g = cg.geometry("sphere", subdivisions=5)
    assert g.num_columns == 10242
    geodesic = cg.build_sheet(g, neighbors=neighborhood, metric="geodesic")
    source, target = geodesic.edge_index.numpy()
    truth = GreatCircle(g.positions).between(source, target)
    real = truth > 0
    error = geodesic.distance.numpy()[real] / truth[real] - 1
    assert abs(error).mean() < 0.005
    assert abs(error).max() < 0.03
    assert geodesic.spacing == pytest.approx(cg.build_sheet(g, neighbors="knn:1").spacing, rel=1e-3)


def test_lines_over_a_flat_mesh_are_straight():
    g = mesh_geometry("crumpled")
    flat = g.positions * [1, 1, 0]
    for crossings in range(5):
        start, stop, length = surface_lines(flat, g.faces, crossings)
        np.testing.assert_allclose(length, np.linalg.norm(flat[start] - flat[stop], axis=1), rtol=1e-12)
    reached = listening_matrix(start, stop, length, 81).nnz
    assert reached > 3 * listening_matrix(*surface_lines(flat, g.faces, 0), 81).nnz


def test_lines_bend_over_a_fold_and_around_a_hole():
    # Two squares that meet at a right angle along x = 0; from the middle of one to the middle of the other.
    points = np.array([[0, 0, 0], [0, 2, 0], [1, 1, 0], [0, 1, 1], [2, 0, 0], [2, 2, 0]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 1, 3]])
    start, stop, length = surface_lines(points, faces, 1)
    across = length[(start == 2) & (stop == 3)]
    np.testing.assert_allclose(across, 2.0)
    # No line leaves through a border.
    assert not ((start == 0) & (stop == 4)).any()
    # Winding does not matter.
    turned = surface_lines(points, faces[:, ::-1], 1)
    assert sorted(turned[2].round(9).tolist()) == sorted(length.round(9).tolist())


def test_lines_go_on_into_every_face_at_an_edge():
    # Three pages of a book, two triangles each, that meet along the z axis.
    points, faces = [[0, 0, 0], [0, 0, 2]], []
    for turn in 2 * np.pi * np.arange(3) / 3:
        points += [[np.cos(turn), np.sin(turn), 0], [np.cos(turn), np.sin(turn), 2]]
        faces += [[0, 1, len(points) - 2], [1, len(points) - 1, len(points) - 2]]
    g = Geometry(points, faces=faces, metric="geodesic")
    distance = dense(make_space(g.place, "geodesic"), 8)
    low, high = [2, 4, 6], [3, 5, 7]
    for page in range(3):
        for other in range(3):
            across = 0 if page == other else 2.0
            assert distance[low[page], low[other]] == pytest.approx(across)
            assert distance[low[page], high[other]] == pytest.approx(np.hypot(across, 2))


@pytest.mark.parametrize("copies", ["same", "turned", "other_diagonals"])
def test_faces_that_are_stored_twice_change_no_length(copies):
    g = mesh_geometry("saddle")
    again = {"same": g.faces, "turned": g.faces[:, ::-1]}.get(copies)
    if again is None:
        a, b, c, d = np.concatenate([g.faces[:64, [0, 1, 2]], g.faces[64:, [2]]], 1).T
        again = np.concatenate([np.stack([b, c, d], 1), np.stack([b, d, a], 1)])
    once = make_space(g.place, "geodesic")
    twice = make_space(
        Geometry(g.positions, faces=np.concatenate([g.faces, again]), metric="geodesic").place, "geodesic"
    )
    if copies == "other_diagonals":
        # Another surface lies upon the first, and paths may change between the two along the sides they share.
        assert (dense(twice, 81) <= dense(once, 81) + 1e-12).all()
        flat = Geometry(g.positions * [1, 1, 0], faces=np.concatenate([g.faces, again]), metric="geodesic")
        straight = np.linalg.norm(flat.positions[:, None] - flat.positions[None], axis=2)
        np.testing.assert_array_less(dense(make_space(flat.place, "geodesic"), 81), 1.03 * straight + 1e-12)
    else:
        np.testing.assert_array_equal(dense(twice, 81), dense(once, 81))


def test_edges_of_very_many_faces_are_said():
    rim = [[np.cos(a), np.sin(a), 1] for a in np.arange(9)]
    g = Geometry([[0, 0, 0], [0, 0, 2], *rim], faces=[[0, 1, 2 + i] for i in range(9)], metric="geodesic", name="fan")
    with pytest.warns(UserWarning, match="fan: more than 8 faces meet at 1 edges"):
        assert np.isfinite(dense(make_space(g.place, "geodesic"), 11)).all()


def test_seams_that_geodesics_do_not_cross_are_said():
    g = mesh_geometry("saddle")
    left = g.positions[g.faces].mean(1)[:, 0] < 0
    # The right half gets vertices of its own, moved as far as rounding moves them.
    points = np.concatenate([g.positions, g.positions + 1e-9])
    cut = Geometry(points, faces=np.concatenate([g.faces[left], g.faces[~left] + 81]), metric="geodesic", name="cut")
    with pytest.warns(UserWarning, match="cut: 18 vertices on borders of the surface lie where others lie"):
        make_space(cut.place, "geodesic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_space(g.place, "geodesic")
        make_space(mesh_geometry("sphere").place, "geodesic")
        # A hole is no seam.
        cg.build_sheet(g, neighbors="knn:4", mask=np.abs(g.positions).sum(1) > 0.3)


def test_faces_without_area_do_no_harm():
    g = mesh_geometry("sphere")
    # A vertex on top of another, in triangles without area.
    points = np.concatenate([g.positions, g.positions[:1]])
    faces = np.concatenate([g.faces, [[0, len(g.positions), int(g.faces[0][1])]]])
    sheet = cg.build_sheet(Geometry(points, faces=faces, metric="geodesic"), neighbors="knn:8")
    assert np.isfinite(sheet.distance.numpy()).all()
    source, target = sheet.edge_index.numpy()
    straight = np.linalg.norm(points[source] - points[target], axis=1)
    assert (sheet.distance.numpy() >= straight * (1 - 1e-6)).all()
    assert sheet.spacing > 0


def test_geodesic_goes_around_what_a_mask_removes():
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
    corner = (9 * np.arange(8)[:, None] + np.arange(8)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 10], 1), np.stack([corner, corner + 10, corner + 9], 1)]
    )
    g = Geometry(np.stack([x.ravel(), y.ravel()], 1), faces=faces, metric="geodesic")
    wall = (g.positions[:, 0] == 4) & (g.positions[:, 1] < 7)
    pair = cg.Edges(np.array([[3], [5]]))
    direct = cg.build_sheet(g, neighbors=pair).distance
    assert direct.item() == pytest.approx(2)
    around = cg.build_sheet(g, neighbors=pair, mask=~wall).distance
    # Up along the wall, over its end, and down again.
    assert around.item() > 13


def test_spacing_does_not_depend_on_the_neighborhood():
    for name in ("grid", "stack", "sphere"):
        spacings = {
            cg.build_sheet(name, neighbors=n).spacing for n in ("knn:4", "knn:9", "complete")[: 2 + (name == "stack")]
        }
        assert len(spacings) == 1


def test_spacing_of_duplicates_and_lone_columns():
    assert Euclidean(np.array([[0.0, 0, 0], [0, 0, 0], [3, 0, 0]])).spacing() == 3
    assert Euclidean(np.zeros((4, 3))).spacing() == 1
    assert Euclidean(np.zeros((1, 3))).spacing() == 1
    g = Geometry(np.zeros((2, 3)), edges=np.zeros((2, 0), int), metric="given", spatial=False)
    assert make_space(g.place, "given").spacing() == 1
