"""A camera for measurements: a process that sends a clip over loopback TCP at its frame rate."""

from __future__ import annotations

import io
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av


def encoded(path: Path, order: list[int], rate: float) -> list[bytes]:
    """The clip's frames in this ``order`` as MPEG-TS with H.264, in one piece of bytes a frame."""
    with av.open(str(path), "r") as source:
        pictures = [
            picture.reformat(format="yuv420p") for picture in source.decode(source.streams.video[0])
        ]
    target = io.BytesIO()
    pieces, taken = [], 0
    with av.open(target, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = (
            pictures[0].width,
            pictures[0].height,
            "yuv420p",
        )
        stream.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "crf": "18",
            "x264-params": f"keyint={max(1, round(rate))}:threads=1",
        }
        for number, index in enumerate(order):
            picture = pictures[index]
            picture.pts, picture.time_base = number, 1 / stream.codec_context.framerate
            picture.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(picture))
            pieces.append(target.getvalue()[taken:])
            taken += len(pieces[-1])
        container.mux(stream.encode(None))
    rest = target.getvalue()[taken:]
    return [*pieces[:-1], pieces[-1] + rest]


def decoded(pieces: list[bytes]) -> Iterator[Any]:
    """The pictures that a client gets who misses none."""
    with av.open(io.BytesIO(b"".join(pieces)), "r", format="mpegts") as container:
        yield from container.decode(container.streams.video[0])


def _serve(port: int, pieces: list[bytes], rate: float, ready: Connection) -> None:
    """Sends the pieces to one client after another, each from the start."""
    with socket.create_server(("127.0.0.1", port)) as server:
        ready.send(server.getsockname()[1])
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.monotonic()
            try:
                for number, piece in enumerate(pieces):
                    time.sleep(max(0.0, began + number / rate - time.monotonic()))
                    client.sendall(piece)
            except OSError:
                pass
            finally:
                client.close()


@dataclass
class Server:
    """A serving process; ``url`` is where it can be reached."""

    url: str
    process: Any

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


@contextmanager
def serving(pieces: list[bytes], rate: float, port: int = 0) -> Iterator[Server]:
    """A process that serves the pieces on this port, a free one by default."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(port, pieces, rate, there), daemon=True)
    process.start()
    server = Server(f"tcp://127.0.0.1:{here.recv()}", process)
    try:
        yield server
    finally:
        server.stop()


def _burn() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keeps one core busy with a process of its own, if ``wanted``."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
