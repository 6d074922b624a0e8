"""``colgraph rsa-table``: what ``colgraph rsa`` found of runs of several seeds, with intervals over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from colgraph.analysis import correct_p_values
from colgraph.brain.comparison import LEVEL, freedom_of
from colgraph.output import check_different, check_file, write_text
from colgraph.report.controls import learned_settings
from colgraph.script import OneLineParser
from colgraph.training import RunFolder, gone_on_to

POWER = 0.8
_SEED = re.compile(r"-seed\d+$")
_FACTS = ("subjects", "stimuli", "method", "metric", "signal", "step_chosen")
_SHARED = " *1 in 5*: one and the same in five runs, as pixels are; of a network, intervals are about this one alone."
_Key = tuple[str, str]


def run_rsa_table(arguments: list[str]) -> None:
    """``colgraph rsa-table RUN RUN ...``."""
    parser = OneLineParser(
        prog="colgraph rsa-table",
        description="Similarity to recordings over runs that differ in their seed, from the rsa.json of each.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders in which colgraph rsa has been")
    parser.add_argument("-o", "--output", metavar="FILE.md", help="write the Markdown table here")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    known = parser.parse_args(arguments)
    check_different({flag: path for flag, path in (("--output", known.output), ("--json", known.json)) if path})
    for flag, path, end in (("--output", known.output, ".md"), ("--json", known.json, ".json")):
        if path:
            check_file(flag, path, [end])
    _check_seeds([Path(run) for run in known.runs])
    rows = over_seeds([_read(Path(run)) for run in known.runs])
    if known.json:
        write_text(Path(known.json), json.dumps(rows, indent=2, allow_nan=False) + "\n")
    if known.output:
        write_text(Path(known.output), table_of(rows))
    print("\n".join(path for path in (known.output, known.json) if path) or table_of(rows))


def over_seeds(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds of similarities, and of their differences from the run's.

    Seeds share their subjects and stimuli. The variance of a mean is therefore that of one seed's bootstrap over
    subjects and stimuli, which does not become less by more seeds, and that among seeds divided by their number;
    degrees of freedom are those of the bootstrap.

    Args:
        found: of each run ``rows`` (its rsa.json), ``differences`` (of its rsa-differences.json) and ``path``.

    Returns:
        Rows of ``recording``, ``subjects``, ``stimuli``, ``model``, ``step`` (None where seeds have different ones, as
        ``--choose-on`` may find), ``steps`` (that of each seed), ``seeds``, ``distinct`` (how many of
        these are not the same to the last bit: fewer where runs share a control), ``similarity``, ``interval``,
        ``ceiling``, and of all but the run ``run_minus_this``: ``difference``, ``interval``, ``p``, ``p_corrected``
        (Benjamini and Hochberg, over one recording's), ``detectable`` (the least difference that would be found in four
        of five experiments of this size) and ``equal_accuracy``. Steps of the run are rows too.

    Raises:
        ValueError: for runs that were compared with other recordings or in another way.
    """
    _check_alike(found)
    rows = []
    for recording in dict.fromkeys(row["recording"] for row in found[0]["rows"]):
        mine = [[row for row in each["rows"] if row["recording"] == recording] for each in found]
        pairs = [[pair for pair in each["differences"] if pair["recording"] == recording] for each in found]
        some = _models(mine, pairs) + _steps(mine, pairs)
        tested = [row["run_minus_this"] for row in some if row.get("run_minus_this")]
        corrected = correct_p_values({i: each["p"] for i, each in enumerate(tested)}).benjamini_hochberg
        for each, p in zip(tested, corrected, strict=True):
            each["p_corrected"] = float(p)
        rows += some
    return rows


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, a table for each recording."""
    parts = []
    repeated = any(row["distinct"] != row["seeds"] for row in rows)
    for recording in dict.fromkeys(row["recording"] for row in rows):
        mine = [row for row in rows if row["recording"] == recording]
        first, ceiling = mine[0], mine[0]["ceiling"]
        said = "no ceiling" if ceiling is None else f"noise ceiling {ceiling[0]:.3f} to {ceiling[1]:.3f}"
        size = f"{first['subjects']} subjects, {first['stimuli']} stimuli, {first['seeds']} seeds"
        parts.append(f"**{recording}** ({size}; {first['method']}; {said})\n")
        parts.append("| model | seeds | similarity | run minus this | p | corrected | detectable |")
        parts.append("|---|---:|---:|---:|---:|---:|---:|")
        for row in mine:
            less = row.get("run_minus_this")
            last = " |  |  |  " if less is None else _compared(less)
            similarity = f"{row['similarity']:.3f} [{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]"
            parts.append(f"| {row['model']}{_named_steps(row)} | {_seeds(row)} | {similarity} |{last} |")
        parts.append("")
    parts.append(
        "Means over seeds with 95% intervals over subjects, stimuli and seeds. Differences of a control that is less "
        "accurate than the run are from the run as it was when it was as accurate, where it kept such a checkpoint; "
        "\\* where accuracies differ by more than a point. *Corrected* for the lines of a table. *Detectable*: the "
        "least difference that would be found in four of five such experiments." + (_SHARED if repeated else "")
    )
    return "\n".join(parts) + "\n"


def _named_steps(row: Mapping[str, Any]) -> str:
    different = sorted({step for step in row["steps"] if step is not None})
    if not different:
        return ""
    return f", step{'s' * (len(different) > 1)} {', '.join(map(str, different))}"


def _seeds(row: Mapping[str, Any]) -> str:
    seeds, distinct = row["seeds"], row["distinct"]
    return str(seeds) if distinct == seeds else f"{distinct} in {seeds}"


def _compared(less: Mapping[str, Any]) -> str:
    star = "" if less["equal_accuracy"] is not False else r"\*"
    ends = f"{less['difference']:+.3f}{star} [{less['interval'][0]:.3f}, {less['interval'][1]:.3f}]"
    return f" {ends} | {less['p']:.2g} | {less['p_corrected']:.2g} | {less['detectable']:.3f}"


# ---------------------------------------------------------------------- pieces


def _read(run: Path) -> dict[str, Any]:
    path = RunFolder(run).rsa
    beside = path.with_name(f"{path.stem}-differences.json")
    if not path.is_file() or not beside.is_file():
        raise ValueError(f"{str(run)!r} has no {path.name} with its differences: run colgraph rsa {run} first")
    try:
        rows, more = (json.loads(file.read_text(encoding="utf-8")) for file in (path, beside))
        if not isinstance(rows, list) or rows[0]["model"] != "run":
            raise ValueError("its first row is not the run's")
        found = {"rows": rows, "differences": more["differences"], "path": str(run)}
        measured = rows[0].get("optimizer_steps")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not what colgraph rsa writes: {error}") from error
    _check_newest(run, measured)
    return found


def _check_newest(run: Path, measured: int | None) -> None:
    """Raise ValueError where the run has gone on since; files of earlier versions do not say what they are of."""
    now = None if measured is None else gone_on_to(RunFolder(run), measured, RunFolder(run).rsa)
    if now is not None:
        raise ValueError(
            f"{str(RunFolder(run).rsa)!r} is of the run after {measured} optimizer steps, which has gone on to {now}: "
            f"run colgraph rsa {run} again"
        )


def _check_seeds(runs: Sequence[Path]) -> None:
    """Raise ValueError for runs that are one run, or differ in more than their seed."""
    seen: dict[Any, Path] = {}
    first = learned_settings(RunFolder(runs[0]).settings())
    for run in runs:
        settings = RunFolder(run).settings()
        mine = learned_settings(settings)
        names = sorted({*mine, *first} - {"changes"})
        apart = next((name for name in names if mine.get(name) != first.get(name)), None)
        if apart is not None:
            raise ValueError(
                f"{str(runs[0])!r} and {str(run)!r} differ in more than their seed: {apart} is {first.get(apart)!r} "
                f"and {mine.get(apart)!r}"
            )
        key = settings.get("seed", run.resolve())
        if key in seen:
            both = f"{str(seen[key])!r} and {str(run)!r}"
            what = "are one run" if seen[key].resolve() == run.resolve() else f"have the seed {key}, both"
            raise ValueError(f"{both} {what}: each seed counts once")
        seen[key] = run


def _check_alike(found: Sequence[Mapping[str, Any]]) -> None:
    def facts(each: Mapping[str, Any]) -> dict[str, Any]:
        """The noise ceiling tells recordings of one name and size apart."""
        mine = [row for row in each["rows"] if row["model"] == "run" and row["default"]]
        ceilings = [[round(end, 9) for end in row["ceiling"] or ()] for row in mine]
        return {row["recording"]: [*map(row.get, _FACTS), *ends] for row, ends in zip(mine, ceilings, strict=True)}

    first = facts(found[0])
    for each in found[1:]:
        if facts(each) != first:
            raise ValueError(
                f"{found[0]['path']!r} and {each['path']!r} were compared with other recordings or in another way: run "
                "colgraph rsa with the same words on both"
            )


def _models(mine: Sequence[Sequence[Mapping[str, Any]]], pairs: Sequence[Any]) -> list[dict[str, Any]]:
    """A row for the run and for each of its controls."""
    names = dict.fromkeys(_plain(row["model"]) for rows in mine for row in rows if row["default"])
    made = []
    for name in names:
        of_seeds = [row for rows in mine for row in rows if row["default"] and _plain(row["model"]) == name]
        row = _mean(of_seeds) | {"model": name}
        apart = [pair for rows, each in zip(mine, pairs, strict=True) if (pair := _from_run(name, rows, each))]
        if name != "run" and apart:
            row["run_minus_this"] = _difference(apart, of_seeds[0])
        made.append(row)
    return made


def _steps(mine: Sequence[Sequence[Mapping[str, Any]]], pairs: Sequence[Any]) -> list[dict[str, Any]]:
    """A row for each step of the run; its difference is that of each seed's own default step from it."""
    made = []
    for step in sorted({row["step"] for row in mine[0] if _is_step(row, mine[0][0])}):
        of_seeds = [row for rows in mine for row in rows if _is_step(row, rows[0]) and row["step"] == step]
        row = _mean(of_seeds) | {"model": "run (each step)"}
        apart = [
            pair
            for rows, each in zip(mine, pairs, strict=True)
            if (pair := _from_default(rows[0]["step"], step, each)) is not None
        ]
        if any(rows[0]["step"] != step for rows in mine) and apart:
            row["run_minus_this"] = _difference(apart, of_seeds[0])
        made.append(row)
    return made if len(made) > 1 else []


