"""A camera on the loopback: ``python server.py ts|mjpeg|udp|rtsp PORT``, numbered frames at 30 fps.

Each client's stream goes on at the number that the clock has come to. Every number is printed with
the `time.monotonic` instant at which it was sent.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 30
SCHEMES = {"ts": "tcp", "mjpeg": "http", "udp": "udp", "rtsp": "rtsp"}
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track
"""


def paced() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Numbered pictures, each at its time."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from clips import stamped

    began = time.monotonic()
    for number in range(4096):
        time.sleep(max(0.0, began + number / FPS - time.monotonic()))
        yield number, stamped(number)
        print(number, time.monotonic(), flush=True)


def set_up(stream: av.VideoStream) -> None:
    """H.264 that can be joined every five frames, without delay."""
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    stream.codec_context.gop_size = 5
    stream.options = {"preset": "ultrafast", "tune": "zerolatency"}


def encoded(stream: av.VideoStream) -> Iterator[list[av.Packet]]:
    """The packets of one numbered picture after the other."""
    for number, image in paced():
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts, picture.time_base = number, Fraction(1, FPS)
        yield stream.encode(picture)


def serve_ts(port: int) -> None:
    """MPEG-TS over TCP, one client at a time."""
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
            set_up(stream)
            for packets in encoded(stream):
                out.mux(packets)


def serve_udp(port: int) -> None:
    """MPEG-TS over UDP, to whoever listens."""
    print("ready", flush=True)
    options = {"flush_packets": "1"}
    url = f"udp://127.0.0.1:{port}?pkt_size=1316"
    with av.open(url, "w", format="mpegts", options=options) as out:
        stream = out.add_stream("libx264", rate=FPS)
        set_up(stream)
        for packets in encoded(stream):
            out.mux(packets)


def serve_rtsp(port: int) -> None:
    """H.264 by RTSP (RFC 2326), interleaved in its TCP connection; one client at a time."""
    listener = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    while True:
        client = listener.accept()[0]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), client, client.makefile("rwb") as file:
            while not _answer(file, port):
                pass
            _play(client)


def _answer(file: object, port: int) -> bool:
    """Answers one request; True when it was PLAY."""
    lines = iter(file.readline, b"\r\n")  # type: ignore[attr-defined]
    request = [line.decode().strip() for line in lines if line]
    if not request:
        raise ConnectionError
    method = request[0].split()[0]
    heads = dict(line.split(": ", 1) for line in request[1:])
    extra, body = {
        "OPTIONS": ("Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
        "DESCRIBE": (
            f"Content-Type: application/sdp\r\nContent-Base: rtsp://127.0.0.1:{port}/\r\n",
            SDP.replace("\n", "\r\n"),
        ),
        "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
    }.get(method, ("Session: 1\r\n", ""))
    file.write(  # type: ignore[attr-defined]
        f"RTSP/1.0 200 OK\r\nCSeq: {heads['CSeq']}\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    file.flush()  # type: ignore[attr-defined]
    return method == "PLAY"


def _play(client: socket.socket) -> None:
    """Each NAL unit as one RTP packet (RFC 6184): inside TCP none is too long."""
    with av.open("/dev/null", "w", format="h264") as out:
        stream = out.add_stream("libx264", rate=FPS)
        set_up(stream)
        sequence = 0
        for number, packets in enumerate(encoded(stream)):
            units = [u for p in packets for u in re.split(b"\0?\0\0\1", bytes(p)) if u]
            for unit in units:
                marker = 0x80 if unit is units[-1] else 0
                head = struct.pack(
                    ">BBHII", 0x80, marker | 96, sequence & 0xFFFF, number * 90000 // FPS, 1
                )
                client.sendall(struct.pack(">cBH", b"$", 0, 12 + len(unit)) + head + unit)
                sequence += 1


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
        self.url = f"{SCHEMES[kind]}://127.0.0.1:{self.port}"
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
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where `clips` lies
    serve = {"ts": serve_ts, "mjpeg": serve_mjpeg, "udp": serve_udp, "rtsp": serve_rtsp}
    serve[sys.argv[1]](int(sys.argv[2]))
