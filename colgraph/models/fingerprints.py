"""Which sheet parameters were learned on, as state dicts say it: fingerprints, as bytes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from colgraph.sheet import Sheet


class SheetMismatchError(ValueError, RuntimeError):
    """Parameters learned on one graph were to be loaded onto another."""


def fingerprint_bytes(sheet: Sheet) -> dict[str, Tensor]:
    """The fingerprints of graph and geometry, each ``[32]`` uint8 on the CPU."""
    both = {"sheet_fingerprint": sheet.fingerprint, "geometry_fingerprint": sheet.geometry_fingerprint}
    numbers = {name: list(bytes.fromhex(fingerprint)) for name, fingerprint in both.items()}
    return {name: torch.tensor(values, dtype=torch.uint8, device="cpu") for name, values in numbers.items()}


def check_learned_on(sheet: Sheet, state_dict: dict[str, Any], prefix: str) -> None:
    """Whether a model's parameters belong to this sheet. Of another geometry they get its fingerprint, and a warning.

    Raises:
        SheetMismatchError: if they were learned on another graph.
    """
    theirs = state_dict.get(prefix + "sheet_fingerprint")
    if theirs is not None and _hexadecimal(theirs) != sheet.fingerprint:
        raise SheetMismatchError(
            f"the parameters belong to another graph (fingerprint {_hexadecimal(theirs)[:16]}) than this model's sheet "
            f"({sheet.fingerprint[:16]}, {sheet.num_columns} columns, "
            f"{sheet.edge_index.size(1)} edges): build the model on the sheet they were learned on"
        )
    theirs = state_dict.get(prefix + "geometry_fingerprint")
    if theirs is not None and _hexadecimal(theirs) != sheet.geometry_fingerprint:
        warnings.warn(
            "the parameters were learned on the same graph with other positions or distances; "
            "wiring costs and maps follow this model's sheet",
            stacklevel=3,
        )
        state_dict[prefix + "geometry_fingerprint"] = fingerprint_bytes(sheet)["geometry_fingerprint"]


def _hexadecimal(fingerprint: Tensor) -> str:
    return bytes(fingerprint.cpu().tolist()).hex()
