"""What people who watch in the browser cost the run (see docs/live.md).

    python -m benchmarks.viewers measure CLIP --viewers 5 --repeats 5

Runs of the whole pipeline with nobody watching and with ``--viewers``, one of them stalled, take
turns over the loaded networks; the viewers sit in a process of their own. Figures: frames a second,
and the processor time of this process a frame, which other work on the machine does not touch.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from statistics import median

import click

from hrtrack.cli import run as start
from hrtrack.cli.outputs import picture_maker
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.loop import run
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.draw import DrawOptions
from hrtrack.tracker.outputs.viewers.browser import viewer
from hrtrack.tracker.progress import Meter
from hrtrack.tracker.video.open import open_source


@click.group()
def main() -> None:
    """Pipeline speed with and without viewers."""


@main.command()
@click.argument("clip")
@click.option("--viewers", default=5)
@click.option("--repeats", default=5)
@click.option("--detector", default="person_fast")
@click.option("--threads", default=1)
def measure(clip: str, viewers: int, repeats: int, detector: str, threads: int) -> None:
    """Nobody and VIEWERS in turn."""
    spent: dict[int, list[tuple[float, float]]] = {0: [], viewers: []}
    with Tracker(detector=detector, threads=threads) as tracker:
        _once(tracker, clip, 0)
        for _ in range(repeats):
            for count, results in spent.items():
                results.append(_once(tracker, clip, count))
                fps, cpu = results[-1]
                click.echo(f"{count} viewers: {fps:.1f} FPS, {cpu:.2f} ms of processor a frame")
    alone, watched = ([median(column) for column in zip(*r, strict=True)] for r in spent.values())
    click.echo(
        f"median of {repeats}: FPS {alone[0]:.1f} -> {watched[0]:.1f} "
        f"({100 * (watched[0] / alone[0] - 1):+.1f} %), processor a frame "
        f"{alone[1]:.2f} -> {watched[1]:.2f} ms ({100 * (watched[1] / alone[1] - 1):+.1f} %)"
    )


def _once(tracker: Tracker, clip: str, viewers: int) -> tuple[float, float]:
    urls: list[str] = []
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(clip))
        pipeline = tracker.pipeline()
        stack.callback(pipeline.close)
        picture = picture_maker(
            tracker.skeleton, DrawOptions({"skeleton", "boxes", "ids"}), pipeline
        )
        serve = viewer("127.0.0.1:0", announce=urls.append)
        sinks = stack.enter_context(
            open_sinks([], source=source, skeleton=tracker.skeleton, others=[serve])
        )
        meter = stack.enter_context(Meter(clip, None, quiet=True, live=False))
        if viewers:
            watch = [sys.executable, "-m", "benchmarks.viewers", "watch", urls[0], str(viewers)]
            process = subprocess.Popen(watch)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while _figures(urls[0])["viewers"] < viewers:
                time.sleep(0.05)
        began, used = time.perf_counter(), time.process_time()
        frames = run(source, pipeline, sinks, meter, picture)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return frames / seconds, 1000 * cpu / frames


def _figures(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url + "figures", timeout=30) as answer:
        return dict(json.load(answer))


@main.command()
@click.argument("url")
@click.argument("count", type=int)
def watch(url: str, count: int) -> None:
    """COUNT viewers of the stream, the last of them stalled."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")

    def read(stalled: bool) -> None:
        with socket.create_connection((host, int(port))) as link:
            link.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            if stalled:
                threading.Event().wait()
            while link.recv(1 << 20):
                pass

    for number in range(count):
        threading.Thread(target=read, args=(number == count - 1,), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    start(main, "viewers")
