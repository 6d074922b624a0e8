"""Which two views are of one image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.data import ImageSplits
from colgraph.tasks.known import register_task
from colgraph.tasks.task import Question, Task


@register_task("contrast")
class Contrast(Task):
    """Two augmented views of each image, to be found among those of all others in the batch.

    The normalised temperature-scaled cross-entropy of Chen et al. 2020, "A simple framework for contrastive learning of
    visual representations" (SimCLR), on the answers of an mlp of one hidden layer, which is left behind afterwards.
    Among the others are the images of all processes. Accuracy is the share of views whose nearest other view is of
    their own image; it falls with the size of the batch.
    """

    labels = "none"
    readouts = ("mean",)
    head = "mlp"
    views = 2
    smooths = False
    accuracy_is = "share of views whose nearest other view in the batch is of their image"

    def check(self, images: ImageSplits, net: Any) -> None:
        """Views must differ, and there must be another image to tell from."""
        if self.settings.augment == "none":
            raise ValueError("augment: contrast needs two views that differ: give --augment shift, natural or affine")
        if self.settings.batch_size < 2:
            raise ValueError("batch_size: contrast tells an image from others of its batch: give 2 at least")

    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        """The size of the space in which views are compared."""
        return int(self.settings.projection_dim)

    def question(self, net: Any, images: Tensor, labels: Any, generator: torch.Generator) -> Question:
        """The views; what is right follows from their order."""
        return Question(images, None)

    def loss(self, answers: Tensor, targets: Any, training: bool = False) -> Tensor:
        """The mean over views; ``answers`` ``[2B,K]`` are all first views, then all second ones."""
        scores, right = self._scores(answers)
        # No smoothing: a view is not even a little bit its own other one.
        return F.cross_entropy(scores / self.settings.temperature, right)

    def _scores(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines ``[2B,2A]`` of own views with all of them, and the place of each one's other view."""
        own = F.normalize(answers.float(), dim=-1)
        every, start = self.gather(own)
        place = torch.arange(len(own), device=own.device)
        scores = own @ every.T
        scores = scores.index_put((place, place + start), scores.new_tensor(-torch.inf))
        return scores, start + (place + len(own) // 2) % len(own)

    def tally(self, answers: Tensor, targets: Any) -> Tensor:
        """Views that are found, for two of each image."""
        with torch.no_grad():
            scores, right = self._scores(answers.detach())
        return (scores.argmax(-1) == right).sum().to(torch.float32).unsqueeze(0) / self.views

    def metrics(self, tally: list[float], images: float) -> dict[str, float]:
        """The share of views that are found."""
        return {"accuracy": tally[0] / max(images, 1.0)}

    def per_image(self, answers: Tensor, targets: Any) -> dict[str, Tensor]:
        """For each image the share of its views that are found."""
        scores, right = self._scores(answers)
        return {"score": (scores.argmax(-1) == right).float().view(self.views, -1).mean(0)}
