"""`hrtrack bench pipeline --streams`: several streams in one process against one process each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import together

if TYPE_CHECKING:
    from ..tracker.bench_streams import StreamsReport
    from ..tracker.options import TrackerOptions

WIDE = 120
"""Columns of the table, which a pipe's 80 would cut up."""
ONE_RUN_ONLY = ("people", "compare", "chart", "trace")
"""Options of `hrtrack bench pipeline` that measure or show a single stream."""


streams_options = together(
    click.option(
        "--streams",
        metavar="N,N,...",
        help="Measure these numbers of simultaneous streams of CLIP instead, in one process and in "
        "one process per stream with the same total of threads. Streams are read once like files "
        "and once like cameras, which send CLIP at its own frame rate.",
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(0.2),
        default=2.0,
        show_default=True,
        help="--streams measures files and cameras, in one process and in one process per stream, "
        "each for four times this long.",
    ),
)


def refuse_beside_streams(settings: dict[str, Any]) -> None:
    """Raises UsageError for options that measure a single stream."""
    for name in ONE_RUN_ONLY:
        if settings[name]:
            raise UsageError(f"--{name} does not go with --streams")


def measure_streams(
    clip: str, options: TrackerOptions, counts: Sequence[int], seconds: float
) -> dict[str, object]:
    """Measures every number of streams, prints the table and returns the figures."""
    from ..tracker.bench_streams import bench_streams

    reports = [bench_streams(clip, options, count, seconds) for count in counts]
    _print(reports)
    return {"seconds": seconds, "streams": [report.to_json() for report in reports]}


def _print(reports: Sequence[StreamsReport]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("streams", justify="right")
    table.add_column("processes x threads", justify="center")
    for heading in (
        "files FPS", "fewest", "ms CPU", "cameras FPS", "fewest", "age p50 ms", "age p95 ms", "lost"
    ):  # fmt: skip
        table.add_column(heading, justify="right")

    for report in reports:
        ways = (
            (f"1 x {report.threads}", report.one_process),
            (f"{report.streams} x {report.own_threads}", report.processes),
        )
        for way, times in ways:
            figures = asdict(times)
            lost = figures.pop("lost")
            row = [f"{value:.1f}" for value in figures.values()]
            table.add_row(str(report.streams), way, *row, f"{lost:.0%}")
    click.echo(
        "FPS is the sum over all streams, 'fewest' the FPS of the slowest stream. Files are read "
        "as fast as hrtrack processes them; cameras send the clip at its own frame rate."
    )
    Console(width=WIDE).print(table)
    for report in reports:
        click.echo(_compared(report))


def _compared(report: StreamsReport) -> str:
    """How the one process did against the many."""
    many = "1 stream" if report.streams == 1 else f"{report.streams} streams"
    fps, cpu = report.fps_ratio, report.cpu_ratio
    cameras = _quotient(report.one_process.cameras_fps, report.processes.cameras_fps)
    return (
        f"{many}: when reading files, one process did {fps.median:.2f} times the frames per second "
        f"of one process per stream ({fps.low:.2f} to {fps.high:.2f} in the middle half of the "
        f"rounds), with {cpu.median:.2f} times the processor time per frame. When reading cameras, "
        f"it did {cameras:.2f} times the frames per second."
    )


def _quotient(one: float, other: float) -> float:
    """Not a number where a camera sent nothing in the time that was measured."""
    return one / other if other else math.nan
