"""How good a trained model is at its task: its metrics, what it answers, and after how many steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis.nets import check_answers
from colgraph.data import IGNORED, ImageSet
from colgraph.experiments.difficulty import Bin, counted_difficulty, difficulty_bins, only_in
from colgraph.models import VisionColumnformer
from colgraph.tasks import Question, Task, make_task
from colgraph.training.checkpoint import TrainedModel
from colgraph.training.images import begin_task
from colgraph.training.questions import held_out_question, seen_held_out, transform_of

_LEAST_BATCH = 256


class _Batch(NamedTuple):
    """What is asked of the images at ``places`` of a set."""

    places: Tensor
    question: Question


def batch_size_of(trained: TrainedModel, batch_size: int | None) -> int:
    """Images at a time: as many as training tests at a time, unless another number is given."""
    return batch_size or max(trained.config.batch_size, _LEAST_BATCH)


def _asked(task: Task, trained: TrainedModel, images: ImageSet, batch_size: int) -> Iterator[_Batch]:
    """The batches of a set as training asks about them, on the model's device."""
    parameter = next(trained.net.parameters())
    transform = transform_of(trained.config, trained.transform.mean, trained.transform.std)
    for number, start in enumerate(range(0, len(images), batch_size)):
        indices = range(start, min(start + batch_size, len(images)))
        raw, labels = images.batch(indices)
        pixels = seen_held_out(transform, raw.to(parameter.device), task.views).to(parameter.dtype)
        labels = labels.to(parameter.device)
        question = held_out_question(task, trained.net, trained.config, pixels, labels, number)
        yield _Batch(torch.tensor(images.readable(indices)), question)


def _begun(trained: TrainedModel) -> Task:
    return begin_task(make_task(trained.config), trained.config, trained.classes)


