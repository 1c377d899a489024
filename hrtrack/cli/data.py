"""`hrtrack data` and `hrtrack average`: what is made of labels and of weights around a training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .options import FILE, FOLDER, Finite, tracker_options
from .train import ACTION, DETECTOR, task_of

PATH = click.Path(path_type=Path)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Hide the progress bar.")


@click.group(short_help="Prepare training data: pseudo labels, boxes, packs.")
def data() -> None:
    """Prepare training data."""


@data.command("pseudo-label", short_help="Let a model check the labels of a training.")
@click.argument("config")
@click.argument("model")
@click.argument("folder", type=FOLDER)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@tracker_options("backend", "device")
@quiet_option
def pseudo_label(
    config: str,
    model: str,
    folder: Path,
    overrides: tuple[str, ...],
    backend: str,
    device: str | None,
    quiet: bool,
) -> None:
    """Estimate the poses of all people that CONFIG trains on with MODEL.

    Writes FOLDER/teacher_N.npz for the Nth training set, for data.train.N.teacher=FILE: where the
    model is sure and disagrees, the training corrects the label or gives it less weight.
    MODEL is any pose model that hrtrack runs. CONFIG and KEY=VALUE are those of `hrtrack train`.

    \b
    hrtrack data pseudo-label mine.yaml runs/first/weights.safetensors judged
    hrtrack train mine.yaml data.train.0.teacher=judged/teacher_0.npz
    """
    from ..configs.pose_schema import load_config
    from ..tracker.inference.open import open_network
    from ..train.pose.data.pseudo_labels import write_pseudo_labels

    checked = load_config(config, overrides)
    network = open_network(model, backend=backend, device=device)  # type: ignore[arg-type]
    try:
        _print_all(write_pseudo_labels(checked, network, folder, quiet=quiet))
    finally:
        network.close()


@data.command(short_help="Pack training data for a machine without the photos.")
@click.argument("config")
@click.argument("output", type=FOLDER)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--side",
    type=click.IntRange(16),
    metavar="PIXELS",
    help="Side of a person's square, or longer side of a detector's photo.  [default: 256 for "
    "people, 320 for photos]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Quality of the packed pictures.  [default: 85 for people, 80 for photos]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jpg", "webp"]),
    default="jpg",
    show_default=True,
    help="Format of the packed pictures. WebP needs about half of the bytes.",
)
@click.option(
    "--megabytes",
    type=Finite(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="MB",
    help="Largest size of one pack, in 1e6 bytes.",
)
def pack(
    config: str,
    output: Path,
    overrides: tuple[str, ...],
    side: int | None,
    quality: int | None,
    kind: str,
    megabytes: float,
) -> None:
    """Pack what CONFIG trains on into the folder OUTPUT, with the configuration and the teacher.

    For a pose network, people are cut out as squares with their labels; for a detector, photos are
    made smaller. CONFIG and KEY=VALUE are those of `hrtrack train`. docs/gpu_training.md shows how
    to train with packs.
    """
    task = task_of(config)
    if task == ACTION:
        raise UsageError("hrtrack data pack is for pose networks and detectors")
    asked: dict[str, Any] = {"side": side, "quality": quality, "kind": kind, "megabytes": megabytes}
    given = {name: value for name, value in asked.items() if value is not None}
    if task == DETECTOR:
        from ..configs.detector_schema import load_detector_config
        from ..train.detector.pack import pack_photos

        lines = pack_photos(load_detector_config(config, overrides), output, **given)
    else:
        from ..configs.pose_schema import load_config
        from ..train.pose.pack import pack_people

        lines = pack_people(load_config(config, overrides), output, **given)
    _print_all(lines)


@data.command("refine-boxes", short_help="Replace labelled boxes by a detector's.")
@click.argument("annotations", type=PATH)
@click.argument("images", type=PATH)
@click.argument("detector")
@click.argument("output", type=FILE)
@click.option(
    "--iou",
    "least",
    type=Finite(0, 1),
    default=0.5,
    show_default=True,
    metavar="IOU",
    help="Minimum intersection over union of the labelled and the detected box.",
)
@click.option(
    "--min-score",
    type=Finite(0, 1),
    default=0.4,
    show_default=True,
    metavar="SCORE",
    help="Minimum score of a detection.",
)
@tracker_options("threads")
@quiet_option
def refine(
    annotations: Path,
    images: Path,
    detector: str,
    output: Path,
    least: float,
    min_score: float,
    threads: int | None,
    quiet: bool,
) -> None:
    """Write OUTPUT: the COCO ANNOTATIONS with the boxes that DETECTOR finds on the same people.

    Boxes that were made from labelled joints inherit the errors of the labels. Boxes marked
    `pseudo` or `iscrowd` stay as they are. Use the result for training, never to measure.
    """
    from ..datasets.refine_boxes import refine_boxes
    from ..tracker.inference.open import open_detector

    detect = open_detector(detector, threads=threads, min_score=min_score)
    try:
        changed, total = refine_boxes(annotations, images, detect, output, least=least, quiet=quiet)
    finally:
        detect.close()
    click.echo(f"{output}: {changed} of {total} labelled boxes replaced")


@click.command(short_help="Average the weights of several checkpoints.")
@click.argument("output", type=FILE)
@click.argument("checkpoints", type=FILE, nargs=-1, required=True)
def average(output: Path, checkpoints: tuple[Path, ...]) -> None:
    """Write OUTPUT: the mean of CHECKPOINTS of one training.

    The files are weights.safetensors of pose trainings, or weights.pt of detector trainings.
    The mean may be more accurate than each of them: measure it. 8-bit ranges are not kept;
    `hrtrack export --calibrate` measures them anew.
    """
    if len(checkpoints) < 2:
        raise click.UsageError("name at least two checkpoints")
    from ..models import average as weights

    weights.average(checkpoints, output)
    click.echo(output)


def _print_all(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)
