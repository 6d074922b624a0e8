"""What the input columns see, as if it were a network: the control that has no network in it."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.analysis.corruptions import as_images
from colgraph.analysis.stats import random_groups
from colgraph.models import VisionColumnformer
from colgraph.report.loading import Run
from colgraph.report.task_scoring import TaskScoring
from colgraph.sheet import Sheet

_FOLDS = 10


class Patches(nn.Module):
    """A network of one step whose columns' states are the pixels of the patches that they see.

    Columns that no patch enters by stay at zero, whatever is shown.

    Args:
        run: whose images, patches and sheet these are.
    """

    steps = 1

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def sheet(self) -> Sheet:
        """The sheet of the network."""
        return self._run.sheet

    def unroll(self, images: Tensor, *, record: Collection[str] = ()) -> SimpleNamespace:
        """``state [N,B,pixels]``, and the same as the only one of ``states``.

        Raises:
            ValueError: where attention is asked for.
        """
        if "attention" in record:
            raise ValueError("patches listen to nothing: there is no attention")
        seen, sheet = self._seen(images), self.sheet
        state = seen.new_zeros(sheet.num_columns, *seen.shape[1:]).index_copy(0, sheet.inputs, seen)
        return SimpleNamespace(state=state, states=state.unsqueeze(0))

    def evidence(self, state: Tensor) -> Tensor:
        """``[..., N, B, K]``: what each patch by itself says of each class, or other number that is answered.

        That is the linear regression of what is right (of a class 0 or 1) on the pixels of a patch, one for all patches
        as the network's head is one for all columns, over the run's held-out images: of the class of the image, or
        where each column answers for a patch, of what is right about that patch. What the run's own images say comes
        from a fit without them (ten folds, copies of an image in one), since a regression says more of the images that
        it was fitted to, of noise even; other images are answered by the fit to all. A patch of zeros says nothing.

        Raises:
            ValueError: where the run's answers belong to no patch, or all of its images are the same.
        """
        fits, fold = self._fits, self._fold_of(state.flatten(0, -4)[-1] if state.dim() > 3 else state)
        evidence = state.new_empty(*state.shape[:-1], fits.size(-1))
        for f in fold.unique():
            evidence[..., fold == f, :] = state[..., fold == f, :] @ fits[f]
        return evidence

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """``[B]``: with which of the run's images each is left out of a fit; copies of an image are left out together.

        Raises:
            ValueError: where all images are the same.
        """
        digests = [sha256(image.tobytes()).hexdigest() for image in self._run.images]
        first = np.unique(digests, return_inverse=True)[1]
        different = int(first.max(initial=-1)) + 1
        if different < 2:
            raise ValueError(f"patches have evidence from at least 2 different images, the run has {different}")
        return random_groups(different, 0, _FOLDS)[first]

    @cached_property
    def _fold_of_image(self) -> dict[bytes, int]:
        # As the run has them, and as probes made of them do.
        shown = self._run.images, as_images(self._run.images)
        keys = (_keys(self._seen(torch.from_numpy(images))) for images in shown)
        return {key: int(fold) for each in keys for key, fold in zip(each, self.fold, strict=True)}

    def _fold_of(self, state: Tensor) -> Tensor:
        """``[B]`` of a state ``[N,B,pixels]``: the fit without the image; of others than the run's the last, of all."""
        seen = state.index_select(0, self.sheet.inputs)
        return torch.tensor([self._fold_of_image.get(key, len(self._fits) - 1) for key in _keys(seen)])

    @cached_property
    def _fits(self) -> Tensor:
        """``[folds + 1, pixels, K]``: without each fold, and of all."""
        pixels, target, image = self._rows()
        fold = self.fold[image.numpy()]
        rows = torch.cat([torch.ones_like(pixels[:, :1]), pixels - pixels.mean(0), target], 1)
        # The triangles of a QR decomposition have the normal equations of their rows: folds are put together from them.
        parts = [torch.linalg.qr(rows[fold == f], mode="r").R for f in range(int(self.fold.max()) + 1)]
        without = [parts[:f] + parts[f + 1 :] for f in range(len(parts))]
        return torch.stack([_regression(torch.cat(each), pixels.size(1)) for each in (*without, parts)]).float()

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels ``[k, pixels]`` of patches, what is right ``[k, K]``, and of which image ``[k]`` each is."""
        seen = self._seen(torch.from_numpy(self._run.images)).double()
        if self._run.says_classes:
            label = torch.from_numpy(self._run.labels).repeat(len(seen))
            image = torch.arange(seen.size(1)).repeat(len(seen))
            return seen.flatten(0, 1), F.one_hot(label, len(self._run.classes)).double(), image
        _, first = np.unique(self._run.net.net.assignment.numpy(), return_index=True)
        return self._answered(seen[first])

    def _answered(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`_rows`, of all that is asked of patches ``[P, B, pixels]``."""
        run, net = self._run, self._run.net.net
        if net.readout != "columns" or not net.output_patches.numel():
            raise ValueError(f"the answers of task {run.config.task} belong to no patch: patches have no evidence")
        scoring = run.scoring(0)
        if not isinstance(scoring, TaskScoring):
            raise ValueError(f"the answers of task {run.config.task} are no patch's: patches have no evidence")
        data, labels = scoring.check(run.images, run.labels)
        asked = [question.targets for question in scoring.ask(run.net, data, labels, 0)]
        if not all(isinstance(each, Tensor) and each.shape[:2] == (1, len(net.output_patches)) for each in asked):
            raise ValueError(f"task {run.config.task} asks for nothing column by column: patches have no evidence")
        targets = torch.cat(asked)
        pixels = patches.index_select(0, net.output_patches).transpose(0, 1)
        if targets.is_floating_point():
            known = ~targets.isnan().any(-1)
            return pixels[known], targets[known].double(), known.nonzero()[:, 0]
        known = targets >= 0
        return pixels[known], F.one_hot(targets[known], net.num_classes).double(), known.nonzero()[:, 0]

    def _seen(self, images: Tensor) -> Tensor:
        """``[P,B,pixels]`` in the order of the input columns."""
        net = self._run.net
        patches = net.net.patch_pixels(net.normalised(images))
        return patches.transpose(0, 1).index_select(0, net.net.assignment)


def _keys(seen: Tensor) -> list[bytes]:
    """What tells images of patches ``[P,B,pixels]`` apart."""
    return [sha256(image.tobytes()).digest() for image in seen.transpose(0, 1).contiguous().cpu().numpy()]


def _regression(rows: Tensor, pixels: int) -> Tensor:
    """``[pixels, K]``: least squares of ``rows``, each a 1 (or what became of it), pixels and what is right."""
    one, rest = rows[:, :1], rows[:, 1:]
    centred = rest - one @ (one.T @ rest) / (one.T @ one)
    # Pixels that never change, or that others determine, take part as little as they can.
    return torch.linalg.lstsq(centred[:, :pixels], centred[:, pixels:], rcond=1e-12, driver="gelsd").solution


def patch_of_column(net: VisionColumnformer) -> NDArray[np.int64]:
    """``[N]``: the number of the patch that each column sees.

    Columns that see none have a number of their own, beyond those of the patches.
    """
    sheet, patch = net.model.sheet, net.assignment.cpu().numpy()
    label = len(patch) + np.arange(sheet.num_columns)
    label[sheet.inputs.numpy()] = patch
    return label
