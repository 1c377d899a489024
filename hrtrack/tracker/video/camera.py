"""Cameras under the names each operating system gives them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ...errors import SourceError
from ...pyav import av
from .base import LiveOptions


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera: what to say to ``--source``, and what it calls itself."""

    source: str
    name: str


@dataclass(frozen=True, slots=True)
class CameraInput:
    """What FFmpeg wants in order to open one camera."""

    url: str
    format: str
    options: dict[str, str]


def list_cameras(platform: str = sys.platform) -> list[Camera]:
    """The cameras that this machine knows of, in the order of ``webcam:0``, ``webcam:1``..."""
    if platform.startswith("linux"):
        found = []
        for device in _linux_devices():
            label = Path("/sys/class/video4linux", Path(device).name, "name")
            name = label.read_text().strip() if label.is_file() else "camera"
            found.append(Camera(device, name))
        return found
    kind = "avfoundation" if platform == "darwin" else "dshow"
    try:
        devices = av.device.enumerate_input_devices(kind)
    except (ValueError, av.error.FFmpegError):
        return []
    names = [d.description or d.name for d in devices if "video" in (d.media_types or ["video"])]
    return [Camera(f"webcam:{i}", name) for i, name in enumerate(names)]


def camera_number(source: str) -> int | None:
    """The N of ``webcam``, ``webcam:N`` or a bare number; None for anything else."""
    match = re.fullmatch(r"(?:webcam:?)?(\d*)", source) if source else None
    return int(match[1] or 0) if match else None


def camera_input(source: str, options: LiveOptions, platform: str = sys.platform) -> CameraInput:
    """How to open a camera on this platform; SourceError when there is no such camera."""
    number = camera_number(source)
    asked: dict[str, str] = {}
    if options.size:
        asked["video_size"] = "{}x{}".format(*options.size)
    if options.fps:
        asked["framerate"] = f"{options.fps:g}"
    if platform.startswith("linux"):
        device = source if number is None else f"/dev/video{number}"
        if not Path(device).exists():
            raise SourceError(f"no camera {device}; {_known(platform)}")
        if options.pixel_format:
            compressed = options.pixel_format in ("mjpeg", "h264", "hevc")
            asked["input_format" if compressed else "pixel_format"] = options.pixel_format
        return CameraInput(device, "v4l2", asked)
    if options.pixel_format:
        asked["pixel_format"] = options.pixel_format
    if platform == "darwin":
        # AVFoundation's own default of 29.97 is refused by most cameras.
        asked.setdefault("framerate", "30")
        return CameraInput(f"{number or 0}:none", "avfoundation", asked)
    cameras = list_cameras(platform)
    if number is None or number >= len(cameras):
        raise SourceError(f"no camera {source}; {_known(platform)}")
    return CameraInput(f"video={cameras[number].name}", "dshow", asked)


def _linux_devices() -> list[str]:
    devices = [str(path) for path in Path("/dev").glob("video*") if path.name[5:].isdigit()]
    return sorted(devices, key=lambda device: int(device.removeprefix("/dev/video")))


def _known(platform: str) -> str:
    names = ", ".join(f"{camera.source} ({camera.name})" for camera in list_cameras(platform))
    return f"there are {names}" if names else "this machine has none"
