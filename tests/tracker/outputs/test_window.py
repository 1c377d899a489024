"""The window, on a virtual display with a real keyboard's events."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from hrtrack.errors import SinkError
from hrtrack.tracker.outputs.viewers.window import check_display
from hrtrack.tracker.video.open import read_image

RUN = """
import sys
from pathlib import Path
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.pictures.draw import DrawOptions
from hrtrack.tracker.video.open import open_source
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.viewers.window import window
layers = DrawOptions({"skeleton"})
said = None
with open_source("lavfi:testsrc2=size=320x240:rate=20") as s, open_sinks(
    [], source=s, skeleton=COCO17, others=[window(layers, "test", Path(sys.argv[1]))]
) as k:
    for f in s:
        image = f.image.copy()
        if not k.write(f, Poses.empty(f.index, f.time, 17), lambda: image):
            break
        state = " ".join([*sorted(layers.layers), str(layers.min_score), str(layers.help)])
        if state != said:
            print(state, flush=True)
            said = state
print("ended")
"""
NEEDED = ("Xvfb", "xdotool")


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A screen that nobody sees."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24"],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as file:
        name = f":{file.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    yield name
    server.terminate()
    server.wait(timeout=10)


def xdotool(*arguments: str) -> str:
    done = subprocess.run(["xdotool", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def wait_for_window() -> str:
    for _ in range(300):
        if found := xdotool("search", "--name", "hrtrack - ").splitlines():
            return found[0]
        time.sleep(0.2)
    raise AssertionError("no window came up")


@pytest.fixture
def run(display: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run with a window that goes on until it is told to end."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield run
    run.kill()


def until(check: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something to become true; a loaded machine takes its time."""
    ends = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < ends, f"waited {seconds:g} s in vain"
        time.sleep(0.1)


def test_keys_steer_the_run(run: subprocess.Popen[str], tmp_path: Path) -> None:
    assert run.stdout is not None
    window = wait_for_window()
    assert run.stdout.readline().strip() == "skeleton 0.3 False"
    xdotool("mousemove", "100", "100", "windowfocus", window)
    for key, state in (
        ("b", "boxes skeleton 0.3 False"),
        ("i", "boxes ids skeleton 0.3 False"),
        ("k", "boxes ids 0.3 False"),
        ("h", "boxes ids 0.3 True"),
        ("plus", "boxes ids 0.35 True"),
        ("minus", "boxes ids 0.3 True"),
    ):
        xdotool("key", key)
        assert run.stdout.readline().strip() == state
    xdotool("key", "r")
    until(lambda: any(tmp_path.glob("*.part.mp4")))
    xdotool("key", "s")
    until(lambda: any(tmp_path.glob("*.png")))
    xdotool("key", "space")
    time.sleep(0.5)
    xdotool("key", "b", "key", "space")
    assert run.stdout.readline().strip() == "ids 0.3 True"
    xdotool("key", "r")
    until(lambda: not any(tmp_path.glob("*.part.mp4")))
    xdotool("key", "q")
    out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert out.strip() == "ended"
    assert not err
    (snapshot,) = tmp_path.glob("*.png")
    assert read_image(snapshot).shape == (240, 320, 3)
    (recording,) = tmp_path.glob("*.mp4")
    with av.open(str(recording)) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 1


def test_closing_the_window_ends_the_run(run: subprocess.Popen[str]) -> None:
    window = wait_for_window()
    assert run.stdout is not None
    run.stdout.readline()

    def closed() -> bool:
        # A press that comes before the window listens is lost, as a user's would be.
        if run.poll() is None:
            press_close(int(window))
        return run.poll() is not None

    until(closed)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert out.strip() == "ended"


CLOSE = """
import ctypes, sys
x = ctypes.CDLL(sys.argv[1])
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
screen, window = ctypes.c_void_p(x.XOpenDisplay(None)), int(sys.argv[2])
protocols, delete = (
    x.XInternAtom(screen, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
)
# XClientMessageEvent: type, serial, send_event, display, window, message_type, format, data.
event = (ctypes.c_long * 24)(33, 0, 1, 0, window, protocols, 32, delete, 0)
x.XSendEvent(screen, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(event))
x.XCloseDisplay(screen)
"""


def press_close(window: int) -> None:
    """Sends what a window manager sends when a window's close button is pressed.

    In a process of its own: Xlib ends whoever writes to a window that has just gone.
    """
    library = ctypes.util.find_library("X11")
    if library is None:
        pytest.skip("libX11 is not installed")
    subprocess.run([sys.executable, "-c", CLOSE, library, str(window)], check=False, timeout=60)


def test_no_display_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only X11 and Wayland name their display in the environment")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="no display for a window") as failure:
        check_display()
    assert "\n" not in str(failure.value)
    monkeypatch.setenv("DISPLAY", ":7654")
    with pytest.raises(SinkError, match=r"no window can be opened on display :7654|first"):
        check_display()
