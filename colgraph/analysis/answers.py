"""What several runs say of the same images, joined by image: right and wrong answers, or scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]
Scores = NDArray[np.float64]

IGNORED = -100
"""The label of a column that does not count, as in :data:`colgraph.tasks.IGNORED`: analyses know no tasks."""


class _Answers(NamedTuple):
    """One run's, in the order of the images' keys.

    Attributes:
        kind: what is said, with the names of classes where they are counted.
        image: ``[n]`` keys.
        told: ``[n,...]`` what the label of each is, by the names of classes; empty where there are none.
        said: ``[n]`` whether the answer is right; ``[n]`` a score; or of columns ``[n,2,K]``, how many of each class
            there are, and are right.
    """

    kind: str
    image: NDArray[Any]
    told: NDArray[Any]
    said: NDArray[Any]


def join_predictions(*predictions: Mapping[str, Any]) -> Right | Scores:
    """``[runs, images]``: whether each run is right about each image, or its scores; joined by the images' keys.

    Where images have a label per column, the order of whose columns is the model's own affair, it is the score whose
    mean over images is the accuracy that is balanced over classes, see :func:`balanced_scores`.

    Args:
        predictions: one per run, as ``predictions.npz`` holds them: ``image`` (a key for each image), ``label`` and
            ``prediction`` (indices ``[n]``, or ``[n,columns]`` with -100 for columns that do not count) or ``score``
            (``[n]`` numbers), and perhaps ``classes`` (their names).

    Raises:
        ValueError: where something is missing, or the images of two runs, or their labels, are not the same.
    """
    if not predictions:
        raise ValueError("no predictions to join")
    found = [_sorted(each, number) for number, each in enumerate(predictions)]
    kind, image, told, said = found[0]
    for number, other in enumerate(found[1:], 1):
        if len(other.image) != len(image) or (other.image != image).any():
            extra = np.setxor1d(image, other.image)
            what = f"image {str(extra[0])!r}" if len(extra) else "an image that is there several times"
            counts = f"{len(image)} and {len(other.image)}"
            raise ValueError(f"predictions 0 and {number} are of different images ({counts}), the first is {what}")
        if other.kind != kind:
            raise ValueError(f"predictions 0 are of {kind}, predictions {number} of {other.kind}")
        if (other.told != told).any():
            _refuse_label(image, told, other.told, number)
    if said.ndim == 1:
        return np.stack([each.said for each in found])
    return np.stack([balanced_scores(each.said[:, 1], each.said[:, 0]) for each in found])


def balanced_scores(right: Any, count: Any) -> Scores:
    """``[n]`` scores of images whose mean is the accuracy of columns, balanced over classes.

    With ``right_ik`` of ``count_ik`` columns of class k right in image i, the accuracy is the mean over classes of
    ``p_k = sum_i right_ik / sum_i count_ik``. The score of an image is the accuracy plus ``n / K`` times the sum over
    classes of ``(right_ik - p_k count_ik) / sum_j count_jk``: what the image adds or takes away, linearised, so that
    its variance over images is that of the accuracy in other images with other numbers of columns (Woodruff 1971, "A
    simple method for approximating the variance of a complicated estimate"). Where all images have as many columns of
    each class it is the mean over classes of the share that is right.

    Args:
        right: ``[n, classes]``, columns of each class that are right.
        count: ``[n, classes]``, all that count. Classes without a column play no part.

    Raises:
        ValueError: if no column counts.
    """
    right, count = np.asarray(right, dtype=np.float64), np.asarray(count, dtype=np.float64)
    total = count.sum(0)
    there = total > 0
    if not there.any():
        raise ValueError("no column of any image counts: all labels are ignored")
    share = right[:, there].sum(0) / total[there]
    added = (right[:, there] - share * count[:, there]) / total[there]
    return share.mean() + len(count) / int(there.sum()) * added.sum(1)


def _sorted(predictions: Mapping[str, Any], number: int) -> _Answers:
    if "score" in predictions:
        image, score = (np.asarray(predictions[name]) for name in ("image", "score"))
        if image.ndim != 1 or not len(image) or score.shape != image.shape or not np.isfinite(score).all():
            shapes = f"{list(image.shape)} and {list(score.shape)}"
            raise ValueError(f"predictions {number}: image and score must be numbers of one length, got {shapes}")
        order = np.lexsort((score, image))
        return _Answers("scores", image[order], np.zeros((len(image), 0)), score[order].astype(np.float64))
    for name in ("image", "label", "prediction"):
        if name not in predictions:
            raise ValueError(f"predictions {number} have no {name!r}, but {', '.join(map(repr, sorted(predictions)))}")
    image, label, answer = (np.asarray(predictions[name]) for name in ("image", "label", "prediction"))
    fits = image.ndim == 1 and len(image) and label.shape[:1] == image.shape and label.shape == answer.shape
    if not fits or label.ndim not in (1, 2):
        shapes = f"{list(image.shape)}, {list(label.shape)} and {list(answer.shape)}"
        raise ValueError(f"predictions {number}: image, label and prediction must be of one length, got {shapes}")
    if label.ndim > 1:
        return _of_columns(predictions, image, label, answer)
    named = np.asarray(predictions["classes"])[label] if "classes" in predictions else label
    # An image that is there twice may have two labels.
    order = np.lexsort((answer, named, image))
    return _Answers("classes of images", image[order], named[order].astype(str), (label == answer)[order])


def _of_columns(
    predictions: Mapping[str, Any], image: NDArray[Any], label: NDArray[Any], answer: NDArray[Any]
) -> _Answers:
    """How many columns of each class there are, and are right: the same in whatever order columns come."""
    counted = label != IGNORED
    classes = np.asarray(predictions.get("classes", np.arange(max(label.max(), answer.max(), 0) + 1))).astype(str)
    row = np.broadcast_to(np.arange(len(image))[:, None], label.shape)
    tables = np.zeros((len(image), 2, len(classes)), dtype=np.int64)
    for place, those in enumerate((counted, counted & (label == answer))):
        np.add.at(tables[:, place], (row[those], label[those]), 1)
    by_name = np.argsort(classes, kind="stable")
    tables = tables[:, :, by_name]
    order = np.lexsort((*tables.reshape(len(image), -1).T, image))
    tables = tables[order]
    return _Answers(f"columns of {', '.join(classes[by_name])}", image[order], tables[:, 0], tables)


def _refuse_label(image: NDArray[Any], told: NDArray[Any], other: NDArray[Any], number: int) -> None:
    if told.ndim > 1:
        first = int((told != other).any(1).argmax())
        counts = f"{told[first].tolist()} in predictions 0, and {other[first].tolist()} in predictions {number}"
        raise ValueError(f"image {str(image[first])!r} has columns of each class {counts}")
    first = int((told != other).argmax())
    raise ValueError(
        f"image {str(image[first])!r} is a {str(told[first])!r} in predictions 0, and a "
        f"{str(other[first])!r} in predictions {number}"
    )