class Totals:
    """Sums of a task over batches."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.tally = torch.zeros(0, dtype=torch.float64)
        self.count = 0

    def add(self, answers: Tensor, targets: Any, count: int) -> None:
        """Count answers to so many images."""
        found = self.task.tally(answers, targets).cpu().double()
        self.tally = self.tally + found if len(self.tally) else found
        self.count += count

    def metrics(self) -> dict[str, float]:
        """Those of the task."""
        return self.task.metrics(self.tally.tolist(), float(self.count))


@torch.no_grad()
def evaluate_task(
    trained: TrainedModel, images: ImageSet, batch_size: int | None = None, task: Task | None = None
) -> tuple[dict[str, Any], NDArray[np.int64] | None, dict[str, Tensor]]:
    """Measure a model on a set of images at its task, as the test at the end of training does.

    Args:
        trained: the model with its settings.
        images: what to measure on.
        batch_size: images at a time.
        task: the model's, which has begun with the run's training images; by default it is made, and begins with them.

    Returns:
        The task's metrics with "accuracy_is", "loss" and the number of "images"; of tasks with classes the confusion
        matrix ``[K,K]`` of counts (row the label, column the answer; of columns, those that count), else None; and what
        the task keeps of each image that could be read.
    """
    task, loss, counted = task or _begun(trained), 0.0, 0.0
    totals = Totals(task)
    kept: list[dict[str, Tensor]] = []
    seconds, timed = 0.0, 0
    for places, question in _asked(task, trained, images, batch_size_of(trained, batch_size)):
        begin = time.perf_counter()
        ((_, answers),) = answers_after(trained.net, question, [None])
        if answers.is_cuda:
            torch.cuda.synchronize(answers.device)
        if kept:
            seconds, timed = seconds + time.perf_counter() - begin, timed + len(places)
        check_answers(answers.unflatten(0, (-1, len(places))).transpose(0, 1), totals.count)  # several views an image
        totals.add(answers, question.targets, len(places))
        over = float(task.counted(question.targets, len(places)))
        loss, counted = loss + float(task.loss(answers, question.targets)) * over, counted + over
        kept.append({name: value.cpu() for name, value in task.per_image(answers, question.targets).items()})
    said = {name: torch.cat([each[name] for each in kept]) for name in kept[0]}
    measures = {
        "task": trained.config.task,
        "images": totals.count,
        "accuracy_is": task.accuracy_is,
        **totals.metrics(),
        "loss": loss / counted if counted else math.nan,
        "images_per_second": timed / seconds if timed else None,
    }
    return measures, _confusion(said, len(trained.classes)), said


def _confusion(said: dict[str, Tensor], classes: int) -> NDArray[np.int64] | None:
    if "label" not in said:
        return None
    label, answer = said["label"].flatten(), said["prediction"].flatten()
    counted = label != IGNORED
    pairs = label[counted] * classes + answer[counted]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()


def answers_after(net: Any, question: Question, steps: Sequence[int | None]) -> Iterator[tuple[int | None, Tensor]]:
    """A model's answers after each of some numbers of steps, in rising order; None is as many as it has.

    A sheet runs on from state to state, so that no more than one is there at a time.
    """
    options: dict[str, Any] = {} if question.hidden is None else {"hidden": question.hidden}
    state, history, done = None, None, 0
    for number in steps:
        if not isinstance(net, VisionColumnformer):
            said = net.unroll(question.images, steps=number).logits
        else:
            images = None if state is not None and net.model.inject == "first" else question.images
            more = None if number is None else number - done
            out = net.unroll(images, state=state, history=history, steps=more, start=done, **options)
            said, state, history, done = out.logits, out.state, out.history, number or net.model.steps
        yield number, said.float()


@torch.no_grad()
def accuracy_by_steps(
    trained: TrainedModel,
    images: ImageSet,
    steps: Sequence[int],
    batch_size: int | None = None,
    task: Task | None = None,
) -> list[dict[str, Any]]:
    """What a model's answers are worth after each of some numbers of steps.

    Args:
        trained: the model with its settings.
        images: what to measure on.
        steps: numbers of steps.
        batch_size: images at a time.
        task: as of :func:`evaluate_task`.

    Returns:
        In rising order, for each ``steps`` and the task's metrics; where images or their columns have a difficulty, and
        labels, also ``by_difficulty``: ``from`` and ``to`` (the least and the largest difficulty in a bin), ``count``
        (images or columns that count) and ``accuracy``.
    """
    task, steps = task or _begun(trained), sorted(set(steps))
    difficulty = counted_difficulty(task, trained.net, images)
    bins = [] if difficulty is None else difficulty_bins(difficulty)
    totals = {number: Totals(task) for number in steps}
    parts = {number: [Totals(task) for _ in bins] for number in steps}
    for places, question in _asked(task, trained, images, batch_size_of(trained, batch_size)):
        here = None if difficulty is None else difficulty[places].to(question.images.device)
        chosen = [] if here is None else [only_in(each, here, question.targets) for each in bins]
        for number, answers in answers_after(trained.net, question, steps):
            totals[int(number or 0)].add(answers, question.targets, len(places))
            for part, (rows, targets, count) in zip(parts[int(number or 0)], chosen, strict=True):
                part.add(answers[rows], targets, count)
    return [_entry(number, totals[number], parts[number], bins) for number in steps]


def _entry(number: int, whole: Totals, parts: Sequence[Totals], bins: Sequence[Bin]) -> dict[str, Any]:
    entry: dict[str, Any] = {"steps": number, **whole.metrics()}
    if bins:
        entry["by_difficulty"] = [
            {"from": each.low, "to": each.high, "count": part.count, "accuracy": part.metrics()["accuracy"]}
            for each, part in zip(bins, parts, strict=True)
        ]
    return entry


def step_numbers(text: str) -> list[int]:
    """Numbers of steps from ``5,10,20``, in rising order, each once.

    Raises:
        ValueError: for anything else than whole numbers of at least 1.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ValueError(
            f"--steps takes whole numbers of at least 1 with commas between, such as 5,10,20, got {text!r}"
        )
    return sorted({int(word) for word in words})


def check_steps(trained: TrainedModel, steps: Sequence[int]) -> None:
    """Raise ValueError unless a model can run for numbers of steps."""
    net: Any = trained.net
    name = trained.config.baseline
    if min(steps) < 1:
        raise ValueError(f"--steps takes whole numbers of at least 1, got {min(steps)}")
    most, why = None, ""
    if isinstance(net, VisionColumnformer):
        if net.model.time_embedding is not None:
            most = len(net.model.time_embedding)
            why = f"the model has a time embedding for each of the {most} steps that it was trained for"
    elif not net.recurs:
        most, why = net.steps, f"{name} of {net.steps} blocks with weights of their own has no further one"
    if most is not None and max(steps) > most:
        raise ValueError(f"--steps {max(steps)}: {why}: give at most {most}")
