"""Whole models: the columnformer on a sheet, its vision model, and the baselines without a sheet."""

from typing import TypeAlias

from colgraph.models.baseline import Baseline
from colgraph.models.columnformer import Columnformer
from colgraph.models.convnet import ConvNet
from colgraph.models.fingerprints import SheetMismatchError
from colgraph.models.flops import Flops, count_flops
from colgraph.models.independent import independent_weights
from colgraph.models.own_columns import OwnColumns, SheetNetwork
from colgraph.models.own_network import OwnNetwork
from colgraph.models.recurrent import RecurrentConvNet
from colgraph.models.transformer import VisionTransformer
from colgraph.models.unrolled import Unroll
from colgraph.models.vision import VisionColumnformer, VisionUnroll

__all__ = [
    "Baseline",
    "Columnformer",
    "ConvNet",
    "Flops",
    "OwnColumns",
    "OwnNetwork",
    "RecurrentConvNet",
    "SheetMismatchError",
    "SheetNetwork",
    "Unroll",
    "VisionColumnformer",
    "VisionModel",
    "VisionTransformer",
    "VisionUnroll",
    "count_flops",
    "independent_weights",
]

VisionModel: TypeAlias = VisionColumnformer | VisionTransformer | ConvNet | RecurrentConvNet | OwnNetwork
"""What is trained on images: a sheet, a baseline without one, or a network of the user's own."""
