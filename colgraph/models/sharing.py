"""Models as folders and on the Hugging Face Hub: safetensors, a sheet, a config and a card; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from colgraph.extras import missing_package
from colgraph.hints import in_one_line, reason_of
from colgraph.models.alike import differing_part
from colgraph.models.columnformer import Columnformer
from colgraph.models.fingerprints import SheetMismatchError
from colgraph.options import OPTIONS_FORMAT, VisionOptions, as_now
from colgraph.sheet import Sheet

_CONFIG, _SHEET, _WEIGHTS, _CARD = "config.json", "sheet.npz", "model.safetensors", "README.md"
_FILES = (_CONFIG, _SHEET, _WEIGHTS, _CARD)
_ON_A_SHEET = "VisionColumnformer"

_PIPELINES = {"classify": "image-classification", "columns": "image-segmentation"}
_PIPELINES |= dict.fromkeys(("reconstruct", "contrast"), "image-feature-extraction")

_TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

{{ what }}. Written by colgraph.

```python
import colgraph as cg

net = {{ call }}.from_pretrained("<this folder or Hub id>")
logits = net(images)  # normalised images {{ images }}
net.about             # classes, mean and standard deviation of pixels, data and scores
```

{{ sheet }}## Data and scores

{{ about }}

## Config

{{ config }}
"""


class SharedModel(nn.Module):
    """A vision model that can be written to a folder, read back, and put on the Hub.

    Attributes:
        model: the columnformer in it; a baseline has none, and an ``arguments()`` of plain values in its place.
        options: its own options, of which the card tells ``image_size`` and ``in_channels``.
        about: plain values that travel with it.
    """

    model: Columnformer
    options: VisionOptions
    image_size: tuple[int, int]
    in_channels: int
    about: dict[str, Any]

    def save_pretrained(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``model.safetensors``, ``sheet.npz``, ``config.json`` and a model card (``README.md``) into a folder.

        A baseline has no sheet to write. The card carries the config, a report on the sheet, and :attr:`about`.

        Raises:
            ValueError: if the folder holds any of these files and ``overwrite`` is not given.
            ImportError: if huggingface_hub or safetensors is missing, with the line that installs it.
        """
        folder, wrapped = Path(folder).expanduser(), _for_hub(self)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is a file: name a folder")
        there = [name for name in _FILES if (folder / name).exists()]
        if there and not overwrite:
            raise ValueError(
                f"{str(folder)!r} already holds {', '.join(there)}: name another folder, or overwrite=True"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving") as temporary:
            wrapped.save_pretrained(temporary)
            for name in _FILES:
                if name in os.listdir(temporary):
                    (Path(temporary) / name).replace(folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
        return folder

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], **options: Any) -> Self:
        """A model from a folder that :meth:`save_pretrained` wrote, or from the Hugging Face Hub; nothing is unpickled.

        Args:
            source: the folder, or ``owner/name`` on the Hub; a folder that exists wins.
            **options: of huggingface_hub's ``from_pretrained``: ``revision``, ``token``, ``cache_dir``,
                ``force_download``, ``local_files_only``.

        Returns:
            The model, in evaluation mode, on the CPU.

        Raises:
            ValueError: if there is no such model, the Hub cannot be reached, or files are missing or do not fit; a
                :class:`colgraph.SheetMismatchError` if the sheet is not the one the parameters were learned on.
            ImportError: if huggingface_hub or safetensors is missing, with the line that installs it.
        """
        source = os.fspath(source)
        folder = Path(source).expanduser()
        _import_hub()
        if folder.is_dir():
            return cls._read(lambda name: _there(folder / name, source), source)
        if folder.exists() or source.startswith((".", "~", "/")) or source.count("/") != 1:
            raise ValueError(
                f"no folder {source!r}: give a folder written by save_pretrained, or a Hub id like owner/name"
            )
        return cls._read(lambda name: _find(source, name, options), source)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what :meth:`save_pretrained` writes.

        Args:
            repo_id: ``owner/name``.
            **options: of huggingface_hub's ``push_to_hub``: ``private``, ``token``, ``commit_message``, ``branch``.

        Returns:
            The address of the commit.
        """
        wrapped = _for_hub(self)
        try:
            return str(wrapped.push_to_hub(repo_id, **options))
        except Exception as error:
            raise ValueError(f"cannot push to {repo_id!r} on the Hugging Face Hub: {reason_of(error)}") from error

    # ------------------------------------------------------------------ what a kind of model says of itself

    def to_config(self) -> dict[str, Any]:
        """Plain values that :meth:`from_config` makes a model of the same shapes from."""
        # The backend is chosen where the model runs.
        model = {name: value for name, value in self.model.options.arguments().items() if name != "backend"}
        return {"model": model, "vision": dataclasses.asdict(self.options), "fingerprint": self.model.sheet.fingerprint}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], sheet: Sheet | None) -> Self:
        """A new model from what :meth:`to_config` returned, in this version or an older one.

        Args:
            config: with the ``format`` of its options.
            sheet: the one that was saved beside it, where there is one.
        """
        if sheet is None or sheet.fingerprint != config["fingerprint"]:
            raise SheetMismatchError(
                f"the sheet in {_SHEET} has fingerprint {'none' if sheet is None else sheet.fingerprint[:16]}, the "
                f"config says {str(config['fingerprint'])[:16]}: the files do not belong together"
            )
        return cls(Columnformer(sheet, **as_now(config["model"], config.get("format"))), **config["vision"])

    @classmethod
    def _read(cls, find: Callable[[str], Path], source: str) -> Self:
        from safetensors.torch import load_file

        file = find(_CONFIG)
        try:
            config = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{source!r}: cannot read {_CONFIG}: {reason_of(error)}") from error
        kind = config.get("class", _ON_A_SHEET)
        if kind not in [each.__name__ for each in cls.__mro__]:
            raise ValueError(f"{source!r} holds a {kind}: read it with {kind}.from_pretrained, not {cls.__name__}'s")
        sheet = None if "class" in config else Sheet.load(find(_SHEET))
        weights = find(_WEIGHTS)
        try:
            net = cls.from_config(config, sheet)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{source!r} was saved by another version of colgraph: {reason_of(error)}") from error
        except ValueError as error:
            kind_of = SheetMismatchError if isinstance(error, SheetMismatchError) else ValueError
            raise kind_of(f"{source!r}: {error}") from error
        try:
            tensors = load_file(weights)
        except Exception as error:
            raise ValueError(f"{source!r}: cannot read {_WEIGHTS}: {reason_of(error)}") from error
        # Before they are copied: float64 would be rounded to what a new model has.
        dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), torch.float32)
        net.to(dtype)
        # Fingerprints of graph and geometry are among the tensors, and checked as they are loaded.
        try:
            net.load_state_dict(tensors)
        except SheetMismatchError:
            raise
        except RuntimeError as error:
            raise ValueError(f"{source!r}: {_WEIGHTS} does not fit the config: {in_one_line(error)}") from error
        net.about = dict(config.get("about") or {})
        return net.eval()


