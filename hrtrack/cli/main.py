"""`hrtrack --source X`: the tracker itself; the other commands hang below it."""

from __future__ import annotations

import math
import re
from typing import Any

import click

from .. import __version__
from .options import PRECISIONS, SourceGroup, option

SOURCE, OUTPUT, MODEL, DISPLAY, LIVE = "Source", "Output", "Model", "Display", "Cameras and streams"


class DetectEvery(click.ParamType):
    """``auto`` or a number of frames."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == "auto" or isinstance(value, int):
            return value
        if str(value).isdecimal() and int(value) > 0:
            return int(value)
        raise click.BadParameter(f"'{value}' is neither auto nor a number of frames from 1 on")


class Finite(click.FloatRange):
    """A number within bounds, which ``nan`` would slip through, and no infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        # Click would show "x<=None" where there are no bounds.
        return "" if self.min is None and self.max is None else super()._describe_range()


class Time(Finite):
    """Seconds, or hours, minutes and seconds with colons between them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if ":" not in str(value):
            return super().convert(value, param, ctx)
        clock = re.fullmatch(
            r"(?:([0-9]+):)?([0-9]+):([0-9]{1,2}(?:\.[0-9]*)?)", str(value).strip()
        )
        if clock is None:
            self.fail(f"{value!r} is no time like 90, 1:30 or 0:01:30.5.", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        if seconds >= 60 or (clock[1] is not None and minutes >= 60):
            self.fail(f"{value!r} has more than 59 minutes or seconds.", param, ctx)
        return 3600 * hours + 60 * minutes + seconds


class Size(click.ParamType):
    """Two numbers with an x between them."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        width, cross, height = str(value).lower().partition("x")
        if not (cross and width.isdecimal() and height.isdecimal() and int(width) * int(height)):
            raise click.BadParameter(f"'{value}' is no size like 1280x720")
        return int(width), int(height)


class Reconnect(click.ParamType):
    """A number of attempts, or ``forever``."""

    name = "N|forever"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == "forever" or isinstance(value, int):
            return value
        if str(value).isdecimal():
            return int(value)
        raise click.BadParameter(f"'{value}' is neither forever nor a number of attempts")


