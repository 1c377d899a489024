"""`hrtrack export`: weights into ONNX, OpenVINO or a TensorRT engine, compared with PyTorch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, ModelError, UsageError
from ..writable import require_file
from .options import FILE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from ..export.run import Target
    from ..models.agreement import Agreement
    from ..models.network import Network
    from ..models.runtimes.tensorrt import EnginePrecision, Identity
    from ..skeleton import Skeleton

CALIBRATION_CROPS = 100
"""With so many the bundled model loses nothing (docs/benchmarks.md); the time grows with them."""


@click.command(short_help="Convert a model to ONNX, OpenVINO or TensorRT.")
@click.argument("weights")
@click.option(
    "--to",
    type=click.Choice(["onnx", "openvino", "tensorrt", "tensorrt-rtx"]),
    default="onnx",
    show_default=True,
    help="Format of the exported file.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Precision in which the network computes; keypoints are always decoded in float32.  "
    "[default: fp16 for TensorRT engines, else fp32]",
)
@click.option(
    "--output",
    "-o",
    type=FILE,
    metavar="PATH",
    help="File to write.  [default: NAME-PRECISION.SUFFIX in this folder]",
)
@click.option(
    "--batch",
    metavar="N|MIN:BEST:MAX",
    help="Batch sizes that a TensorRT engine accepts, and the one it is optimised for.  [default: "
    "1:8:64]",
)
@click.option(
    "--store",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Precision in which an fp32 ONNX file stores its weights; it still computes in float32.",
)
@click.option(
    "--calibrate",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Photos of people for 8-bit calibration: of int8 exports, and of ONNX files that CPUs run "
    "in 8 bits.",
)
@click.option(
    "--via",
    type=click.Choice(["onnx", "torch2trt"]),
    default="onnx",
    show_default=True,
    help="How a TensorRT engine is built: from an ONNX file, or from PyTorch by torch2trt.",
)
@click.option(
    "--portable",
    is_flag=True,
    help="Build a TensorRT engine that also runs on other GPUs and TensorRT versions.",
)
@click.option(
    "--timing-cache",
    type=FILE,
    help="File in which TensorRT keeps its timings, so that the next build is faster.",
)
@click.option(
    "--allow-inaccurate",
    is_flag=True,
    help="Keep the file even if its keypoints differ from PyTorch's by more than the tolerance.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
def export(weights: str, **settings: Any) -> None:
    """Export WEIGHTS: a model's name, an ONNX file that hrtrack wrote, or a checkpoint.

    The exported file is compared with PyTorch in float32, and kept only if its keypoints agree
    within the tolerance.
    """
    from rich.console import Console

    from ..export import run
    from ..export.session import Session
    from ..models.runtimes.tensorrt import parse_batches
    from ..models.zoo import resolve

    target = settings["to"]
    engine = target.startswith("tensorrt")
    precision: Any = settings["precision"] or ("fp16" if engine else "fp32")
    source = resolve(weights)
    path = settings["output"] or Path(f"{source.stem}-{precision}{run.EXPORTERS[target].suffix}")
    if path.exists() and not settings["overwrite"]:
        raise click.UsageError(f"{path} exists already; pass --overwrite to replace it")
    if not engine and (settings["portable"] or settings["timing_cache"]):
        raise UsageError("--portable and --timing-cache are for --to tensorrt and tensorrt-rtx")
    options = run.ExportOptions(
        to=target,
        precision=precision,
        store=settings["store"],
        batches=parse_batches(settings["batch"]) if settings["batch"] else None,
        via=settings["via"],
        portable=settings["portable"],
        allow_inaccurate=settings["allow_inaccurate"],
        timing_cache=settings["timing_cache"],
    )
    pictures = settings["calibrate"]
    exporter = run.exporter_of(options, path, calibrated=pictures is not None)
    require_file(path)
    session = Session(source)
    if pictures is not None:
        session.calibrate(_crops(pictures, session.described.input_hw))
    console = Console(stderr=True)
    with console.status(f"exporting {source.name} to {target}") as status:

        def report(phase: str, step: int, steps: int) -> None:
            status.update(f"{phase}: {step} of {steps}")

        done = run.export(session, exporter, path, _open, report)
    if done.agreement is None:
        console.print("the engine cannot run on this machine; it is compared at its first load")
    else:
        rows = {f"{target} {precision}": done.agreement}
        if done.eightbit is not None:
            rows["computed in 8 bits"] = done.eightbit
        console.print(agreement_table(rows))
    click.echo(done.path)


def _open(path: Path, target: Target, precision: EnginePrecision) -> Network:
    """Opens an export on the back end that it is for; no CPU computes in fp16."""
    from ..tracker.inference.open import open_network

    if target in ("tensorrt", "tensorrt-rtx"):
        return open_network(path, backend=target, precision=precision)
    return open_network(
        path, backend="openvino", precision="int8" if precision == "int8" else "fp32"
    )


def build_engine(source: Path, engine: Path, wanted: Identity) -> None:
    """Makes the TensorRT engine that a back end asks for, with a line while it takes its time."""
    from rich.console import Console

    from ..export import run

    with Console(stderr=True).status(f"building a {wanted.package} engine of {source.name}"):
        run.build_engine(source, engine, wanted, _open)


def convert(checkpoint: Path, onnx: Path, skeleton: Skeleton | None = None) -> None:
    """Makes the ONNX file that a checkpoint runs from, compared with PyTorch before it is kept."""
    from rich.console import Console

    from ..export.run import ExportOptions, export_model

    try:
        onnx.parent.mkdir(parents=True, exist_ok=True)
        # Jobs may convert the same file at the same time, each in a folder of its own.
        with (
            TemporaryDirectory(dir=onnx.parent) as folder,
            Console(stderr=True).status(f"converting {checkpoint.name}, once"),
        ):
            made = Path(folder) / onnx.name
            export_model(checkpoint, made, ExportOptions(), _open, skeleton=skeleton)
            made.replace(onnx)
    except OSError as error:
        raise ModelError(
            f"{checkpoint.name} cannot be converted into {onnx.parent}: {error.strerror}; "
            "HRTRACK_CACHE moves the cache"
        ) from None


def agreement_table(rows: dict[str, Agreement]) -> Table:
    """The comparisons by name, for the terminal."""
    from rich.table import Table

    table = Table(title="Against PyTorch float32, in crop pixels")
    unsure = not all(row.sure for row in rows.values())
    headings = ["export", "joints", "mean px", "p95 px", "OKS", "score", *(["maps"] * unsure)]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "export" else "right")
    for name, row in rows.items():
        places = [f"{row.mean_pixels:.3f}", f"{row.p95_pixels:.3f}", f"{row.oks:.4f}"]
        maps = "-" if row.maps is None else f"{row.maps:.4f}"
        table.add_row(
            name, str(row.decided), *(places if row.decided else ["-"] * 3),
            f"{row.mean_score:.4f}", *([maps] * unsure),
        )  # fmt: skip
    if unsure:
        table.caption = (
            "the network is sure of too few joints in these crops: compared were the heatmaps, "
            "their difference over their spread"
        )
    return table


def _crops(folder: Path, input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Crops of the people in a folder's pictures, as the tracker would cut them."""
    import numpy as np
    from rich.progress import track as with_bar

    from ..pictures import SUFFIXES
    from ..tracker.inference.crop import Cropper
    from ..tracker.inference.open import open_detector
    from ..tracker.video.image import read_image

    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not pictures:
        raise DataError(f"{folder} holds no pictures to calibrate with")
    crop = Cropper(input_hw)
    detector = open_detector("person_fast")
    found: list[NDArray[np.uint8]] = []
    for path in with_bar(pictures, description="calibration crops", transient=True):
        image = read_image(str(path))
        boxes, scores = detector(image)
        found.extend(np.copy(crop(image, boxes[scores > 0.5])[0]))
        if len(found) >= CALIBRATION_CROPS:
            break
    detector.close()
    if not found:
        raise DataError(f"nobody was found in the pictures of {folder}")
    return np.stack(found[:CALIBRATION_CROPS])
