"""`hrtrack eval`: PCKh and OKS AP of pose models, action models and tracks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, UsageError
from .export import convert
from .options import FILE, FOLDER, former, tracker_options

if TYPE_CHECKING:
    from ..poses import Poses
    from ..tracker.outputs.base import Target


@click.group("eval", invoke_without_command=True, short_help="Measure accuracy on labelled data.")
@click.option(
    "--annotations",
    type=FILE,
    metavar="A.json",
    help="Labels in COCO format, MPII's converted JSON or its original .mat.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR|ZIP",
    help="Folder or ZIP file of the labelled photos.",
)
@click.option(
    "--share",
    type=float,
    nargs=2,
    metavar="A B",
    help="Measure only a part of the photos, chosen by the same rule as the key `share` of a "
    "training: 0.85 1 takes the last 15 %.",
)
@click.option(
    "--model",
    "-m",
    "names",
    multiple=True,
    metavar="NAME|PATH",
    help="Pose model. Repeatable: every model sees the same crops.  [default: body_fast]",
)
@click.option(
    "--boxes",
    type=click.Choice(["labelled", "detector"]),
    default="labelled",
    show_default=True,
    help="Where the boxes of the people come from.",
)
@click.option(
    "--detector",
    metavar="NAME|PATH",
    help="Person detector for --boxes detector.  [default: person_fast]",
)
@click.option(
    "--decoder",
    type=click.Choice(["dark", "argmax"]),
    default="dark",
    show_default=True,
    help="How heatmaps become keypoints: with DARK's sub-pixel step, or from the highest cell.",
)
@click.option(
    "--flip",
    is_flag=True,
    help="Average each pose with that of the mirror image. With --decoder argmax the two are "
    "aligned as in the official HRNet code.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Library that runs the pose model. Repeatable.  [default: auto]",
)
@tracker_options("device", "precision", "skeleton")
@click.option("--json", "json_path", type=FILE, help="Write the figures to this file.")
@click.option(
    "--report",
    type=FOLDER,
    metavar="DIR",
    help="Write report.json (the figures), worst.png (the 16 worst people) and skeletons.png "
    "(typical and worst people without photos) to this folder.",
)
@former("--worst", type=FILE, instead="--report DIR")
@former("--skeletons", type=FILE, instead="--report DIR")
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    help="Hide the progress bar, and the table if --json or --report holds it.",
)
@click.pass_context
def evaluate(ctx: click.Context, **settings: Any) -> None:
    """Measure pose models on labelled photos: PCKh, OKS AP and AR, with 95 % intervals."""
    if ctx.invoked_subcommand is not None:
        return
    if settings["annotations"] is None or settings["images"] is None:
        raise click.UsageError("--annotations and --images are needed")
    if settings["detector"] is not None and settings["boxes"] != "detector":
        raise UsageError("--detector works only with --boxes detector")
    low, high = settings["share"] or (0.0, 1.0)
    if not 0 <= low < high <= 1:
        raise UsageError(
            f"--share {low:g} {high:g}: write two numbers between 0 and 1, the smaller one first"
        )
    from contextlib import ExitStack

    from rich.console import Console

    from ..evaluation.evaluate import evaluate as measure
    from ..evaluation.evaluate import results_table, write_json
    from ..evaluation.predict import Protocol
    from ..skeleton import open_skeleton
    from ..tracker.inference.open import open_detector, open_network

    written = [settings["json_path"]] if settings["json_path"] else []
    report = settings["report"]
    if report is not None:
        written.append(report / "report.json")
        settings["worst"] = settings["worst"] or report / "worst.png"
        settings["skeletons"] = settings["skeletons"] or report / "skeletons.png"
    for path in written:
        _require_output(path, settings["annotations"])
    names = each_once(settings["names"]) or ("body_fast",)
    titles = short_names(names)
    backends: tuple[Any, ...] = settings["backends"] or ("auto",)
    with ExitStack() as stack:
        networks = {}
        skeleton = open_skeleton(settings["skeleton"]) if settings["skeleton"] else None
        for name in names:
            for backend in dict.fromkeys(backends):
                network = open_network(
                    name,
                    backend=backend,
                    device=settings["device"],
                    precision=settings["precision"],
                    skeleton=skeleton,
                    convert=convert,
                )
                stack.callback(network.close)
                title = titles[name] if len(backends) == 1 else f"{titles[name]} {backend}"
                networks[title] = network
        detector = None
        if settings["boxes"] == "detector":
            opened = open_detector(settings["detector"] or "person_fast")
            stack.callback(opened.close)
            detector = opened
        results = measure(
            networks,
            settings["annotations"],
            settings["images"],
            detector=detector,
            protocol=Protocol(
                decoder=settings["decoder"],
                flip=settings["flip"],
                align="column" if settings["decoder"] == "argmax" else "exact",
            ),
            share=(low, high),
            worst=settings["worst"],
            skeletons=settings["skeletons"],
            quiet=settings["quiet"],
        )
    if not (settings["quiet"] and written):  # else there would be no result
        Console(width=None if Console().is_terminal else 200).print(results_table(results))
    for path in written:
        write_json(results, path)


def _require_output(path: Path, *inputs: Path) -> None:
    """UsageError for an output that is one of the inputs, SinkError for one out of reach."""
    from ..writable import require_file

    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        raise UsageError(f"{path} would replace what is read")
    require_file(path)


def each_once(names: Sequence[str]) -> tuple[str, ...]:
    """Names and paths of models without those that name the same file once more."""
    files: dict[Path | str, str] = {}
    for name in names:
        files.setdefault(Path(name).resolve() if Path(name).exists() else name, name)
    return tuple(files.values())


def short_names(names: Sequence[str]) -> dict[str, str]:
    """For each model's name or path the shortest end of it that no other shares.

    ``a/best.safetensors`` and ``b/best.safetensors`` become ``a/best`` and ``b/best``;
    ``best.onnx`` and ``best.safetensors`` in one folder keep their suffixes.
    """
    for whole in (False, True):
        parts = {name: _parts(name, whole) for name in names}
        for length in range(1, max(map(len, parts.values())) + 1):
            found = {name: "/".join(own[-length:]) for name, own in parts.items()}
            if len(set(found.values())) == len(found):
                return found
    return {name: name for name in names}


def _parts(name: str, whole: bool) -> tuple[str, ...]:
    path = Path(name)
    return path.parts if whole else (*path.parts[:-1], path.stem)


@evaluate.command("action", short_help="Measure an action model.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="Penn Action, a folder of ACTION/*.jsonl, or a label file (.csv).",
)
@click.option(
    "--model",
    "-m",
    default="action_penn",
    show_default=True,
    metavar="NAME|PATH",
    help="Action model: the name of a bundled model or an ONNX file.",
)
@click.option(
    "--report",
    type=FOLDER,
    metavar="DIR",
    help="Write report.json, confusion.png and curves.png to this folder.",
)
@former("--out", type=FOLDER, instead="--report DIR")
@click.option(
    "--curves/--no-curves",
    default=True,
    show_default=True,
    help="Also measure with noise, gaps and short clips, and draw curves.png.",
)
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    help="Hide the progress bar, and the figures if --report holds them.",
)
def evaluate_action(
    data: Path, model: str, report: Path | None, out: Path | None, curves: bool, quiet: bool
) -> None:
    """Measure an action model: top-1 accuracy, each class, and robustness."""
    from ..actions.tagger import open_action_network
    from ..actions.training.run import eval_action

    folder = report or out
    network, info = open_action_network(model)
    found = eval_action(network, info, data, folder, curves=curves, show_progress=not quiet)
    if quiet and folder is not None:  # else there would be no result
        return
    click.echo(f"{found.clips} clips, top-1 {found.top1:.2%}")
    click.echo(f"with a tracker's noise and gaps {found.tracked:.2%}")
    click.echo(
        f"recognised {found.answered:.2%} of the clips, {found.answered_top1:.2%} of these right"
    )
    for row in found.per_action:
        recall, precision = (
            "      -" if share is None else f"{share:7.2%}" for share in (row.recall, row.precision)
        )
        click.echo(f"  {row.label:18} {row.clips:4} clips  recall {recall}  precision {precision}")


@evaluate.command("tracking", short_help="Measure tracks.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="True tracks: PoseTrack JSON or MOT text.",
)
@click.option(
    "--results",
    required=True,
    metavar="FILE",
    help="Tracks to measure: what --save wrote, a file of any format, or MOT text.",
)
@click.option("--json", "json_path", type=FILE, help="Write the figures to this file.")
def evaluate_tracking(truth: Path, results: str, json_path: Path | None) -> None:
    """Measure tracks: MOTA, IDF1, HOTA, and MOTA per joint."""
    from ..evaluation.tracks import evaluate_tracks
    from ..tracker.outputs.results.read import saved_results

    saved = saved_results(results)
    if json_path:
        _require_output(json_path, truth, Path(saved.path))
    found = evaluate_tracks(truth, saved_tracks(saved), saved.path)
    if json_path:
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name, value in found.items():
        click.echo(f"{name:24} {value if not isinstance(value, float) else round(value, 4)}")


def saved_tracks(saved: Target) -> Iterator[Poses]:
    """The poses of saved results; DataError where a format that keeps every frame has none."""
    from ..tracker.outputs.base import FORMATS
    from ..tracker.outputs.results.read import read_results

    frames = 0
    for poses in read_results(f"{saved.format}:{saved.path}"):
        frames += 1
        yield poses
    if not frames and "empty frames" not in FORMATS[saved.format].lacks:
        raise DataError(f"{saved.path} holds no frame")
