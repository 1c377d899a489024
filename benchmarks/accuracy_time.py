"""Accuracy against time: pose models on the same labelled crops, on OpenVINO.

    python benchmarks/accuracy_time.py val.json photos chart.png MODEL[@PRECISION] ...

MODEL is a name of `hrtrack models` or a file. Accuracy is PCKh@0.5 without flip test, with its
95 % interval over people. Time is the median of single-crop calls, taken in turns, so that
whatever else the machine does slows every model alike. Prints one line of JSON a model, with
the time as a ratio to the first one's; draws the chart.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from hrtrack.tracker.infer import open_network
from hrtrack.train.evaluate import evaluate
from hrtrack.train.plots import Point, plot_accuracy_against_time

ROUNDS = 60
THREADS = 2


def main() -> None:
    labels, photos, chart, *models = sys.argv[1:]
    networks = {}
    for model in models:
        path, _, precision = model.partition("@")
        name = Path(path).stem + (f" {precision}" if precision else "")
        networks[name] = open_network(
            path, backend="openvino", threads=THREADS, precision=precision or "auto"
        )
    crops = {
        name: np.random.default_rng(0).integers(0, 255, (1, *network.input_hw, 3), np.uint8)
        for name, network in networks.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            begin = time.perf_counter()
            network(crops[name])
            taken[name].append(1000 * (time.perf_counter() - begin))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    reference = next(iter(medians.values()))
    points = []
    for result in evaluate(networks, Path(labels), Path(photos)):
        if result.pckh is None or result.pckh_interval is None:
            sys.exit(f"{labels} has no head sizes, so there is no PCKh")
        mean = result.pckh["mean"] or 0.0
        spent = medians[result.name]
        points.append(Point(result.name, spent, mean, result.pckh_interval))
        print(
            json.dumps(
                {
                    "model": result.name,
                    "milliseconds": round(spent, 2),
                    "ratio": round(spent / reference, 3),
                    "pckh": round(mean, 2),
                    "ci95": [round(end, 2) for end in result.pckh_interval],
                }
            )
        )
    plot_accuracy_against_time(
        points,
        Path(chart),
        accuracy="PCKh@0.5 on LSPE val (%), 95 % interval",
        time=f"ms a crop (OpenVINO, {THREADS} threads, batch 1)",
    )


if __name__ == "__main__":
    main()
