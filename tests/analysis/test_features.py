"""Features are outputs of named modules: stand-ins of other tools' hooks read what ``responses`` says."""

from __future__ import annotations

import copy
import io
import warnings
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import colgraph as cg
import colgraph.analysis as an
from colgraph.models import ConvNet, VisionTransformer

REGIONS = {"V1": [0, 1, 5], "IT": np.arange(16) > 11}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


@contextmanager
def refused(says):
    with pytest.raises(ValueError, match=says) as caught:
        yield
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=4)
    model = cg.Columnformer(sheet, dim=6, steps=3, qk_dim=3, mlp_dim=5)
    return cg.VisionColumnformer(model, image_size=4, patch_size=2, num_classes=3).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------- stand-ins of the interfaces of other tools


def like_brain_score(model, images, layers):
    """Layers by dotted name through ``_modules``, one array of a batch each; "logits" is the last module of all."""
    found, hooks = OrderedDict(), []
    for name in layers:
        module = model
        if name == "logits":
            while module._modules:
                module = list(module._modules.values())[-1]
        else:
            for part in name.split("."):
                module = module._modules[part]
        keep = lambda _, __, output, name=name: found.__setitem__(name, output.cpu().data.numpy())  # noqa: E731
        hooks.append(module.register_forward_hook(keep))
    model.eval()
    model(images)
    for hook in hooks:
        hook.remove()
    return found


def like_thingsvision(model, batches, module_name):
    """One module by its name among all, batch by batch without gradients, flattened by ``view``."""
    kept, out = {}, []
    module = next(module for name, module in model.named_modules() if name == module_name)
    hook = module.register_forward_hook(lambda _, __, output: kept.update(x=output.clone().detach()))
    with torch.no_grad():
        for batch in batches:
            model(batch)
            out.append(kept["x"].view(len(batch), -1).numpy())
    hook.remove()
    return np.concatenate(out)


def like_net2brain(model, image, layers):
    """All layers of one image at once, by their full names, as torchextractor captures them."""
    found = {}
    for name, module in model.named_modules():
        if name in layers:
            module.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
    model(image)
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


# ---------------------------------------------------------------------- what they read


def expected(net, images, signal="normed", columns=None, steps="all"):
    return an.responses(net, images, signal=signal, columns=columns, steps=steps, progress=False)


