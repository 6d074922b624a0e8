"""A columnformer that sees: image patches in at the input columns, class logits out of the output columns."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.models.buffers import SheetBuffers, in_dtype_of
from colgraph.models.columnformer import Columnformer
from colgraph.models.image_shape import check_image_shape
from colgraph.models.log_polar import LogPolar
from colgraph.models.other_sheet import check_carries_over, take_parameters
from colgraph.models.reach import late_columns, steps_to_reach
from colgraph.models.retinotopy import assign_patches, number_in_patch, patches_of_outputs
from colgraph.models.sharing import SharedModel
from colgraph.models.unrolled import Unroll
from colgraph.nn import ColumnLayerNorm
from colgraph.nn.constructor import constructor
from colgraph.options import CENTER, VisionOptions, fixation_point, held, patch_grid
from colgraph.sheet import Sheet

_OPTIONS = frozenset(item.name for item in dataclasses.fields(VisionOptions))


@dataclass
class VisionUnroll(Unroll):
    """An :class:`Unroll` with the readout.

    Attributes:
        logits: ``[B, classes]`` after the last step; ``[B, O, classes]`` where columns are read out one by one.
        step_logits: ``[T, ...]``, what a readout after each step would say, where "state" was recorded.
    """

    logits: Tensor | None = None
    step_logits: Tensor | None = None


class VisionColumnformer(SharedModel, SheetBuffers):
    """Images ``[B,channels,height,width]`` to logits ``[B,classes]``, or ``[B,outputs,classes]``.

    A shared patch embedding (a strided convolution) feeds the input columns; after the last step a shared LayerNorm,
    the mean over the output columns and a shared linear head. Patches are matched to input columns, or to compact
    groups of them, so that neighboring patches land on neighboring columns; the match is the buffer ``assignment``.

    Args:
        model: the columnformer; its sheet must have as many input columns as there are patches, times
            ``columns_per_patch``.
        image_size: side length in pixels, or (height, width).
        patch_size: side length of a patch; must divide the image size, unless there is a stride.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        readout: "mean" over the output columns; "spatial": one learned weighting (a softmax) of the output columns
            per class, which starts as the mean; or "columns": an answer of each output column, ``[B,outputs,classes]``
            in the order of the output columns.
        head: "linear", or "mlp" (dim hidden units, GELU) over the mean.
        mask_token: a learned vector that takes the place of patches that are hidden from the model (``hidden`` of
            :meth:`unroll`), as in masked autoencoders.
        columns_per_patch: input columns g that see each patch. The patch embedding has g linear maps, one for each
            column of a group, in the same place of every group.
        patch_stride: pixels from one patch to the next; at most the patch size, by default it. There are
            ``(side - patch_size) / stride + 1`` patches along a side, without padding.
        sampling: "uniform", or "log-polar": patches are cut from an image of the same size whose rows are rings around
            the fixation point and whose columns are wedges (:class:`colgraph.models.log_polar.LogPolar`), so that the
            map on the sheet is the complex-log map. Wedges are periodic.
        fixation: the point looked at, as shares of height and width from the upper left.

    Attributes:
        assignment: ``[inputs]`` int64, the patch (row by row) that each input column sees.
        output_patches: ``[outputs]`` int64, the patch that each output column answers for with ``readout="columns"``,
            matched as input columns are; those of output columns that are input columns are their own. Empty where
            there are not as many output columns as patches, or a multiple.
        options: the arguments but for the model, a frozen dataclass (:class:`colgraph.options.VisionOptions`).
        about: plain values that travel with a shared model: its data, scores, classes. Empty until somebody fills it.

    Raises:
        ValueError: if the patches do not cover the image or do not match the input columns.
    """

    image_size: tuple[int, int] = held("image_size")
    patch_size: int = held("patch_size")
    in_channels: int = held("in_channels")
    num_classes: int = held("num_classes", assignable=True)
    readout: str = held("readout")
    columns_per_patch: int = held("columns_per_patch")
    sampling: str = held("sampling")
    head: Any  # a Linear, or an mlp of one hidden layer
    assignment: Tensor
    input_vectors: Tensor  # [inputs], among those of all patches, one after the other
    output_patches: Tensor
    outputs: Tensor
    taps: Tensor  # [K, pixels], of log-polar sampling
    tap_weights: Tensor

    @constructor
    def __init__(
        self,
        model: Columnformer,
        image_size: int | tuple[int, int] = 32,
        patch_size: int = 4,
        in_channels: int = 3,
        num_classes: int = 10,
        readout: str = "mean",
        head: str = "linear",
        mask_token: bool = False,
        columns_per_patch: int = 1,
        patch_stride: int | None = None,
        sampling: str = "uniform",
        fixation: str | tuple[float, float] = CENTER,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _OPTIONS}
        super().__init__()
        self.options = VisionOptions(**given)
        self.about = {}
        self._check_inputs(model.sheet.inputs.numel())
        if not model.sheet.outputs.numel():
            raise ValueError("the sheet has no output columns, and nothing could be read out: give it outputs=")
        self.model = model
        maps = model.dim * self.columns_per_patch
        self.patch_embedding = nn.Conv2d(in_channels, maps, self.patch_size, self.patch_stride)
        self.norm = ColumnLayerNorm(model.dim)
        self.head = _head(model.dim, num_classes, head)
        self.mask_token = nn.Parameter(torch.zeros(model.dim)) if mask_token else None
        outputs = model.sheet.outputs.numel()
        self.pool = nn.Parameter(torch.zeros(num_classes, outputs)) if readout == "spatial" else None
        self.register_sheet_buffers("assignment", "input_vectors", "output_patches")
        _warn_of_late_outputs(model)

    def _check_inputs(self, inputs: int) -> None:
        (height, width), (rows, columns), each = self.image_size, self.grid, self.columns_per_patch
        needed = rows * columns * each
        if needed != inputs:
            size = f"patch_size {self.patch_size}"
            if self.patch_stride != self.patch_size:
                size = f"{size} and patch_stride {self.patch_stride}"
            groups, other = ("", "") if each == 1 else (f" of {each} columns each", " or columns_per_patch")
            raise ValueError(
                f"image_size {height} x {width} with {size} gives {rows * columns} patches{groups}, but the sheet has "
                f"{inputs} input columns: build_sheet(..., num_inputs={needed}), or another patch_size{other}"
            )

    def sheet_buffers(self) -> dict[str, Tensor]:
        """The output columns, what each input column sees and each output column answers for, and sampling."""
        found = {"outputs": self.model.sheet.outputs, **self._matched(self.model.sheet.pos)}
        log_polar = self._log_polar()
        if log_polar is not None:
            found["taps"], weights = map(torch.from_numpy, log_polar.taps())
            found["tap_weights"] = weights.to(torch.get_default_dtype())
        return found

    def _matched(self, positions: Tensor) -> dict[str, Tensor]:
        """The patches of columns that lie at positions ``[N,3]``."""
        sheet, place = self.model.sheet, positions.numpy()
        inputs, outputs = sheet.inputs.numpy(), sheet.outputs.numpy()
        assignment = assign_patches(self.grid, place[inputs])
        found = {"assignment": assignment}
        if self.columns_per_patch > 1:
            number = number_in_patch(assignment, place[inputs])
            found["input_vectors"] = self.columns_per_patch * assignment + number
        if self.readout == "columns":
            found["output_patches"] = patches_of_outputs(self.grid, place, (inputs, outputs), assignment)
        return {name: torch.from_numpy(patches) for name, patches in found.items()}

    def _log_polar(self) -> LogPolar | None:
        if self.sampling != "log-polar":
            return None
        return LogPolar(self.image_size, fixation_point(self.options.fixation), self.grid[1] * self.patch_stride)

    def match_patches(self, positions: Tensor) -> None:
        """Match patches and columns anew, as if columns lay at other positions ``[N,3]`` than they do."""
        for name, patches in self._matched(positions).items():
            getattr(self, name).copy_(patches)

    @property
    def patch_stride(self) -> int:
        """Pixels from one patch to the next."""
        stride = self.options.patch_stride
        return self.patch_size if stride is None else stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; with log-polar sampling rings and wedges."""
        return patch_grid(self.image_size, self.patch_size, self.options.patch_stride)

    def pixel_patches(self) -> Tensor:
        """``[height,width]`` int64: the patch that each pixel of an image lies in, of several the one nearest by."""
        height, width = self.image_size
        y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        log_polar, (rows, columns) = self._log_polar(), self.grid
        down, right = (y, x) if log_polar is None else log_polar.place(y, x)
        edge = (self.patch_size - self.patch_stride) / 2
        row, column = (((each - edge) // self.patch_stride).astype(np.int64) for each in (down, right))
        column = column.clip(0, columns - 1) if log_polar is None else column % columns
        return torch.from_numpy(row.clip(0, rows - 1) * columns + column)

    def sampled(self, images: Tensor) -> Tensor:
        """The images ``[B,channels,height,width]`` that patches are cut from: themselves, or sampled log-polarly."""
        if self.sampling != "log-polar":
            return images
        pixels = images.flatten(2).permute(2, 0, 1).contiguous()
        weights = self.tap_weights.to(images.dtype)[..., None, None]
        # One tap of all pixels after the other: all at once would take room for K images.
        seen = weights[0] * pixels.index_select(0, self.taps[0])
        for tap, weight in zip(self.taps[1:], weights[1:]):
            seen = seen + weight * pixels.index_select(0, tap)
        return seen.permute(1, 2, 0).unflatten(2, self.image_size)

    def patch_pixels(self, images: Tensor) -> Tensor:
        """``[B,P,channels * patch_size^2]`` what patches show, row by row, of images ``[B,channels,height,width]``."""
        return F.unfold(self.sampled(images), self.patch_size, stride=self.patch_stride).transpose(1, 2)

    def embed(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Patch vectors ``[inputs,B,C]`` in the order of the input columns.

        Args:
            images: ``[B,channels,height,width]``.
            hidden: ``[B,P]`` bool, True for patches (row by row) that the mask token takes the place of, in all columns
                that see them.
        """
        check_image_shape(images, self.in_channels, self.image_size)
        if not images.is_floating_point():
            name = str(images.dtype).removeprefix("torch.")
            raise ValueError(f"images must be floating-point, normalised as in training, got {name}")
        images = self.sampled(in_dtype_of(self, images, "images"))
        patches = self.patch_embedding(images).flatten(2).permute(2, 0, 1)
        several = self.columns_per_patch > 1
        if several:
            patches = patches.unflatten(2, (self.columns_per_patch, -1)).transpose(1, 2).flatten(0, 1)
        if hidden is not None:
            if self.mask_token is None:
                raise ValueError("hidden patches need a VisionColumnformer(..., mask_token=True)")
            wanted = [patches.size(1), patches.size(0) // self.columns_per_patch]
            if list(hidden.shape) != wanted:
                raise ValueError(f"hidden must be [images, patches] = {wanted}, got {list(hidden.shape)}")
            hidden = hidden.T.repeat_interleave(self.columns_per_patch, 0)
            patches = torch.where(hidden.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        return patches.index_select(0, self.input_vectors if several else self.assignment)

    def normed(self, state: Tensor) -> Tensor:
        """What the readout reads of states ``[..., N, B, C]`` of any columns: their LayerNorm ``[..., N, B, C]``.

        The length of a state is not in it: no logit changes where a column's state is multiplied by a factor.
        """
        normed: Tensor = self.norm(state)
        return normed

    def evidence(self, state: Tensor) -> Tensor:
        """What each column says for each class, ``[..., N, B, classes]``, from states ``[..., N, B, C]``.

        The head on each column's normed state, its bias included: the mean over the output columns, or with
        ``readout="spatial"`` the sum weighted by the pooling, is the logits; with "columns" that of the output columns
        is.

        Raises:
            ValueError: for an "mlp" head, which answers to the mean over columns alone.
        """
        if self.options.head != "linear":
            raise ValueError("evidence: columns have none where an mlp answers to their mean: it needs head='linear'")
        evidence: Tensor = self.head(self.normed(state))
        return evidence

    def classify(self, state: Tensor) -> Tensor:
        """Logits ``[..., B, classes]``, or ``[..., B, outputs, classes]``, from states ``[..., N, B, C]``."""
        state = state.index_select(-3, self.outputs)
        if self.readout == "columns":
            return self.evidence(state).transpose(-3, -2)
        if self.pool is None:
            # The mean of the evidence, as the head is linear, at one product in place of one for each column.
            return self.head(self.normed(state).mean(-3))
        return torch.einsum("...obk,ko->...bk", self.evidence(state), self.pool.softmax(-1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``, or ``[B,outputs,classes]``."""
        return self.classify(self.model(self._input(images)))

    def unroll(
        self,
        images: Tensor | None,
        *,
        hidden: Tensor | None = None,
        state: Tensor | None = None,
        steps: int | None = None,
        start: int | None = None,
        record: Collection[str] = (),
        history: Tensor | None = None,
    ) -> VisionUnroll:
        """Run on images and keep what is asked for; see :meth:`Columnformer.unroll`, and :meth:`embed` for hidden."""
        x = None if images is None else self._input(images, hidden)
        out = self.model.unroll(x, state=state, steps=steps, start=start, record=record, history=history)
        step_logits = None if out.states is None else self.classify(out.states)
        return VisionUnroll(**vars(out), logits=self.classify(out.state), step_logits=step_logits)

    def _input(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """One image, or with ``inject="sequence"`` a film ``[B,T,channels,height,width]``."""
        if self.model.inject != "sequence":
            return self.embed(images, hidden)
        if hidden is not None:
            raise ValueError("hidden patches are those of one image: inject='first' or 'every'")
        if images.dim() != 5:
            raise ValueError(f"inject='sequence' takes films [B, T, channels, height, width], got {list(images.shape)}")
        frames = self.embed(images.flatten(0, 1))
        return frames.unflatten(1, images.shape[:2]).permute(2, 0, 1, 3)

    def to_plain(self) -> VisionColumnformer:
        """A copy with plain untied parameters, see :meth:`Columnformer.to_plain`."""
        plain = copy.deepcopy(self)
        plain.model = plain.model.to_plain()
        return plain

    def to_untied(self) -> VisionColumnformer:
        """A copy with plain parameters for every column, see :meth:`Columnformer.to_untied`."""
        untied = copy.deepcopy(self)
        untied.model = untied.model.to_untied()
        return untied

    def on_sheet(self, sheet: Sheet, image_size: int | tuple[int, int] | None = None) -> VisionColumnformer:
        """A model with the same parameters on another sheet, larger say, as if it had been built there.

        Patches are matched to columns anew. What is known of the model (:attr:`about`) goes along, but for its scores.

        Args:
            sheet: with an input column for each patch.
            image_size: of the images, that of this model by default; patches keep their size.

        Raises:
            ValueError: as :meth:`Columnformer.on_sheet`, for a "spatial" readout, and if patches and input columns do
                not match.
        """
        check_carries_over(self)
        arguments = dataclasses.asdict(self.options)
        arguments["image_size"] = self.image_size if image_size is None else image_size
        with torch.random.fork_rng(devices=[]):
            other = type(self)(self.model.on_sheet(sheet), **arguments)
        take_parameters(other, self)
        if (other.image_size, other.model.sheet.marks) == (self.image_size, self.model.sheet.marks):
            # Where nothing has changed, patches stay where they are: they may have been matched in another way.
            for name in self.sheet_buffers():
                setattr(other, name, getattr(self, name).clone())
        other.about = {name: value for name, value in copy.deepcopy(self.about).items() if name != "scores"}
        return other

    def extra_repr(self) -> str:
        more = [
            f", {name}={getattr(self.options, name)}"
            for name in ("columns_per_patch", "patch_stride", "sampling", "fixation")
            if getattr(self.options, name) != getattr(VisionOptions, name)
        ]
        return (
            f"image_size={self.image_size}, patch_size={self.patch_size}, classes={self.num_classes}, "
            f"readout={self.readout}{''.join(more)}"
        )


def _head(dim: int, values: int, kind: str) -> nn.Module:
    if kind == "linear":
        return nn.Linear(dim, values)
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, values))


def _warn_of_late_outputs(model: Columnformer) -> None:
    late = int(late_columns(steps_to_reach(model.sheet, model.speed)[model.sheet.outputs], model.steps).sum())
    if late:
        warnings.warn(
            f"{late:,} of {model.sheet.outputs.numel():,} output columns of {model.sheet.geometry!r} cannot know of "
            f"the input within {model.steps} steps and only dilute the readout: give more steps, or outputs that hear "
            "it (build_sheet(..., num_outputs=) or outputs=)",
            stacklevel=4,  # over the constructor that wraps this one
        )
