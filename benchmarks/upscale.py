"""A clip at another height, for benches at a frame size that no clip at hand has.

    python -m benchmarks.upscale CLIP OUT.mp4 720

H.264 at 8 Mbit/s, nearest even width, bicubic, no sound.
"""

from fractions import Fraction

import av
import click

from hrtrack.cli import run


@click.command(help=__doc__)
@click.argument("clip")
@click.argument("out")
@click.argument("height", type=click.IntRange(2))
def main(clip: str, out: str, height: int) -> None:
    with av.open(clip) as source, av.open(out, "w") as target:
        first = source.streams.video[0]
        stream = target.add_stream("libx264", rate=first.average_rate or Fraction(25))
        stream.height = height
        stream.width = round(height * first.width / first.height / 2) * 2
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for frame in source.decode(first):
            larger = frame.reformat(stream.width, height, "yuv420p", interpolation="BICUBIC")
            larger.pts = None
            target.mux(stream.encode(larger))
        target.mux(stream.encode(None))


if __name__ == "__main__":
    run(main, "upscale")
