"""How right a run's network is, by the task that it was trained in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis.arrays import Array
from colgraph.analysis.corruptions import as_images
from colgraph.analysis.nets import device_of
from colgraph.analysis.scoring import Run, Scoring
from colgraph.hints import in_one_line
from colgraph.modes import evaluation
from colgraph.tasks import Question, Task

R = TypeVar("R")


class TaskScoring(Scoring):
    """A task's own accuracy, from what it tallies of each image.

    What a task draws of an image (which patches are hidden) follows from the image's place among the others, so that it
    is the same whatever is done to the image or the network.

    Args:
        task: made with the settings of a run.
        name: of the task, for messages.
        is_share: whether its accuracy lies between 0 and 1.
        seed: of what the task draws.
    """

    def __init__(self, task: Task, name: str, is_share: bool, seed: int) -> None:
        self.task, self.name, self.is_share, self._seed = task, name, is_share, seed

    def check(self, images: Any, labels: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images between 0 and 1, and labels as the task takes them."""
        data, given = as_images(images), np.asarray(labels)
        if len(given) != len(data):
            raise ValueError(f"labels must be as many as the {len(data)} images, got {len(given)}")
        return data, given

    def counts(
        self,
        net: Any,
        shown: NDArray[Any],
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        batch_size: int,
        run: Run | None = None,
    ) -> Array:
        """``[B, k]``: the task's tally of each image, of a :class:`colgraph.report.loading.PlainImages`."""
        found: list[Array] = []
        with evaluation(net), torch.no_grad():
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                right = self.ask(net, images[part], labels[part], start)
                seen = right if shown is images else self.ask(net, shown[part], labels[part], start)
                pixels, options = together(seen)
                answers = (run or as_it_is)(net.net, pixels, **options).float()
                for i, question in enumerate(right):
                    tally = self._calling("tally", self.task.tally, answers[i : i + 1], question.targets)
                    found.append(tally.cpu().double().numpy())
        return np.stack(found)

    def ask(self, net: Any, images: NDArray[Any], labels: NDArray[Any], start: int) -> list[Question]:
        """The question of each image, of which ``start`` others come before."""
        device = device_of(net)
        pixels, given = net.normalised(torch.as_tensor(images).to(device)), torch.as_tensor(labels).to(device)
        asked = []
        for i in range(len(pixels)):
            draws = torch.Generator().manual_seed(1_000_003 * self._seed + start + i)
            one = slice(i, i + 1)
            asked.append(self._calling("question", self.task.question, net.net, pixels[one], given[one], draws))
        return asked

    def accuracy(self, counts: Array) -> Array:
        """What the task makes of the sums over images."""
        images = float(counts.shape[-2])
        sums = counts.sum(-2)
        flat = [self.measures(one, images)["accuracy"] for one in sums.reshape(-1, sums.shape[-1])]
        return np.array(flat, dtype=np.float64).reshape(sums.shape[:-1])

    def measures(self, sums: Array, images: float) -> dict[str, float]:
        """All that the task makes of sums ``[k]`` over so many images."""
        return self._calling("metrics", self.task.metrics, sums.tolist(), images)

    def _calling(self, what: str, function: Callable[..., R], *given: Any) -> R:
        """A method of the task, which may be anybody's, on one image: or a ValueError that says what is wrong."""
        try:
            return function(*given)
        except Exception as error:
            reason = in_one_line(error)[:200]
            raise ValueError(f"task {self.name!r}: its {what} of a single image failed ({reason})") from error


def together(questions: list[Question]) -> tuple[Tensor, dict[str, Tensor]]:
    """The images of several questions, and what else a network takes."""
    hidden = [question.hidden for question in questions if question.hidden is not None]
    images = torch.cat([question.images for question in questions])
    return images, {"hidden": torch.cat(hidden)} if hidden else {}


def as_it_is(net: Any, images: Tensor, **options: Tensor) -> Tensor:
    """The answers of a network to which nothing is done."""
    answers: Tensor = net.unroll(images, **options).logits
    return answers
