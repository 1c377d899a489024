"""Live sources over the loopback: the newest frame, exact counts, and back after a loss."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hrtrack.errors import SourceError
from hrtrack.tracker.video.live import LiveSource, _Timeline
from hrtrack.tracker.video.open import LiveOptions, open_source

from ..clips import number_of
from .server import FPS, Camera

INFERENCE = 0.1
QUICK = LiveOptions(reconnect="forever", first_delay=0.1, last_delay=0.4, stall=2.0)


class Delays(threading.Thread):
    """How late a thread of this process wakes: what the machine, not the reader, adds to an age."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._late: list[float] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            due = time.monotonic() + 1 / FPS
            time.sleep(1 / FPS)
            self._late.append(time.monotonic() - due)

    def __enter__(self) -> Delays:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def usual(self) -> float:
        """Nine of ten wakings were no later."""
        return float(np.quantile(self._late, 0.9))


@pytest.fixture(
    params=[
        "rtsp",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mjpeg", "ts", "udp")),
    ]
)
def camera(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Camera]:
    camera = Camera(request.param)
    camera.start(tmp_path / "sent.txt")
    yield camera
    camera.kill()


def test_a_slow_tracker_sees_the_newest_frame_and_every_drop_is_counted(camera: Camera) -> None:
    rows, latencies = [], []
    with Delays() as delays, open_source(camera.url) as source:
        assert isinstance(source, LiveSource)
        assert source.is_live
        assert source.size == (96, 64)
        frames = iter(source)
        for _ in range(25):
            arrived = source.received
            frame = next(frames)
            # The reader counts a frame just before it hands it over.
            assert frame.index >= arrived - 2, "there was a newer one"
            got = time.monotonic()
            assert frame.arrived is not None
            assert frame.arrived <= got
            rows.append((frame.index, number_of(frame.image), frame.dropped, frame.time, got))
            time.sleep(INFERENCE)
        sent = camera.sent()
    for before, after in pairwise(rows):
        assert after[0] - before[0] == after[1] - before[1], "a frame was lost uncounted"
        assert after[2] - before[2] == after[0] - before[0] - 1
        assert after[3] > before[3]
    assert rows[-1][2] > 25
    latencies = [got - sent[number] for _, number, _, _, got in rows[5:] if number in sent]
    # Whatever holds frames back holds each of them back; a busy machine only some.
    # The parser of these gives a frame out when it sees the next one begin.
    parser = 2 / FPS if camera.kind in ("ts", "udp") else 0
    assert min(latencies) < 2 / FPS + parser + delays.usual()
    # A camera on a busy machine sends late, too; the frames' times follow it or keep its rate.
    noted = [row for row in rows[5:] if row[1] in sent]
    assert len(noted) > 10
    first, last = noted[0], noted[-1]
    pace = (last[3] - first[3]) / (last[0] - first[0])
    sending = (sent[last[1]] - sent[first[1]]) / (last[1] - first[1])
    assert 0.75 * min(1 / FPS, sending) < pace < 1.25 * max(1 / FPS, sending)


@pytest.mark.slow
def test_a_server_that_dies_twice_is_found_again(camera: Camera, tmp_path: Path) -> None:
    times, indices, lives = [], [], []
    # Datagrams have no connection that could break: only a silence tells that the sender is gone.
    away = QUICK.stall + 0.5 if camera.kind == "udp" else 0.5
    with open_source(camera.url, live=QUICK) as source:
        for frame in source:
            time.sleep(0.02)
            times.append(frame.time)
            indices.append(frame.index)
            lives.append(source.reconnects)  # type: ignore[attr-defined]
            assert len(lives) < 500, "the source never noticed that the camera was gone"
            if lives.count(lives[-1]) == 15:
                if lives[-1] == 2:
                    break
                camera.kill()
                time.sleep(away)
                camera.start(tmp_path / f"sent{lives[-1]}.txt")
    assert lives[-1] == 2
    assert all(b > a for a, b in pairwise(times))
    assert all(b > a for a, b in pairwise(indices))
    steps = zip(pairwise(times), pairwise(lives), strict=True)
    gaps = [b - a for (a, b), (x, y) in steps if y > x]
    assert len(gaps) == 2
    assert all(0.5 < gap < 15 for gap in gaps)


def test_without_reconnect_the_run_ends_with_the_stream(camera: Camera) -> None:
    with open_source(camera.url, live=LiveOptions(stall=2.0)) as source:
        frames = iter(source)
        for _ in range(5):
            next(frames)
        camera.kill()
        # A closed connection is an end; one that is reset in the middle of a frame is not.
        with contextlib.suppress(SourceError):
            assert len(list(frames)) < 60


