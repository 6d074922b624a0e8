"""What a training step costs on many devices: compute, memory and bytes, predicted from a few measured numbers.

    python benchmarks/cost_model.py                      # tables, and plots for docs/scaling.md
    python benchmarks/cost_model.py --out plots

The model, its assumptions and how far it agrees with measured runs are in docs/scaling.md. Nothing is timed here: the
coefficients of this machine are read from results/sheet_parallel.json, which benchmarks/sheet_parallel.py writes;
those of the accelerator are assumptions, and named so.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Network:
    """Sizes of a columnformer, and of its training step: float32 numbers, untied in all parts, one head."""

    dim: int = 64
    qk_dim: int = 16
    mlp_dim: int = 32
    steps: int = 6
    batch: int = 8
    degree: int = 17  # KNN(16) and the column itself

    @property
    def parameters(self) -> int:
        """Numbers learned per column, its edges included."""
        c, d, m = self.dim, self.qk_dim, self.mlp_dim
        return 4 * c + 2 * d * (c + 1) + 2 * m * c + m + c + c + self.degree

    @property
    def operations(self) -> float:
        """Floating-point operations per column and training step (forward, and twice that backward)."""
        c, d, m = self.dim, self.qk_dim, self.mlp_dim
        products = 2 * d * c + 2 * m * c + self.degree * (d + c)
        return 6.0 * self.steps * self.batch * products

    @property
    def traffic(self) -> float:
        """Bytes to and from memory per column and training step.

        Weights are read in the forward and the backward pass of every step and once more for their gradients, which
        are written; AdamW reads four numbers and writes three. Activations are written once and read once per step and
        pass; every edge reads a key and a value, forward and twice backward.
        """
        c, d, m = self.dim, self.qk_dim, self.mlp_dim
        weights = (2 * self.steps + 2 + 7) * self.parameters
        activations = 2 * self.steps * self.batch * (4 * c + 2 * d + 2 * m)
        edges = 3 * self.steps * self.batch * self.degree * (d + c)
        return 4.0 * (weights + activations + edges)

    @property
    def memory(self) -> float:
        """Bytes per column: parameters, gradients, AdamW, and the activations of all steps."""
        c, d, m = self.dim, self.qk_dim, self.mlp_dim
        return 4.0 * (4 * self.parameters + 1.3 * self.steps * self.batch * (4 * c + 2 * d + 2 * m + 1))

    @property
    def halo_width(self) -> float:
        """Bytes per halo column and exchange: key and value for the whole batch."""
        return 4.0 * self.batch * (self.qk_dim + self.dim)


@dataclass(frozen=True)
class Device:
    """What a device can sustain."""

    name: str
    operations: float  # per second
    memory_bandwidth: float  # bytes per second
    memory: float  # bytes
    link_bandwidth: float  # bytes per second, in one direction
    latency: float  # seconds per exchange
    seconds_per_column: float | None = None  # measured, in place of the two rates

    def compute(self, network: Network, columns: float) -> float:
        """Seconds of a training step without exchange."""
        if self.seconds_per_column is not None:
            return columns * self.seconds_per_column
        return columns * max(network.operations / self.operations, network.traffic / self.memory_bandwidth)


# An accelerator of the kind that costs what a car costs, at about half of what its data sheet says. Not measured.
ACCELERATOR = Device("accelerator (assumed)", 60e12, 1.5e12, 80e9, 25e9, 30e-6)

HALO = 2.0
"""Halo columns of a part of n columns that each hear k others: ``HALO * sqrt(k n)``; see docs/scaling.md."""


def halo_columns(columns: float, degree: int, devices: float) -> float:
    """Halo of one part of a flat or folded sheet, when it is cut into ``devices`` parts."""
    if devices <= 1:
        return 0.0
    return min(HALO * math.sqrt(degree * columns), columns * (devices - 1))


@dataclass(frozen=True)
class Prediction:
    """One training step."""

    compute: float
    exchange: float
    memory: float
    halo: float

    @property
    def total(self) -> float:
        """Seconds, with nothing overlapped."""
        return self.compute + self.exchange

    @property
    def overlapped(self) -> float:
        """Seconds, with exchange and compute fully overlapped: the other end of the range."""
        return max(self.compute, self.exchange)


def predict(columns: float, devices: float, network: Network, device: Device) -> Prediction:
    """Cost of one training step of a sheet of ``columns`` on so many devices, one part each."""
    own = columns / devices
    halo = halo_columns(own, network.degree - 1, devices)
    exchanges = 0 if devices <= 1 else 2 * network.steps
    exchange = exchanges * (device.latency + halo * network.halo_width / device.link_bandwidth)
    memory = own * network.memory + halo * network.steps * network.halo_width
    return Prediction(device.compute(network, own), exchange, memory, halo)


def crossing(network: Network, device: Device) -> float:
    """Columns per device at which exchanging takes as long as computing, by bisection."""
    low, high = 1.0, 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        cost = predict(middle * 1e6, 1e6, network, device)
        low, high = (middle, high) if cost.exchange > cost.compute else (low, middle)
    return high


def measured_device(path: Path) -> tuple[Device, Network, dict[str, Any]] | None:
    """This machine, as benchmarks/sheet_parallel.py has found it; None if it has not run."""
    if not path.exists():
        return None
    report = json.loads(path.read_text())
    sizes, two = report["sizes"], report["processes"]["2"]
    network = Network(sizes["dim"], sizes["qk_dim"], sizes["mlp_dim"], sizes["steps"], sizes["batch"])
    each = two["part_alone_seconds"] / max(two["columns_per_rank"])
    halo = max(two["halo_columns_per_rank"]) * network.halo_width
    # What an exchange takes beyond a bandwidth of 1 GB/s through the loopback interface is taken for latency.
    latency = max(two["exchange_seconds"] - halo / 1e9, 1e-4)
    device = Device("a core of this machine", 0, 0, 12e9, 1e9, latency, each)
    return device, network, report


# ---------------------------------------------------------------------- tables and plots

SHEETS = [10**power for power in range(4, 10)]
DEVICES = [10**power for power in range(5)]


def print_table(network: Network, device: Device) -> None:
    print(f"\nseconds a training step on {device.name}, nothing overlapped (memory per device)\n")
    print("| columns | " + " | ".join(f"{devices:,}" for devices in DEVICES) + " |")
    print("|---" * (len(DEVICES) + 1) + "|")
    for columns in SHEETS:
        cells = []
        for devices in DEVICES:
            if devices * 100 > columns:
                cells.append("-")
                continue
            cost = predict(columns, devices, network, device)
            fits = "" if cost.memory <= device.memory else " (too large)"
            cells.append(f"{cost.total:.2g} s, {cost.memory / 1e9:.2g} GB{fits}")
        print(f"| {columns:.0e} | " + " | ".join(cells) + " |")
    print(f"\nexchanging takes as long as computing at {crossing(network, device):,.0f} columns per device")


def draw_times(network: Network, device: Device, path: Path) -> None:
    """Step time against the size of the sheet, one line for each number of devices."""
    figure, axes = _figure()
    for devices in DEVICES:
        sizes = [10 ** (4 + i / 10) for i in range(51) if 10 ** (4 + i / 10) >= 100 * devices]
        costs = [predict(size, devices, network, device) for size in sizes]
        (line,) = axes.plot(sizes, [cost.total for cost in costs], label=f"{devices:,}")
        axes.fill_between(
            sizes,
            [c.overlapped for c in costs],
            [c.total for c in costs],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
        full = [(size, cost.total) for size, cost in zip(sizes, costs) if cost.memory > device.memory]
        if full:
            axes.plot(*zip(*full), color="white", linewidth=1.2, linestyle=(0, (1, 1.5)))
    axes.set(xscale="log", yscale="log", xlabel="columns", ylabel="seconds a training step")
    axes.legend(title="devices", frameon=False)
    axes.set_title(
        f"{device.name}\nbands end where all exchange is hidden; dotted: more than a device's memory", fontsize=9
    )
    figure.savefig(path, dpi=150)


def draw_shares(network: Network, device: Device, path: Path) -> None:
    """Exchange over compute against columns per device, for several latencies."""
    figure, axes = _figure()
    sizes = [10 ** (1 + i / 10) for i in range(61)]
    for latency in (3e-6, 30e-6, 300e-6):
        other = Device(
            device.name,
            device.operations,
            device.memory_bandwidth,
            device.memory,
            device.link_bandwidth,
            latency,
            device.seconds_per_column,
        )
        costs = [predict(size * 1e6, 1e6, network, other) for size in sizes]
        axes.plot(sizes, [cost.exchange / cost.compute for cost in costs], label=f"{latency * 1e6:g} µs")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="columns per device", ylabel="exchange / compute")
    axes.legend(title="latency of an exchange", frameon=False)
    axes.set_title(f"{device.name}: above the line the exchange dominates", fontsize=9)
    figure.savefig(path, dpi=150)


def draw_check(report: dict[str, Any], path: Path) -> None:
    """Measured step times of 1, 2 and 4 processes here, and what was predicted for them."""
    figure, axes = _figure()
    worlds = list(report["processes"])
    rows = [report["processes"][world] for world in worlds]
    places = range(len(worlds))
    measured = [row["step_seconds"] for row in rows]
    below = [row["step_seconds"] - row["step_spread"][0] for row in rows]
    above = [row["step_spread"][1] - row["step_seconds"] for row in rows]
    axes.bar(
        [p - 0.2 for p in places], measured, 0.38, yerr=[below, above], capsize=3, label="measured", color="#0072B2"
    )
    axes.bar(
        [p + 0.2 for p in places], [r["predicted_seconds"] for r in rows], 0.38, label="predicted", color="#E69F00"
    )
    axes.set(xticks=list(places), xticklabels=worlds, xlabel="processes", ylabel="seconds a training step")
    axes.legend(frameon=False)
    columns = sum(rows[0]["columns_per_rank"])
    axes.set_title(f"{columns:,} columns, one thread a process, {report['machine']['cores']} cores", fontsize=9)
    figure.savefig(path, dpi=150)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#D9DCE1", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "images", help="folder for the plots")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    network = Network()
    print(f"per column: {network.parameters:,} parameters, {network.memory / 1024:.0f} KiB to train")
    print_table(network, ACCELERATOR)
    draw_times(network, ACCELERATOR, arguments.out / "scaling_time.png")
    draw_shares(network, ACCELERATOR, arguments.out / "scaling_exchange.png")
    found = measured_device(HERE / "results" / "sheet_parallel.json")
    if found is None:
        print("\nno results/sheet_parallel.json: run benchmarks/sheet_parallel.py for the check against this machine")
        return
    device, small, report = found
    print(f"\nthis machine, dim {small.dim}, batch {small.batch}, {small.steps} steps:")
    print_table(small, device)
    draw_check(report, arguments.out / "scaling_check.png")


if __name__ == "__main__":
    main()
