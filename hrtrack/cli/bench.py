"""`hrtrack bench`: how fast this machine tracks, stage by stage and beside which peers, with
charts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .bench_streams import measure_streams, refuse_beside_streams, streams_options
from .export import build_engine, convert
from .options import FILE, tracker_options

if TYPE_CHECKING:
    from ..tracker.bench import ClipReport, PipelineReport
    from ..tracker.options import TrackerOptions
    from ..tracker.video.frame import Frame


@click.group(short_help="Measure the speed of the pipeline or of single models.")
def bench() -> None:
    """Measure speed: of the whole pipeline, or of single models."""


@bench.command(short_help="Measure the whole pipeline on a clip.")
@click.argument("clip")
@click.option(
    "--frames",
    type=click.IntRange(10),
    default=200,
    show_default=True,
    help="Number of frames of the clip to measure with.",
)
@click.option(
    "--people",
    metavar="N,N,...",
    help="Also measure with these numbers of people: copies of one person's boxes in the clip.",
)
@tracker_options(
    "model", "detector", "detect_every", "max_people", "backend", "device", "precision", "threads"
)
@click.option(
    "--compare",
    multiple=True,
    metavar="MODEL.onnx|SCRIPT.py",
    help="Compare with another pose model in the same pipeline, or with a script that prints one "
    "line of JSON with its fps, and people and cpu_ms per frame. Repeatable.",
)
@click.option("--compare-args", default="", help="Further arguments for the scripts.")
@click.option(
    "--peer-python",
    default=sys.executable,
    show_default=False,
    help="Python interpreter that runs the scripts.  [default: this one]",
)
@click.option(
    "--json",
    "json_path",
    type=FILE,
    help="Write everything printed here to this file, with version, commit, date, device and "
    "frame size.",
)
@click.option("--chart", type=FILE, help="Draw a chart to this PNG file.")
@click.option(
    "--trace",
    type=FILE,
    help="Write a timeline of all stages and threads to this JSON file, for chrome://tracing or "
    "ui.perfetto.dev.",
)
@streams_options
def pipeline(clip: str, **settings: Any) -> None:
    """Measure FPS and milliseconds per stage of the whole pipeline on CLIP."""
    if settings["streams"]:
        _measure_streams(clip, settings)
    else:
        _measure_pipeline(clip, settings)


def _measure_pipeline(clip: str, settings: dict[str, Any]) -> None:
    began = datetime.now(UTC)
    from ..tracker import bench as measure
    from ..writable import require_file, require_picture

    counts = _counts("--people", settings["people"])
    if settings["json_path"]:
        require_file(settings["json_path"])
    if settings["trace"]:
        require_file(settings["trace"])
    if settings["chart"]:
        require_picture(settings["chart"])
    frames = measure.preload(clip, settings["frames"])
    main, poses = _measured(clip, settings["model"], frames, settings, main=True)
    runs = [main, *(_tiled(number, frames, settings, poses) for number in counts)]
    peers = []
    for other in settings["compare"]:
        if other.endswith(".py"):
            peers.append(_script(other, clip, settings))
        else:
            runs.append(_measured(clip, other, frames, settings, main=False)[0])
    for peer in peers:
        click.echo(_beside(main.bare, peer))
    if settings["json_path"]:
        found: dict[str, object] = {
            "pipelines": [run.to_json() for run in runs],
            "peers": peers,
        }
        _write_json(settings["json_path"], began, clip, frames[0], found)
    if settings["chart"]:
        pipeline_chart(settings["chart"], [run.bare for run in runs], peers)


def _write_json(
    path: Path, began: datetime, clip: str, frame: Frame, found: dict[str, object]
) -> None:
    """Writes what was found, with what it was found with; ``frame`` is one of the clip."""
    from ..models.info import provenance
    from .info import gather

    made_by = provenance(0)
    height, width = frame.image.shape[:2]
    whole = {
        "hrtrack": made_by["hrtrack"],
        "commit": made_by.get("commit"),
        "date": began.isoformat(timespec="seconds"),
        "machine": gather()["machine"],
        "clip": Path(clip).name,
        "frame_size": [width, height],
        **found,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _measure_streams(clip: str, settings: dict[str, Any]) -> None:
    from ..tracker.bench import preload
    from ..writable import require_file

    began = datetime.now(UTC)
    refuse_beside_streams(settings)
    counts = _counts("--streams", settings["streams"])
    if settings["json_path"]:
        require_file(settings["json_path"])
    (frame,) = preload(clip, 1)
    options = _options(settings["model"], settings)
    found = measure_streams(clip, options, counts, settings["seconds"])
    if settings["json_path"]:
        _write_json(settings["json_path"], began, clip, frame, found)


@dataclass(frozen=True)
class _Run:
    """What was measured, and printed, of one model: with frames in memory, bare and ``drawn``,
    and as a ``whole`` from file to annotated file."""

    bare: PipelineReport
    runs_on: dict[str, str]
    drawn: PipelineReport | None = None
    whole: ClipReport | None = None

    def to_json(self) -> dict[str, object]:
        """The bare run's figures, what it ran on, and the other tables by name."""
        return {
            **self.bare.to_json(),
            **self.runs_on,
            "with_drawing": None if self.drawn is None else self.drawn.to_json(),
            "file_to_file": None if self.whole is None else asdict(self.whole),
        }


