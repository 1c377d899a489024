"""`hrtrack eval`: PCKh and OKS AP of pose models, action models and tracks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .export import convert
from .options import PRECISIONS

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("eval", invoke_without_command=True, short_help="Measure models on labelled data.")
@click.option(
    "--annotations",
    type=FILE,
    metavar="A.json",
    help="COCO format, MPII's converted JSON or its original .mat.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR|ZIP",
    help="Where the photos lie.",
)
@click.option(
    "--share",
    type=float,
    nargs=2,
    metavar="A B",
    help="Only these photos, as a training's `share` takes them: 0.85 1.",
)
@click.option(
    "--model",
    "-m",
    "names",
    multiple=True,
    metavar="NAME|PATH",
    help="Repeatable: every model sees the same crops.  [default: body_fast]",
)
@click.option(
    "--boxes", type=click.Choice(["labelled", "detector"]), default="labelled", show_default=True
)
@click.option(
    "--detector", metavar="NAME|PATH", help="For --boxes detector.  [default: person_fast]"
)
@click.option("--decoder", type=click.Choice(["dark", "argmax"]), default="dark", show_default=True)
@click.option(
    "--flip",
    is_flag=True,
    help="Average with the mirror image; with argmax aligned as in the official code.",
)
@click.option(
    "--backend", "backends", multiple=True, metavar="NAME", help="Repeatable.  [default: auto]"
)
@click.option("--device")
@click.option("--skeleton", metavar="NAME|FILE", help="Joints of models that do not name them.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--json", "json_path", type=FILE, help="Write the figures here.")
@click.option("--worst", type=FILE, help="Draw the 16 worst people here (.png).")
@click.option(
    "--skeletons", type=FILE, help="Draw typical and worst people without photos here (.png)."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress; no table where --json has it.")
@click.pass_context
def evaluate(ctx: click.Context, **settings: Any) -> None:
    """Measure pose models on labelled photos: PCKh, OKS AP and AR, with 95 % intervals."""
    if ctx.invoked_subcommand is not None:
        return
    if settings["annotations"] is None or settings["images"] is None:
        raise click.UsageError("--annotations and --images are needed")
    if settings["detector"] is not None and settings["boxes"] != "detector":
        raise UsageError("--detector is for --boxes detector")
    low, high = settings["share"] or (0.0, 1.0)
    if not 0 <= low < high <= 1:
        raise UsageError(f"--share {low:g} {high:g}: expected two numbers that rise, from 0 to 1")
    from contextlib import ExitStack

    from rich.console import Console

    from ..evaluation.evaluate import evaluate as measure
    from ..evaluation.evaluate import results_table, write_json
    from ..evaluation.predict import Protocol
    from ..skeleton import open_skeleton
    from ..tracker.inference.open import open_detector, open_network

    if settings["json_path"]:
        _require_output(settings["json_path"], settings["annotations"])
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
    if not (settings["quiet"] and settings["json_path"]):  # else there would be no result
        Console(width=None if Console().is_terminal else 200).print(results_table(results))
    if settings["json_path"]:
        write_json(results, settings["json_path"])


def _require_output(path: Path, *inputs: Path) -> None:
    """UsageError for an output that is one of the inputs, SinkError for one out of reach."""
    from ..writable import require_file

    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        raise UsageError(f"--json {path} would replace what is read")
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


@evaluate.command("action")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Penn Action, ACTION/*.jsonl, or a label file (.csv).",
)
@click.option("--model", "-m", default="action_penn", show_default=True)
@click.option("--out", type=FOLDER, help="Write report.json, confusion.png, curves.png here.")
@click.option("--curves/--no-curves", default=True, show_default=True)
@click.option("--quiet", "-q", is_flag=True)
def evaluate_action(data: Path, model: str, out: Path | None, curves: bool, quiet: bool) -> None:
    """Measure an action model: top-1, each class, and how robust it is."""
    from ..actions.tagger import open_action_network
    from ..actions.training.run import eval_action

    network, info = open_action_network(model)
    report = eval_action(network, info, data, out, curves=curves, show_progress=not quiet)
    if quiet and out is not None:  # else there would be no result
        return
    click.echo(f"{report.clips} clips, top-1 {report.top1:.2%}")
    click.echo(f"with a tracker's noise and gaps {report.tracked:.2%}")
    click.echo(f"answered {report.answered:.2%}, of these right {report.answered_top1:.2%}")
    for row in report.per_action:
        recall, precision = (
            "      -" if share is None else f"{share:7.2%}" for share in (row.recall, row.precision)
        )
        click.echo(f"  {row.label:18} {row.clips:4} clips  recall {recall}  precision {precision}")


@evaluate.command("tracking")
@click.option(
    "--truth", type=click.Path(path_type=Path), required=True, help="PoseTrack JSON or MOT txt."
)
@click.option("--results", type=FILE, required=True, help="JSONL or MOT txt of hrtrack.")
@click.option("--json", "json_path", type=FILE)
def evaluate_tracking(truth: Path, results: Path, json_path: Path | None) -> None:
    """Measure tracks: MOTA, IDF1, HOTA, and MOTA of each joint."""
    from ..evaluation.tracks import evaluate_files

    if json_path:
        _require_output(json_path, truth, results)
    found = evaluate_files(truth, results)
    if json_path:
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name, value in found.items():
        click.echo(f"{name:24} {value if not isinstance(value, float) else round(value, 4)}")
