"""Data that need thinking, made from a seed: no download, and the same on every machine."""

from colgraph.data.puzzles.drawn import Drawn, Made
from colgraph.data.puzzles.named import PUZZLES, Puzzle, is_puzzle, puzzle_of, repetitions

__all__ = ["PUZZLES", "Drawn", "Made", "Puzzle", "is_puzzle", "puzzle_of", "repetitions"]
