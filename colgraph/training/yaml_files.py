"""Settings as files of YAML, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from colgraph.extras import missing_package
from colgraph.hints import in_one_line

_OTHER_BASES = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""Numbers that YAML 1.1 reads to other bases than they seem to be of: 010 is 8, and 1:30 is 90."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise missing_package("files of settings need", "pyyaml", "train") from error
    return yaml


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: if the file cannot be read, or holds anything but settings with names, a name twice, or a number
            that YAML reads to another base.
    """
    yaml = _yaml()
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check_plain(yaml.compose(text, Loader=yaml.SafeLoader), str(path))
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = in_one_line(error)
        raise ValueError(f"cannot read config {str(path)!r}: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"config {str(path)!r} must hold lines of `setting: value`, got {type(content).__name__}")
    return content


def _check_plain(root: Any, path: str) -> None:
    """Refuse what YAML 1.1 would read otherwise than it looks: the last of two values, and numbers to other bases."""
    for node in _nodes(root):
        if node.id == "mapping":
            names = [key.value for key, _ in node.value if key.id == "scalar"]
            twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
            if twice is not None:
                raise ValueError(f"config {path!r} sets {twice!r} twice: keep one of the two lines")
        elif node.tag in _NUMBERS and _OTHER_BASES.fullmatch(node.value):
            line, read = node.start_mark.line + 1, _yaml().safe_load(node.value)
            raise ValueError(
                f"config {path!r}, line {line}: YAML reads {node.value} as {read}: write the number that is meant, or "
                "put it into quotes"
            )


def _nodes(node: Any, above: frozenset[int] = frozenset(), seen: set[int] | None = None) -> Iterator[Any]:
    """A node and all below it, each once."""
    seen = set() if seen is None else seen
    if id(node) in above:
        raise _yaml().YAMLError(f"the alias in line {node.start_mark.line + 1} points to what it lies in")
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    for part in [] if node.id == "scalar" else node.value:
        for each in part if isinstance(part, tuple) else (part,):
            yield from _nodes(each, above | {id(node)}, seen)


def save_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML text, in their own order, read back by :func:`load_yaml`."""
    text: str = _yaml().safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return text
