"""How the answer of a run spreads over its sheet: what each output column says of held-out images, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.data import as_bytes
from colgraph.hints import in_one_line
from colgraph.modes import evaluation
from colgraph.report.loading import Run
from colgraph.report.patches import patch_of_column
from colgraph.report.shown import Settings
from colgraph.report.task_scoring import TaskScoring, together
from colgraph.tasks import Task
from colgraph.viz.moving import animate_spreading
from colgraph.viz.step_answers import Spreading, draw_spreading
from colgraph.viz.style import save_figure

_SHOWN = 4
_MOST_CELLS = 2_000_000  # answers that a page holds
_MOST_IMAGES = 500  # that the share right is of


@dataclass(frozen=True, eq=False)
class _Said:
    """Of some images, step by step.

    Attributes:
        share: ``[B, T, O]`` from 0 to 1, NaN for columns that are not asked.
        right: ``[B, T, O]``.
        tally: ``[T, k]`` sums of the task over the images.
        captions: ``[B][T]``.
    """

    share: NDArray[np.float32]
    right: NDArray[np.bool_]
    tally: NDArray[np.float64]
    captions: list[list[str]]


TITLE = "The answer, step by step"
_PREFIX = "spreading_"


def spread_and_draw(run: Run, settings: Settings, figures: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What ``results.json`` and ``maps.npz`` hold of :func:`spreading_of`; figures get ``spreading.png`` and ``.gif``.

    That is ``title``, ``figure`` and the texts, or ``why_not`` in place of all but the title.
    """
    try:
        found = spreading_of(run, settings)
    except ValueError as error:
        return {"title": TITLE, "why_not": in_one_line(error)}, {}
    save_figure(draw_spreading(found, title=f"{TITLE}: {run.path.name}"), figures / "spreading.png")
    animate_spreading(found, figures / "spreading.gif")
    arrays, content = found.parts()
    alt = f"{TITLE}: {found.overall[found.trained - 1]} as trained, {found.overall[-1]} after {found.steps} steps"
    figure = {"file": f"{figures.name}/spreading.png", "alt": alt}
    entry = {"title": TITLE, "why_not": None, "accuracy_is": run.task.accuracy_is, "figure": figure, **content}
    return entry, {_PREFIX + name: array for name, array in arrays.items()}


def spreading_from(entry: Mapping[str, Any], maps: Mapping[str, NDArray[Any]]) -> Spreading:
    """From what :func:`spread_and_draw` returns.

    Raises:
        ValueError: if something is missing.
    """
    arrays = {name.removeprefix(_PREFIX): array for name, array in maps.items() if name.startswith(_PREFIX)}
    return Spreading.of(arrays, entry)


