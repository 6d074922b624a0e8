"""Networks of every task on small images, as reports take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import colgraph as cg
from colgraph.data import ImageSplits, MemoryImages, load_images
from colgraph.report.loading import PlainImages, Run
from colgraph.tasks import Question, Task
from colgraph.training import TrainConfig, make_model, make_sheet, num_answers

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "geometry": "stack",
    "options": {"widths": [4, 4, 4]},
    "num_outputs": 16,
    "patch_size": 2,
    "neighbors": "knn:8",
    "augment": "none",
    "dim": 8,
    "qk_dim": 4,
    "mlp_dim": 8,
    "steps": 3,
    "inject": "every",
    "leak": 0.2,
    "epochs": 2,
    "batch_size": 128,
    "lr": 1e-2,
    "warmup": 0,
    "figure_every": 0,
    "tensorboard": False,
}
TASKS: dict[str, dict[str, Any]] = {
    "classify": {},
    "columns": {"task": "columns"},
    "vectors": {"task": "columns"},
    "reconstruct": {"task": "reconstruct"},
    "contrast": {"task": "contrast", "augment": "affine"},
    "own": {"task": "brightness"},
}


@cg.register_task("brightness")
class Brightness(Task):
    """A task of a user's own: one number, the mean of a part of the image that is drawn for it."""

    labels = "none"
    accuracy_is = "share of the variance of brightness that is explained"

    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        return 1

    def question(self, net: Any, images: Tensor, labels: Any, generator: torch.Generator) -> Question:
        row = torch.randint(8, (len(images), 1, 1, 1), generator=generator).expand(-1, 1, 1, 8)
        return Question(images, images.gather(2, row).mean((1, 2, 3)))

    def loss(self, answers: Tensor, targets: Any, training: bool = False) -> Tensor:
        return (answers[:, 0] - targets).square().mean()

    def tally(self, answers: Tensor, targets: Any) -> Tensor:
        seen = targets.double()
        return torch.stack([(answers[:, 0] - seen).square().sum(), seen.sum(), seen.square().sum()])

    def metrics(self, tally: list[float], images: float) -> dict[str, float]:
        error, total, squares = tally
        return {"accuracy": 1 - error / max(squares - total**2 / images, 1e-12)}

    def per_image(self, answers: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"score": -(answers[:, 0] - targets).square()}


def images_for(kind: str) -> ImageSplits:
    """Digits; where columns are asked, each patch is labeled by whether it is bright, dim or black, or by its pixels.

    The last patch of every image does not count.
    """

    def labels(patches: Tensor) -> Tensor:
        bright = patches.mean(-1)
        found = patches / 255 if kind == "vectors" else (bright > 20).long() + (bright > 120)
        found[:, -1, -1] = torch.nan if kind == "vectors" else -100
        return found

    if kind not in ("columns", "vectors"):
        return load_images("digits", image_size=8, channels=1)
    return digits_by_patch(labels, ["black", "dim", "bright"])


def digits_by_patch(labels: Callable[[Tensor], Tensor], classes: list[str]) -> ImageSplits:
    """Digits with ``labels`` of the pixels ``[n,4,4,4]`` of their patches of 2 x 2."""
    digits = load_images("digits", image_size=8, channels=1)

    def labeled(part: Any) -> MemoryImages:
        patches = part.images.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)[:, 0].float()
        return MemoryImages(part.images, labels(patches))

    train, test = labeled(digits.train), labeled(digits.test)
    return ImageSplits(train, test, test, classes, 1, 8, digits.mean, digits.std, "digits")


def run_of(kind: str, count: int = 60, **changes: Any) -> Run:
    """A network that has learned nothing, with some held-out images."""
    config = TrainConfig(**{**SMALL, **TASKS[kind], **changes})
    images, sheet = images_for(kind), make_sheet(config)
    net = PlainImages(make_model(config, sheet, num_answers(config, sheet, images)), images.mean, images.std).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # heads begin near zero, and answer all alike
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    data, labels = images.test.batch(range(count))
    return Run(Path("none"), net, config, images.classes, data.numpy(), labels.numpy(), {})