def _beside(own: Any, peer: dict[str, Any]) -> str:
    """One line: a peer, and how many times as fast hrtrack was."""
    people = "" if peer["people"] is None else f" with {peer['people']:.1f} people"
    line = (
        f"{peer['name']}: {peer['fps']:.1f} FPS{people}; hrtrack with {own.people:.1f} people is "
        f"{own.fps / peer['fps']:.2f} x"
    )
    if peer["cpu_ms"] is None:
        return line
    return (
        f"{line}; processor time a frame {peer['cpu_ms']:.1f} to {own.cpu_ms:.1f} ms, "
        f"{peer['cpu_ms'] / own.cpu_ms:.2f} x"
    )


def _options(model: str, settings: dict[str, Any]) -> TrackerOptions:
    from ..tracker.options import TrackerOptions

    return TrackerOptions(
        model,
        settings["detector"],
        detect_every=settings["detect_every"],
        max_people=settings["max_people"],
        backend=settings["backend"],
        device=settings["device"],
        precision=settings["precision"],
        threads=settings["threads"],
        build_engine=build_engine,
        convert=convert,
    )


def _tracker(model: str, settings: dict[str, Any]) -> Any:
    from ..tracker.api import Tracker
    from ..tracker.stopwatch import Stopwatch

    stopwatch = Stopwatch(traced=settings["trace"] is not None)
    return Tracker.of(replace(_options(model, settings), stopwatch=stopwatch))


def _copies(frames: list[Any]) -> list[Any]:
    """Frames that may be drawn on without spoiling the next run."""
    return [replace(frame, image=frame.image.copy()) for frame in frames]


def _measured(
    clip: str, model: str, frames: list[Any], settings: dict[str, Any], *, main: bool
) -> tuple[_Run, list[Any]]:
    from ..tracker import bench as measure
    from ..tracker.outputs.pictures.draw import DrawOptions

    drawing = DrawOptions({"skeleton", "boxes", "ids"})
    with _tracker(model, settings) as tracker:
        bare = measure.bench_pipeline(
            Path(model).name, tracker.pipeline(), tracker.skeleton, frames
        )
        _table(f"{bare.name}: frames in memory, nothing drawn", bare)
        drawn = measure.bench_pipeline(
            bare.name, tracker.pipeline(), tracker.skeleton, _copies(frames), drawing=drawing
        )
        beside = sum(stage.per_frame for stage in drawn.stages if stage.stage == "draw")
        click.echo(
            f"beyond the networks: {drawn.own_ms:.2f} ms a frame with {drawn.people:.1f} people "
            f"(allowance {2 + 0.2 * drawn.people:.2f}), while {beside:.2f} ms of drawing go on "
            "beside the next frame"
        )
        poses, whole = [], None
        if main:
            whole = measure.bench_clip(
                clip,
                lambda upcoming: tracker.pipeline(upcoming=upcoming),
                tracker.skeleton,
                drawing,
                tracker.stopwatch,
                len(frames),
            )
            if settings["trace"]:
                trace = json.dumps(measure.chrome_trace(tracker.stopwatch))
                settings["trace"].write_text(trace + "\n", encoding="utf-8")
            _table("from file to annotated file", whole)
            click.echo(
                f"alone: decode {whole.decode_alone_ms:.2f} ms, "
                f"encode {whole.encode_alone_ms:.2f} ms a frame"
            )
            once = tracker.pipeline()
            poses = [once.step(frame) for frame in frames]
        run = _Run(bare, tracker.network.runs_on(), drawn, whole)
    return run, poses


