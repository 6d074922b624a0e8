"""Which sheet parameters were learned on, as state dicts say it: fingerprints, as bytes."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from colgraph.sheet import Sheet


class SheetMismatchError(ValueError, RuntimeError):
    """Parameters learned on one graph were to be loaded onto another."""


def fingerprint_bytes(sheet: Sheet) -> dict[str, Tensor]:
    """The fingerprints of graph and geometry, each ``[32]`` uint8 on the CPU."""
    both = {"sheet_fingerprint": sheet.fingerprint, "geometry_fingerprint": sheet.geometry_fingerprint}
    numbers = {name: list(bytes.fromhex(fingerprint)) for name, fingerprint in both.items()}
    return {name: torch.tensor(values, dtype=torch.uint8, device="cpu") for name, values in numbers.items()}


def note_ends(module: nn.Module, _state: dict[str, Any], _prefix: str, metadata: dict[str, Any]) -> None:
    """A hook of state dicts: which columns hear the input, and which are read, beside torch's version numbers there."""
    sheet: Any = module.sheet
    metadata["ends"] = _ends(sheet)


def check_learned_on(sheet: Sheet, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    """Whether a model's parameters belong to this sheet. Of another geometry they get its fingerprint, and a warning.

    Args:
        sheet: the model's.
        state_dict: what is to be loaded.
        prefix: what its names begin with.
        metadata: of this module, as torch keeps it; {} where there is none.

    Raises:
        SheetMismatchError: if they were learned on another graph, or with other input columns.
    """
    theirs = state_dict.get(prefix + "sheet_fingerprint")
    if theirs is not None and _hexadecimal(theirs) != sheet.fingerprint:
        raise SheetMismatchError(
            f"the parameters belong to another graph (fingerprint {_hexadecimal(theirs)[:16]}) than this model's sheet "
            f"({sheet.fingerprint[:16]}, {sheet.num_columns} columns, "
            f"{sheet.edge_index.size(1)} edges): build the model on the sheet they were learned on"
        )
    here, there = _ends(sheet), metadata.get("ends") or {}
    if there.get("inputs", here["inputs"]) != here["inputs"]:
        raise SheetMismatchError(
            "the parameters were learned with other input columns than this model's sheet has "
            f"({_some(sheet.inputs)}): build the model on the sheet they were learned on"
        )
    if there.get("outputs", here["outputs"]) != here["outputs"]:
        warnings.warn(
            "the parameters were learned with other output columns than this model's sheet has "
            f"({_some(sheet.outputs)}): a head on top of them reads others than it has learned to",
            stacklevel=3,
        )
    theirs = state_dict.get(prefix + "geometry_fingerprint")
    if theirs is not None and _hexadecimal(theirs) != sheet.geometry_fingerprint:
        warnings.warn(
            "the parameters were learned on the same graph with other positions or distances; "
            "wiring costs and maps follow this model's sheet",
            stacklevel=3,
        )
        state_dict[prefix + "geometry_fingerprint"] = fingerprint_bytes(sheet)["geometry_fingerprint"]


def _ends(sheet: Sheet) -> dict[str, str]:
    """The SHA-256 of the input and of the output columns."""
    both = {"inputs": sheet.inputs, "outputs": sheet.outputs}
    return {
        name: hashlib.sha256(columns.cpu().numpy().astype("<i8").tobytes()).hexdigest()
        for name, columns in both.items()
    }


def _some(columns: Tensor) -> str:
    return ", ".join(map(str, columns[:8].tolist())) + (", ..." if len(columns) > 8 else "")


def _hexadecimal(fingerprint: Tensor) -> str:
    return bytes(fingerprint.cpu().tolist()).hex()
