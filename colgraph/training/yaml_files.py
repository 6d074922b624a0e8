"""Settings as files of YAML, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colgraph.extras import missing_package
from colgraph.hints import in_one_line


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise missing_package("files of settings need", "pyyaml", "train") from error
    return yaml


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: if the file cannot be read, or holds anything but settings with names.
    """
    yaml = _yaml()
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = in_one_line(error)
        raise ValueError(f"cannot read config {str(path)!r}: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"config {str(path)!r} must hold lines of `setting: value`, got {type(content).__name__}")
    return content


def save_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML text, in their own order, read back by :func:`load_yaml`."""
    text: str = _yaml().safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return text
