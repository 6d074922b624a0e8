"""Models as folders and on the Hugging Face Hub: safetensors, the sheet, a config and a card; nothing is unpickled."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from colgraph.extras import missing_package
from colgraph.models.columnformer import Columnformer, SheetMismatchError
from colgraph.sheet import load_sheet

if TYPE_CHECKING:
    from colgraph.models.vision import VisionColumnformer

__all__ = ["load_pretrained", "push_pretrained", "save_pretrained"]

_CONFIG, _SHEET, _WEIGHTS, _CARD = "config.json", "sheet.npz", "model.safetensors", "README.md"
FILES = (_CONFIG, _SHEET, _WEIGHTS, _CARD)

_TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A [columnformer](https://github.com/clane9/columnformers): {{ columns }} columns with weights of their own on one sheet,
attention over {{ edges }} edges, {{ parameters }} parameters. Written by colgraph.

```python
import colgraph as cg

net = cg.VisionColumnformer.from_pretrained("<this folder or Hub id>")
logits = net(images)  # normalised images {{ images }}
net.about             # classes, mean and standard deviation of pixels, data and scores
```

## Sheet

{{ sheet }}

## Data and scores

{{ about }}

## Config

{{ config }}
"""


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import safetensors.torch  # noqa: F401
    except ImportError as error:
        raise missing_package("saving and loading shared models needs", error.name or "", "train") from error
    return huggingface_hub


def _shared_class() -> Any:
    """The mixin around a vision model, made when it is needed: the core imports without huggingface_hub."""
    _import_hub()
    from huggingface_hub import ModelHubMixin

    class SharedModel(
        ModelHubMixin,
        library_name="colgraph",
        tags=["columnformer", "graph-neural-network", "neuroai", "image-classification"],
        model_card_template=_TEMPLATE,
        pipeline_tag="image-classification",
    ):
        def __init__(self, net: VisionColumnformer) -> None:
            self.net = net

        def _save_pretrained(self, save_directory: Path) -> None:
            _write(self.net, save_directory)

        def generate_model_card(self, *args: Any, **options: Any) -> Any:
            return super().generate_model_card(*args, **_card(self.net), **options)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, config: Any = None, **options: Any) -> Any:
            return cls(_read({name: _find(model_id, name, options) for name in FILES[:3]}, model_id))

    return SharedModel


def save_pretrained(net: VisionColumnformer, folder: Path, overwrite: bool) -> Path:
    """See :meth:`VisionColumnformer.save_pretrained`."""
    shared = _shared_class()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is a file: name a folder")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{str(folder)!r} already holds {', '.join(there)}: name another folder, or overwrite=True")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving") as temporary:
        shared(net).save_pretrained(temporary)
        for name in FILES:
            (Path(temporary) / name).replace(folder / name)
    return folder


def push_pretrained(net: VisionColumnformer, repo_id: str, options: dict[str, Any]) -> str:
    """See :meth:`VisionColumnformer.push_to_hub`."""
    shared = _shared_class()
    try:
        return str(shared(net).push_to_hub(repo_id, **options))
    except Exception as error:
        raise ValueError(f"cannot push to {repo_id!r} on the Hugging Face Hub: {_line(error)}") from error


