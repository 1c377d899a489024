"""A decoded picture as players show it: upright, with square pixels, in the colours of a screen."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .geometry import orient

if TYPE_CHECKING:
    from .pyav import av

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273: SMPTE ST 2084 and ARIB STD-B67."""
BT709_PRIMARIES, P3_PRIMARIES = 1, 12
"""Colour primaries of ITU-T H.273; other HDR pictures have those of BT.2020."""
WHITE = 203.0
"""cd/m² of white paper in HDR (ITU-R BT.2408); it becomes the white of the 8-bit picture."""
DEFAULT_PEAK = 1000.0
"""cd/m² of the brightest light where the picture does not state it."""
GRID = 33
"""Nodes of the colour table along each axis."""
ODD_ASPECT = 20
"""A pixel that would be more than so many times as wide as high, or as high as wide, is damage."""

XYZ = {
    "bt2020": ((0.6370, 0.1446, 0.1689), (0.2627, 0.6780, 0.0593), (0.0, 0.0281, 1.0610)),
    "p3": ((0.4866, 0.2657, 0.1982), (0.2290, 0.6917, 0.0793), (0.0, 0.0451, 1.0439)),
    "bt709": ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)),
}
"""From linear RGB to CIE XYZ; the second row has the luminances of red, green and blue."""


def orientation_of(frame: av.VideoFrame) -> int | None:
    """The EXIF orientation that a frame's display matrix asks for, to the nearest quarter turn.

    None where PyAV cannot list what the frame carries: an EXIF block is among it.
    """
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        return None
    if found is None:
        return 1
    # x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2).
    a, b, _, c, d = np.frombuffer(cast("bytes", found), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}[
            a < 0, d < 0
        ]
    return {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}[c < 0, b < 0]


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame's light is coded for a screen of high dynamic range."""
    return frame.color_trc in (PQ, HLG)


class Shown:
    """Turns the frames of one stream into RGB pictures.

    ``aspect`` is the width of a pixel over its height. The shorter side of the pixels is
    stretched, as the HTML standard asks of browsers. ``exif`` is the orientation
    where FFmpeg knows of none. Frames that are not made ``upright`` stay as coded.
    """

    def __init__(
        self, aspect: Fraction | None = None, exif: int = 1, *, upright: bool = True
    ) -> None:
        usable = aspect is not None and Fraction(1, ODD_ASPECT) < aspect < ODD_ASPECT
        self.aspect = aspect if usable and aspect is not None else Fraction(1)
        self.exif = exif
        self.upright = upright
        self._kind: tuple[float, int, int] | None = None
        self._orientation = 1
        self._tones: _Tones | None = None
        self._converter: av.video.reformatter.VideoReformatter | None = None

    def is_plain(self, frame: av.VideoFrame) -> bool:
        """Whether nothing but the conversion to RGB is to be done."""
        return self.aspect == 1 and self.orientation(frame) == 1 and not is_hdr(frame)

    def orientation(self, frame: av.VideoFrame) -> int:
        """The frame's EXIF orientation."""
        if not self.upright:
            return 1
        # PyAV's side data and its frame hold each other until the garbage collector comes, and
        # many frames' memory with them, so they are asked when something else has changed.
        kind = (frame.rotation, frame.width, frame.height)
        if kind != self._kind:
            found = orientation_of(frame)
            self._kind, self._orientation = kind, self.exif if found in (None, 1) else found or 1
        return self._orientation

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of the picture that `rgb` gives."""
        width, height = self._stretched(frame)
        return (height, width) if self.orientation(frame) > 4 else (width, height)

    def _stretched(self, frame: av.VideoFrame) -> tuple[int, int]:
        if self.aspect >= 1:
            return round(frame.width * self.aspect), frame.height
        return frame.width, round(frame.height / self.aspect)

    def rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A decoded frame as (H, W, 3) uint8 RGB."""
        width, height = self._stretched(frame)
        if is_hdr(frame):
            return orient(self._tone_mapped(frame, (width, height)), self.orientation(frame))
        how: dict[str, Any] = {"format": "rgb24", "threads": 1}
        if self.aspect != 1:
            how |= {"width": width, "height": height, "interpolation": "BICUBIC"}
        image = self._kept_converter().reformat(frame, **how).to_ndarray()
        return orient(cast("NDArray[np.uint8]", image), self.orientation(frame))

    def _kept_converter(self) -> av.video.reformatter.VideoReformatter:
        """One for all frames: each frame's own would make tables and threads for one picture."""
        if self._converter is None:
            from .pyav import av

            self._converter = av.video.reformatter.VideoReformatter()
        return self._converter

    def _tone_mapped(self, frame: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        key = (frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_primaries)
        if self._tones is None or self._tones.key != key:
            self._tones = _Tones(key, frame, size)
        return self._tones.rgb(frame)


class _Tones:
    """FFmpeg's filters from one kind of HDR frame to RGB, by a table of colours."""

    def __init__(
        self, key: tuple[object, ...], frame: av.VideoFrame, size: tuple[int, int]
    ) -> None:
        self.key = key
        table = colour_table(frame.color_trc, frame.color_primaries, _peak(frame))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "hdr.cube")
            with path.open("w", encoding="ascii") as file:
                file.write(f"LUT_3D_SIZE {GRID}\n")
                np.savetxt(file, table.reshape(-1, 3), "%.5f")
            width, height = size
            self._graph = _graph(
                frame,
                [
                    ("scale", f"{width}:{height}:flags=bicubic"),
                    ("format", "gbrp10le"),
                    ("lut3d", f"file={_quoted(path)}"),
                    ("format", "rgb24"),
                ],
            )

    def rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        self._graph.vpush(frame)
        return cast("NDArray[np.uint8]", self._graph.vpull().to_ndarray(format="rgb24"))