def _for_hub(net: SharedModel) -> Any:
    """The model as huggingface_hub's mixin takes it, whose class is made when it is needed: an import of its own."""
    _import_hub()
    from huggingface_hub import ModelHubMixin

    class HubModel(
        ModelHubMixin,
        library_name="colgraph",
        tags=[
            *(("columnformer", "graph-neural-network", "neuroai") if _sheet(net) is not None else ()),
            *_pipeline(net),
        ],
        model_card_template=_TEMPLATE,
        pipeline_tag=next(iter(_pipeline(net)), None),
    ):
        def _save_pretrained(self, save_directory: Path) -> None:
            _write(net, save_directory)

        def generate_model_card(self, *args: Any, **options: Any) -> Any:
            return super().generate_model_card(*args, **_card(net), **options)

    return HubModel()


def _pipeline(net: SharedModel) -> list[str]:
    """What the Hub calls the task that a model was trained at; nothing for one of a user's own."""
    return [name for task, name in _PIPELINES.items() if task == net.about.get("task", "classify")]


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import safetensors.torch  # noqa: F401
    except ImportError as error:
        raise missing_package("saving and loading shared models needs", error.name or "", "train") from error
    return huggingface_hub


def _find(model_id: str, name: str, options: dict[str, Any]) -> Path:
    """A file of a model on the Hub."""
    hub = _import_hub()
    try:
        return Path(hub.hf_hub_download(model_id, name, **options))
    except Exception as error:  # of several libraries: no answer, no such model, no permission, no cached copy
        raise ValueError(
            f"cannot load {model_id!r} from the Hugging Face Hub ({name}: {reason_of(error)}): check its name and the "
            "connection, or give a folder written by save_pretrained"
        ) from error


def _there(file: Path, source: str) -> Path:
    """A file of a folder."""
    if not file.is_file():
        raise ValueError(f"{source!r} is not a model saved by save_pretrained: it lacks {file.name}")
    return file


# ---------------------------------------------------------------------- files


def _write(net: SharedModel, folder: Path) -> None:
    from safetensors.torch import save_file

    sheet = _sheet(net)
    if sheet is not None:
        sheet.save(folder / _SHEET)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    config = net.to_config()
    odd = differing_part(net, type(net).from_config(config | {"format": OPTIONS_FORMAT}, sheet))
    if odd is not None:
        raise ValueError(f"{odd} of the network is another than its options make, and would be lost: save state_dict()")
    content = {"format": OPTIONS_FORMAT, **config, "about": net.about}
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"net.about must hold plain values that JSON knows: {error}") from error
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")


def _sheet(net: SharedModel) -> Sheet | None:
    model: Columnformer | None = getattr(net, "model", None)
    return None if model is None else model.sheet


def _card(net: SharedModel) -> dict[str, Any]:
    sheet, about, kind = _sheet(net), net.about, type(net).__name__
    parameters = sum(parameter.numel() for parameter in net.parameters())
    config = {name: value for name, value in net.to_config().items() if name != "fingerprint"}
    what = f"A {kind}, a baseline without a sheet" if sheet is None else _on_sheet(sheet)
    title = kind if sheet is None else f"Columnformer on {sheet.geometry}"
    return {
        "title": title + (f", trained on {about['data']}" if about.get("data") else ""),
        "what": f"{what}, {parameters:,} parameters",
        "call": f"cg.models.{kind}" if sheet is None else f"cg.{_ON_A_SHEET}",
        "images": f"[B, {net.in_channels}, {net.image_size[0]}, {net.image_size[1]}]",
        "sheet": "" if sheet is None else f"## Sheet\n\n```\n{sheet.describe()}\n```\n\n",
        "about": _list(about) if about else "Not given.",
        "config": "```json\n" + json.dumps(config, indent=2) + "\n```",
    }


def _on_sheet(sheet: Sheet) -> str:
    return (
        f"A [columnformer](https://github.com/clane9/columnformers): {sheet.num_columns:,} columns with weights of "
        f"their own on one sheet,\nattention over {sheet.edge_index.size(1):,} edges"
    )


def _list(values: dict[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines.append(f"* {name}:\n\n```json\n{json.dumps(value, indent=2)}\n```\n")
        else:
            lines.append(f"* {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return "\n".join(lines)
