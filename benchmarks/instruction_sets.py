"""What 8 bits are worth on CPUs with fewer instructions than this one.

    python -m benchmarks.instruction_sets [MODEL ...]

Measures each MODEL (bundled name or file) in float32 and in 8
bits, all calls taking turns, once for every instruction set that oneDNN can be held to. A limit is
no other CPU: caches, clocks and memory stay this machine's, so read the ratios.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from hrtrack.cli import run
from hrtrack.errors import ModelError
from hrtrack.models.info import read_onnx_metadata
from hrtrack.models.runtimes import eight_bit
from hrtrack.models.runtimes.openvino import openvino_core
from hrtrack.models.zoo import resolve

SETS = {
    "AVX2": "AVX2: Intel since 2013, AMD since 2015",
    "AVX2_VNNI": "AVX2 with VNNI: Intel laptops since 2021",
    "AVX512_CORE": "AVX-512: Intel servers since 2017",
    "AVX512_CORE_VNNI": "AVX-512 with VNNI: since 2019",
    "ALL": "all that this CPU has",
}
LAPS = 40


def measure(models: Sequence[str], threads: int) -> None:
    """Prints fastest milliseconds, float32 and 8 bits, for each model on one line."""
    core = openvino_core()
    spans: list[tuple[Any, NDArray[np.uint8], list[float]]] = []
    for name in models:
        path = resolve(name)
        ranges = eight_bit.from_metadata(read_onnx_metadata(path), path)
        if not ranges:
            raise ModelError(
                f"{name} holds no activation ranges: hrtrack export {name} --calibrate FOLDER"
            )
        for quantised in (False, True):
            model = core.read_model(path)
            shape = [d.get_length() if d.is_static else 1 for d in model.input(0).partial_shape]
            model.reshape(shape)
            if quantised:
                eight_bit.quantise(model, ranges)
            config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
            request = core.compile_model(model, "CPU", config).create_infer_request()
            picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
            spans.append((request, picture, []))
    for _ in range(LAPS):
        for request, picture, found in spans:
            begin = time.perf_counter()
            request.infer({0: picture})
            found.append(time.perf_counter() - begin)
    print(*(f"{min(found) * 1e3:.2f}" for *_, found in spans))


@click.command(help=__doc__)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--measure", "threads", type=int, hidden=True, help="Measure in this process.")
def main(models: tuple[str, ...], threads: int | None) -> None:
    models = models or ("body_fast", "person_fast")
    if threads is not None:
        measure(models, threads)
        return
    # One subprocess a row, for oneDNN reads its limit once.
    heads = [f"{model} float32 | 8 bits | gain" for model in models]
    print("| instruction set | " + " | ".join(heads) + " |")
    print("|---" * (1 + 3 * len(models)) + "|")
    for limit, name in SETS.items():
        command = [sys.executable, __file__, f"--measure={os.cpu_count() or 1}", *models]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['?'])[-1]} |")
            continue
        times = [float(value) for value in done.stdout.split()]
        cells = [
            f"{slow:.1f} | {fast:.1f} | {slow / fast:.1f}"
            for slow, fast in zip(times[::2], times[1::2], strict=True)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    run(main, "instruction_sets")