def load_pretrained(source: str, options: dict[str, Any]) -> VisionColumnformer:
    """See :meth:`VisionColumnformer.from_pretrained`."""
    shared = _shared_class()
    folder = Path(source).expanduser()
    if folder.is_dir():
        missing = [name for name in FILES[:3] if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{source!r} is not a model saved by save_pretrained: it lacks {', '.join(missing)}")
        return _read({name: folder / name for name in FILES[:3]}, source)
    if folder.exists() or source.startswith((".", "~", "/")) or source.count("/") != 1:
        raise ValueError(f"no folder {source!r}: give a folder written by save_pretrained, or a Hub id like owner/name")
    _find(source, _CONFIG, options)  # the mixin would let errors through that nobody can read
    net: VisionColumnformer = shared.from_pretrained(source, **options).net
    return net


def _find(model_id: str, name: str, options: dict[str, Any]) -> Path:
    """A file of a model on the Hub."""
    hub = _import_hub()
    try:
        return Path(hub.hf_hub_download(model_id, name, **options))
    except Exception as error:  # of several libraries: no answer, no such model, no permission, no cached copy
        raise ValueError(
            f"cannot load {model_id!r} from the Hugging Face Hub ({name}: {_line(error)}): check its name and the "
            "connection, or give a folder written by save_pretrained"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------------- files


def _write(net: VisionColumnformer, folder: Path) -> None:
    from safetensors.torch import save_file

    sheet = net.model.sheet
    sheet.save(folder / _SHEET)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    content = {"format": 1, **_config(net), "fingerprint": sheet.fingerprint, "about": net.about}
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"net.about must hold plain values that JSON knows: {error}") from error
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")


def _config(net: VisionColumnformer) -> dict[str, Any]:
    # The backend is chosen where the model runs.
    model = {name: value for name, value in net.model.arguments.items() if name != "backend"}
    return {"model": model, "vision": dict(net.arguments)}


def _read(files: dict[str, Path], source: str) -> VisionColumnformer:
    from safetensors.torch import load_file

    from colgraph.models.vision import VisionColumnformer

    try:
        config = json.loads(files[_CONFIG].read_text(encoding="utf-8"))
        model, vision, fingerprint = config["model"], config["vision"], config["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source!r}: cannot read {_CONFIG}: {_line(error)}") from error
    if config.get("format") != 1:
        raise ValueError(f"{source!r} has format {config.get('format')!r}; this version of colgraph reads 1")
    sheet = load_sheet(files[_SHEET])
    if sheet.fingerprint != fingerprint:
        raise SheetMismatchError(
            f"{source!r}: the sheet in {_SHEET} has fingerprint {sheet.fingerprint[:16]}, the config says "
            f"{str(fingerprint)[:16]}: the files do not belong together"
        )
    try:
        net = VisionColumnformer(Columnformer(sheet, **model), **vision)
    except TypeError as error:
        raise ValueError(f"{source!r} was saved by another version of colgraph: {_line(error)}") from error
    try:
        tensors = load_file(files[_WEIGHTS])
    except Exception as error:
        raise ValueError(f"{source!r}: cannot read {_WEIGHTS}: {_line(error)}") from error
    # Fingerprints of graph and geometry are among the tensors, and checked as they are loaded.
    try:
        net.load_state_dict(tensors)
    except SheetMismatchError:
        raise
    except RuntimeError as error:
        raise ValueError(f"{source!r}: {_WEIGHTS} does not fit the config: {' '.join(str(error).split())}") from error
    dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), torch.float32)
    net.to(dtype)
    net.about = dict(config.get("about") or {})
    return net.eval()


def _card(net: VisionColumnformer) -> dict[str, Any]:
    sheet, about = net.model.sheet, net.about
    parameters = sum(parameter.numel() for parameter in net.parameters())
    sizes = f"[B, {net.in_channels}, {net.image_size[0]}, {net.image_size[1]}]"
    return {
        "title": f"Columnformer on {sheet.geometry}" + (f", trained on {about['data']}" if about.get("data") else ""),
        "columns": f"{sheet.num_columns:,}",
        "edges": f"{sheet.edge_index.size(1):,}",
        "parameters": f"{parameters:,}",
        "images": sizes,
        "sheet": f"```\n{sheet.describe()}\n```",
        "about": _list(about) if about else "Not given.",
        "config": "```json\n" + json.dumps(_config(net), indent=2) + "\n```",
    }


def _list(values: dict[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines.append(f"* {name}:\n\n```json\n{json.dumps(value, indent=2)}\n```\n")
        else:
            lines.append(f"* {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return "\n".join(lines)
