"""`hrtrack demo`: a clip that ships with the package, and the tracker's answer to it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIP, ANNOTATED = Path("demo.mp4"), Path("demo_pose.mp4")
PHOTOGRAPH = "demo_people.jpg"
FPS, SIZE = 25, (854, 480)
VIEWS = (
    (0.0, 533.5, 300.0, 1067.0),
    (0.6, 533.5, 300.0, 1067.0),
    (2.0, 380.0, 352.0, 880.0),
    (2.4, 380.0, 352.0, 880.0),
    (4.0, 687.0, 352.0, 880.0),
    (4.4, 687.0, 352.0, 880.0),
    (6.0, 533.5, 300.0, 1067.0),
)
"""What the camera sees: second, centre x and y, and width in pixels of the photograph."""


@click.command()
@click.option("--clip-only", is_flag=True, help=f"Write {CLIP} and do not track it.")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
@click.pass_context
def demo(ctx: click.Context, clip_only: bool, overwrite: bool) -> int:
    """Write a short clip of two people and track them in it.

    The clip is demo.mp4, six seconds of a camera that moves over two public-domain photographs.
    The tracked people are drawn in demo_pose.mp4. Both files go to the current folder.
    """
    from ..tracker.outputs.base import Target, prepare

    wanted = (CLIP,) if clip_only else (CLIP, ANNOTATED)
    for path in wanted:
        prepare(Target("video", str(path)), overwrite=overwrite)
    write_clip(CLIP)
    click.echo(f"hrtrack: wrote {CLIP}", err=True)
    if clip_only:
        return 0
    command = [str(CLIP), "--output", str(ANNOTATED)]
    click.echo(f"hrtrack: running: hrtrack {' '.join(command)}", err=True)
    hrtrack = ctx.find_root().command
    code = hrtrack.main([*command, "--overwrite"], prog_name="hrtrack", standalone_mode=False)
    if not code:
        click.echo(
            f"hrtrack: open {ANNOTATED} in a video player, then try your own clip: "
            "hrtrack YOUR_CLIP.mp4 --output out.mp4",
            err=True,
        )
    return int(code or 0)


def write_clip(path: Path) -> None:
    """Writes the demo's clip as H.264 in MP4.

    SinkError when the file cannot be written.
    """
    from ..errors import write_error
    from ..pyav import av
    from ..writable import atomic_write

    try:
        with atomic_write(path) as part, av.open(str(part), "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=FPS, options={"preset": "fast", "crf": "20"})
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, FPS)
            for image in pictures():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            out.mux(stream.encode())
    except OSError as error:
        raise write_error(path, error) from None


def pictures() -> Iterator[NDArray[np.uint8]]:
    """The frames of the clip, (480, 854, 3), BGR."""
    import cv2
    import numpy as np

    with as_file(files(__package__) / PHOTOGRAPH) as path:
        photograph = cv2.imread(str(path))
    times, *tracks = np.array(VIEWS).T
    width, height = SIZE
    for second in np.arange(0, times[-1], 1 / FPS):
        end = min(int(np.searchsorted(times, second, side="right")), len(times) - 1)
        share = (second - times[end - 1]) / (times[end] - times[end - 1])
        share = share * share * (3 - 2 * share)  # begins and ends each move at rest
        x, y, seen = (track[end - 1] + share * (track[end] - track[end - 1]) for track in tracks)
        scale = width / seen
        view = np.array([[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]])
        image = cv2.warpAffine(photograph, view, SIZE, borderMode=cv2.BORDER_REPLICATE)
        yield np.asarray(image, np.uint8)