@torch.no_grad()
def spreading_of(run: Run, settings: Settings) -> Spreading:
    """What output columns answer up to twice the trained number of steps.

    Of classes it is the probability: of the second of two, else of the right one. Where one answer is read out of the
    mean over columns, it is what each column by itself says for the right class of the image. Of vectors it is the
    share of their variance that is explained.

    Raises:
        ValueError: where columns answer nothing by themselves, or too much for a page.
    """
    if run.lacks:
        raise ValueError(run.lacks["columns" if "columns" in run.lacks else "patches"])
    net, images = run.net.net, run.images
    outputs, steps = net.outputs.numel(), 2 * net.model.steps
    cells = steps * outputs
    if cells > _MOST_CELLS:
        raise ValueError(f"{outputs:,} output columns times {steps} steps are more than a page holds ({_MOST_CELLS:,})")
    if run.task.views != 1 or (net.readout != "columns" and not run.says_classes):
        raise ValueError(
            f"columns of task {run.config.task} answer nothing by themselves: it needs a class per image, or an answer "
            "per output column"
        )
    if net.options.head != "linear" or net.model.inject == "sequence":
        raise ValueError("it needs images, and a linear head, which has an answer for each column")
    scoring = TaskScoring(run.task, run.config.task, True, settings.seed)
    shown = int(np.clip(_MOST_CELLS // cells, 1, min(_SHOWN, len(images))))
    count = int(np.clip(2e6 // (run.sheet.num_columns * steps), shown, min(_MOST_IMAGES, len(images))))
    chosen = np.random.default_rng(settings.seed).permutation(len(images))[:count]
    batch = int(np.clip(2e7 // (run.sheet.num_columns * steps * net.model.dim), 1, 64))
    data, labels = scoring.check(images[chosen], run.labels[chosen])
    first, tally = None, np.zeros(())
    with evaluation(run.net):
        for start in range(0, count, batch):
            # Images that are shown come from the first batches alone.
            part = slice(start, start + batch)
            said = _said(run, scoring, data[part], labels[part], start, steps)
            tally = tally + said.tally
            first = said if first is None else _joined(first, said, shown)
    if first is None:
        raise ValueError("there is no held-out image")
    place, cell, on_image = _places(run)
    low, high = _ends(run)
    return Spreading(
        images=_as_seen(run, images[chosen[:shown]]),
        share=first.share[:shown],
        right=first.right[:shown],
        place=place,
        cell=cell,
        captions=first.captions[:shown],
        overall=[_overall(scoring, sums, count) for sums in tally],
        trained=net.model.steps,
        on_image=on_image,
        low=low,
        high=high,
    )


def _joined(first: _Said, more: _Said, shown: int) -> _Said:
    if len(first.share) >= shown:
        return first
    share, right = (np.concatenate([getattr(one, name) for one in (first, more)]) for name in ("share", "right"))
    return _Said(share, right, first.tally, first.captions + more.captions)


def _said(run: Run, scoring: TaskScoring, images: Any, labels: Any, start: int, steps: int) -> _Said:
    net: Any = run.net.net
    asked = scoring.ask(run.net, images, labels, start)
    pixels, options = together(asked)
    out = net.unroll(pixels, steps=steps, record=("state",), **options)
    answers = out.step_logits.float()
    sums = torch.stack([_tally(run.task, each, [question.targets for question in asked]) for each in answers])
    tally = sums.cpu().double().numpy()
    if run.says_classes:
        return _of_image(net, out.states, answers, torch.as_tensor(labels), run.classes, tally)
    targets = torch.cat([question.targets for question in asked])
    if targets.shape[:2] != (len(asked), net.outputs.numel()):
        raise ValueError(f"task {run.config.task} asks for nothing column by column: targets {list(targets.shape)}")
    said = answers.transpose(0, 1)
    return (_of_vectors if targets.is_floating_point() else _of_columns)(said, targets, tally)


def _tally(task: Task, answers: Tensor, targets: list[Any]) -> Tensor:
    """``[k]`` the sum over images, which tensors have all at once."""
    if all(isinstance(each, Tensor) for each in targets):
        return task.tally(answers, torch.cat(targets))
    return torch.stack([task.tally(answers[i : i + 1], each) for i, each in enumerate(targets)]).sum(0)


def _of_columns(answers: Tensor, targets: Tensor, tally: Any) -> _Said:
    """From answers ``[B,T,O,K]`` and classes ``[B,O]``."""
    asked = (targets >= 0).unsqueeze(1).expand(answers.shape[:3])
    wanted = targets.clamp(min=0).unsqueeze(1).expand(answers.shape[:3])
    chance = answers.softmax(-1)
    share = chance[..., 1] if answers.size(-1) == 2 else chance.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
    right = (answers.argmax(-1) == wanted) | ~asked
    counts = torch.stack([(right & asked).sum(-1), asked.sum(-1)], -1).tolist()
    return _as_said(share, asked, right, tally, [[f"{a:,} of {b:,} right" for a, b in each] for each in counts])


def _of_vectors(answers: Tensor, targets: Tensor, tally: Any) -> _Said:
    """From answers ``[B,T,O,K]`` and vectors ``[B,O,K]``: the share of the variance of what is asked of an image."""
    known = ~targets.isnan().any(-1)
    seen = targets[known]
    variance = (seen - seen.mean(0)).square().mean().clamp(min=1e-12)
    error = (answers - targets.nan_to_num().unsqueeze(1)).square().mean(-1)
    asked = known.unsqueeze(1).expand(error.shape)
    share = (1 - error / variance).clamp(0, 1)
    mean = 1 - (error * asked).sum(-1) / asked.sum(-1).clamp(min=1) / variance
    captions = [[f"{100 * max(one, 0):.0f}% explained" for one in each] for each in mean.tolist()]
    return _as_said(share, asked, torch.ones_like(asked), tally, captions)


def _of_image(net: Any, states: Tensor, answers: Tensor, labels: Tensor, classes: list[str], tally: Any) -> _Said:
    """From states ``[T,N,B,C]`` and answers ``[T,B,K]``: what each output column says for the class of the image."""
    evidence = net.evidence(states.index_select(1, net.outputs)).float().permute(2, 0, 1, 3)
    wanted = labels.view(-1, 1, 1).expand(evidence.shape[:3])
    share = evidence.softmax(-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
    right = evidence.argmax(-1) == wanted
    names = [[classes[k] for k in each] for each in answers.argmax(-1).T.tolist()]
    own = [classes[k] for k in labels.tolist()]
    captions = [[_named(said, told) for said in each] for each, told in zip(names, own, strict=True)]
    return _as_said(share, torch.ones_like(right), right, tally, captions)


def _named(said: str, told: str) -> str:
    return f"answer {said[:24]}: right" if said == told else f"answer {said[:24]}, it is {told[:24]}"


def _as_said(share: Tensor, asked: Tensor, right: Tensor, tally: Any, captions: list[list[str]]) -> _Said:
    known = share.masked_fill(~asked, torch.nan)
    return _Said(known.float().cpu().numpy(), right.cpu().numpy(), tally, captions)


def _overall(scoring: TaskScoring, sums: NDArray[np.float64], images: int) -> str:
    found = scoring.measures(sums, float(images))
    text = f"{_percent(found['accuracy'])} over {images:,} held-out images"
    return text + (f"; {_percent(found['perfect'])} of images without an error" if "perfect" in found else "")


def _percent(share: float) -> str:
    """Not 100 where an error is left."""
    return f"{100 * share:.{1 if share == 1 or share < 0.999 else 3}f}%"


def _ends(run: Run) -> tuple[str, str]:
    """What shares of 0 and 1 mean."""
    if run.says_classes:
        return "another class", "the right class"
    if run.labels.dtype.kind == "f" or run.task.labels == "none":
        return "nothing explained", "all explained"
    if run.net.net.num_classes == 2 and len(run.classes) == 2:
        return run.classes[0][:32], run.classes[1][:32]
    return ("0", "1") if run.net.net.num_classes == 2 else ("another class", "the right class")


def _as_seen(run: Run, images: NDArray[Any]) -> NDArray[np.uint8]:
    """``[M, 1 or 3, height, width]`` as patches are cut from them."""
    net: Any = run.net.net
    pixels = as_bytes(torch.as_tensor(images))
    if hasattr(net, "sampled"):
        pixels = net.sampled(pixels.float()).round().clamp(0, 255).to(torch.uint8)
    seen: NDArray[np.uint8] = (pixels if pixels.size(1) == 3 else pixels[:, :1]).cpu().numpy()
    return seen


def _places(run: Run) -> tuple[NDArray[np.float32], tuple[float, float], bool]:
    """Where the cells of output columns lie, and whether that is where they lie in the image.

    Columns of one patch share its cell. Columns that belong to no patch lie as on the sheet, seen across its two widest
    directions.
    """
    net: Any = run.net.net
    outputs = net.outputs.cpu().numpy()
    patch = net.output_patches.cpu().numpy() if net.readout == "columns" else patch_of_column(net)[outputs]
    rows, columns = net.grid
    if len(patch) != len(outputs) or patch.max() >= rows * columns:
        return (*_on_sheet(run.sheet.pos.numpy().astype(np.float64)[outputs]), False)
    height, width = net.image_size
    stride, size = getattr(net, "patch_stride", net.patch_size), net.patch_size
    _, inverse, count = np.unique(patch, return_inverse=True, return_counts=True)
    across = int(np.ceil(np.sqrt(count.max())))
    order = np.argsort(inverse, kind="stable")
    number = np.empty(len(patch), np.int64)
    number[order] = np.arange(len(patch)) - np.repeat(np.cumsum(count) - count, count)
    offset = (np.stack([number % across, number // across], 1) + 0.5) / across - 0.5
    middle = np.stack([patch % columns, patch // columns], 1) * stride + size / 2 + offset * stride
    place = middle / np.array([width, height])
    return place.astype(np.float32), (stride / width / across, stride / height / across), True


def _on_sheet(points: NDArray[np.float64]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    centred = points - points.mean(0)
    across = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    extent = max(float(np.ptp(across, axis=0).max()), 1e-12)
    cell = float(1 / (np.ceil(np.sqrt(len(points))) + 1))
    place = (across - (across.max(0) + across.min(0)) / 2) / extent * (1 - cell) + 0.5
    return place.astype(np.float32), (cell, cell)
