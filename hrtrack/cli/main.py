"""`hrtrack --source X`: the tracker itself; the other commands hang below it."""

from __future__ import annotations

from typing import Any

import click

from .. import __version__
from ..tracker.options import TrackerOptions, shown_options
from .options import (
    LIVE,
    NO_WISH,
    OUTPUT,
    SOURCE,
    Camera,
    CameraMode,
    CountOr,
    Finite,
    GroupedCommand,
    SourceGroup,
    clip_options,
    display_options,
    former,
    help_all_option,
    option,
    output_options,
    pop_all,
    together,
    tracker_options,
)

run_options = together(
    option(
        OUTPUT,
        "--jobs",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Process N clips of a folder in parallel. The same command resumes an interrupted "
        "run.",
    ),
    option(
        OUTPUT,
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[ADDRESS]",
        advanced=True,
        help="Process the clips of a folder with Ray: auto (on the cluster that is running), local "
        "(on this machine), or the address of a cluster.",
    ),
)
live_options = together(
    option(
        LIVE,
        "--camera",
        type=Camera(),
        metavar="MODE",
        help="Size, frame rate and pixel format to request of a camera: 1280x720@30,mjpeg. Each "
        "part is optional.",
    ),
    option(
        LIVE,
        "--reconnect",
        type=CountOr("forever", 0),
        metavar="N|forever",
        help="Reconnect to a lost stream. Give up after N failed attempts in a row, or never.",
    ),
    option(
        LIVE,
        "--max-latency",
        type=Finite(min=0, min_open=True),
        metavar="MS",
        advanced=True,
        help="Drop frames that are older than MS milliseconds.",
    ),
)
former_options = together(
    former(
        "--redraw", type=click.Path(dir_okay=False), instead="hrtrack draw SOURCE RESULTS.jsonl"
    ),
    former("--list-cameras", is_flag=True, instead="hrtrack cameras"),
    former("--size", type=Camera(), instead="--camera 1280x720"),
    former("--fps", type=Finite(min=0, min_open=True), instead="--camera @30"),
    former("--pixel-format", instead="--camera mjpeg"),
)


@click.group(
    cls=SourceGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="hrtrack --help-all lists the advanced options, too.",
)
@option(
    SOURCE,
    "--source",
    "-s",
    multiple=True,
    metavar="SOURCE",
    help="Camera (webcam, webcam:1, 0), video, image, folder, glob, URL, or - for stdin. "
    "Repeat it to run several side by side.",
)
@clip_options
@output_options
@run_options
@tracker_options()
@display_options
@live_options
@former_options
@help_all_option
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
        print_cameras(as_json=False)
        return 0
    sources = settings.pop("source")
    if not sources:
        if any(settings[name] for name in ("output", "save", "redraw")):
            raise click.UsageError("the source is missing: name a video, a camera or a URL")
        click.echo(ctx.get_help())
        return 0
    options = TrackerOptions(**pop_all(settings, shown_options()))
    from .ahead import Ahead

    alone = settings["jobs"] == 1 and settings["ray"] is None and settings["redraw"] is None
    ahead = Ahead(options) if alone else None
    from .outputs import TrackSettings

    camera = _with_former(settings["camera"], pop_all(settings, ("size", "fps", "pixel_format")))
    asked = TrackSettings(source=sources[0], **settings | {"camera": camera}, tracker=options)
    if len(sources) > 1:
        from .outputs import several_tables
        from .side_by_side import track_streams

        with several_tables(asked):
            return track_streams(asked, sources, ahead)
    from .track import track

    return track(asked, ahead)


def _with_former(camera: CameraMode | None, former: dict[str, Any]) -> CameraMode:
    """The camera's mode, which --size, --fps and --pixel-format named before."""
    if former["size"] is not None:
        if former["size"].size is None:
            raise click.BadParameter("--size must look like 1280x720")
        former["size"] = former["size"].size
    given = {name: value for name, value in former.items() if value is not None}
    if camera is not None and given:
        raise click.UsageError(
            "--camera replaces --size, --fps and --pixel-format; leave those out"
        )
    return (camera or NO_WISH)._replace(**given)


@click.command(cls=GroupedCommand, short_help="Draw saved results over their video.")
@click.argument("source")
@click.argument("results", metavar="RESULTS")
@clip_options
@output_options
@tracker_options("skeleton")
@display_options
@help_all_option
def draw(results: str, **settings: Any) -> int:
    """Draw the saved RESULTS over the SOURCE that they belong to. No model runs.

    SOURCE is the video, picture or folder that was tracked. RESULTS is what --save wrote: a file
    of any format, a folder, or FORMAT:PATH.

    \b
    hrtrack clip.mp4 --save out.jsonl
    hrtrack draw clip.mp4 out.jsonl --output drawn.mp4
    """
    from .outputs import TrackSettings
    from .track import track

    options = TrackerOptions(**pop_all(settings, ("skeleton",)))
    return track(TrackSettings(**settings, redraw=results, tracker=options))


from .bench import bench  # noqa: E402  (the group must exist before its commands)
from .data import average, data  # noqa: E402
from .demo import demo  # noqa: E402
from .evaluate import evaluate  # noqa: E402
from .export import export  # noqa: E402
from .info import cameras, info, print_cameras  # noqa: E402
from .models import models  # noqa: E402
from .train import ablate, train  # noqa: E402

for command in (
    ablate, average, bench, cameras, data, demo, draw, evaluate, export, info, models, train,
):  # fmt: skip
    hrtrack.add_command(command)
