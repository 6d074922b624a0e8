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
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from colgraph.models.buffers import SheetBuffers, in_dtype_of
from colgraph.models.columnformer import Columnformer, Unroll
from colgraph.models.image_shape import check_image_shape
from colgraph.models.other_sheet import check_carries_over, take_parameters
from colgraph.models.reach import late_columns, steps_to_reach
from colgraph.models.sharing import SharedModel
from colgraph.nn import ColumnLayerNorm
from colgraph.nn.constructor import constructor
from colgraph.options import VisionOptions, held
from colgraph.sheet import Sheet


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
    the mean over the output columns and a shared linear head. Patches are matched to input columns so that
    neighbouring patches land on neighbouring columns; the match is the buffer ``assignment``.

    Args:
        model: the columnformer; its sheet must have as many input columns as there are patches.
        image_size: side length in pixels, or (height, width).
        patch_size: side length of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        readout: "mean" over the output columns; "spatial": one learned weighting (a softmax) of the output columns
            per class, which starts as the mean; or "columns": an answer of each output column, ``[B,outputs,classes]``
            in the order of the output columns.
        head: "linear", or "mlp" (dim hidden units, GELU) over the mean.
        mask_token: a learned vector that takes the place of patches that are hidden from the model (``hidden`` of
            :meth:`unroll`), as in masked autoencoders.

    Attributes:
        output_patches: ``[outputs]`` int64, the patch that each output column answers for with ``readout="columns"``,
            matched as input columns are; those of output columns that are input columns are their own. Empty where
            there are not as many output columns as patches, or a multiple.
        options: the arguments but for the model, a frozen dataclass (:class:`colgraph.options.VisionOptions`).
        about: plain values that travel with a shared model: its data, scores, classes. Empty until somebody fills it.

    Raises:
        ValueError: if the patches do not tile the image or do not match the input columns.
    """

    image_size: tuple[int, int] = held("image_size")
    patch_size: int = held("patch_size")
    in_channels: int = held("in_channels")
    num_classes: int = held("num_classes", assignable=True)
    readout: str = held("readout")
    head: Any  # a Linear, or an mlp of one hidden layer
    assignment: Tensor
    output_patches: Tensor
    outputs: Tensor

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
    ) -> None:
        super().__init__()
        self.options = VisionOptions(image_size, patch_size, in_channels, num_classes, readout, head, mask_token)
        self.about = {}
        (height, width), inputs = self.image_size, model.sheet.inputs
        patches = (height // patch_size) * (width // patch_size)
        if patches != inputs.numel():
            raise ValueError(
                f"image_size {height} x {width} with patch_size {patch_size} gives {patches} patches, but the sheet "
                f"has {inputs.numel()} input columns: build_sheet(..., num_inputs={patches}), or another patch_size"
            )
        self.model = model
        self.patch_embedding = nn.Conv2d(in_channels, model.dim, patch_size, patch_size)
        self.norm = ColumnLayerNorm(model.dim)
        self.head = _head(model.dim, num_classes, head)
        self.mask_token = nn.Parameter(torch.zeros(model.dim)) if mask_token else None
        outputs = model.sheet.outputs.numel()
        self.pool = nn.Parameter(torch.zeros(num_classes, outputs)) if readout == "spatial" else None
        self.register_sheet_buffers("assignment", *(("output_patches",) if readout == "columns" else ()))
        _warn_of_late_outputs(model)

    def sheet_buffers(self) -> dict[str, Tensor]:
        """The output columns, the patch of each input column, and that of each output column."""
        return {"outputs": self.model.sheet.outputs, **self._matched(self.model.sheet.pos)}

    def _matched(self, positions: Tensor) -> dict[str, Tensor]:
        """The patches of columns that lie at positions ``[N,3]``."""
        sheet = self.model.sheet
        found = {"assignment": assign_patches(self.grid, positions[sheet.inputs].numpy())}
        if self.readout == "columns":
            found["output_patches"] = _patches_of_outputs(sheet, positions, self.grid, found["assignment"])
        return {name: torch.from_numpy(patches) for name, patches in found.items()}

    def match_patches(self, positions: Tensor) -> None:
        """Match patches and columns anew, as if columns lay at other positions ``[N,3]`` than they do."""
        for name, patches in self._matched(positions).items():
            getattr(self, name).copy_(patches)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        (height, width), patch = self.image_size, self.patch_size
        return height // patch, width // patch

    def embed(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Patch vectors ``[P,B,C]`` in the order of the input columns.

        Args:
            images: ``[B,channels,height,width]``.
            hidden: ``[B,P]`` bool, True for patches (row by row) that the mask token takes the place of.
        """
        check_image_shape(images, self.in_channels, self.image_size)
        if not images.is_floating_point():
            name = str(images.dtype).removeprefix("torch.")
            raise ValueError(f"images must be floating-point, normalised as in training, got {name}")
        images = in_dtype_of(self, images, "images")
        patches = self.patch_embedding(images).flatten(2).permute(2, 0, 1)
        if hidden is not None:
            if self.mask_token is None:
                raise ValueError("hidden patches need a VisionColumnformer(..., mask_token=True)")
            patches = torch.where(hidden.T.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        return patches.index_select(0, self.assignment)

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
    ) -> VisionUnroll:
        """Run on images and keep what is asked for; see :meth:`Columnformer.unroll`, and :meth:`embed` for hidden."""
        x = None if images is None else self._input(images, hidden)
        out = self.model.unroll(x, state=state, steps=steps, start=start, record=record)
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
        if (other.image_size, *_fingerprints(other)) == (self.image_size, *_fingerprints(self)):
            # Where nothing has changed, patches stay where they are: they may have been matched in another way.
            for name in self.sheet_buffers():
                setattr(other, name, getattr(self, name).clone())
        other.about = {name: value for name, value in copy.deepcopy(self.about).items() if name != "scores"}
        return other

    def extra_repr(self) -> str:
        return (
            f"image_size={self.image_size}, patch_size={self.patch_size}, classes={self.num_classes}, "
            f"readout={self.readout}"
        )


