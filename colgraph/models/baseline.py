"""What baselines have in common: patch vectors, blocks one after another, and what is read out after any of them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from colgraph.models.image_shape import check_image_shape
from colgraph.models.sharing import SharedModel
from colgraph.models.vision import VisionUnroll
from colgraph.options import OptionError, check_choice, check_sizes, plain_value
from colgraph.sheet import Sheet
from colgraph.torch_internals import static_shape

READOUTS = ("mean", "columns")
INJECTIONS = ("first", "every")


class Baseline(SharedModel):
    """Images ``[B,channels,S,S]`` to logits ``[B,classes]``, or ``[B,P,classes]`` for P patches, through blocks.

    The strided convolution that :class:`colgraph.VisionColumnformer` makes patch vectors with; blocks, one a step; and
    a shared LayerNorm, the mean over patches and a linear head.

    Args:
        image_size: side S in pixels.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        dim: channels of a patch vector.
        depth: number of blocks.
        readout: "mean" over the patches, or "columns": an answer of each, patches row by row.
        inject: where patch vectors enter: "first" (the first block), or "every" (added before every block).
        leak: the share of the state that is lost before every block but the first, as on a sheet.

    Attributes:
        about: plain values that travel with a shared model, as those of a :class:`colgraph.VisionColumnformer`.

    Raises:
        ValueError: for sizes that do not fit.
    """

    blocks: nn.ModuleList | nn.Sequential
    norm: nn.Module
    head: nn.Linear

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        in_channels: int,
        num_classes: int,
        dim: int,
        depth: int,
        readout: str,
        inject: str,
        leak: float,
    ) -> None:
        super().__init__()
        check_sizes(image_size=image_size, patch_size=patch_size, in_channels=in_channels, num_classes=num_classes)
        check_sizes(dim=dim, depth=depth)
        check_choice("readout", readout, READOUTS)
        check_choice("inject", inject, INJECTIONS)
        if image_size % patch_size:
            raise ValueError(f"image_size {image_size} is not divisible by patch_size {patch_size}")
        self.image_size, self.patch_size, self.in_channels = (image_size, image_size), patch_size, in_channels
        self.num_classes, self.dim, self.depth = num_classes, dim, depth
        if not 0 <= leak < 1:
            raise OptionError("leak", f"must be at least 0 and less than 1, got {leak!r}")
        self.readout, self.inject, self.leak = readout, inject, leak
        self.about = {}
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    # ------------------------------------------------------------------ what a kind of blocks says of itself

    @property
    def steps(self) -> int:
        """How many blocks run one after another, unless :meth:`unroll` is told another number."""
        return self.depth

    @property
    def recurs(self) -> bool:
        """Whether all steps run one block, which can then run for any number of them."""
        return False

    @property
    def takes_any_size(self) -> bool:
        """Whether images of any sides that the patch size divides are taken, not those of ``image_size`` alone."""
        return False

    def start(self, vectors: Tensor) -> Tensor:
        """What the first block takes, from patch vectors ``[B,dim,rows,columns]``."""
        return vectors

    def by_patch(self, state: Tensor) -> Tensor:
        """``[B,P,C]``, patches row by row, from what a block returns."""
        return state.flatten(2).transpose(1, 2)

    def from_patch(self, state: Tensor, given: Tensor) -> Tensor:
        """What a block takes, of the shape of ``given``, from ``[B,P,C]``: :meth:`by_patch` undone."""
        return state.transpose(1, 2).reshape(given.shape)

    def check_stops(self, steps: int | None, record: Collection[str]) -> None:
        """Refuse, with a ValueError, to stop after so many blocks or to keep so much; here any will do."""

    def arguments(self) -> dict[str, Any]:
        """Plain values that the class can be called with, for a model of the same shapes."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names} | {"image_size": self.image_size[0]}

    def to_config(self) -> dict[str, Any]:
        """The class and its arguments: what :meth:`from_config` makes a model of the same shapes from."""
        return {"class": type(self).__name__, "arguments": self.arguments()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], sheet: Sheet | None) -> Self:
        """A new model from what :meth:`to_config` returned."""
        return cls(**config["arguments"])

    # ------------------------------------------------------------------ running

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        (height, width), patch = self.image_size, self.patch_size
        return height // patch, width // patch

    @property
    def output_patches(self) -> Tensor:
        """``[P]`` int64, the patch that each answer of ``readout="columns"`` is for; empty without it."""
        rows, columns = self.grid
        count = rows * columns if self.readout == "columns" else 0
        return torch.arange(count, device=self.head.weight.device)

    def embed(self, images: Tensor) -> Tensor:
        """Patch vectors ``[B,dim,rows,columns]``, or a ValueError for images of a shape that is not taken."""
        size, patch = self.image_size, self.patch_size
        if self.takes_any_size and images.dim() == 4:
            height, width = static_shape(images)[2:]
            if not height or not width or height % patch or width % patch:
                raise ValueError(f"images must have sides that patch_size {patch} divides, got {list(images.shape)}")
            size = (height, width)
        check_image_shape(images, self.in_channels, size)
        vectors: Tensor = self.patch_embedding(images)
        return vectors

    def classify(self, state: Tensor) -> Tensor:
        """Logits ``[..., B, classes]``, or ``[..., B, P, classes]``, from vectors ``[..., B, P, C]`` of all patches."""
        normed: Tensor = self.norm(state)
        logits: Tensor = self.head(normed if self.readout == "columns" else normed.mean(-2))
        return logits

    def normed(self, state: Tensor) -> Tensor:
        """``[...,C]`` what the readout reads of vectors ``[...,C]`` after the last block."""
        found: Tensor = self.norm(state)
        return found

    def evidence(self, state: Tensor) -> Tensor:
        """``[...,classes]`` the head on each normed vector ``[...,C]``."""
        said: Tensor = self.head(self.norm(state))
        return said

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``, or ``[B,P,classes]``."""
        logits: Any = self.unroll(images).logits
        return logits

    def unroll(
        self,
        images: Tensor,
        *,
        state: Tensor | None = None,
        steps: int | None = None,
        start: int | None = None,
        record: Collection[str] = (),
    ) -> VisionUnroll:
        """Run the blocks and keep what is asked for, as :meth:`colgraph.VisionColumnformer.unroll` does.

        Args:
            images: ``[B,channels,S,S]``.
            state: ``[P,B,C]`` to go on from, of a model that recurs.
            steps: how many blocks to run; all of them by default. More than there are is for one that recurs alone.
            start: how many steps ``state`` has behind it; no model here tells the time, so that it makes no difference.
            record: "state", for ``states`` ``[T,P,B,C]`` after each block and ``step_logits`` ``[T,...]``, what would
                be read out there.

        Returns:
            An unroll with the last ``state`` ``[P,B,C]``, and a wiring cost of zero.
        """
        for name in record if not isinstance(record, str) else (record,):
            check_choice("record", name, ("state",))
        self.check_stops(steps, record)
        blocks = self._blocks(steps)
        given = self.start(self.embed(images))
        going_on = state is not None
        x = given if state is None else self._from_patches(state, given)
        states = []
        for t, block in enumerate(blocks):
            if t or going_on:
                x = (1 - self.leak) * x if self.leak else x
                x = x + given if self.inject == "every" else x
            x = block(x)
            if "state" in record:
                states.append(self.by_patch(x))
        last = self.by_patch(x)
        every = torch.stack(states) if states else None
        return VisionUnroll(
            state=last.transpose(0, 1),
            wiring_cost=last.new_zeros(()),
            states=None if every is None else every.transpose(1, 2),
            logits=self.classify(last),
            step_logits=None if every is None else self.classify(every),
        )

    def _from_patches(self, state: Tensor, given: Tensor) -> Tensor:
        """A state ``[P,B,C]`` to go on from as blocks take it, what they were given first being ``given``."""
        if not self.recurs:
            raise ValueError(
                f"state: blocks of this {type(self).__name__} have weights of their own, and none comes after the last"
            )
        shape = static_shape(self.by_patch(given).transpose(0, 1))
        if static_shape(state) != shape:
            raise ValueError(f"state must have shape {list(shape)}, got {list(state.shape)}")
        return self.from_patch(state.transpose(0, 1), given)

    def _blocks(self, steps: int | None) -> Sequence[nn.Module]:
        """The blocks of a number of steps, or a ValueError where there are not so many."""
        steps = self.steps if steps is None else plain_value(steps)
        check_sizes(steps=steps)
        blocks = list(self.blocks)
        if self.recurs:
            return blocks * steps
        if steps > len(blocks):
            raise ValueError(
                f"steps must be at most {len(blocks)}, got {steps}: the {len(blocks)} blocks of this "
                f"{type(self).__name__} have weights of their own, and there is no further one"
            )
        return blocks[:steps]

    def extra_repr(self) -> str:
        """For printing."""
        return (
            f"image_size={self.image_size}, patch_size={self.patch_size}, classes={self.num_classes}, "
            f"readout={self.readout}, steps={self.steps}, inject={self.inject}"
        )
