"""`hrtrack bench model`: the networks alone, by back end and batch size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ..errors import BackendError, UsageError
from .export import build_engine
from .options import FILE, tracker_options

if TYPE_CHECKING:
    from ..tracker.bench_model import Candidate, ModelTime


@click.command(short_help="Measure single models.")
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--on",
    "runs",
    multiple=True,
    metavar="BACKEND[:PRECISION]",
    help="Back end to measure, as for --backend of hrtrack, or onnxruntime. Repeatable.  "
    "[default: all that run here]",
)
@click.option(
    "--batch",
    default="1",
    show_default=True,
    metavar="N,N,...",
    help="Batch sizes to measure with.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=3.0,
    show_default=True,
    help="Measuring time per model, back end and batch size.",
)
@tracker_options("device", "threads")
@click.option("--json", "json_path", type=FILE, help="Write the figures to this file.")
@click.option("--chart", type=FILE, help="Draw a chart to this PNG file.")
def model(models: tuple[str, ...], **settings: Any) -> None:
    """Measure the latency and the crops per second of MODELS, which are names or files.

    The models take turns, so that other work on the machine slows all of them alike.
    """
    from rich.console import Console

    from ..models.zoo import resolve
    from ..tracker.bench_model import bench_models, times_table
    from .info import gather

    files = [str(resolve(name)) for name in models]
    candidates = _candidates(files, settings["runs"])
    try:
        batches = [int(part) for part in settings["batch"].split(",")]
    except ValueError:
        raise UsageError(
            f"--batch {settings['batch']}: numbers were expected, such as 1,8,32"
        ) from None
    console = Console(stderr=True)
    with console.status("opening") as status:
        rows = bench_models(
            candidates,
            batches,
            seconds=settings["seconds"],
            device=settings["device"],
            threads=settings["threads"],
            ceiling=ceilings(candidates),
            progress=status.update,
            build_engine=build_engine,
        )
    # Wide enough for the names where the output is a pipe.
    plain = Console()
    plain = plain if plain.is_terminal else Console(width=120)
    plain.print(times_table(rows, "networks alone"))
    for line in dict.fromkeys(row.about for row in rows):
        console.print(line, highlight=False)
    found = {"machine": gather()["machine"], "models": [row.to_json() for row in rows]}
    if settings["json_path"]:
        settings["json_path"].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if settings["chart"]:
        chart(settings["chart"], rows)


def _candidates(files: list[str], runs: tuple[str, ...]) -> list[Candidate]:
    """Every file on every wanted back end that reads it."""
    from ..tracker.bench_model import Candidate
    from ..tracker.options import Backend, Precision

    chosen = [run.partition(":") for run in runs] or _present()
    known = (*get_args(Backend), "onnxruntime")
    found = []
    for file in files:
        for backend, _, precision in chosen:
            if backend not in known or (precision or "auto") not in get_args(Precision):
                raise UsageError(f"--on {backend}:{precision}; back ends are {', '.join(known)}")
            # OpenVINO's own files are often quantised, and then have one precision.
            if file.endswith(".xml") and (backend != "openvino" or precision in ("fp32", "bf16")):
                continue
            found.append(Candidate(file, backend, precision or "auto"))  # type: ignore[arg-type]
    if not found:
        raise BackendError("none of the chosen back ends reads these files")
    return found


def _present() -> list[tuple[str, str, str]]:
    """What this machine can run: OpenVINO always, the rest if installed."""
    from importlib.util import find_spec

    found = [("openvino", ":", "fp32"), ("openvino", ":", "auto")]
    found += [(name, ":", "auto") for name in ("onnxruntime", "torch") if find_spec(name)]
    return found


def ceilings(candidates: list[Candidate]) -> Callable[[Candidate, int], float | None]:
    """The least seconds a call can take on this GPU; nothing is known on a CPU."""
    from ..tracker.inference.open import nvidia_driver_present

    if not nvidia_driver_present():
        return lambda candidate, batch: None
    import torch

    if not torch.cuda.is_available():
        return lambda candidate, batch: None
    from ..models.checkpoints import load_hrnet
    from ..models.pose.hrnet import cost
    from ..tracker.bench_model import gpu_ceilings

    speeds = gpu_ceilings()
    costs = {}
    for candidate in candidates:
        if candidate.model not in costs and not candidate.model.endswith((".xml", ".engine")):
            network, described = load_hrnet(candidate.model)
            costs[candidate.model] = cost(network, described.input_hw)

    def least(candidate: Candidate, batch: int) -> float | None:
        if candidate.model not in costs or candidate.backend in ("openvino", "onnxruntime"):
            return None
        return costs[candidate.model].seconds(batch, *speeds)

    return least


def chart(path: Path, rows: list[ModelTime]) -> None:
    """Crops a second by candidate, one colour a batch size."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.name for row in rows))
    batches = sorted({row.batch for row in rows})
    figure = Figure(figsize=(9, 0.35 * len(names) * len(batches) + 1.4), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(batches)
    for position, batch in enumerate(batches):
        speeds = {row.name: row.crops_per_second for row in rows if row.batch == batch}
        places = [index + position * thickness for index in range(len(names))]
        bars = axes.barh(
            places, [speeds.get(name, 0) for name in names], thickness, label=f"batch {batch}"
        )
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    middle = (len(batches) - 1) * thickness / 2
    axes.set_yticks([index + middle for index in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("crops per second (median call)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
