"""Recordings made from a run, whose ceiling is known: to try `colgraph encode` and `colgraph rsa`, and see their files.

    python examples/recordings.py runs/digits --out recordings
    colgraph encode runs/digits --responses recordings/responses.npy --stimuli recordings/stimuli \\
        --regions recordings/regions.csv
    colgraph rsa runs/digits --rdms recordings/rdms.npz --stimuli recordings/stimuli

**No brain was recorded.** A target is a random linear map of the states of some columns, plus noise that is new at
every repeat. Targets of region "first" follow the network's first step, those of region "last" its last. So the network
that made them predicts them up to the ceiling; what pixels and an untrained network reach beside it is what a score on
real recordings has to be compared with.

Writes stimuli/*.png, responses.npy [repeats, stimuli, targets], regions.csv (target,region), and rdms.npz: for each
region the Euclidean distances of all pairs of stimuli [repeats, pairs], a repeat standing for a subject.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from colgraph.analysis import rdm, responses
from colgraph.output import check_folder
from colgraph.report import Run, load_run
from colgraph.script import OneLineParser, run_script

COLUMNS_PER_TARGET = 8


def main(arguments: list[str] | None = None) -> None:
    """Show a run's held-out images to its network, and write what electrodes in it might record."""
    parser = OneLineParser(prog="recordings.py", description="Recordings made from a run, for encode and rsa.")
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, which must not exist")
    parser.add_argument("--stimuli", type=int, default=300, metavar="N", help="held-out images shown (300)")
    parser.add_argument("--targets", type=int, default=20, metavar="N", help="targets of each region (20)")
    parser.add_argument("--repeats", type=int, default=4, metavar="N", help="times each image is shown (4)")
    parser.add_argument("--noise", type=float, default=0.7, metavar="S", help="its deviation; the signal's is 1 (0.7)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of maps and noise (0)")
    known = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    for name, least in (("stimuli", 10), ("targets", 1), ("repeats", 1), ("noise", 0), ("seed", 0)):
        if not getattr(known, name) >= least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(known, name)}")
    out = Path(known.out)
    if out.exists():
        raise ValueError(f"{str(out)!r} exists: give --out another name, nothing is overwritten")
    check_folder("--out", out)
    run = load_run(known.run, images=known.stimuli)
    if len(run.images) < known.stimuli:
        raise ValueError(f"--stimuli {known.stimuli}: the run has only {len(run.images)} held-out images")
    rng = np.random.default_rng(known.seed)
    signal = np.concatenate([one_region(run, step, known.targets, rng) for step in (0, run.net.steps - 1)], axis=1)
    noise = known.noise * rng.normal(size=(known.repeats, *signal.shape))
    write(out, run, signal + noise, [name for name in ("first", "last") for _ in range(known.targets)])
    print(f"{known.repeats} x {len(run.images)} stimuli x {signal.shape[1]} targets in {out}")


def one_region(run: Run, step: int, targets: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``[stimuli, targets]`` random linear maps, of variance 1, of what some columns answer after a step."""
    images = torch.from_numpy(run.images).float() / 255
    states = np.asarray(responses(run.net, images, steps=[step], progress=False))[:, 0]
    wide = states.std(0) > 1e-3 * states.std()  # before the image has come, there is nothing to record
    heard = np.flatnonzero(wide.any(-1))
    signal = []
    for _ in range(targets):
        chosen = rng.permutation(heard)[:COLUMNS_PER_TARGET]
        features = states[:, chosen].reshape(len(states), -1)
        signal.append(features @ rng.normal(size=features.shape[1]))
    together = np.stack(signal, axis=1).astype(np.float64)
    return np.asarray((together - together.mean(0)) / together.std(0))


def write(out: Path, run: Run, recorded: NDArray[np.float64], regions: list[str]) -> None:
    """What ``colgraph encode`` and ``colgraph rsa`` read."""
    from PIL import Image

    stimuli = out / "stimuli"
    stimuli.mkdir(parents=True)
    for number, image in enumerate(run.images):
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(stimuli / f"{number:05d}.png")
    np.save(out / "responses.npy", recorded.astype(np.float32))
    of = {name: [i for i, region in enumerate(regions) if region == name] for name in dict.fromkeys(regions)}
    far = {name: np.stack([rdm(one[:, chosen], "euclidean") for one in recorded]) for name, chosen in of.items()}
    np.savez(out / "rdms.npz", stimuli=[f"{number:05d}" for number in range(len(run.images))], **far)  # type: ignore[arg-type]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("target", "region"), *enumerate(regions)])
    (out / "regions.csv").write_text(table.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