def _tiled(number: int, frames: list[Any], settings: dict[str, Any], poses: list[Any]) -> _Run:
    from ..tracker import bench as measure

    every = settings["detect_every"]
    with _tracker(settings["model"], settings) as tracker:
        boxes = measure.record_box(poses)
        tiled = measure.TiledProposer(
            tracker.detector, boxes, number, 5 if every == "auto" else every
        )
        report = measure.bench_pipeline(
            f"{number} people",
            replace(tracker.pipeline(), proposer=tiled),
            tracker.skeleton,
            frames,
        )
        run = _Run(report, tracker.network.runs_on())
    _table(f"{number} people", report)
    return run


def _counts(option: str, text: str | None) -> list[int]:
    if not text:
        return []
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"{option} {text}: numbers with commas were expected, like 1,2,5")
    return [int(part) for part in parts]


def _script(script: str, clip: str, settings: dict[str, Any]) -> dict[str, Any]:
    command = [settings["peer_python"], script, clip, str(settings["frames"])]
    found = subprocess.run(
        command + settings["compare_args"].split(), capture_output=True, text=True
    )
    lines = found.stdout.strip().splitlines()
    if found.returncode or not lines:
        reason = (found.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError(f"{script} failed: {reason}")
    peer = json.loads(lines[-1])
    return {
        "name": str(peer["name"]),
        "fps": float(peer["fps"]),
        "people": peer.get("people"),
        "cpu_ms": peer.get("cpu_ms"),
    }


def _table(title: str, report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    streams = f", {report.streams} streams of 30 FPS" if hasattr(report, "streams") else ""
    table = Table()
    table.add_column("stage")
    for heading in ("p50 ms", "p95 ms", "p99 ms", "ms a frame"):
        table.add_column(heading, justify="right")
    for stage in report.stages:
        name, *times = asdict(stage).values()
        table.add_row(name, *(f"{value:.2f}" for value in times))
    click.echo(f"{title}: {report.fps:.1f} FPS{streams}")
    Console().print(table)


from .bench_model import model  # noqa: E402

bench.add_command(model)


STAGE_COLOURS = {
    "decode": "#8c8c8c",
    "look ahead": "#9cc7e3",
    "detect": "#2a7fb8",
    "crop": "#7fc8a9",
    "infer": "#e07b39",
    "associate": "#b05fb5",
    "act": "#d9b44a",
    "draw": "#c25b6e",
    "encode": "#5a5a5a",
}


def pipeline_chart(
    path: Path, reports: Sequence[PipelineReport], peers: Sequence[dict[str, Any]]
) -> None:
    """Frames a second of every run and peer; beside them a frame's time by stage."""
    from matplotlib.figure import Figure

    names = [f"{report.name} ({report.people:.1f} a frame)" for report in reports]
    beside = [_short(peer) for peer in peers]
    figure = Figure(figsize=(11, 0.5 * len(names + beside) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    fps = [report.fps for report in reports] + [peer["fps"] for peer in peers]
    places = range(len(fps))
    colours = ["#2a7fb8"] * len(names) + ["#b0b0b0"] * len(beside)
    bars = left.barh(places, fps, color=colours)
    left.bar_label(bars, fmt="%.1f", padding=3)
    left.axvline(30, color="#444444", linewidth=0.8, linestyle=":")
    left.set_xlim(0, max([*fps, 30]) * 1.15)
    left.set_yticks(places, names + beside)
    left.invert_yaxis()
    left.set_xlabel("frames a second (dotted: 30)")
    _stack(right, reports)
    right.set_xlabel("ms a frame, by stage")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=8, frameon=False)
    figure.savefig(path, dpi=120)


def _stack(axes: Any, reports: Sequence[PipelineReport]) -> None:
    times = [{stage.stage: stage.per_frame for stage in report.stages} for report in reports]
    ends = [0.0] * len(times)
    for name, colour in STAGE_COLOURS.items():
        widths = [stages.get(name, 0.0) for stages in times]
        if any(widths):
            axes.barh(range(len(widths)), widths, left=ends, color=colour, label=name)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        axes.annotate(f"{end:.1f}", (end, place), (3, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, max(ends) * 1.15)


def _short(peer: dict[str, Any]) -> str:
    """A peer's name without its explanation, and its people."""
    name = str(peer["name"]).partition(":")[0]
    return name if peer["people"] is None else f"{name} ({peer['people']:.1f} a frame)"
