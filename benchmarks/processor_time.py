"""Processor time of one crop by model and back end, on one thread, all taking turns.

    python -m benchmarks.processor_time MODEL.onnx|MODEL.xml ...

For machines that do other work beside: unlike wall time it counts none of theirs. ONNX files run on
OpenVINO in float32 and in its own choice, and on ONNX Runtime; OpenVINO files as they are.
"""

import time
from pathlib import Path

import click

from hrtrack.cli import run
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.network import PoseNetwork
from hrtrack.models.zoo import resolve
from hrtrack.tracker.bench_model import OnnxRuntimeNetwork
from hrtrack.tracker.inference.open import open_network
from hrtrack.tracker.options import Precision

ROUNDS = 12


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, metavar="MODEL.onnx|MODEL.xml ...")
def main(models: tuple[str, ...]) -> None:
    networks: dict[str, PoseNetwork | OnnxRuntimeNetwork] = {}
    precisions: tuple[Precision, ...]
    for model in models:
        path = resolve(model)
        precisions = ("auto",) if path.suffix == ".xml" else ("fp32", "auto")
        for precision in precisions:
            networks[f"{Path(model).stem} openvino {precision}"] = open_network(
                path, backend="openvino", precision=precision, threads=1
            )
        if path.suffix == ".onnx":
            networks[f"{Path(model).stem} onnxruntime"] = OnnxRuntimeNetwork(path, 1)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS + 1):
        for name, network in networks.items():
            crops = drawn_crops(network.input_hw, 1)
            before = time.process_time()
            network(crops)
            times[name].append(time.process_time() - before)
    for name, taken in times.items():
        warm = sorted(taken[1:])
        print(f"{name:40} least {warm[0] * 1e3:7.1f} ms, median {warm[ROUNDS // 2] * 1e3:7.1f} ms")


if __name__ == "__main__":
    run(main, "processor_time")