def test_hooks_read_what_responses_says(net, images):
    extractor = an.FeatureExtractor(net, regions=REGIONS)
    assert list(extractor.names) == [f"step{t}.{region}" for t in (1, 2, 3) for region in ("V1", "IT")]
    found = like_brain_score(extractor, images, [*extractor.names, "logits"])
    for name, columns in REGIONS.items():
        states = expected(net, images, columns=torch.as_tensor(columns))
        for t in range(3):
            np.testing.assert_allclose(found[f"step{t + 1}.{name}"], states[:, t].reshape(5, -1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(found["logits"]), net(images).detach())
    torch.testing.assert_close(extractor(images), net(images))
    one = extractor.names["step2.IT"]
    assert (one.signal, one.step, one.region, one.columns) == ("normed", 1, "IT", 4)
    parted = extractor.features(images)["step2.IT"].unflatten(1, (one.columns, -1))
    np.testing.assert_allclose(parted.detach(), expected(net, images, steps=1)[:, 12:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("signal", ["normed", "evidence", "hidden", "norm", "mean", "state", 4])
@pytest.mark.parametrize("steps", ["all", None, -2, [2, 0]])
def test_every_signal_at_every_step(net, images, signal, steps):
    extractor = an.FeatureExtractor(net, steps=steps, signal=signal)
    states = expected(net, images, signal)
    numbers = {"all": [0, 1, 2], None: [2], -2: [1]}.get(steps if not isinstance(steps, list) else "", [2, 0])
    assert list(extractor.names) == [f"step{t + 1}.all" for t in numbers]
    batches = DataLoader(images, batch_size=2)
    for t in numbers:
        found = like_thingsvision(extractor, batches, f"step{t + 1}.all")
        np.testing.assert_allclose(found, states[:, t].reshape(5, -1), rtol=1e-5, atol=1e-6)


def test_several_signals_come_first_in_names(net, images):
    extractor = an.FeatureExtractor(net, signal=["evidence", "hidden", 2], regions="bands:2", steps=[0, -1])
    assert len(extractor.names) == 12
    assert "channel2.step3.band2" in extractor.names
    one = images[:1]
    found = like_net2brain(extractor, one, list(extractor.names))
    assert list(found) == list(extractor.names)
    assert all(value.shape[0] == 1 for value in found.values())
    columns = an.sheet_regions(net.model.sheet, "bands:2")["band1"]
    truth = expected(net, one, "hidden", columns, 0).reshape(1, -1)
    np.testing.assert_allclose(found["hidden.step1.band1"], truth, rtol=1e-5, atol=1e-6)


def test_it_is_a_module_like_any_other(net, images):
    extractor = an.FeatureExtractor(net, regions=REGIONS, images="unit", mean=MEAN, std=STD)
    other = copy.deepcopy(extractor)
    file = io.BytesIO()
    torch.save(extractor.state_dict(), file)
    file.seek(0)
    assert set(extractor.state_dict()) == {f"net.{name}" for name in net.state_dict()}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    unit = images.sigmoid()
    torch.testing.assert_close(other(unit), extractor(unit))
    double = other.double()
    assert double.features(unit.double())["step3.V1"].dtype == torch.float64
    assert not extractor.training
    extractor.train()
    assert net.training
    extractor.eval()
    on_meta = copy.deepcopy(extractor).to("meta")
    assert all(buffer.device.type == "meta" for buffer in on_meta.buffers())


def test_gradients_pass_to_images(net, images):
    extractor = an.FeatureExtractor(net, steps=None)
    shown = images.clone().requires_grad_()
    kept = []
    hook = extractor.get_submodule("step3.all").register_forward_hook(lambda _, __, output: kept.append(output))
    extractor(shown)
    kept[0][..., 0].sum().backward()  # of all channels, normed, the squares have one sum whatever is shown
    hook.remove()
    assert shown.grad.abs().sum() > 0
    before = extractor.features(images)["step3.all"][..., 0].sum()
    step = images + 1e-2 * shown.grad / shown.grad.norm()
    assert extractor.features(step)["step3.all"][..., 0].sum() > before


# ---------------------------------------------------------------------- images


def test_images_are_normalized_once(net, images):
    unit = images.sigmoid()
    small = (255 * unit).round().to(torch.uint8)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    extractor = an.FeatureExtractor(net, images="unit", mean=MEAN, std=STD)
    torch.testing.assert_close(extractor(unit), net((unit - mean) / std))
    torch.testing.assert_close(extractor(small), net((small / 255 - mean) / std))
    known = copy.deepcopy(net)
    known.about = {"mean": MEAN, "std": STD}
    torch.testing.assert_close(an.FeatureExtractor(known, images="unit")(small), extractor(small))
    for bad, says in (
        ((unit - mean) / std, "between 0 and 1, or be bytes.*were they normalized"),
        (255 * unit, "between 0 and 1"),
        (unit * torch.nan, "nan"),
        (small.int(), "int32"),
    ):
        with refused(says):
            extractor(bad)
    normalized = an.FeatureExtractor(known)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normalized((unit - mean) / std)
    with pytest.warns(UserWarning, match="but this network takes normalized ones"):
        normalized(unit)
    with refused("uint8"):
        normalized(small)


def test_networks_that_normalize_by_themselves(net, images):
    pytest.importorskip("lightning")
    from colgraph.report.loading import PlainImages

    unit = images.sigmoid()
    plain = PlainImages(net, tuple(MEAN), tuple(STD))
    extractor = an.FeatureExtractor(plain, regions=REGIONS)
    torch.testing.assert_close(extractor(unit), plain(unit))
    torch.testing.assert_close(extractor((255 * unit).byte()), plain((255 * unit).byte()))
    with refused("were they normalized"):
        extractor(images)


def test_baselines_have_one_region(images):
    vit = VisionTransformer(image_size=4, patch_size=2, num_classes=3, dim=8, depth=2, num_heads=2, mlp_dim=8).eval()
    extractor = an.FeatureExtractor(vit, signal="state")
    assert list(extractor.names) == ["step1.all", "step2.all"]
    states = vit.unroll(images, record=("state",)).states
    torch.testing.assert_close(extractor.features(images)["step1.all"], states[0].transpose(0, 1).flatten(1))
    torch.testing.assert_close(extractor(images), vit(images))
    with refused("VisionTransformer has none"):
        an.FeatureExtractor(vit, regions="bands:2")
    halving = ConvNet(image_size=32, patch_size=4, num_classes=3, dim=4, depth=4).eval()
    assert halving.halves
    with refused("halves its map"):
        an.FeatureExtractor(halving, signal="state")(torch.randn(2, 3, 32, 32))
    last = an.FeatureExtractor(halving, signal="state", steps=None)
    assert last.features(torch.randn(2, 3, 32, 32))["step4.all"].shape[0] == 2


# ---------------------------------------------------------------------- names


def test_odd_names_are_made_safe_and_told(net, images):
    with pytest.warns(UserWarning, match=r"'V1\.left' is called 'V1-left', 'type' is called 'type_'"):
        extractor = an.FeatureExtractor(net, steps=None, regions={"V1.left": [0], "type": [1], "a_1": [2]})
    assert list(extractor.names) == ["step3.V1-left", "step3.type_", "step3.a_1"]
    assert extractor.names["step3.type_"].region == "type"
    found = like_brain_score(extractor, images, list(extractor.names))
    np.testing.assert_allclose(
        found["step3.type_"], expected(net, images, columns=[1], steps=None)[:, 0], rtol=1e-5, atol=1e-6
    )
    with refused("'V1 left' and 'V1/left' would both be called 'V1-left'"):
        an.FeatureExtractor(net, regions={"V1 left": [0], "V1/left": [1]})
    with refused("no letter or digit"):
        an.FeatureExtractor(net, regions={"!?": [0]})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 3}, r"0\.\.2"),
        ({"steps": "last"}, "steps must be one of 'all', got 'last'"),
        ({"steps": [0, -3]}, "step 0 twice"),
        ({"steps": []}, "none"),
        ({"steps": 1.5}, "whole numbers, got 1.5"),
        ({"steps": True}, "whole numbers, got True"),
        ({"signal": "evidense"}, "'evidence'"),
        ({"signal": 6}, "0 to 5"),
        ({"signal": []}, "none"),
        ({"signal": ["norm", "norm"]}, "'norm' twice"),
        ({"regions": "V1"}, "got 'V1'"),
        ({"regions": {"V1": [99]}}, "0..15"),
        ({"images": "uint8"}, "'normalized', 'unit', got 'uint8'"),
        ({"images": "unit"}, "knows of none"),
        ({"images": "unit", "mean": MEAN, "std": [0, 1, 1]}, "std must be finite and positive"),
        ({"mean": MEAN}, "for images='unit'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_names_are_refused_in_one_line(net, options, says):
    with refused(says):
        an.FeatureExtractor(net, **options)


def test_other_networks_are_refused():
    with refused("unroll.*got Linear"):
        an.FeatureExtractor(torch.nn.Linear(2, 2))
    with refused("got <lambda>"):
        an.FeatureExtractor(lambda images: images)


def test_rsatoolbox_takes_features_and_agrees(net, images):
    data = pytest.importorskip("rsatoolbox.data")
    rdm = pytest.importorskip("rsatoolbox.rdm")
    features = an.FeatureExtractor(net, regions=REGIONS).features(torch.randn(12, 3, 4, 4))
    for name, values in features.items():
        measured = data.Dataset(values.detach().double().numpy(), obs_descriptors={"image": np.arange(12)})
        theirs = rdm.calc_rdm(measured, method="correlation").dissimilarities[0]
        np.testing.assert_allclose(theirs, an.rdm(values), atol=1e-6, err_msg=name)