def test_reconnecting_gives_up_after_the_attempts_allowed(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveOptions(reconnect=2, first_delay=0.05, last_delay=0.1, stall=1.0)
    with open_source(camera.url, live=live) as source:
        frames = iter(source)
        next(frames)
        camera.kill()
        # Nobody refuses a datagram, so each attempt waits as long as it may.
        monkeypatch.setattr("hrtrack.tracker.video.open.OPEN_TIMEOUT", 1.0)
        with pytest.raises(SourceError, match="given up after 2 attempts"):
            list(frames)


@pytest.mark.parametrize("scheme", ["tcp", "rtsp", "http"])
def test_a_refused_connection_is_not_tried_again(scheme: str) -> None:
    with pytest.raises(SourceError, match="connection refused") as failure:
        open_source(f"{scheme}://127.0.0.1:9/stream")
    assert "\n" not in str(failure.value)


def test_reconnect_waits_for_a_source_that_comes_later(tmp_path: Path) -> None:
    camera = Camera("ts")
    starter = threading.Timer(0.6, camera.start, [tmp_path / "sent.txt"])
    starter.start()
    try:
        with open_source(camera.url, live=QUICK) as source:
            assert next(iter(source)).index >= 0
    finally:
        starter.join()
        camera.kill()


def test_a_server_that_says_nothing_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrtrack.tracker.video.open.OPEN_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceError, match=r"no answer in time|sent nothing"):
            open_source(f"tcp://127.0.0.1:{port}", live=LiveOptions(stall=0.5))


def test_synthetic_sources_keep_real_time() -> None:
    began = time.monotonic()
    with open_source("lavfi:testsrc2=size=64x48:rate=20:duration=1") as source:
        assert source.size == (64, 48)
        frames = list(source)
    assert time.monotonic() - began > 0.8
    assert frames[-1].index == 19
    assert len(frames) + frames[-1].dropped == 20
    assert frames[-1].time == pytest.approx(0.95, abs=0.3)


def test_frames_that_are_too_old_are_dropped() -> None:
    live = LiveOptions(max_latency=0.0)
    with open_source(
        "lavfi:testsrc2=size=64x48:rate=20:duration=0.5", live=LiveOptions()
    ) as source:
        assert len(list(source)) > 0
    with pytest.raises(SourceError, match="before its first frame"):
        open_source("lavfi:testsrc2=size=64x48:rate=20:duration=0.5", live=live)


def test_start_end_and_stride_of_a_live_source() -> None:
    graph = "lavfi:testsrc2=size=64x48:rate=20:duration=3"
    with open_source(graph, start=0.3, end=1.0, stride=2) as source:
        frames = list(source)
    assert all(0.3 <= frame.time < 1.0 for frame in frames)
    assert all(frame.index % 2 == 0 for frame in frames)


def test_the_timeline_survives_wild_clocks() -> None:
    line = _Timeline()
    own = [7.0, 7.1, 7.2, 900.0, 900.1, 3.0, None, 3.2]
    times = [line.stamp(value, 100 + i * 0.1) for i, value in enumerate(own)]
    assert times == pytest.approx([i * 0.1 for i in range(8)], abs=1e-6)
    line.reconnect()
    assert line.stamp(0.0, 105.0) == pytest.approx(5.0)
    assert line.stamp(0.1, 104.0) > 5.0


def test_frames_that_waited_in_a_queue_keep_their_pace() -> None:
    line = _Timeline()
    # Ten frames of a camera's second wait until the stream is known, then come at once.
    times = [line.stamp(i / 10, 100 + i * 1e-4) for i in range(10)]
    times += [line.stamp(i / 10, 100 + (i - 9) / 10) for i in range(10, 40)]
    assert times == pytest.approx([i / 10 for i in range(40)], abs=1e-3)
    # A clock that runs away later is still set right.
    assert line.stamp(60.0, 103.2) == pytest.approx(4.1, abs=0.2)


def test_time_begins_with_the_first_frame_asked_for() -> None:
    synthetic = "lavfi:testsrc=size=96x64:rate=50"
    with open_source(synthetic, start=0.2, end=0.6, stride=2) as source:
        time.sleep(0.7)  # networks take their time to load: longer than the stretch asked for
        times = [frame.time for frame in source]
    assert len(times) > 3
    assert 0.2 <= times[0] < 0.4
    assert times[-1] < 0.6
    with open_source(synthetic) as source:
        time.sleep(0.4)
        first = next(iter(source))
    assert first.time == 0
    assert first.dropped > 10