def _from_default(default: int, step: int, pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A seed's default step less another one; nothing lies between a step and itself."""
    if step == default:
        return {"difference": 0.0, "interval": [0.0, 0.0], "equal_accuracy": None}
    between = [
        _turned(pair, pair["second"]["step"] == default) | {"equal_accuracy": None}
        for pair in pairs
        if pair["between"] == "steps of the run" and {pair["first"]["step"], pair["second"]["step"]} == {default, step}
    ]
    return between[0] if between else None


def _turned(pair: Mapping[str, Any], around: bool) -> dict[str, Any]:
    """A difference the other way round, where it is."""
    low, high = pair["interval"]
    return dict(pair) | ({"difference": -pair["difference"], "interval": [-high, -low]} if around else {})


def _is_step(row: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    same = row["model"] == "run" and row["signal"] == first["signal"]
    return same and row["region"] is None and "equal_to" not in row


def _plain(name: str) -> str:
    """The name of a control without its seed."""
    return _SEED.sub("", name)


def _from_run(
    name: str, rows: Iterable[Mapping[str, Any]], pairs: Iterable[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The run less one control: the run as it was when it was as accurate, where it has been compared so."""
    control = next((row for row in rows if row["default"] and _plain(row["model"]) == name), None)
    if control is None:
        return None
    between = [
        pair
        for pair in pairs
        if pair["between"] == "models"
        and "run" in (pair["first"]["model"], pair["second"]["model"])
        and control["model"] in (pair["first"]["model"], pair["second"]["model"])
    ]
    between.sort(key=lambda pair: control["model"] not in (pair[s].get("equal_to") for s in ("first", "second")))
    if not between or "equal_to" in control:
        return None
    chosen = _turned(between[0], between[0]["second"]["model"] == "run")
    return chosen | {"equal_accuracy": control.get("accuracy", {}).get("equal")}


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    value, reach, _ = _combined([row["similarity"] for row in rows], [row["interval"] for row in rows], first)
    same = {name: first[name] for name in ("recording", "subjects", "stimuli", "method", "ceiling")}
    steps = [row["step"] for row in rows]
    same |= {"step": steps[0] if len(set(steps)) == 1 else None, "steps": steps}
    # To the last bit as similar is the same network (or pixels, or a model), held against several runs.
    distinct = len({row["similarity"] for row in rows})
    counts = {"seeds": len(rows), "distinct": distinct}
    return same | counts | {"similarity": value, "interval": [value - reach, value + reach]}


def _difference(pairs: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    value, reach, error = _combined([p["difference"] for p in pairs], [p["interval"] for p in pairs], row)
    freedom = freedom_of(row["subjects"], row["stimuli"])
    equal = [pair["equal_accuracy"] for pair in pairs]
    return {
        "difference": value,
        "interval": [value - reach, value + reach],
        "p": float(2 * stats.t.sf(abs(value) / max(error, 1e-12), freedom)),
        "detectable": float((stats.t.ppf((1 + LEVEL) / 2, freedom) + stats.t.ppf(POWER, freedom)) * error),
        "equal_accuracy": None if None in equal else all(equal),
    }


def _combined(
    values: Sequence[float], intervals: Sequence[Sequence[float]], row: Mapping[str, Any]
) -> tuple[float, float, float]:
    """The mean, half of its interval, and its standard error."""
    t = float(stats.t.ppf((1 + LEVEL) / 2, freedom_of(row["subjects"], row["stimuli"])))
    within = np.mean([((high - low) / 2 / t) ** 2 for low, high in intervals])
    among = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    error = float(np.sqrt(within + among))
    return float(np.mean(values)), t * error, error
