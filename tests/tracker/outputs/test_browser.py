"""The viewer in the browser: the page, the stream, who may see it, nobody slows the run."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from hrtrack.errors import SinkError, UsageError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import Run
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip, number_of, stamped

pytest.importorskip("aiohttp")
from hrtrack.tracker.outputs.viewers.browser import Viewer, parse_address, viewer


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with open_source(str(make_clip(tmp_path / "clip.mp4", 2))) as source:
        yield Run(source, COCO17)


@pytest.fixture
def served(run: Run) -> Iterator[Viewer]:
    made = viewer("127.0.0.1:0", "openvino CPU")(run)
    yield made
    made.close(complete=True)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def show(made: Viewer, number: int, size: tuple[int, int] = (96, 64)) -> None:
    image = stamped(number % 4096, size)
    poses = Poses(
        number, number / 30, np.zeros((1, 4), np.float32), np.ones(1, np.float32),
        np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32), np.array([number // 10]),
    )  # fmt: skip
    made.write(Frame(number, number / 30, image), poses, lambda: image)


def until(done: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Waits for it, a minute at most, for the machine may be busy."""
    ends = time.monotonic() + 60
    while not done():
        assert time.monotonic() < ends, "it did not happen within a minute"
        meanwhile()
        time.sleep(0.01)


def watching(made: Viewer) -> int:
    return int(json.loads(get(made.url + "figures")[1])["viewers"])


class Watcher(threading.Thread):
    """A browser that reads the stream; not at all when it is stalled."""

    def __init__(self, url: str, *, stalled: bool = False) -> None:
        super().__init__(daemon=True)
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        self.data = bytearray()
        self.stalled = stalled
        self.start()

    def run(self) -> None:
        while not self.stalled and (more := self.socket.recv(65536)):
            self.data += more

    def pictures(self) -> list[bytes]:
        parts = bytes(self.data).split(b"Content-Type: image/jpeg\r\n")[1:]
        return [part.split(b"\r\n\r\n", 1)[1].split(b"\r\n--frame")[0] for part in parts]


def test_the_page_and_its_figures(served: Viewer) -> None:
    status, page = get(served.url)
    assert status == 200
    assert b"Results so far" in page
    for number in range(12):
        show(served, number)
    figures = json.loads(get(served.url + "figures")[1])
    assert figures["frame"] == 11
    assert figures["people"] == 1
    assert figures["ids"] == 2
    assert figures["made_by"] == "openvino CPU"
    assert figures["latency_ms"] is None
    results = get(served.url + "results")[1].decode().splitlines()
    assert [json.loads(line)["frame"] for line in results] == list(range(12))


def test_viewers_see_the_newest_pictures(served: Viewer) -> None:
    import cv2

    watchers = [Watcher(served.url) for _ in range(2)]
    frames = itertools.count()
    until(
        lambda: all(len(watcher.pictures()) > 6 for watcher in watchers),
        lambda: show(served, next(frames)),
    )
    for watcher in watchers:
        decoded = [
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            for data in watcher.pictures()[:-1]
        ]
        numbers = [number_of(image) for image in decoded]
        assert numbers == sorted(set(numbers))


