"""What tasks ask, how they score answers, and what they refuse."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import colgraph as cg
from colgraph.data import IGNORED, ImageSplits, MemoryImages
from colgraph.tasks import Classify, Columns, Contrast, Reconstruct, drawn_steps, known, make_task, parse_steps
from colgraph.tasks.step_losses import step_weights

SETTINGS = SimpleNamespace(
    task="columns",
    label_smoothing=0.0,
    class_weights="none",
    mask_ratio=0.5,
    temperature=0.2,
    augment="shift",
    batch_size=4,
)


def splits(labels: torch.Tensor, classes: int = 2, size: int = 6) -> ImageSplits:
    images = torch.randint(0, 256, (len(labels), 1, size, size), dtype=torch.uint8)
    part = MemoryImages(images, labels)
    names = [str(i) for i in range(classes)]
    return ImageSplits(part, part, part, names, 1, size, (0.5,), (0.5,), "made up")


def vision(outputs: int = 9, classes: int = 2, **options: Any) -> cg.VisionColumnformer:
    sheet = cg.build_sheet("grid", shape=(3, 3), neighbors="knn:4", num_inputs=9, outputs=f"0-{outputs - 1}")
    model = cg.Columnformer(sheet, dim=8, steps=2, qk_dim=4, mlp_dim=8)
    return cg.VisionColumnformer(model, 6, 2, 1, classes, **{"readout": "columns", **options})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_labels_of_patches_go_to_the_columns_that_answer_for_them() -> None:
    net = vision()
    assert sorted(net.output_patches.tolist()) == list(range(9))
    labels = torch.arange(9).view(1, 3, 3)
    question = Columns(SETTINGS).question(net, torch.zeros(1, 1, 6, 6), labels, generator())
    # The column that sees a patch answers for it.
    inputs = dict(zip(net.model.sheet.inputs.tolist(), net.assignment.tolist()))
    assert question.targets[0].tolist() == [inputs[column] for column in net.model.sheet.outputs.tolist()]


def test_the_loss_of_columns_is_the_mean_over_those_that_count() -> None:
    task, answers = Columns(SETTINGS), torch.randn(3, 4, 5, requires_grad=True)
    targets = torch.randint(0, 5, (3, 4))
    targets[0] = IGNORED
    expected = F.cross_entropy(answers[1:].flatten(0, 1), targets[1:].flatten())
    assert torch.allclose(task.loss(answers, targets), expected)
    nothing = task.loss(answers, torch.full((3, 4), IGNORED))
    nothing.backward()
    assert nothing == 0
    assert not answers.grad.any()


def test_accuracy_of_columns_is_balanced_over_classes_and_batches_add_up() -> None:
    task = Columns(SETTINGS)
    targets = torch.tensor([[0, 0, 0, 1], [0, 0, IGNORED, 1]])
    said = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]])
    answers = F.one_hot(said, 2).float()
    found = task.metrics(task.tally(answers, targets).tolist(), 2)
    assert found == {"accuracy": pytest.approx((1 + 0.5) / 2), "column_accuracy": pytest.approx(6 / 7), "perfect": 0.5}
    parts = sum(task.tally(answers[i : i + 1], targets[i : i + 1]) for i in range(2))
    assert torch.equal(parts, task.tally(answers, targets))
    # To say the most frequent class of all is worth no more than 1 / classes.
    assert task.metrics(task.tally(F.one_hot(said * 0, 2).float(), targets).tolist(), 2)["accuracy"] == 0.5


def test_vectors_are_scored_by_explained_variance() -> None:
    task, targets = Columns(SETTINGS), torch.randn(50, 4, 3) * torch.tensor([1.0, 2.0, 3.0]) + 5
    targets[0, 0] = torch.nan
    known = targets.clone().requires_grad_(False)
    mean = known[~known.isnan().any(-1)].mean(0)
    assert task.metrics(task.tally(known.nan_to_num(), targets).tolist(), 50)["accuracy"] == pytest.approx(1)
    flat = task.metrics(task.tally(mean.expand_as(targets), targets).tolist(), 50)["accuracy"]
    assert flat == pytest.approx(0, abs=1e-4)
    answers = torch.zeros_like(targets).requires_grad_()
    task.loss(answers, targets).backward()
    assert bool(torch.isfinite(answers.grad).all())
    assert not answers.grad[0, 0].any()


@pytest.mark.parametrize(
    ("labels", "net", "message"),
    [
        (torch.zeros(4, dtype=torch.int64), {}, "takes a label per patch or output column.*--task classify"),
        (torch.zeros(4, 2, 3, dtype=torch.int64), {}, "labels for 2 x 3 patches, the model 9 output columns and 3 x 3"),
        (torch.zeros(4, 3, 3, dtype=torch.int64), {"outputs": 10}, "give as many outputs as patches"),
        (torch.zeros(4, 5, dtype=torch.int64), {}, "has 5 labels an image, the model 9 output columns"),
        (torch.full((4, 3, 3), 2), {}, "labels of 'made up' run from 2 to 2, it has 2 classes"),
        (torch.full((4, 3, 3), IGNORED), {}, "all labels of 'made up' are ignored"),
    ],
)
def test_labels_of_another_shape_than_the_outputs_are_refused(labels: Any, net: dict[str, Any], message: str) -> None:
    if "outputs" in net:
        sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:4", num_inputs=9, outputs="0-9")
        model: Any = cg.VisionColumnformer(cg.Columnformer(sheet, dim=8, steps=2), 6, 2, 1, 2, readout="columns")
    else:
        model = vision()
    with pytest.raises(ValueError, match=message):
        Columns(SETTINGS).check(splits(labels), model)


def test_classify_refuses_labels_of_columns() -> None:
    with pytest.raises(ValueError, match=r"takes a class per image.*shape \[3, 3\].*--task columns"):
        Classify(SETTINGS).check(splits(torch.zeros(4, 3, 3, dtype=torch.int64)), vision())


def test_hidden_patches_are_the_targets_and_are_not_seen() -> None:
    net = vision(classes=4, mask_token=True)
    task = Reconstruct(SETTINGS)
    task.check(splits(torch.zeros(4, dtype=torch.int64)), net)
    images = torch.randn(5, 1, 6, 6)
    question = task.question(net, images, None, generator(1))
    assert question.hidden.sum(1).tolist() == [4] * 5  # half of nine, rounded
    by_column = question.hidden[:, net.output_patches]
    assert torch.equal(~question.targets.isnan().any(-1), by_column)
    patches = F.unfold(images, 2, stride=2).transpose(1, 2)[:, net.output_patches]
    scaled = (patches - patches.mean(-1, keepdim=True)) / (patches.std(-1, keepdim=True, correction=0) + 1e-3)
    assert torch.allclose(question.targets[by_column], scaled[by_column], atol=1e-5)
    before = net.unroll(images, hidden=question.hidden).logits
    pixels = F.fold(question.hidden[:, None].expand(-1, 4, -1).float(), 6, 2, stride=2)
    assert torch.equal(net.unroll(images + 9 * pixels, hidden=question.hidden).logits, before)
    assert not torch.equal(net.unroll(images + 9 * (1 - pixels), hidden=question.hidden).logits, before)
    with torch.no_grad():
        net.mask_token.add_(1.0)
    assert not torch.equal(net.unroll(images, hidden=question.hidden).logits, before)


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_a_mask_that_hides_nothing_or_all_is_refused(ratio: float) -> None:
    task = Reconstruct(SimpleNamespace(mask_ratio=ratio))
    with pytest.raises(ValueError, match=r"mask_ratio: .* hide one at least, and not all"):
        task.check(splits(torch.zeros(4, dtype=torch.int64)), vision(classes=4, mask_token=True))


def test_contrast_is_simclr() -> None:
    answers = torch.randn(8, 5, dtype=torch.float64).float().requires_grad_()
    task = Contrast(SETTINGS)
    unit = F.normalize(answers.double(), dim=1)
    losses = []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        scores = unit[i] @ unit[others].T / SETTINGS.temperature
        losses.append(scores.logsumexp(0) - unit[i] @ unit[(i + 4) % 8] / SETTINGS.temperature)
    loss = task.loss(answers, None, training=True)
    assert float(loss.detach()) == pytest.approx(float(torch.stack(losses).mean().detach()), rel=1e-5)
    loss.backward()
    assert bool(torch.isfinite(answers.grad).all())
    same = torch.eye(4).repeat(2, 1)
    assert task.metrics(task.tally(same, None).tolist(), 4)["accuracy"] == 1
    assert task.per_image(same, None)["score"].tolist() == [1.0] * 4


def test_views_of_others_are_told_from_own_ones() -> None:
    """Two processes with half of the images each have the loss of one with all: the mean of theirs."""
    answers = torch.randn(2, 2, 3, 5)  # processes, views, images
    whole = Contrast(SETTINGS).loss(answers.transpose(0, 1).reshape(12, 5), None)
    every = F.normalize(answers.flatten(1, 2), dim=-1).flatten(0, 1)
    losses = []
    for rank in range(2):
        task = Contrast(SETTINGS)
        task.gather = lambda own, rank=rank: (every, rank * len(own))
        losses.append(task.loss(answers[rank].flatten(0, 1), None))
    assert torch.allclose(torch.stack(losses).mean(), whole, atol=1e-6)


def test_weights_of_steps_sum_to_one() -> None:
    assert step_weights("last", 3) == [0, 0, 1]
    assert step_weights("every", 4) == [0.25] * 4
    assert step_weights("rising", 3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_ranges_of_steps() -> None:
    assert parse_steps("4-10") == (4, 10)
    assert parse_steps(" 7 - 7 ") == (None, 7)
    assert parse_steps(5) == (None, 5)
    draws = [drawn_steps(4, 6, generator(i)) for i in range(60)]
    assert set(draws) == {4, 5, 6}
    assert drawn_steps(None, 6, generator()) == 6
    with pytest.raises(ValueError, match="got '9-4'"):
        parse_steps("9-4")


def test_a_task_of_ones_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known._registry, "_known", dict(known._registry._known))
    (tmp_path / "mine.py").write_text(
        "import colgraph as cg\nfrom colgraph.tasks import Classify\n\n"
        '@cg.register_task("mine")\nclass Mine(Classify):\n    """Mine."""\n\nclass Other:\n    pass\n'
    )
    settings = SimpleNamespace(task=f"{tmp_path}/mine.py:Mine")
    assert type(make_task(settings)).__name__ == "Mine"
    assert "mine" in cg.tasks.list_tasks()
    with pytest.raises(ValueError, match=r"no class derived from colgraph\.tasks\.Task"):
        make_task(SimpleNamespace(task=f"{tmp_path}/mine.py:Other"))
    with pytest.raises(ValueError, match="has no class 'Minn': did you mean 'Mine'"):
        make_task(SimpleNamespace(task=f"{tmp_path}/mine.py:Minn"))
    with pytest.raises(ValueError, match="unknown task 'clasify': did you mean 'classify'"):
        make_task(SimpleNamespace(task="clasify"))


def test_shuffled_positions_leave_who_answers_for_what() -> None:
    """What a control moves is where columns lie, not what they see and are asked about."""
    from colgraph.training import TrainConfig, make_model, make_sheet

    settings = {
        "data": "digits",
        "image_size": 8,
        "channels": 1,
        "geometry": "grid",
        "patch_size": 2,
        "task": "columns",
    }
    settings |= {"options": {"shape": [4, 4]}, "neighbors": "knn:4", "dim": 4, "augment": "none", "steps": 2}
    plain = TrainConfig(**settings)
    moved = dataclasses.replace(plain, control="shuffled-positions")
    nets = [make_model(config, make_sheet(config), 2) for config in (plain, moved)]
    assert torch.equal(nets[0].assignment, nets[1].assignment)
    assert torch.equal(nets[0].output_patches, nets[1].output_patches)


def test_balanced_classes_weigh_alike_however_many_labels_they_have() -> None:
    task = Columns(SimpleNamespace(**{**vars(SETTINGS), "class_weights": "balanced"}))
    labels = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, IGNORED]]).view(1, 3, 3)
    task.begin(splits(labels, classes=3))
    assert task.weights.tolist() == pytest.approx([8 / 18, 8 / 6, 0])
    answers, targets = torch.randn(1, 9, 3), labels.flatten(1)
    losses = F.cross_entropy(answers[0, :8], targets[0, :8], reduction="none")
    expected = (losses[:6].mean() + losses[6:].mean()) / 2
    assert float(task.loss(answers, targets, training=True)) == pytest.approx(float(expected), rel=1e-5)
    # What is reported has no weights.
    assert float(task.loss(answers, targets)) == pytest.approx(float(losses.mean()), rel=1e-5)


def loss_by_batches(task: Any, answers: torch.Tensor, targets: torch.Tensor, size: int, training: bool) -> float:
    """The loss of a set as runs and evaluations report it, from batches of a size."""
    parts = list(zip(answers.split(size), targets.split(size), strict=True))
    over = [float(task.counted(right, len(right), training)) for _, right in parts]
    losses = [float(task.loss(said, right, training)) for said, right in parts]
    return sum(a * b for a, b in zip(losses, over, strict=True)) / sum(over)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["classes", "vectors", "image"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_of_a_set_does_not_depend_on_batches(kind: str, training: bool, weights: str) -> None:
    """Half of the images have few columns that count, or none: a batch of them weighs as much as it has."""
    make = Classify if kind == "image" else Columns
    task = make(SimpleNamespace(**{**vars(SETTINGS), "class_weights": weights, "label_smoothing": 0.1}))
    draws = generator(3)
    answers, targets = torch.randn(24, 9, 2, generator=draws), torch.randint(0, 2, (24, 9), generator=draws)
    targets[12:, 1:] = IGNORED
    targets[18:] = IGNORED
    if kind == "vectors":
        targets = torch.randn(24, 9, 2, generator=draws).masked_fill((targets == IGNORED).unsqueeze(-1), torch.nan)
    if kind == "image":
        answers, targets = answers[:, 0], targets[:, 0].clamp(min=0)
    if kind != "vectors":
        task.begin(splits(targets.view(24, 3, 3) if kind == "classes" else targets))
    whole = loss_by_batches(task, answers, targets, 24, training)
    for size in (1, 5, 12):
        assert loss_by_batches(task, answers, targets, size, training) == pytest.approx(whole, rel=1e-5)
    if kind == "classes" and not training:
        everything = F.cross_entropy(answers.flatten(0, 1), targets.flatten())
        assert whole == pytest.approx(float(everything), rel=1e-5)


def test_a_loss_is_a_mean_over_images_unless_its_task_says_otherwise() -> None:
    for task in (Contrast(SETTINGS), Classify(SETTINGS)):
        assert task.counted(None, 7, training=True) == 7
    hidden = torch.zeros(2, 9, 4).masked_fill(torch.arange(9).view(1, 9, 1) < 5, torch.nan)
    assert int(Reconstruct(SETTINGS).counted(hidden, 2)) == 8


@pytest.mark.parametrize("mean", [0.0, 3e3, 3e4, 1e6])
def test_explained_variance_is_right_however_far_vectors_lie_from_zero(mean: float) -> None:
    task, draws = Columns(SETTINGS), generator(4)
    targets = mean + 4 * torch.randn(512, 16, 2, generator=draws)
    answers = targets + 2 * torch.randn(targets.shape, generator=draws)
    targets[::7, 3] = torch.nan
    known = ~targets.isnan().any(-1)
    seen, said = targets[known].double(), answers[known].double()
    expected = 1 - float((said - seen).square().sum() / (seen - seen.mean(0)).square().sum())
    parts = zip(answers.split(60), targets.split(60), strict=True)
    sums = torch.stack([task.tally(said, right) for said, right in parts]).sum(0)
    assert task.metrics(sums.tolist(), 512)["accuracy"] == pytest.approx(expected, abs=1e-4)
    # Of less variance than 1e-12, too.
    small = [task.tally(1e-9 * (each - mean), 1e-9 * (targets - mean)).tolist() for each in (answers, targets)]
    assert task.metrics(small[0], 512)["accuracy"] == pytest.approx(expected, abs=0.02)
    assert task.metrics(small[1], 512)["accuracy"] == pytest.approx(1)


def test_what_has_no_variance_has_no_accuracy() -> None:
    task = Columns(SETTINGS)
    for value in (0.0, 0.1, 3e4, torch.nan):
        targets = torch.full((5, 9, 2), value)
        sums = task.tally(torch.randn(5, 9, 2), targets)
        assert np.isnan(task.metrics(sums.tolist(), 5)["accuracy"])


@pytest.mark.parametrize(("mean", "deviation"), [(1e9, 0.5), (3.0, 0.0)])
def test_vectors_without_digits_to_tell_them_apart_are_refused(mean: float, deviation: float) -> None:
    labels = mean + deviation * torch.randn(4, 3, 3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"vectors of 'made up' lie .* from zero .*: subtract their mean") as error:
        Columns(SETTINGS).check(splits(labels), vision())
    assert "\n" not in str(error.value)
    Columns(SETTINGS).check(splits(labels - mean + torch.randn(labels.shape)), vision())


def test_vectors_have_no_classes_to_weigh() -> None:
    task, images = (
        Columns(SimpleNamespace(**{**vars(SETTINGS), "class_weights": "balanced"})),
        splits(torch.rand(4, 3, 3, 2)),
    )
    for refusing in (lambda: task.check(images, vision()), lambda: task.begin(images)):
        with pytest.raises(
            ValueError, match=r"class_weights: labels of 'made up' are vectors.* got balanced: give none"
        ):
            refusing()


def test_what_smooths_labels_is_known_of_the_loss_that_does() -> None:
    class Squared(Classify):
        def loss(self, answers: torch.Tensor, targets: Any, training: bool = False) -> torch.Tensor:
            return (answers - F.one_hot(targets, answers.size(-1))).square().mean()

    class Smoothed(Squared):
        smooths = True

    settings = SimpleNamespace(label_smoothing=0.1)
    known_of = {kind: kind.smooths for kind in (Classify, Columns, Contrast, Reconstruct, Squared, Smoothed)}
    assert list(known_of.values()) == [True, True, False, False, None, True]
    for kind, smooths in known_of.items():
        assert kind(settings).smoothing(vectors=False) == (0.1 if smooths else 0)
        assert kind(settings).smoothing(vectors=True) == 0
    # What is known is what the losses do.
    answers, targets = torch.randn(3, 9, 2), torch.zeros(3, 9, dtype=torch.int64)
    for task, right in (
        (Classify, targets[:, 0]),
        (Columns, targets),
        (Columns, torch.randn(3, 9, 2)),
        (Contrast, None),
    ):
        said = answers[:, 0] if task is Classify else answers[:2].flatten(1) if task is Contrast else answers
        losses = [
            float(task(SimpleNamespace(**{**vars(SETTINGS), "label_smoothing": each})).loss(said, right, training=True))
            for each in (0.0, 0.1)
        ]
        vectors = right is not None and right.is_floating_point()
        assert (losses[0] != losses[1]) == (task(settings).smoothing(vectors) > 0)