def _fingerprints(net: VisionColumnformer) -> tuple[str, ...]:
    sheet = net.model.sheet
    ends = (tuple(columns.tolist()) for columns in (sheet.inputs, sheet.outputs))
    return (sheet.fingerprint, sheet.geometry_fingerprint, *map(str, ends))


def _head(dim: int, values: int, kind: str) -> nn.Module:
    if kind == "linear":
        return nn.Linear(dim, values)
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, values))


def _patches_of_outputs(sheet: Sheet, positions: Tensor, grid: tuple[int, int], assignment: np.ndarray) -> np.ndarray:
    """The patch of each output column, see :class:`VisionColumnformer`; empty where they do not match."""
    inputs, outputs = sheet.inputs.numpy(), sheet.outputs.numpy()
    if np.isin(outputs, inputs).all():
        return assignment[np.argsort(inputs)[np.searchsorted(np.sort(inputs), outputs)]]
    if len(outputs) != grid[0] * grid[1]:
        return np.zeros(0, np.int64)
    return assign_patches(grid, positions[sheet.outputs].numpy())


def _warn_of_late_outputs(model: Columnformer) -> None:
    late = int(late_columns(steps_to_reach(model.sheet)[model.sheet.outputs], model.steps).sum())
    if late:
        warnings.warn(
            f"{late:,} of {model.sheet.outputs.numel():,} output columns of {model.sheet.geometry!r} cannot know of "
            f"the input within {model.steps} steps and only dilute the readout: give more steps, or outputs that hear "
            "it (build_sheet(..., num_outputs=) or outputs=)",
            stacklevel=4,  # over the constructor that wraps this one
        )


def assign_patches(grid: tuple[int, int], positions: np.ndarray) -> np.ndarray:
    """Match the patches of an image to the input columns.

    The columns are projected on their best-fitting plane and scaled to the image's extent; the match minimises the sum
    of squared distances (a linear assignment). Of the eight ways to lay a square on the plane the cheapest is taken,
    and among equals the one closest to the order of the columns.

    Args:
        grid: rows and columns of patches; the patch at (r, c) is number ``r * columns + c``.
        positions: ``[P,3]`` of the input columns in order of rank.

    Returns:
        ``[P]`` int64: for each input column the number of its patch.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    patches = np.stack([_centred(rows), _centred(columns)], 1)
    plane = _plane_coordinates(positions.astype(np.float64))
    best: tuple[float, float] | None = None
    chosen = np.arange(len(rows))
    # A large assignment is slow (cubic); then only the two axis orders are tried.
    flips = ((1, 1), (1, -1), (-1, 1), (-1, -1)) if len(rows) <= 1024 else ((1, 1),)
    for swap in (False, True):
        for flip in flips:
            target = (plane[:, ::-1] if swap else plane) * flip
            cost = ((target[:, None] - patches[None]) ** 2).sum(-1)
            assignment = linear_sum_assignment(cost)[1]
            total = float(cost[np.arange(len(rows)), assignment].sum())
            rank = (round(total, 6), float(np.abs(assignment - np.arange(len(rows))).sum()))
            if best is None or rank < best:
                best, chosen = rank, assignment
    return chosen.astype(np.int64)


def _centred(values: np.ndarray) -> np.ndarray:
    """Scaled to [-1, 1]; zeros where there is no extent."""
    low, high = values.min(), values.max()
    extent = high - low
    return np.zeros(len(values)) if extent <= 1e-9 else (2 * values - low - high) / extent


def _plane_coordinates(positions: np.ndarray) -> np.ndarray:
    """Coordinates ``[P,2]`` in the best-fitting plane, along directions close to the coordinate axes."""
    centred = positions - positions.mean(0)
    normal = np.linalg.svd(centred, full_matrices=True)[2][-1]
    first, second = np.sort(np.argsort(np.abs(np.round(normal, 9)), kind="stable")[:2])
    u = np.eye(3)[first] - normal[first] * normal
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    v *= np.sign(v[second]) or 1.0
    return np.stack([_centred(centred @ u), _centred(centred @ v)], 1)
