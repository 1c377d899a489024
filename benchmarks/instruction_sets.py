"""What 8 bits are worth, and how fast the loop is, on CPUs with fewer instructions than this one.

    python -m benchmarks.instruction_sets [--clip CLIP] [MODEL ...]

Measures each MODEL (bundled name or file) in float32 and in 8
bits, all calls taking turns, once for every instruction set that oneDNN can be held to. With --clip
it measures the whole loop with the bundled models instead, with 1, 5 and 20 people, as `hrtrack
bench pipeline CLIP --people 1,5,20` does. A limit is no other CPU: caches, clocks and memory stay
this machine's, so read the ratios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from hrtrack.cli import run
from hrtrack.cli.main import hrtrack
from hrtrack.errors import ModelError
from hrtrack.models.info import read_onnx_metadata
from hrtrack.models.runtimes import eight_bit, openvino
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
PEOPLE = "1,5,20"
WITHOUT_BF16 = ("AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


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


class OlderCore:
    """OpenVINO's core on a CPU that has no bfloat16, which a limit of oneDNN does not tell it."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def get_property(self, device: str, name: str) -> Any:
        found = self._core.get_property(device, name)
        if name == "OPTIMIZATION_CAPABILITIES":
            return [one for one in found if one != "BF16"]
        return found

    def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> Any:
        return self._core.compile_model(
            model, device, {"INFERENCE_PRECISION_HINT": "f32"} | options
        )


def measure_loop(clip: str, frames: int) -> None:
    """Prints the loop's frames per second on one line, with one, five and twenty people."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA") in WITHOUT_BF16:
        older = OlderCore(openvino_core())
        setattr(openvino, "_core", lambda: older)  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        hrtrack.main(
            ["bench", "pipeline", clip, "--frames", str(frames), "--max-people", "1",
             "--people", PEOPLE, "--json", str(report)],
            standalone_mode=False,
        )  # fmt: skip
        found = json.loads(report.read_text(encoding="utf-8"))
    print(*(f"{run['fps']:.1f}" for run in found["pipelines"][1:]))


@click.command(help=__doc__)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--clip", help="Measure the whole loop on this clip instead.")
@click.option("--frames", default=30, show_default=True, help="Frames of the clip.")
@click.option("--measure", "threads", type=int, hidden=True, help="Measure in this process.")
def main(models: tuple[str, ...], clip: str | None, frames: int, threads: int | None) -> None:
    models = models or ("body_fast", "person_fast")
    if threads is not None and clip is not None:
        measure_loop(clip, frames)
        return
    if threads is not None:
        measure(models, threads)
        return
    heads = [f"{model} float32 | 8 bits | gain" for model in models]
    if clip is not None:
        heads = [f"{count} people, frames/s" for count in PEOPLE.split(",")]
    cells = " | ".join(heads)
    print(f"| instruction set | {cells} |")
    print("|---" * (2 + cells.count(" | ")) + "|")
    # One subprocess a row, for oneDNN reads its limit once.
    for limit, name in SETS.items():
        command = [sys.executable, "-m", "benchmarks.instruction_sets"]
        command += [f"--measure={os.cpu_count() or 1}", *models]
        if clip is not None:
            command += ["--clip", clip, "--frames", str(frames)]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['?'])[-1]} |")
            continue
        times = [float(value) for value in done.stdout.splitlines()[-1].split()]
        if clip is not None:
            print(f"| {name} | " + " | ".join(f"{rate:.1f}" for rate in times) + " |", flush=True)
            continue
        gains = [
            f"{slow:.1f} | {fast:.1f} | {slow / fast:.1f}"
            for slow, fast in zip(times[::2], times[1::2], strict=True)
        ]
        print(f"| {name} | " + " | ".join(gains) + " |", flush=True)


if __name__ == "__main__":
    run(main, "instruction_sets")