def _quoted(path: Path) -> str:
    """A path as a filter's option (FFmpeg's filters documentation, "Notes on escaping")."""
    text = path.as_posix()
    return "".join("\\" + char if char in "\\':" else char for char in text)


def _graph(frame: av.VideoFrame, filters: Iterable[tuple[str, str]]) -> av.filter.Graph:
    from .pyav import av

    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    for name, options in filters:
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _peak(frame: av.VideoFrame) -> float:
    """The brightest light of a PQ video in cd/m², by its maximum content light level."""
    try:
        found = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    except ValueError:
        found = None
    stated = int(np.frombuffer(cast("bytes", found), np.uint32)[0]) if found is not None else 0
    return float(stated) if WHITE < stated <= 10_000 else DEFAULT_PEAK


def colour_table(transfer: int, primaries: int, peak: float) -> NDArray[np.float64]:
    """RGB in 0..1 of a usual screen for RGB in 0..1 of HDR: (GRID, GRID, GRID, 3), blue first.

    White paper keeps the place that it has in a usual picture, brighter light is rolled off by
    the curve of ITU-R BT.2390-10 (5.4.1) on the largest of R, G and B, and what BT.709 cannot
    show is cut off. The screen is that of BT.1886 with a gamma of 2.4.
    """
    steps = np.linspace(0, 1, GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    code = np.stack([red, green, blue], axis=-1)
    name = {BT709_PRIMARIES: "bt709", P3_PRIMARIES: "p3"}.get(primaries, "bt2020")
    to_xyz = np.array(XYZ[name])
    if transfer == PQ:
        light = _pq_light(code)
    else:
        light, peak = _hlg_light(code, to_xyz[1]), DEFAULT_PEAK
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light *= _rolled_off(np.minimum(brightest, peak), peak) / brightest / WHITE
    shown = light @ (np.linalg.inv(np.array(XYZ["bt709"])) @ to_xyz).T
    return np.asarray(np.clip(shown, 0, 1) ** (1 / 2.4), np.float64)


def _pq_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m² of PQ codes (ITU-R BT.2100, table 4)."""
    root = np.clip(code, 0, 1) ** (32 / 2523)
    base = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return np.asarray(10_000 * base ** (16384 / 2610), np.float64)


def _pq_code(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_pq_light`."""
    root = np.clip(light / 10_000, 0, 1) ** (2610 / 16384)
    base = (3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)
    return np.asarray(base ** (2523 / 32), np.float64)


def _hlg_light(code: NDArray[np.float64], luminances: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m² of HLG codes on a screen of 1000 cd/m² (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    luminance = np.maximum(scene @ luminances, 1e-9)
    return np.asarray(DEFAULT_PEAK * scene * luminance[..., None] ** 0.2, np.float64)


def _rolled_off(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """cd/m² of a screen that ends at `WHITE` for those of one that ends at ``peak``."""
    top = _pq_code(np.array(peak))
    code, white = _pq_code(light) / top, _pq_code(np.array(WHITE)) / top
    knee = 1.5 * white - 0.5
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * white
    )
    return _pq_light(np.where(code < knee, code, spline) * top)


class Deinterlacer:
    """Whole pictures from a video of half pictures: one frame for a frame, with its time.

    FFmpeg's bwdif works from the first interlaced frame on and hands progressive ones through.
    It needs the next frame, so frames leave one behind.
    """

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._alone: av.VideoFrame | None = None
        self._waiting: deque[tuple[int | None, Fraction | None]] = deque()

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Takes one decoded frame; gives those that are done."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape != self._shape:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph = _graph(frame, [("bwdif", "mode=send_frame:deint=interlaced")])
            self._shape = shape
            self._alone = frame
        elif self._alone is not None:
            self._alone = None
        self._waiting.append((frame.pts, frame.time_base))
        self._graph.vpush(frame)
        yield from self._done()

    def flush(self) -> Iterator[av.VideoFrame]:
        """The frames that are still held back; the next one may have another size."""
        if self._graph is None:
            return
        if self._alone is not None:
            # The filter leaves a picture without a neighbour as it is.
            self._graph.vpush(self._alone)
        self._graph.vpush(None)
        yield from self._done()
        self._graph = self._alone = None
        self._waiting.clear()

    def _done(self) -> Iterator[av.VideoFrame]:
        from .pyav import av

        assert self._graph is not None
        while self._waiting:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # The filter doubles the time base; the frame keeps the time that it came with.
            frame.pts, time_base = self._waiting.popleft()
            if time_base is not None:
                frame.time_base = time_base
            yield frame
