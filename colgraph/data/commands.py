"""``colgraph data``: made data, written out for anybody to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from colgraph.data.puzzles import PUZZLES, is_puzzle, puzzle_of
from colgraph.data.sources import load_images
from colgraph.data.writing import write_images
from colgraph.hints import did_you_mean
from colgraph.output import check_new_folder
from colgraph.script import OneLineParser, flag_of

_COLORED = ("mazes",)


def run_data(arguments: Sequence[str]) -> None:
    """Make data and write them as a folder of parquet files.

    Raises:
        ValueError: for data and options that do not exist, and a folder that is there already.
    """
    flags = {name: ", ".join(flag_of(item.name) for item in fields(kind)) for name, kind in PUZZLES.items()}
    parser = OneLineParser(
        prog="colgraph data",
        description="Make data from a seed and write them as parquet files, for --data and the datasets library.",
        epilog="Options: " + "; ".join(f"{name}: {own}" for name, own in flags.items()),
        others={item.name for kind in PUZZLES.values() for item in fields(kind)},
    )
    parser.add_argument("source", metavar="NAME", help=f"{', '.join(PUZZLES)}, or with options: mazes:size=16")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="a new folder")
    known, options = parser.parse_with_options(list(arguments))
    if not is_puzzle(known.source):
        hint = did_you_mean(known.source.partition(":")[0].lower(), PUZZLES, "; ")
        raise ValueError(f"no made data are called {known.source!r}, expected {', '.join(PUZZLES)}{hint}")
    name, _, given = known.source.partition(":")
    pairs = [f"{option}={value}" for option, value in options.items()]
    source = ":".join(filter(None, (name, ",".join(filter(None, (given, *pairs))))))
    puzzle_of(source)
    check_new_folder("--output", known.output)
    images = load_images(source, channels=3 if name in _COLORED else 1, memory_gb=64)
    for note in images.notes:
        print(f"note: {note}")
    print(write_images(images, known.output))
