"""A camera on the loopback: ``python server.py ts|mjpeg PORT`` sends numbered frames at 30 fps.

Each client's stream goes on at the number that the clock has come to. Every number is printed with
the `time.monotonic` instant at which it was sent.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FPS = 30


def paced() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Numbered pictures, each at its time."""
    from clips import stamped

    began = time.monotonic()
    for number in range(4096):
        time.sleep(max(0.0, began + number / FPS - time.monotonic()))
        yield number, stamped(number)
        print(number, time.monotonic(), flush=True)


def serve_ts(port: int) -> None:
    """MPEG-TS over TCP, one client at a time."""
    import av

    listener = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    while True:
        client = listener.accept()[0]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with (
            contextlib.suppress(OSError, av.error.FFmpegError),
            client.makefile("wb", buffering=0) as file,
            av.open(
                file, "w", format="mpegts", options={"flush_packets": "1"}, buffer_size=1316
            ) as out,
        ):
            stream = out.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.codec_context.gop_size = 5
            stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
            for number, image in paced():
                picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, FPS)
                out.mux(stream.encode(picture))


class _Mjpeg(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        import cv2

        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _, image in paced():
                data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *args: object) -> None:
        """Quiet."""


def serve_mjpeg(port: int) -> None:
    """Motion JPEG over HTTP, as network cameras send it."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Mjpeg)
    print("ready", flush=True)
    server.serve_forever()


class Camera:
    """The server in a process of its own, which can be killed and started again."""

    def __init__(self, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.kind = kind
        self.url = f"{'http' if kind == 'mjpeg' else 'tcp'}://127.0.0.1:{self.port}"
        self._log: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    def start(self, log: Path) -> None:
        """Starts the server; ``log`` takes the instants at which frames are sent."""
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.kind, str(self.port)], stdout=file, text=True
            )
        while not log.read_text():
            time.sleep(0.02)

    def sent(self) -> dict[int, float]:
        """When each number was sent."""
        assert self._log is not None
        lines = self._log.read_text().splitlines()[1:-1]
        return {int(line.split()[0]): float(line.split()[1]) for line in lines}

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)


if __name__ == "__main__":
    {"ts": serve_ts, "mjpeg": serve_mjpeg}[sys.argv[1]](int(sys.argv[2]))
