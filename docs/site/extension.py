"""What Sphinx is taught here: signatures as they are written, names in docstrings, and formulas without a script."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from api import NOT_FOR_USERS, rooms
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util.inspect import stringify_signature

ROOT = Path(__file__).resolve().parents[2]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_formula, None))
    app.connect("config-inited", _with_extra_files)
    app.connect("autodoc-process-signature", _as_written)
    app.connect("autodoc-skip-member", _says_nothing)
    app.connect("missing-reference", _resolve)
    for kind in PyObject.doc_field_types:
        if kind.name == "variable":
            kind.label = "Attributes"
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _with_extra_files(app: Sphinx, config: Any) -> None:
    extra = Path(app.srcdir) / "extra"
    config.html_extra_path = [str(extra)] if extra.is_dir() else []


# ---------------------------------------------------------------------- formulas


def _inline_formula(translator: Any, node: nodes.Element) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _formula(translator: Any, node: nodes.Element) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


# ---------------------------------------------------------------------- docstrings


def _as_written(app: Sphinx, what: str, name: str, value: Any, options: Any, given: Any, returned: Any) -> Any:
    """The types of a signature by the names that the code gives them."""
    if what not in ("function", "method", "class", "exception"):
        return None
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    if what == "method" and next(iter(signature.parameters), "") in ("self", "cls"):
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    if what in ("class", "exception"):
        signature = signature.replace(return_annotation=signature.empty)
    arguments, arrow, result = stringify_signature(_in_full(signature, inspect.getmodule(value))).rpartition(") -> ")
    return (f"{arguments})", result) if arrow else (result, None)


def _in_full(signature: inspect.Signature, module: Any) -> inspect.Signature:
    """With the names of described classes in full, so that each links to what it is; others as they are."""
    names = {id(public.value): public.name for room in rooms(ROOT).values() for public in room.names}

    def full(annotation: Any) -> Any:
        if not isinstance(annotation, str):
            return annotation
        return re.sub(r"\b[A-Z]\w*", lambda word: names.get(id(getattr(module, word[0], None)), word[0]), annotation)

    parameters = [each.replace(annotation=full(each.annotation)) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=full(signature.return_annotation))


def _says_nothing(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member of a class is left out, although it has a docstring: those of named tuples, and torch's."""
    without = str(getattr(value, "__doc__", "")).startswith("Alias for field number")
    return True if without or name in NOT_FOR_USERS else None


def _resolve(app: Sphinx, env: Any, node: nodes.Element, text: nodes.Element) -> nodes.Node | None:
    """A link for a name under which something is not described: to where it is; code where it is internal.

    What is no name at all gives None, of which Sphinx warns.
    """
    if node.get("refdomain") != "py":
        return None
    target, module = str(node["reftarget"]), str(node.get("py:module") or "")
    described = {public.name: public for room in rooms(ROOT).values() for public in room.names}
    found = _find(target, [module, f"{module}.{node.get('py:class')}"], described)
    name = next((each for each, public in described.items() if public.value is found), None)
    if name is not None:
        resolved = env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, text)
        return resolved if resolved is not None else text
    in_signature = "refwarn" not in node
    return text if found is not None or in_signature else None


def _find(target: str, places: list[str], described: dict[str, Any]) -> Any:
    """What a name means: in full, or in one of some places or where something of them is defined."""
    homes = [public.home for name, public in described.items() if name.startswith(tuple(filter(None, places)))]
    for path in [target, *(f"{place}.{target}" for place in dict.fromkeys([*places, *homes]) if place)]:
        value = _named(path)
        if value is not None:
            return value
    return None


def _named(path: str) -> Any:
    """The object that a dotted name names, or None."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            fields = getattr(value, "__annotations__", {})
            value = getattr(value, part, fields.get(part))
            if value is None:
                return None
        return value
    return None
