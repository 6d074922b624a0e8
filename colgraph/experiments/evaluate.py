"""How good a trained model is on labeled images: accuracy, calibration, confusions, speed, and accuracy per step."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colgraph.analysis.nets import check_answers
from colgraph.data import ImageSet, ImageSplits
from colgraph.experiments.by_task import accuracy_by_steps, check_steps, evaluate_task
from colgraph.extras import missing_package
from colgraph.models import VisionColumnformer
from colgraph.output import check_file, finite, write_text
from colgraph.tasks import Classify, Task, find_task, make_task
from colgraph.training.checkpoint import TrainedModel, check_images, load_trained
from colgraph.training.folder import RunFolder
from colgraph.training.images import begin_task, predictions_of
from colgraph.training.other_size import at_size, images_of_any_size
from colgraph.viz import picture_suffixes

SPLITS = ("test", "val", "train")
"""Those that all data have; made data have harder test sets as well."""

CLASSIFY = "classify"
"""The task with measures of its own."""

_BINS = 15
_BATCH = 256


@torch.no_grad()
def evaluate_images(
    net: nn.Module, images: ImageSet, transform: Any, classes: int, *, batch_size: int = 256
) -> tuple[dict[str, Any], np.ndarray, Tensor]:
    """Measure a model on a set of images.

    Accuracy and top-5 are fractions of images. The calibration error is the expected one, over 15 equal bins of the
    largest probability: the mean over images of ``|accuracy - confidence|`` of their bin (Guo et al., 2017, "On
    calibration of modern neural networks"). Throughput is of the model alone, without reading images, and without the
    first batch.

    Args:
        net: images ``[B,C,S,S]`` to logits ``[B,classes]``; a VisionColumnformer is also read out after every step.
        images: what to measure on.
        transform: whose ``evaluate`` turns bytes into the model's input.
        classes: number of classes K.
        batch_size: images at a time.

    Returns:
        The measures, the confusion matrix ``[K,K]`` of counts (row the label, column the answer), and the answer
        ``[n]`` to each image that could be read.
    """
    try:
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassCalibrationError,
            MulticlassConfusionMatrix,
        )
    except ImportError as error:
        raise missing_package("evaluation needs", "torchmetrics", "train") from error
    top = min(5, classes)
    device, dtype = next(net.parameters()).device, next(net.parameters()).dtype
    one = MulticlassAccuracy(classes, average="micro").to(device)
    five = MulticlassAccuracy(classes, average="micro", top_k=top).to(device)
    calibration = MulticlassCalibrationError(classes, n_bins=_BINS, norm="l1").to(device)
    confusion = MulticlassConfusionMatrix(classes).to(device)
    loss, right, seconds, timed = 0.0, torch.zeros(0), 0.0, 0
    answers: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        raw, labels = images.batch(range(start, min(start + batch_size, len(images))))
        pixels, labels = transform.evaluate(raw.to(device)).to(dtype), labels.to(device)
        begin = time.perf_counter()
        logits, steps = _answers(net, pixels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if start:
            seconds, timed = seconds + time.perf_counter() - begin, timed + len(labels)
        check_answers(logits, start)
        answers.append(logits.argmax(-1).cpu())
        probabilities = logits.float().softmax(-1)
        for metric in (one, five, calibration, confusion):
            metric.update(probabilities, labels)
        loss += float(nn.functional.cross_entropy(logits.float(), labels, reduction="sum"))
        if steps is not None:
            correct = (steps.argmax(-1) == labels).sum(-1).cpu().to(torch.float64)
            right = correct if not right.numel() else right + correct
    said = torch.cat(answers)
    measures = {
        "images": len(said),
        "accuracy": float(one.compute()),
        f"top{top}_accuracy": float(five.compute()),
        "loss": loss / len(said),
        "calibration_error": float(calibration.compute()),
        "accuracy_per_step": (right / len(said)).tolist() if right.numel() else None,
        "images_per_second": timed / seconds if timed else None,
    }
    return measures, confusion.compute().cpu().numpy(), said


def _answers(net: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits, and those after every step ``[T,B,K]`` where the model has steps."""
    if not isinstance(net, VisionColumnformer):
        return net(pixels), None
    out = net.unroll(pixels, record=("state",))
    if out.logits is None:
        raise ValueError("the model gave no logits")
    return out.logits, out.step_logits


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        folder: of the run.
        checkpoint: "last", "best", or one kept on the way: "step-0000100".
        data: other images than those of the run, as they were named; else None.
        trained: the model, on a sheet of the images' size.
        images: the splits, their classes in the order of the model's answers.
        task: the model's, which has begun with the training images of the run.
    """

    folder: RunFolder
    checkpoint: str
    data: str | None
    trained: TrainedModel
    images: ImageSplits
    task: Task

    @property
    def sets(self) -> dict[str, ImageSet]:
        """The sets of images by what ``--split`` calls them, harder ones last."""
        images = self.images
        return {"test": images.test, "val": images.val, "train": images.train, **self.harder}

    @property
    def harder(self) -> dict[str, ImageSet]:
        """Harder test sets by name."""
        return self.images.harder

    @property
    def own_data(self) -> bool:
        """Whether the images are those of the run."""
        return self.data in (None, self.trained.config.data)


def open_run(run: Path, data: str | None = None, checkpoint: str = "last", steps: Sequence[int] = ()) -> Subject:
    """The model and the images that are going to be evaluated; arguments as of :func:`evaluate_run`.

    Made data of another size are seen by the same parameters on a larger (or smaller) sheet, which a note says.

    Raises:
        ValueError: if there is no such checkpoint, another process trains the run, the model cannot run for such
            numbers of steps, the data do not fit it, or those of the run are no longer what it began with.
    """
    folder = RunFolder(run)
    trained = load_trained(folder.checkpoint(checkpoint))
    if steps:
        check_steps(trained, steps)
    config = trained.config
    images = images_of_any_size(config, data, trained.net.patch_size)
    patches = trained.net.grid
    if images.image_size != trained.config.image_size:
        trained = at_size(trained, images.image_size)
    task = make_task(trained.config)
    if task.labels != "none":
        images = images.with_classes(trained.classes)
    if data is not None or type(task) is not Classify:
        task.check(images, trained.net)
    if data in (None, config.data):
        _check_own_images(trained, images, named=data is not None)
    else:
        _say(images.notes)
    if trained.net.grid != patches:
        here, there = (" x ".join(map(str, grid)) for grid in (trained.net.grid, patches))
        kind = "sheet" if trained.config.baseline is None else "map"
        same = f"evaluated with the same parameters on a {kind} of {here}"
        _say([f"{images.source} has {here} patches, the run's images {there}: {same}"])
    task = begin_task(task, config, trained.classes, images if data in (None, config.data) else None)
    return Subject(folder, checkpoint, data, trained, images, task)


def _check_own_images(trained: TrainedModel, images: ImageSplits, named: bool) -> None:
    """Refuse images of the run that have changed: another fifth is held out then, which the run may have learned from.

    Who names them gets a note.
    """
    learned = "the run may have learned from images that are held out now"
    try:
        again = "" if named else f", give --data {trained.config.data} to measure on them all the same"
        check_images(trained.began_with, images, f"{learned}{again}")
    except ValueError as changed:
        if not named:
            raise
        _say([str(changed)])


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


def evaluate_run(
    run: Path,
    data: str | None = None,
    *,
    split: str = "test",
    checkpoint: str = "last",
    batch_size: int | None = None,
    output: Path | None = None,
    steps: Sequence[int] = (),
) -> dict[str, Any]:
    """Evaluate a run's model; writes JSON, and figures beside it.

    Args:
        run: the run folder.
        data: images of the same classes in any order, as ``--data`` of training; those of the run by default.
        split: "test", "val", "train", or the name of a harder test set.
        checkpoint: "last", "best", or one kept on the way: "step-0000100".
        batch_size: images at a time; by default as many as training tests.
        output: the JSON file; :meth:`colgraph.training.RunFolder.evaluation` by default.
        steps: numbers of steps after which the accuracy is asked for as well.

    Returns:
        What the JSON holds.

    Raises:
        ValueError: as :func:`open_run` and :func:`evaluate_split`, and for files that cannot be written.
    """
    RunFolder(run).checkpoint(checkpoint)
    output = output or RunFolder(run).evaluation(data, split, checkpoint)
    check_outputs(output, bool(steps))
    subject = open_run(run, data, checkpoint, steps)
    return evaluate_split(subject, split, output, batch_size=batch_size, steps=steps)


def check_outputs(output: Path, steps: bool) -> None:
    """Raise ValueError unless an evaluation, and its figures, can be written."""
    check_file("the file of the evaluation,", output)
    for name in ("confusion", *(("steps",) if steps else ())):
        check_file("the figure of the evaluation,", figure_file(output, name), picture_suffixes())


def evaluate_split(
    subject: Subject, split: str, output: Path, *, batch_size: int | None = None, steps: Sequence[int] = ()
) -> dict[str, Any]:
    """Evaluate on one set of images; see :func:`evaluate_run`.

    Raises:
        ValueError: for an unknown split, and where the file that is written by default holds another evaluation.
    """
    trained, splits, sets = subject.trained, subject.images, subject.sets
    if split not in sets:
        raise ValueError(f"--split must be one of {', '.join(sets)}, got {split!r}")
    _check_same_subject(subject, split, output)
    images, confusion = sets[split], None
    if trained.config.task == CLASSIFY:
        size = batch_size or _BATCH
        measures, confusion, answers = evaluate_images(
            trained.net, images, trained.transform, len(trained.classes), batch_size=size
        )
        label = images.labels[images.readable(range(len(images)))]
        said = {"label": label, "prediction": answers}
    else:
        measures, confusion, said = evaluate_task(trained, images, batch_size, subject.task)
    content: dict[str, Any] = {
        "data": splits.source,
        "split": split,
        "checkpoint": subject.checkpoint,
        "chosen": _chosen(subject.checkpoint, subject.own_data and images is splits.val),
        "step": trained.step,
        **measures,
        "classes": trained.classes,
    }
    if confusion is not None:
        content["confusion"] = confusion.tolist()
    if steps:
        content["accuracy_by_steps"] = accuracy_by_steps(trained, images, steps, batch_size, subject.task)
    write_text(output, json.dumps(finite(content)) + "\n")
    if (split, subject.checkpoint) == ("test", "last") and subject.own_data:
        _write_predictions(subject, said)
    _draw(content, output, trained)
    return content


def _check_same_subject(subject: Subject, split: str, output: Path) -> None:
    """Refuse to write over the evaluation of something else that has the same name: ``blur/1`` and ``noise/1``, say.

    A file that was named may be written to as one likes.
    """
    if output != subject.folder.evaluation(subject.data, split, subject.checkpoint) or not output.is_file():
        return
    try:
        content = json.loads(output.read_text(encoding="utf-8"))
        before = [content["data"], content["split"], content["checkpoint"]]
    except (OSError, ValueError, TypeError, KeyError):
        return
    now = [subject.images.source, split, subject.checkpoint]
    same_data = before[0] == now[0] or Path(before[0]).resolve() == Path(now[0]).resolve()
    if not same_data or before[1:] != now[1:]:
        raise ValueError(
            f"{str(output)!r} holds the evaluation of {before[0]!r} ({before[1]}, {before[2]}.ckpt), this one is of "
            f"{now[0]!r} ({split}, {now[2]}.ckpt): name another file with -o"
        )


def _write_predictions(subject: Subject, said: Mapping[str, Tensor]) -> None:
    """Those of a run that has none: of an older version, or that has not ended."""
    folder, splits = subject.folder, subject.images
    if folder.predictions.is_file():
        return
    try:
        check_images(subject.trained.began_with, splits)
    except ValueError:
        return  # a note has said so
    folder.write_predictions(predictions_of(splits.test, said, splits.classes))


def figure_file(output: Path, name: str) -> Path:
    """A figure beside a JSON file: ``evaluation-best.json`` has ``confusion-best.png`` and ``steps-best.png``."""
    has_end = output.stem.startswith("evaluation-")
    return output.with_name(f"{name}{output.stem.removeprefix('evaluation') if has_end else ''}.png")


def _chosen(checkpoint: str, here: bool) -> str:
    """How the checkpoint was chosen: by its accuracy on the images that it is measured on, or on others."""
    if checkpoint == "last":
        return "the last step, whatever its accuracy"
    if checkpoint != "best":
        return "a step on the way, whatever its accuracy"
    if here:
        return "the epoch with the highest accuracy on these very images, so that accuracy is biased upwards"
    return "the epoch with the highest accuracy on the run's validation images"


def _draw(content: Mapping[str, Any], output: Path, trained: TrainedModel) -> None:
    from colgraph.viz import draw_accuracy_by_steps, draw_confusion, save_figure

    of = "of" if trained.config.task == CLASSIFY else "on"
    title = f"{content['data']}: {content['accuracy']:.1%} {of} {content['images']:,} images"
    if "confusion" in content:
        counted = "images" if find_task(trained.config.task).labels == "image" else "columns"
        figure = draw_confusion(np.array(content["confusion"]), content["classes"], title=title, counted=counted)
        save_figure(figure, figure_file(output, "confusion"))
    if "accuracy_by_steps" in content:
        net: Any = trained.net
        steps = net.model.steps if isinstance(net, VisionColumnformer) else net.steps
        save_figure(
            draw_accuracy_by_steps(content["accuracy_by_steps"], steps, title=title), figure_file(output, "steps")
        )