@click.group(
    cls=SourceGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@option(
    SOURCE,
    "--source",
    "-s",
    multiple=True,
    metavar="SOURCE",
    help="webcam, webcam:1, 0, a video, an image, a folder, a glob, a URL, - for stdin. "
    "Repeat it to run several side by side.",
)
@option(SOURCE, "--start", type=Time(), metavar="TIME", help="Begin here: 90, 1:30, 0:01:30.5.")
@option(SOURCE, "--end", type=Time(), metavar="TIME", help="Stop here.")
@option(
    SOURCE,
    "--stride",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Use every N-th frame.",
)
@option(
    SOURCE,
    "--sequence",
    type=Finite(),
    metavar="FPS",
    help="Take a folder of numbered pictures as one clip of FPS pictures a second.",
)
@option(
    SOURCE,
    "--decode",
    default="cpu",
    show_default=True,
    type=click.Choice(["cpu", "cuda"]),
    help="What decodes video files; cuda spares the CPU, but was slower on an H200.",
)
@option(
    SOURCE,
    "--redraw",
    type=click.Path(dir_okay=False),
    metavar="RESULTS.jsonl",
    help="Draw saved results over the source; no network runs.",
)
@option(
    OUTPUT,
    "--output",
    "-o",
    metavar="PATH",
    help="Annotated video or image; a folder when there are several sources.",
)
@option(
    OUTPUT,
    "--save",
    multiple=True,
    metavar="[FORMAT:]PATH",
    help="Results, by suffix or format: jsonl, csv, coco, openpose, mot, parquet; - is JSONL on "
    "stdout. Repeatable.",
)
@option(
    OUTPUT,
    "--segment",
    metavar="LENGTH",
    help="Cut the video into pieces of 90s, 10m, 500MB, ...",
)
@option(OUTPUT, "--overwrite", is_flag=True, help="Replace outputs that exist.")
@option(
    OUTPUT,
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Run N clips of a folder at a time; a broken-off job goes on where it was.",
)
@option(
    OUTPUT,
    "--ray",
    is_flag=False,
    flag_value="auto",
    metavar="[ADDRESS]",
    help="Run the clips on a Ray cluster: auto, local, or its address.",
)
@option(OUTPUT, "--quiet", "-q", is_flag=True, help="No progress bar, no summary.")
@option(
    OUTPUT,
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What to log on stderr.",
)
@option(
    MODEL,
    "--model",
    "-m",
    default="body_fast",
    show_default=True,
    metavar="NAME|PATH",
    help="Pose model: bundled name, ONNX file or checkpoint.",
)
@option(
    MODEL,
    "--skeleton",
    metavar="NAME|FILE",
    help="Joints of a model that does not name them: a built-in set or a YAML file.",
)
@option(
    MODEL,
    "--detector",
    default="person_fast",
    show_default=True,
    metavar="NAME|PATH",
    help="Person detector: bundled name or ONNX file.",
)
@option(
    MODEL,
    "--detect-every",
    type=DetectEvery(),
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Look for new people every N frames.",
)
@option(MODEL, "--max-people", type=click.IntRange(1), metavar="N", help="Follow at most N.")
@option(
    MODEL,
    "--min-score",
    type=Finite(0, 1),
    default=0.25,
    show_default=True,
    help="A person needs this score to be picked up; less keeps someone in view.",
)
@option(
    MODEL,
    "--flip",
    is_flag=True,
    help="Estimate each pose from the mirror image, too: a little more accurate, half as fast.",
)
@option(
    MODEL,
    "--smooth",
    type=click.Choice(["off", "light", "strong"]),
    default="light",
    show_default=True,
    help="Strength of the One-Euro filter.",
)
@option(
    MODEL,
    "--cuts",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="auto: whoever is seen after a cut is a new person; off: follow people across.",
)
@option(
    MODEL,
    "--action",
    is_flag=False,
    flag_value="action_penn",
    metavar="[NAME|PATH]",
    help="Name what each person is doing.",
)
@option(
    MODEL,
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "openvino", "torch", "tensorrt", "tensorrt-rtx"]),
    help="What runs the pose network.",
)
@option(MODEL, "--device", metavar="DEVICE", help="CPU, GPU, cuda:0, ... (default: by back end).")
@option(
    MODEL,
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(PRECISIONS),
    help="Number format; auto: on x86-64 CPUs 8 bits if the model allows it.",
)
@option(MODEL, "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.")
@option(
    DISPLAY,
    "--draw",
    default="skeleton,boxes,ids",
    show_default=True,
    metavar="LAYERS",
    help="skeleton, boxes, ids, scores, trails, names, heatmaps, blur-faces; or none.",
)
@option(
    DISPLAY,
    "--show/--no-show",
    default=None,
    help="Open a window (default: when a camera is the source and there is no output).",
)
@option(
    DISPLAY,
    "--serve",
    metavar="[HOST:]PORT",
    help="Show the run in browsers; on the loopback unless HOST says otherwise.",
)
@option(DISPLAY, "--token", help="--serve: the token asked for on other addresses.")
@option(LIVE, "--size", type=Size(), help="Picture size asked of a camera.")
@option(
    LIVE,
    "--fps",
    type=Finite(min=0, min_open=True),
    metavar="N",
    help="Frame rate asked of a camera.",
)
@option(LIVE, "--pixel-format", metavar="NAME", help="Pixel format asked of a camera, like mjpeg.")
@option(
    LIVE,
    "--reconnect",
    type=Reconnect(),
    metavar="N|forever",
    help="Open a lost stream again, up to N times in a row.",
)
@option(
    LIVE,
    "--max-latency",
    type=Finite(min=0, min_open=True),
    metavar="MS",
    help="Drop frames older than this.",
)
@option(LIVE, "--list-cameras", is_flag=True, help="Show the cameras of this machine and stop.")
@click.version_option(__version__, "--version", prog_name="hrtrack")
@click.pass_context
def hrtrack(ctx: click.Context, **settings: Any) -> int | None:
    """Track people's poses in real time.

    \b
    hrtrack webcam
    hrtrack clip.mp4 --output out.mp4 --save out.jsonl
    hrtrack clips/ --output annotated/
    """
    if ctx.invoked_subcommand is not None:
        return None
    if settings.pop("list_cameras"):
        from ..tracker.video.open import list_cameras

        cameras = list_cameras()
        for camera in cameras:
            click.echo(f"{camera.source}  {camera.name}")
        if not cameras:
            click.echo("hrtrack: no camera was found", err=True)
        return 0
    sources = settings.pop("source")
    if not sources:
        if any(settings[name] for name in ("output", "save", "redraw")):
            raise click.UsageError("the source is missing: name a video, a camera or a URL")
        click.echo(ctx.get_help())
        return 0
    from .outputs import TrackSettings

    if len(sources) > 1:
        from .side_by_side import track_streams

        return track_streams(TrackSettings(source=sources[0], **settings), sources)
    from .track import track

    return track(TrackSettings(source=sources[0], **settings))


from .bench import bench  # noqa: E402  (the group must exist before its commands)
from .evaluate import evaluate  # noqa: E402
from .export import export  # noqa: E402
from .info import info  # noqa: E402
from .models import models  # noqa: E402
from .train import train  # noqa: E402

for command in (bench, evaluate, export, info, models, train):
    hrtrack.add_command(command)
