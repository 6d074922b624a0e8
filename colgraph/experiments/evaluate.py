"""How good a trained model is on labelled images: accuracy, calibration, confusions, speed, and accuracy per step."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colgraph.data import ImageSet, ImageSplits
from colgraph.extras import missing_package
from colgraph.models import VisionColumnformer
from colgraph.output import check_file, write_text
from colgraph.training.checkpoint import KEY, check_images, load_trained, read_checkpoint
from colgraph.training.folder import RunFolder
from colgraph.training.images import images_of, predictions_of
from colgraph.viz import picture_suffixes

SPLITS = ("test", "val", "train")
_BINS = 15


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


def evaluate_run(
    run: Path,
    data: str | None = None,
    *,
    split: str = "test",
    checkpoint: str = "last",
    batch_size: int = 256,
    output: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run's model; writes JSON, and the confusion matrix as a figure beside it.

    Args:
        run: the run folder.
        data: images of the same classes in any order, as ``--data`` of training; those of the run by default.
        split: "test", "val" or "train".
        checkpoint: "last", "best", or one kept on the way: "step-0000100".
        batch_size: images at a time.
        output: the JSON file; :meth:`colgraph.training.RunFolder.evaluation` by default.

    Returns:
        What the JSON holds.

    Raises:
        ValueError: if there is no such checkpoint, the data have other classes, or another process trains the run.
    """
    if split not in SPLITS:
        raise ValueError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}")
    file = RunFolder(run).checkpoint(checkpoint)
    output = output or RunFolder(run).evaluation(data, split, checkpoint)
    check_file("the file of the evaluation,", output)
    check_file("the figure of the evaluation,", confusion_file(output), picture_suffixes())
    trained = load_trained(file)
    splits = images_of(trained.config, data).with_classes(trained.classes)
    images = {"test": splits.test, "val": splits.val, "train": splits.train}[split]
    measures, confusion, answers = evaluate_images(
        trained.net, images, trained.transform, len(trained.classes), batch_size=batch_size
    )
    content = {
        "data": splits.source,
        "split": split,
        "checkpoint": checkpoint,
        "chosen": _chosen(checkpoint, data in (None, trained.config.data) and images is splits.val),
        "step": trained.step,
        **measures,
        "classes": trained.classes,
        "confusion": confusion.tolist(),
    }
    text = json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()})
    write_text(output, text + "\n")
    if (split, checkpoint) == ("test", "last") and data in (None, trained.config.data):
        _write_predictions(RunFolder(run), splits, answers)
    _draw(confusion, trained.classes, measures, splits, confusion_file(output))
    return content


def _write_predictions(folder: RunFolder, splits: ImageSplits, answers: Tensor) -> None:
    """Those of a run that has none: of an older version, or that has not ended."""
    if folder.predictions.is_file():
        return
    try:
        check_images(read_checkpoint(folder.last)[KEY], splits)
    except ValueError as error:
        sys.stderr.write(f"note: {folder.predictions.name} is not written: {error}\n")
        return
    said = {"label": splits.test.labels[splits.test.readable(range(len(splits.test)))], "prediction": answers}
    folder.write_predictions(predictions_of(splits.test, said, splits.classes))


def confusion_file(output: Path) -> Path:
    """The figure beside a JSON file: ``evaluation-best.json`` has ``confusion-best.png``."""
    return output.with_name(f"confusion{output.stem.removeprefix('evaluation') if _named(output) else ''}.png")


def _named(output: Path) -> bool:
    return output.stem.startswith("evaluation-")


def _chosen(checkpoint: str, here: bool) -> str:
    """How the checkpoint was chosen: by its accuracy on the images that it is measured on, or on others."""
    if checkpoint == "last":
        return "the last step, whatever its accuracy"
    if checkpoint != "best":
        return "a step on the way, whatever its accuracy"
    if here:
        return "the epoch with the highest accuracy on these very images, so that accuracy is biased upwards"
    return "the epoch with the highest accuracy on the run's validation images"


def _draw(confusion: np.ndarray, classes: list[str], measures: dict[str, Any], splits: ImageSplits, path: Path) -> None:
    from colgraph.viz import draw_confusion, save_figure

    title = f"{splits.source}: {measures['accuracy']:.1%} of {measures['images']:,} images"
    save_figure(draw_confusion(confusion, classes, title=title), path)
