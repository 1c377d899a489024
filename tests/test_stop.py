"""Ctrl-C, SIGTERM, a closed terminal and a second signal: whole outputs, a summary, and nothing
left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from hrtrack.interrupt import Stopped, listening, shield
from hrtrack.tracker.outputs.results.jsonl import read_jsonl

from .clips import canvas, count_frames

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
COMMAND = (sys.executable, "-m", "hrtrack")
CAMERA = "lavfi:testsrc2=size=160x120:rate=100"


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Starts the command in a group of its own."""
    return subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed,
    )  # fmt: skip


def heed() -> None:
    """A child of a test run in the background, whose Ctrl-C is ignored, heeds it all the same."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(what: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    """Until something is so; an error when the run has ended first."""
    until = time.monotonic() + 120
    while not what():
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def long_clip(path: Path) -> Path:
    """A person who slides to and fro for a minute: 20 frames, encoded once, again and again."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "bf": "0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
        packets = []
        for index in range(20):
            picture = canvas(60 + 12 * min(index, 20 - index))
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode(None)
        parts = [(bytes(one), one.is_keyframe) for one in packets]
        for index in range(1500):
            data, keyframe = parts[index % 20]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.duration, packet.is_keyframe = 1, keyframe
            container.mux(packet)
    return path


def nobody_left(group: int) -> bool:
    """Whether a group of processes ends soon."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not anybody_left(group):
            return True
        time.sleep(0.05)
    return False


def anybody_left(group: int) -> bool:
    """Whether a process of a group runs still.

    One that has ended may stay in the list of processes for seconds: until the first process of
    a container, its parent by then, asks for it.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():
        return True
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_live_run_ends_whole(number: signal.Signals, code: int, tmp_path: Path) -> None:
    video, rows = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    run = begin("--source", CAMERA, "--output", str(video), "--save", str(rows))
    wait_for(lambda: lines_in(rows) >= 10, run)
    run.send_signal(number)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == code
    frames = count_frames(video)
    assert frames >= 10
    assert frames == len(list(read_jsonl(rows)))
    assert re.search(rf"stopped, {frames} frames, \d+ identit", told.splitlines()[-1])
    assert "Traceback" not in told
    assert not list(tmp_path.glob("*.part*"))


def test_a_closed_terminal_ends_the_run_whole(tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        heed()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    video, rows = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    command = (*COMMAND, "--source", CAMERA, "--output", str(video), "--save", str(rows))
    run = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        until = time.monotonic() + 120
        while lines_in(rows) < 10:
            assert run.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.close(ours)
    assert run.wait(timeout=60) == 128 + signal.SIGHUP
    frames = count_frames(video)
    assert frames >= 10
    assert frames == len(list(read_jsonl(rows)))
    assert not list(tmp_path.glob("*.part*"))


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    rows = tmp_path / "out.jsonl"
    command = (*COMMAND, "--source", CAMERA, "--save", str(rows), "--save", "-", "--quiet")
    pipe = {"stdout": subprocess.PIPE, "pipesize": 4096}  # a small one is full soon
    run = subprocess.Popen(command, text=True, preexec_fn=heed, **pipe)
    size = -1

    def hangs() -> bool:  # as soon as the pipe, which nobody reads, is full
        nonlocal size
        before, size = size, lines_in(rows)
        time.sleep(0.5)
        return before == size > 0

    try:
        wait_for(hangs, run)
        run.terminate()
        time.sleep(0.5)
        assert run.poll() is None
        run.terminate()
        assert run.wait(timeout=20) == -signal.SIGTERM
    finally:
        run.kill()
        run.communicate()


@pytest.mark.parametrize("group", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_jobs_end_with_whole_outputs_and_no_orphan(group: bool, tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    first = long_clip(clips / "a.mp4")
    for name in ("b", "c"):
        (clips / f"{name}.mp4").write_bytes(first.read_bytes())
    folder = ("--source", str(clips), "--output", str(out), "--jobs", "2")
    rows = ("--save", f"jsonl:{out}", "--detect-every", "50")
    run = begin(*folder, *rows)
    wait_for(lambda: all(lines_in(out / f"{name}.jsonl") >= 5 for name in "ab"), run)
    (os.killpg if group else os.kill)(run.pid, signal.SIGTERM)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 143
    assert "3 sources, 0 frames" in told.splitlines()[-1]
    assert "the same command resumes" in told.splitlines()[-1]
    assert "Traceback" not in told
    for name in "ab":
        assert count_frames(out / f"{name}_pose.mp4") == lines_in(out / f"{name}.jsonl")
    assert not list(out.glob("*.part*"))
    assert nobody_left(run.pid)


def test_children_of_a_killed_job_end_too(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    long_clip(clips / "a.mp4")
    run = begin("--source", str(clips), "--output", str(out), "--jobs", "1")
    wait_for(lambda: (out / "a_pose.part.mp4").exists(), run)
    run.kill()
    run.wait()
    assert nobody_left(run.pid)


def test_a_shield_keeps_a_block_whole() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)

    def work() -> None:
        with listening():
            with shield(), shield():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("inside")
            done.append("outside")

    with pytest.raises(Stopped) as stop:
        work()
    assert done == ["inside"]
    assert stop.value.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_what_was_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
