"""What a report's page is made of: numbers in words, tables with their CSV, pictures with their PDF."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any


def short(value: Any) -> str:
    """A value as a table has it: numbers of three digits, long texts cut."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)[:60]


def in_unit(value: float, unit: str) -> str:
    """A value as it is read: shares in percent."""
    return f"{100 * value:.3g}%" if unit == "share" else short(value)


def interval(found: Mapping[str, Any], times: float = 1) -> str:
    """The ends of an interval, or nothing."""
    return "" if found["low"] is None else f"{short(times * found['low'])} to {short(times * found['high'])}"


def p_text(value: float | None) -> str:
    """A p-value, or nothing."""
    return "" if value is None else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A time as one says it: 19 min 11 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest if not hours else 0, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def cells(texts: Iterable[str]) -> str:
    """Cells of a row, of texts that are HTML."""
    return "".join(f"<td>{text}</td>" for text in texts)


def absent(name: str, reason: str, columns: int = 5) -> str:
    """A row that says why there are no numbers."""
    cell = f"<td colspan='{columns}' class='quiet'>{escape(reason)}</td>"
    return f"<tr><th scope='row'>{escape(name)}</th>{cell}</tr>"


def table(heads: Sequence[str], rows: str, download: str = "") -> str:
    """A table of rows that are HTML, and below it what :func:`csv_link` makes of its numbers."""
    head = "".join(f"<th scope='col'>{one}</th>" for one in heads)
    below = f"<p class='downloads'>{download}</p>" if download else ""
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{below}"


def csv_link(name: str, rows: Sequence[Mapping[str, Any]], text: str = "CSV") -> str:
    """A link to a table's numbers, unrounded, which lies in the page; nothing where there are no rows."""
    if not rows:
        return ""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return link(f"{name}.csv", "text/csv", written.getvalue().encode("utf-8"), text)


def link(name: str, kind: str, content: bytes, text: str) -> str:
    """A link to a file that lies in the page."""
    packed = base64.b64encode(content).decode("ascii")
    return f"<a download='{escape(name)}' href='data:{kind};base64,{packed}'>{escape(text)}</a>"


def picture(path: Path, what: str) -> str:
    """A picture with what it shows, and its PDF where there is one beside it; nothing where it was not drawn."""
    if not path.is_file():
        return ""
    kind, content = _smaller(path.read_bytes())
    drawn = path.with_suffix(".pdf")
    pdf = link(drawn.name, "application/pdf", drawn.read_bytes(), "PDF") if drawn.is_file() else ""
    below = f"<figcaption class='downloads'>{pdf}</figcaption>" if pdf else ""
    packed = base64.b64encode(content).decode("ascii")
    return f'<figure><img alt="{escape(what)}" src="data:image/{kind};base64,{packed}">{below}</figure>'


def _smaller(content: bytes) -> tuple[str, bytes]:
    """A PNG as WebP without loss, which takes a third of the bytes, where Pillow has it."""
    from PIL import Image, features

    if not features.check("webp"):
        return "png", content
    written = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").save(written, "WEBP", lossless=True, method=2)
    return ("webp", written.getvalue()) if written.tell() < len(content) else ("png", content)
