"""A camera for measurements: a process that sends a clip over loopback TCP at its frame rate."""

from __future__ import annotations

import io
import multiprocessing
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType


class _Pieces(list[bytes]):
    """A file that keeps what was written to it piece by piece."""

    def write(self, data: bytes) -> int:
        self.append(bytes(data))
        return len(data)


@dataclass(frozen=True)
class Recording:
    """A clip's frames in this ``order``, ``rate`` a second; ``endless`` repeats it.

    Iterating encodes it as MPEG-TS with H.264 and gives one piece of bytes a frame.
    """

    path: Path
    order: list[int]
    rate: float
    endless: bool = False

    def __iter__(self) -> Iterator[bytes]:
        with av.open(str(self.path), "r") as source:
            pictures = [one.reformat(format="yuv420p") for one in source.decode(video=0)]
        rate = Fraction(self.rate).limit_denominator(1000)
        written = _Pieces()
        with av.open(written, "w", format="mpegts", options={"flush_packets": "1"}) as target:
            stream = target.add_stream("libx264", rate=rate)
            stream.width, stream.height = pictures[0].width, pictures[0].height
            stream.pix_fmt = "yuv420p"
            stream.options = {
                "preset": "ultrafast",
                "tune": "zerolatency",
                "crf": "18",
                "x264-params": f"keyint={max(1, round(rate))}:threads=1",
            }
            order = cycle(self.order) if self.endless else self.order
            for number, index in enumerate(order):
                picture = pictures[index]
                picture.pts, picture.time_base = number, 1 / rate
                picture.pict_type = PictureType.NONE
                target.mux(stream.encode(picture))
                piece = b"".join(written)
                written.clear()
                yield piece
            target.mux(stream.encode(None))
        if written:
            yield b"".join(written)


def decoded(pieces: list[bytes]) -> Iterator[Any]:
    """The pictures that a client gets who misses none."""
    with av.open(io.BytesIO(b"".join(pieces)), "r", format="mpegts") as container:
        yield from container.decode(container.streams.video[0])


def _serve(port: int, pieces: Iterable[bytes], rate: float, ready: Connection) -> None:
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
def serving(pieces: Iterable[bytes], rate: float, port: int = 0) -> Iterator[Server]:
    """A process that serves the pieces on this port, a free one by default.

    Every client gets them from the start, one client after another.
    """
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
