"""Probes, responses and receptive fields, on networks whose fields are known."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.analysis import (
    Probes,
    category_set,
    gradient_fields,
    gratings,
    moving_bars,
    noise,
    orientation_map,
    responses,
    reverse_correlation,
)
from colgraph.analysis.fields import field_size

# ---------------------------------------------------------------------- probes


@pytest.mark.parametrize("size", [8, 32, (12, 20), 224])
def test_gratings_of_any_size(size):
    probes = gratings(size, orientations=4, frequencies=3, phases=2, channels=1)
    height, width = (size, size) if isinstance(size, int) else size
    assert probes.images.shape == (24, 1, height, width)
    assert probes.images.dtype == torch.float32
    assert 0 <= float(probes.images.min()) < float(probes.images.max()) <= 1
    assert {len(v) for v in probes.labels.values()} == {24}
    assert len(np.unique(probes.labels["repeat"])) == 6
    assert (np.bincount(probes.labels["repeat"]) == 4).all(), "each repeat has every orientation"


def test_gratings_by_formula():
    probes = gratings(16, orientations=[0.0, np.pi / 2], frequencies=[3.0], phases=[0.5], channels=1, contrast=0.4)
    flat, upright = probes.images[:, 0].numpy()
    y = -(np.arange(16) - 7.5) / 16
    expected = 0.5 + 0.2 * np.sin(2 * np.pi * 3 * y + 0.5)
    assert np.allclose(flat, expected[:, None], atol=1e-6), "orientation 0: horizontal bars"
    assert np.allclose(upright, upright[:1], atol=1e-6), "a right angle: vertical bars"
    spectrum = np.abs(np.fft.rfft(upright[0] - upright[0].mean()))
    assert spectrum.argmax() == 3


def test_gratings_turn_against_the_clock():
    """Bars at 45 degrees run from the lower left to the upper right."""
    image = gratings(32, orientations=[np.pi / 4], frequencies=[2.0], phases=[0.0], channels=1).images[0, 0]
    assert torch.allclose(image[1:, :-1], image[:-1, 1:], atol=1e-5), "the same one up and one to the right"
    assert not torch.allclose(image[:-1, :-1], image[1:, 1:], atol=0.1)


def test_gratings_refuse_what_pixels_cannot_show():
    for arguments, message in (
        ({"frequencies": [16.0]}, "below 16, half of 32 pixels, got 16"),
        ({"frequencies": [0.0]}, "above 0"),
        ({"contrast": 1.5}, "contrast must be"),
        ({"orientations": 0}, "orientations must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            gratings(32, **arguments)
    with pytest.raises(ValueError, match="image_size must be an integer of at least 4"):
        gratings(3)


def test_bars_move_where_they_say():
    probes = moving_bars(24, directions=4, frames=9, channels=1)
    assert probes.images.shape == (4, 9, 1, 24, 24)
    column = (probes.images[0, :, 0].sum(1) * torch.arange(24)).sum(1) / probes.images[0, :, 0].sum((1, 2))
    seen = torch.isfinite(column)
    assert (column[seen].diff() > 0).all(), "direction 0: to the right"
    row = (probes.images[1, :, 0].sum(2) * torch.arange(24)).sum(1) / probes.images[1, :, 0].sum((1, 2))
    assert (row[torch.isfinite(row)].diff() < 0).all(), "a right angle: upwards"
    middle = probes.images[0, 4, 0]
    assert float(middle.sum(1).mean()) == pytest.approx(3, rel=0.01), "three pixels wide"
    frames = probes.frames()
    assert frames.images.shape == (36, 1, 24, 24)
    assert frames.labels["frame"][:10].tolist() == [*range(9), 0]
    assert torch.equal(frames.images[10], probes.images[1, 1])
    with pytest.raises(ValueError, match="no films"):
        frames.frames()


@pytest.mark.parametrize("kind", ["white", "binary", "pink", "sparse"])
def test_noise(kind):
    probes = noise(15, 300, kind=kind, channels=2, seed=1)
    assert probes.images.shape == (300, 2, 15, 15)
    assert float(probes.images.mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(probes.images, noise(15, 300, kind=kind, channels=2, seed=1).images)
    spread = {"white": 0.15, "binary": 0.5, "pink": 0.15, "sparse": 0.5 * np.sqrt(0.02)}[kind]
    assert float(probes.images.std()) == pytest.approx(spread, rel=0.05)
    x = probes.images[:, 0].numpy()
    neighbors = np.corrcoef(x[:, 5, 5], x[:, 5, 6])[0, 1]
    assert (neighbors > 0.3) == (kind == "pink")


def test_noise_in_cells():
    x = noise(10, 5, kind="binary", cell=4).images
    assert x.shape == (5, 3, 10, 10)
    assert torch.equal(x[:, :, :4, :4], x[:, :, :1, :1].expand(-1, -1, 4, 4))
    with pytest.raises(ValueError, match="did you mean 'white'"):
        noise(8, 5, kind="whit")


@pytest.mark.parametrize(("kind", "largest"), [(np.uint8, 255), (np.uint16, 65535), (bool, 1)])
def test_category_sets_scale_pixels_by_their_type(kind, largest):
    pixels = np.arange(8 * 4 * 4).reshape(8, 1, 4, 4).astype(kind)
    probes = category_set(pixels, [0, 1] * 4, per_class=4)
    place = probes.labels["index"]
    assert np.allclose(probes.images.numpy(), pixels[place] / largest, atol=1e-6)
    with pytest.raises(ValueError, match="got int64"):
        category_set(pixels.astype(np.int64), [0, 1] * 4, per_class=4)


def test_category_sets_are_balanced():
    labels = np.array([0] * 30 + [1] * 10 + [2] * 25)
    images = torch.arange(65, dtype=torch.uint8)[:, None, None, None].expand(65, 1, 4, 4)
    probes = category_set(images, labels, per_class=8, seed=3)
    assert np.bincount(probes.labels["category"]).tolist() == [8, 8, 8]
    assert np.allclose(probes.images[:, 0, 0, 0] * 255, probes.labels["index"])
    assert set(category_set(images, labels, per_class=2, classes=[2]).labels["category"]) == {2}
    with pytest.raises(ValueError, match="class 1 has 10 images, 20 are needed"):
        category_set(images, labels)
    with pytest.raises(ValueError, match="class must be one of 0, 1, 2"):
        category_set(images, labels, per_class=2, classes=[3])


# ---------------------------------------------------------------------- responses


def small_net(steps=3, readout="mean"):
    sheet = cg.build_sheet("stack", widths=[2, 2], neighbors="knn:4")
    torch.manual_seed(0)
    model = cg.Columnformer(sheet, dim=6, steps=steps, qk_dim=4, mlp_dim=6)
    return cg.VisionColumnformer(model, image_size=8, patch_size=4, in_channels=1, num_classes=3, readout=readout)


def test_responses_are_the_states():
    net = small_net().train()
    images = noise(8, 11, channels=1).images
    with torch.no_grad():
        states = net.eval().unroll(images, record=("state",)).states.permute(2, 0, 1, 3).numpy()
    net.train()
    kwargs = {"batch_size": 4, "progress": False, "signal": "state"}
    assert np.allclose(responses(net, images, **kwargs), states[:, -1], atol=1e-6)
    assert np.allclose(responses(net, images, steps="all", **kwargs), states, atol=1e-6)
    assert np.allclose(responses(net, images, steps=0, **kwargs), states[:, 0], atol=1e-6)
    assert np.allclose(responses(net, images, steps=[0, -1], **kwargs), states[:, [0, 2]], atol=1e-6)
    some = responses(net, images, columns=[5, 2], **kwargs | {"signal": "norm"})
    assert np.allclose(some, np.linalg.norm(states[:, -1][:, [5, 2]], axis=-1), atol=1e-5)
    masked = responses(net, images, steps=[1], columns=np.arange(8) == 3, **kwargs)
    assert np.allclose(masked, states[:, 1:2, 3:4], atol=1e-6)
    assert net.training, "the mode is as before"


@pytest.mark.parametrize("readout", ["mean", "spatial"])
def test_signals_are_what_the_readout_reads_and_says(readout):
    net, images = small_net(readout=readout).double().eval(), noise(8, 5, channels=1).images
    kwargs = {"batch_size": 3, "progress": False}
    with torch.no_grad():
        torch.nn.init.normal_(net.norm.weight)
        torch.nn.init.normal_(net.head.bias)
        if net.pool is not None:
            torch.nn.init.normal_(net.pool)
        out = net.unroll(images.double(), record=("state", "hidden"))
        normed = net.norm(out.states).permute(2, 0, 1, 3).numpy()
        share = np.full((3, 4), 1 / 4) if net.pool is None else net.pool.softmax(-1).numpy()

    def got(signal, **more):
        return responses(net, images.double(), signal=signal, **kwargs, **more)

    assert np.allclose(responses(net, images.double(), **kwargs), normed[:, -1], atol=1e-6), "the default"
    assert np.allclose(got("normed", steps=[0, 2]), normed[:, [0, 2]], atol=1e-6)
    evidence = got("evidence")
    assert evidence.shape == (5, 8, 3)
    heard = np.einsum("bok,ko->bk", evidence[:, net.outputs.numpy()], share)
    assert np.allclose(heard, out.logits.numpy(), atol=1e-5), "bias and all"
    hidden = out.hidden.permute(2, 0, 1, 3).numpy()
    assert np.allclose(got("hidden"), hidden[:, -1], atol=1e-6)
    assert np.allclose(got("hidden", steps="all", columns=[3]), hidden[:, :, [3]], atol=1e-6)
    assert np.allclose(got(np.int64(2)), normed[:, -1, :, 2], atol=1e-6)
    assert np.allclose(got("mean"), normed[:, -1].mean(-1), atol=1e-6)


def test_a_mean_that_is_rounding_is_zero():
    images = noise(8, 5, channels=1).images
    assert not responses(small_net().eval(), images, signal="mean", progress=False).any(), "LayerNorm took it away"


def test_signals_of_networks_without_a_head():
    images = noise(8, 6, channels=1).images
    net = lambda x: x.flatten(2).transpose(1, 2)  # noqa: E731
    vectors = responses(net, images, progress=False)
    assert np.array_equal(vectors, images.flatten(2).transpose(1, 2).numpy()), "taken as they are"
    assert np.array_equal(responses(net, images, signal="state", progress=False), vectors)
    with pytest.raises(ValueError, match=r"'evidence' needs a network with a head.*there are 'normed', 'norm', 'mean'"):
        responses(net, images, signal="evidence")
    with pytest.raises(ValueError, match=r"'hidden' needs a network with unroll.*and the number of a channel"):
        responses(net, images, signal="hidden")

    class Unrolls:
        def unroll(self, images, record=()):
            state = images.flatten(2).permute(2, 0, 1)
            return SimpleNamespace(state=state, states=state[None])

    assert np.array_equal(responses(Unrolls(), images, progress=False), vectors), "its own, where it norms nothing"
    with pytest.raises(ValueError, match="Unrolls has none"):
        responses(Unrolls(), images, signal="evidence")
    with pytest.raises(ValueError, match="Unrolls records no hidden units"):
        responses(Unrolls(), images, signal="hidden", progress=False)


def test_responses_of_other_networks():
    linear = torch.nn.Linear(64, 5)
    images = noise(8, 6, channels=1).images
    flat = responses(lambda x: linear(x.flatten(1)), images, progress=False)
    assert flat.shape == (6, 5, 1)
    assert responses(lambda x: linear(x.flatten(1)), images, signal=0, progress=False).shape == (6, 5)
    with pytest.raises(ValueError, match="network with unroll"):
        responses(lambda x: x, images, steps=1)
    with pytest.raises(ValueError, match=r"\[B, columns\] or"):
        responses(lambda x: x, images, progress=False)


@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_responses_to_a_file(tmp_path, suffix):
    net, images = small_net(), noise(8, 11, channels=1).images
    path = tmp_path / f"responses{suffix}"
    stored = responses(net, images, steps="all", out=path, batch_size=4, progress=False)
    assert np.allclose(stored[:], responses(net, images, steps="all", progress=False), atol=1e-6)
    assert stored.shape == (11, 3, 8, 6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="exists"):
        responses(net, images, out=path)
    if suffix == ".h5":
        stored.file.close()


def test_a_broken_collection_leaves_no_file(tmp_path):
    calls = []

    def breaks(x):
        calls.append(len(x))
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return x.flatten(1)

    with pytest.raises(RuntimeError):
        responses(breaks, torch.rand(9, 1, 4, 4), batch_size=3, out=tmp_path / "a.h5", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path, monkeypatch):
    net, images = small_net(), noise(8, 5, channels=1).images
    for arguments, message in (
        ({"steps": 3}, r"steps must lie in 0\.\.2"),
        ({"steps": "al"}, "did you mean 'all'"),
        ({"columns": [8]}, r"columns must lie in 0\.\.7, got 8"),
        ({"columns": np.ones(3, bool)}, "as a mask must have 8"),
        ({"signal": 6}, "channel must be 0 to 5"),
        ({"signal": "normd"}, "did you mean 'normed'"),
        ({"signal": None}, "signal must be one of 'normed'"),
        ({"signal": True}, "signal must be one of 'normed'"),
        ({"memory_gb": 1e-9}, "give out='responses.h5'"),
        ({"out": tmp_path / "x.csv"}, "written to"),
        ({"out": tmp_path / "no" / "x.h5"}, "there is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            responses(net, images, progress=False, **arguments)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install -e .*\[analysis\]"):
        responses(net, images, out=tmp_path / "x.h5", progress=False)


# ---------------------------------------------------------------------- receptive fields


def test_size_of_a_disk():
    y, x = np.indices((81, 81))
    disk = ((y - 30) ** 2 + (x - 45) ** 2 <= 20**2).astype(float)
    centre, radius = field_size(np.stack([disk, 0 * disk]))
    assert centre[0] == pytest.approx([30, 45])
    assert radius[0] == pytest.approx(20 / np.sqrt(2), rel=0.01)
    assert np.isnan(radius[1])


class LinearNet(torch.nn.Module):
    """Column i's state at step t is (t + 1) w_i . x: the gradient of its length is |(t + 1) w_i|."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.as_tensor(weight))

    def unroll(self, images, record=()):
        state = torch.einsum("nchw,bchw->nb", self.weight, images).unsqueeze(-1)
        return SimpleNamespace(states=torch.stack([state, 2 * state]), state=2 * state)