def test_a_picture_is_drawn_and_encoded_once_for_all(
    served: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrtrack.tracker.outputs.viewers import browser

    encoded: list[int] = []
    encode = browser.jpeg_part

    def counted(image: np.ndarray) -> tuple[bytes, float]:
        encoded.append(number_of(image))
        return encode(image)

    monkeypatch.setattr(browser, "jpeg_part", counted)
    drawn: list[int] = []

    def write(number: int) -> None:
        poses = Poses.empty(number, number / 30, 17)
        served.write(
            Frame(number, number / 30, stamped(number)),
            poses,
            lambda: drawn.append(number) or stamped(number),
        )

    watchers = [Watcher(served.url) for _ in range(4)]
    began = time.monotonic()
    frames = itertools.count()
    until(lambda: len(encoded) >= 10, lambda: write(next(frames)))
    seconds = time.monotonic() - began
    assert len(encoded) <= len(drawn) <= seconds * browser.MOST_FPS + 2
    assert len(set(encoded)) == len(encoded)
    assert encoded == drawn[: len(encoded)]
    for watcher in watchers:
        assert len(watcher.pictures()) <= len(encoded)


def test_for_a_stalled_viewer_alone_nothing_is_drawn(served: Viewer) -> None:
    stalled = Watcher(served.url, stalled=True)
    drawn: list[float] = []
    noise = np.random.default_rng(0).integers(0, 255, (540, 960, 3), np.uint8)

    def picture() -> np.ndarray:
        drawn.append(time.monotonic())
        return noise

    # Some pictures of half a megabyte fill the buffers on the way; then it asks for no more.
    ends = time.monotonic() + 60
    number = 0
    while not drawn or time.monotonic() - drawn[-1] < 1.5:
        assert time.monotonic() < ends, "drawn on and on for someone who does not read"
        served.write(
            Frame(number, number / 30, noise), Poses.empty(number, number / 30, 17), picture
        )
        number += 1
        time.sleep(0.01)
    stalled.socket.close()


def test_nothing_is_drawn_while_nobody_watches(run: Run) -> None:
    made = viewer("127.0.0.1:0")(run)
    drawn = []
    made.write(
        Frame(0, 0.0, stamped(0)), Poses.empty(0, 0.0, 17), lambda: drawn.append(1) or stamped(0)
    )
    made.close(complete=True)
    assert not drawn


def test_a_stalled_viewer_stops_nobody(served: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrtrack.tracker.outputs.viewers import browser

    encoders: set[int] = set()
    encode = browser.jpeg_part

    def watched(image: np.ndarray) -> tuple[bytes, float]:
        encoders.add(threading.get_ident())
        return encode(image)

    monkeypatch.setattr(browser, "jpeg_part", watched)
    watchers = [Watcher(served.url) for _ in range(4)] + [Watcher(served.url, stalled=True)]
    until(lambda: watching(served) == 5)
    until(
        lambda: all(len(watcher.pictures()) > 3 for watcher in watchers[:4]),
        lambda: show(served, 60, (640, 480)),
    )
    # The tracking loop hands over a reference; encoding would cost it several milliseconds.
    assert encoders
    assert threading.get_ident() not in encoders


def test_other_addresses_ask_for_the_token(run: Run) -> None:
    told: list[str] = []
    made = viewer("0.0.0.0:0", announce=told.append)(run)
    try:
        assert told == made.urls
        for url in told:  # what another computer can use
            host = urlsplit(url).hostname
            assert host is not None
            assert host == socket.gethostname() or not ip_address(host).is_loopback
            assert host != "0.0.0.0"
        shown, _, token = made.url.partition("?token=")
        if urlsplit(shown).hostname != socket.gethostname():
            assert get(shown + "figures", Cookie=f"hrtrack_token={token}")[0] == 200
        port = urlsplit(shown).port
        base = f"http://127.0.0.1:{port}/"
        for path in ("", "stream", "figures", "results"):
            status, body = get(base + path)
            assert status == 401
            assert b"Token" in body
        assert get(base + "figures?token=wrong")[0] == 401
        assert get(base + "figures", Cookie=f"hrtrack_token={token}")[0] == 200
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"{base}?token={token}", timeout=10) as page:
            assert page.url == base
            assert b"Results so far" in page.read()
    finally:
        made.close(complete=True)


def test_pages_of_other_names_cannot_read_the_loopback(served: Viewer) -> None:
    assert get(served.url, Host="evil.example")[0] == 403
    for name in ("localhost:8000", "127.0.0.2:8000", "[::1]:8000"):
        assert get(served.url, Host=name)[0] == 200
    for name in ("192.168.1.9:8000", "127.0.0.2.evil.example"):
        assert get(served.url, Host=name)[0] == 403


def test_a_taken_port_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=f"cannot serve on 127.0.0.1:{port}: ") as failure:
            viewer(str(port))(run)
    assert "\n" not in str(failure.value)
    assert "in use" in str(failure.value)


def test_addresses() -> None:
    assert parse_address("8000") == ("127.0.0.1", 8000)
    assert parse_address(":8000") == ("127.0.0.1", 8000)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("0.0.0.0:1") == ("0.0.0.0", 1)
    for wrong in ("", "host", "host:", "host:x", "host:70000"):
        with pytest.raises(UsageError, match="HOST:PORT was expected"):
            parse_address(wrong)


def test_closing_ends_every_stream(run: Run) -> None:
    made = viewer("127.0.0.1:0")(run)
    watcher = Watcher(made.url)
    stalled = Watcher(made.url, stalled=True)
    until(lambda: watching(made) == 2)
    show(made, 1)
    made.close(complete=True)
    watcher.join(timeout=5)
    assert not watcher.is_alive()
    stalled.socket.close()
