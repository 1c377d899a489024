"""Measures everything hrtrack claims on a GPU, in one run of under ten minutes.

    python -m benchmarks.gpu --output OUT [--model FILE] [--lspe FOLDER] [--budget 540]

Needs torch with CUDA, numpy, OpenCV and onnx. What else is missing (TensorRT, PyAV, LSPE photos)
costs the steps that need it, and the report says so. OUT/gpu.json is written after every figure
and OUT/gpu.png after every step, so that a run that is cut off loses nothing. GPU clocks and
settings are left alone. Each step is a file beside this one.

Where the photos must be carried to the GPU, `--pack FOLDER --lspe DATA` beforehand copies
val.json and its 500 photos (about 10 MB) there. `--device cpu` rehearses it all in little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hrtrack.errors import HrtrackError
from hrtrack.models.zoo import weights_folder

from .chart import chart
from .checkpoints import prepare
from .engines import engine
from .frames import decode, frames
from .loop import pipeline
from .lspe import lspe, pack
from .parity import parity
from .session import Session, machine
from .speed import ceilings, throughput
from .tuning import compiled, searched

STEPS: tuple[tuple[str, float, Callable[[Session], None]], ...] = (
    ("ceilings", 10, ceilings),
    ("parity", 30, parity),
    ("lspe", 30, lspe),
    ("throughput", 60, throughput),
    ("pipeline_1080p", 40, pipeline),
    ("frames_1080p", 10, frames),
    ("tensorrt", 120, lambda session: engine(session, "tensorrt", 120)),
    ("tensorrt-rtx", 60, lambda session: engine(session, "tensorrt-rtx", 60)),
    ("decode_1080p", 20, decode),
    ("cudnn_search", 30, searched),
    ("torch_compile", 100, lambda session: compiled(session, 100)),
)
"""Name, seconds of the budget that must be left, and what to do, most wanted first."""


def main() -> None:
    """Runs the steps in the order of their worth until the budget is spent."""
    deadline = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.png")
    parser.add_argument("--model", type=Path, default=weights_folder() / "body_fast.onnx")
    parser.add_argument("--lspe", type=Path, help="folder with val.json and images/")
    parser.add_argument("--pack", type=Path, help="copy what --lspe needs of its folder, and stop")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: rehearse")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument("--pace", type=float, default=1.0, help="share of the time for a figure")
    options = parser.parse_args()
    deadline += options.budget
    if options.pack is not None:
        if options.lspe is None:
            parser.error("--pack needs --lspe")
        pack(options.lspe, options.pack)
        return
    if options.output is None:
        parser.error("--output is needed")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device that this PyTorch can use")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(
            options.device, options.output, options.lspe, Path(folder), deadline, options.pace
        )
        session.report |= {"machine": machine(), "command": " ".join(sys.argv)}
        try:
            prepare(session, options.model)
        except HrtrackError as error:
            sys.exit(str(error))
        for name, needed, step in STEPS:
            if not session.has(needed, name, "step"):
                continue
            began = time.monotonic()
            with session.attempt(name, "step"):
                step(session)
            session.put("seconds", name, round(time.monotonic() - began, 1))
            with session.attempt("chart", "step"):
                chart(session.report, options.output / "gpu.png")


if __name__ == "__main__":
    main()