def blobs(size=12, columns=30, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(2, size - 3, (columns, 2))
    y, x = np.indices((size, size))
    shape = np.exp(-((y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2) / 4)
    return (shape[:, None] * np.array([1.0, -0.5])[:, None, None]).astype(np.float32), centre


def test_gradient_of_a_linear_network():
    weight, centre = blobs()
    result = gradient_fields(LinearNet(weight), torch.rand(10, 2, 12, 12), range(30), batch_size=4, progress=False)
    expected = (weight**2).mean(1)
    assert np.allclose(result.power[0], expected, atol=1e-6)
    assert np.allclose(result.power[1], 4 * expected, atol=1e-5)
    assert np.allclose(result.radius[0], result.radius[1])
    assert result.value == pytest.approx(field_size(expected)[1].mean(), rel=1e-5)
    assert np.abs(result.centre[0] - centre).max() < 0.6
    assert result.p_value == pytest.approx(1 / 101), "smaller than a spread-out field"
    assert result.interval[0] < result.value < result.interval[1]


def test_fields_of_a_chain_grow_by_one_patch_a_step():
    """Columns on a line, column i listening to i - 1 and itself: after t + 1 steps it sees t + 1 patches back."""
    n = 5
    edges = np.stack(
        [np.concatenate([np.arange(n), np.arange(n - 1)]), np.concatenate([np.arange(n), np.arange(1, n)])]
    )
    sheet = cg.Sheet.from_edges(edges, n, pos=np.arange(n)[:, None] * [1.0, 0, 0], inputs=range(n))
    torch.manual_seed(0)
    model = cg.Columnformer(sheet, dim=6, steps=3, qk_dim=4, mlp_dim=6)
    net = cg.VisionColumnformer(model, image_size=(2, 10), patch_size=2, in_channels=1, num_classes=2)
    images = torch.rand(4, 1, 2, 10)
    patch_of = net.assignment.tolist()
    result = gradient_fields(net, images, [4], progress=False)
    for step in range(3):
        seen = result.power[step, 0].reshape(2, 5, 2).sum((0, 2)) > 0
        expected = {patch_of[4 - back] for back in range(step + 2)}
        assert set(np.flatnonzero(seen)) == expected
    assert result.reach[:, 0] == pytest.approx([0.4, 0.6, 0.8])
    both = gradient_fields(net, images, [4, 0], steps=[0, -1], progress=False)
    assert both.steps.tolist() == [0, len(result.steps) - 1]
    last = gradient_fields(net, images, [4, 0], steps=[-1], progress=False)
    assert last.steps.tolist() == [len(result.steps) - 1]
    assert gradient_fields(net, images, [4], steps=(0, -1), progress=False).plot().lines[-1].get_xdata().tolist() == [
        1,
        len(result.steps),
    ]
    assert np.allclose(last.power[0, 0], result.power[2, 0])
    # The length of a normed state is all but constant: its gradient would be rounding.
    length = gradient_fields(net, images, [4], steps=[-1], signal="norm", progress=False)
    assert length.power.max() > 0
    assert not np.allclose(length.power, result.power[2:])
    with pytest.raises(ValueError, match="did you mean 'evidence'"):
        gradient_fields(net, images, [4], signal="evidense", progress=False)


def test_gradients_along_random_signs_are_the_sum_over_channels():
    net, images = small_net().eval(), torch.rand(1, 1, 8, 8).repeat(400, 1, 1, 1)
    found = gradient_fields(net, images, [5], steps=[1], signal="evidence", batch_size=400, progress=False)
    x = images[:1].clone().requires_grad_()
    evidence = net.evidence(net.unroll(x, record=("state",)).states[1])[5, 0]
    each = [torch.autograd.grad(one, x, retain_graph=True)[0].double().square() for one in evidence]
    assert np.allclose(found.power[0, 0], sum(each)[0, 0], rtol=0.25, atol=1e-6)


def test_columns_that_see_nothing():
    sheet = cg.Sheet.from_edges(np.array([[0, 1], [0, 1]]), 2, pos=np.eye(3)[:2], inputs=[0])
    model = cg.Columnformer(sheet, dim=4, steps=2)
    net = cg.VisionColumnformer(model, image_size=4, patch_size=4, in_channels=1, num_classes=2)
    images = torch.rand(3, 1, 4, 4)
    result = gradient_fields(net, images, [0, 1], progress=False)
    assert np.isfinite(result.radius[:, 0]).all()
    assert np.isnan(result.radius[:, 1]).all()
    with pytest.raises(ValueError, match="none of the 1 columns sees the image"):
        gradient_fields(net, images, [1], progress=False)
    with pytest.raises(ValueError, match=r"columns must lie in 0\.\.1"):
        gradient_fields(net, images, [2], progress=False)


def test_reverse_correlation_recovers_the_weights():
    weight, centre = blobs()
    probes = noise(12, 20_000, channels=2, seed=2)
    answers = np.einsum("nchw,schw->sn", weight, probes.images.numpy()) + 1.0
    result = reverse_correlation(answers, probes, permutations=10)
    assert np.corrcoef(result.field.ravel(), weight.ravel())[0, 1] > 0.97
    assert np.abs(result.field - weight).max() < 0.2
    assert result.value == 1
    assert (result.p_columns < 0.01).all()
    assert np.abs(result.centre - centre).max() < 2.5


def test_reverse_correlation_of_vectors_and_of_nothing():
    weight, _ = blobs(columns=8)
    probes = noise(12, 3000, channels=2, seed=3)
    answers = np.einsum("nchw,schw->sn", weight, probes.images.numpy())
    vectors = np.stack([answers, -2 * answers, np.random.default_rng(0).normal(size=answers.shape)], 2)
    result = reverse_correlation(vectors, probes, permutations=10)
    assert (result.field >= 0).all()
    assert result.value == 1
    rng = np.random.default_rng(1)
    blind = reverse_correlation(rng.normal(size=(3000, 200)), probes, permutations=20)
    assert blind.value == pytest.approx(0.05, abs=0.04)
    assert blind.null.mean() == pytest.approx(0.05, abs=0.01)
    with pytest.raises(ValueError, match="responses has 2999, images has 3000"):
        reverse_correlation(answers[1:], probes)
    with pytest.raises(ValueError, match="pixels never change"):
        reverse_correlation(answers, probes.images * (torch.arange(12) > 3))


def test_planted_orientations_are_found_through_a_network():
    """Gabor columns: the preferred orientation of the gratings is the one that was planted."""
    size, planted = 16, np.pi * np.arange(6) / 6
    x, y = np.meshgrid(np.arange(size) - 7.5, -(np.arange(size) - 7.5))
    across = y * np.cos(planted)[:, None, None] - x * np.sin(planted)[:, None, None]
    envelope = np.exp(-(x**2 + y**2) / 18)
    pair = np.stack([np.cos(2 * np.pi * across * 3 / size), np.sin(2 * np.pi * across * 3 / size)], 1) * envelope
    pair -= pair.mean((2, 3), keepdims=True)
    filters = torch.from_numpy(pair.astype(np.float32))
    probes = gratings(size, frequencies=[2.0, 3.0, 4.0], channels=1)
    energy = responses(lambda image: torch.einsum("nqhw,bhw->bnq", filters, image[:, 0]), probes, progress=False)
    result = orientation_map(energy, probes.labels["orientation"], within=probes.labels["repeat"], permutations=50)
    gap = np.abs(result.preference - planted) % np.pi
    assert np.minimum(gap, np.pi - gap).max() < 0.03
    assert (result.p_columns < 0.05).all()


def test_fields_draw_themselves():
    from matplotlib.figure import Figure

    weight, _ = blobs(columns=6)
    probes = noise(12, 200, channels=2)
    answers = np.einsum("nchw,schw->sn", weight, probes.images.numpy())
    net = LinearNet(weight)
    for result in (
        gradient_fields(net, probes, range(6), progress=False),
        gradient_fields(net, probes, [2], steps=[0], progress=False),
        reverse_correlation(answers, probes, permutations=5),
    ):
        ax = Figure().subplots()
        assert result.plot(ax) is ax
        assert ax.get_title()
    assert "gratings" in repr(gratings(8))
    assert isinstance(probes, Probes)


def test_fields_of_responses_far_from_zero():
    shown = noise(6, 300, channels=1)
    responses = shown.images.flatten(1).double().numpy() @ np.random.default_rng(0).normal(size=(36, 2))
    near, far = (reverse_correlation(responses + offset, shown, permutations=2) for offset in (0, 1e7))
    np.testing.assert_allclose(far.field, near.field, atol=1e-5)
