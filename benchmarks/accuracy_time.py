"""Accuracy against time: pose models on the same labelled crops, on any back ends.

    python -m benchmarks.accuracy_time val.json photos chart.png MODEL[@[BACKEND:]PRECISION] ...

MODEL is a name of `hrtrack models` or a file, BACKEND as for `hrtrack --backend` (openvino where it
is left out), for example body_fast@bf16, body_fast@torch, body_fast@torch:fp32. Accuracy is
PCKh@0.5 without flip test, with its 95 % interval over people. Time is the median of single-crop
calls, taken in turns, so that whatever else the machine does slows every model alike. Prints one
line of JSON a model, with the time as a ratio to the first one's; draws the chart, a colour a
back end.
"""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import click
import numpy as np

from hrtrack.cli import run
from hrtrack.cli.evaluate import short_names
from hrtrack.errors import DataError
from hrtrack.evaluation.charts import Point, plot_accuracy_against_time
from hrtrack.evaluation.evaluate import evaluate
from hrtrack.models.network import PoseNetwork
from hrtrack.tracker.inference.open import open_network
from hrtrack.tracker.options import Backend, Precision

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@click.command(help=__doc__)
@click.argument("labels", type=click.Path(True, path_type=Path))
@click.argument("photos", type=click.Path(True, path_type=Path))
@click.argument("chart", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1, required=True, metavar="MODEL[@[BACKEND:]PRECISION] ...")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
def main(
    labels: Path, photos: Path, chart: Path, models: tuple[str, ...], threads: int, rounds: int
) -> None:
    titles = short_names(list(dict.fromkeys(model.partition("@")[0] for model in models)))
    networks: dict[str, PoseNetwork] = {}
    groups: dict[str, str] = {}
    with ExitStack() as stack:
        for model in dict.fromkeys(models):
            path, _, how = model.partition("@")
            backend, _, precision = (how or "openvino").partition(":")
            if backend in PRECISIONS:
                backend, precision = "openvino", backend
            name = " ".join(filter(None, (titles[path], precision)))
            if name in networks:
                name = f"{name} {backend}"
            networks[name] = open_network(
                path,
                backend=cast("Backend", backend),
                threads=threads,
                precision=cast("Precision", precision or "auto"),
            )
            groups[name] = backend
            stack.callback(networks[name].close)
        spent = medians(networks, rounds)
        results = evaluate(networks, labels, photos)
    reference = next(iter(spent.values()))
    points = []
    for result in results:
        if result.pckh is None or result.pckh_interval is None:
            raise DataError(f"{labels} has no head sizes, so there is no PCKh")
        mean, taken = result.pckh["mean"] or 0.0, spent[result.name]
        points.append(Point(result.name, taken, mean, result.pckh_interval, groups[result.name]))
        row = {
            "model": result.name,
            "backend": groups[result.name],
            "milliseconds": round(taken, 2),
            "ratio": round(taken / reference, 3),
            "pckh": round(mean, 2),
            "ci95": [round(end, 2) for end in result.pckh_interval],
        }
        print(json.dumps(row))
    plot_accuracy_against_time(
        points,
        chart,
        accuracy=f"PCKh@0.5 on {labels.parent.name} {labels.stem} (%), 95 % interval",
        time=f"ms a crop (batch 1, {threads} CPU threads)",
    )


def medians(networks: dict[str, PoseNetwork], rounds: int) -> dict[str, float]:
    """Milliseconds of a call with one crop, all networks in turns."""
    rng = np.random.default_rng(0)
    crops = {
        name: rng.integers(0, 255, (1, *network.input_hw, 3), np.uint8)
        for name, network in networks.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            begin = time.perf_counter()
            network(crops[name])
            taken[name].append(1000 * (time.perf_counter() - begin))
    return {name: float(np.median(values)) for name, values in taken.items()}


if __name__ == "__main__":
    run(main, "accuracy_time")
