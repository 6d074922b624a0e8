"""A network of the user's own, with the ends that training and evaluation ask of a vision model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from colgraph.models.image_shape import check_image_shape
from colgraph.models.own_columns import OwnColumns, sheet_of
from colgraph.models.vision import VisionColumnformer, VisionUnroll
from colgraph.modes import evaluation
from colgraph.options import check_sizes
from colgraph.sheet import Sheet


class OwnNetwork(nn.Module):
    """Any module that takes normalized images ``[B,channels,S,S]`` to logits ``[B,classes]``.

    For training and evaluation it has no patches and no steps: what asks for those is refused. Where the module is a
    :class:`colgraph.models.SheetNetwork` (or a :class:`colgraph.VisionColumnformer`), analyses see its :meth:`columns`.

    Args:
        network: the module; it is tried on two images.
        image_size: side S in pixels.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        source: where it can be made again, as ``file.py:function``; None where nothing says so.

    Attributes:
        about: plain values that describe a trained network.

    Raises:
        ValueError: for a module that does not answer so, and for one whose sheet and states do not fit.
    """

    def __init__(
        self, network: nn.Module, image_size: int, in_channels: int, num_classes: int, source: str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"a network must be a torch.nn.Module, got {type(network).__name__}")
        check_sizes(image_size=image_size, in_channels=in_channels, num_classes=num_classes)
        self.network, self.source = network, source
        self.image_size, self.in_channels, self.num_classes = (image_size, image_size), in_channels, num_classes
        self.patch_size, self.readout, self.steps, self.recurs = image_size, "mean", 1, False
        self.about: dict[str, Any] = {}
        sheet_of(network)  # what is wrong with it is said before what follows from that
        self._try()
        self.columns()

    @property
    def sheet(self) -> Sheet | None:
        """That of the network; None where it has no columns."""
        return sheet_of(self.network)

    def columns(self) -> VisionColumnformer | OwnColumns | None:
        """The network as analyses run it, with the same parameters; None without a sheet.

        Raises:
            ValueError: as :class:`colgraph.models.own_columns.OwnColumns`.
        """
        if isinstance(self.network, VisionColumnformer):
            return self.network
        sheet = self.sheet
        if sheet is None:
            return None
        # With as many images as columns, a state would not tell which come first.
        images = self._images(3 if sheet.num_columns == 2 else 2)
        images = images + torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        with evaluation(self.network):
            return OwnColumns(self.network, images)

    def _images(self, count: int) -> Tensor:
        """Blank ones."""
        parameter = next(self.network.parameters(), torch.zeros(()))
        shape = (count, self.in_channels, *self.image_size)
        return torch.zeros(shape, device=parameter.device, dtype=parameter.dtype)

    def _try(self) -> None:
        """Ask about two blank images, in evaluation mode; what is lazy is made then."""
        images = self._images(2)
        try:
            with evaluation(self.network), torch.no_grad():
                self(images)
        except ValueError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            name, shape = type(self.network).__name__, list(images.shape)
            raise ValueError(f"the network {name} does not take images {shape}: {reason}") from error

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches: the image is one."""
        return 1, 1

    @property
    def output_patches(self) -> Tensor:
        """Empty: images are answered as wholes."""
        return torch.empty(0, dtype=torch.int64)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``; raises ValueError where the network answers otherwise."""
        check_image_shape(images, self.in_channels, self.image_size)
        logits: Any = self.network(images)
        wanted = (len(images), self.num_classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted or not logits.is_floating_point():
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the network {type(self.network).__name__} answers {found} to {len(images)} images, expected logits "
                f"{list(wanted)}: one number for each class"
            )
        return logits

    def unroll(self, images: Tensor, *, steps: int | None = None, record: Collection[str] = ()) -> VisionUnroll:
        """The logits, without any state: there are no steps to stop after, and no columns to read.

        Raises:
            ValueError: for steps, or a state, that are asked for.
        """
        if steps is not None or record:
            raise ValueError(f"the network {type(self.network).__name__} has no steps and no columns: only its answer")
        logits = self(images)
        return VisionUnroll(state=logits[None], wiring_cost=logits.new_zeros(()), logits=logits)

    def save_pretrained(self, *folder: Any, **options: Any) -> NoReturn:
        """Raise ValueError: only code of the user's own can make the network again."""
        raise ValueError(
            f"the network {type(self.network).__name__} cannot be shared as a model of colgraph, which cannot make it: "
            "share its code, and torch.save(net.network.state_dict(), ...)"
        )
