"""Skeletons, boxes, identities and actions onto a frame."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError
from ....poses import Poses
from ....skeleton import LEFT, MIDDLE, RIGHT, Colour, Skeleton
from ....types import Float32Array
from .faces import blur_faces
from .labels import WHITE, Labels

LAYERS = (
    "skeleton", "boxes", "ids", "scores", "trails", "names", "heatmaps", "blur-faces",
)  # fmt: skip
"""What ``--draw`` takes, in the order of its help; `PAINTERS` paints them, and `draw_heatmaps`."""
SUBPIXEL_BITS = 3
MARGIN = 4000
"""Pixels around the picture; what lies further off is drawn there: long lines cost time."""
OUTLINE: Colour = (24, 24, 24)
"""Around every limb: at half the colour resolution of H.264 it keeps the limb's colour from
running into the picture and into the next limb."""
THINNEST = 2
LARGEST_STAMP = 2
"""The radius up to which joints are painted all at once; OpenCV is quicker with larger circles."""
CERTAIN = 0.6
"""A joint without any limb is drawn from this score: below it it is likelier a wrong guess."""
FINE_WORDS = ("nose", "eye", "ear", "face", "hand", "thumb", "finger")
TRAIL_SECONDS = 1.5
PALETTE: tuple[Colour, ...] = (
    (78, 205, 196), (255, 107, 107), (255, 217, 61), (162, 155, 254), (107, 203, 119),
    (255, 159, 243), (84, 160, 255), (254, 202, 87), (29, 209, 161), (200, 214, 229),
)  # fmt: skip


@dataclass
class DrawOptions:
    """What is drawn; the window's keys change it while the loop runs."""

    layers: set[str]
    min_score: float = 0.3
    help: bool = False

    @classmethod
    def parse(cls, text: str, min_score: float) -> DrawOptions:
        """Reads ``skeleton,boxes``; UsageError names what is unknown."""
        layers = {part.strip() for part in text.split(",") if part.strip()} - {"none"}
        unknown = sorted(layers - set(LAYERS))
        if unknown:
            raise UsageError(f"--draw knows {', '.join(LAYERS)} and none, not '{unknown[0]}'")
        return cls(layers, min_score)


Trail = tuple[int, Float32Array]
"""Someone's ID and the places (M, 2) of the last moments, the oldest first."""


class Trails:
    """Where everybody's box had its middle during the last moments, by ID."""

    def __init__(self, seconds: float = TRAIL_SECONDS) -> None:
        self._seconds, self._newest = seconds, float("-inf")
        self._places: dict[int, deque[tuple[float, float, float]]] = {}

    def update(self, poses: Poses) -> list[Trail]:
        """Enters the next frame and gives the trails of its people."""
        if poses.time < self._newest:  # rewound, or begun again
            self._places.clear()
        self._newest = poses.time
        middles = ((poses.boxes[:, :2] + poses.boxes[:, 2:]) / 2).tolist()
        oldest = poses.time - self._seconds
        for number, (x, y) in zip(poses.ids.tolist(), middles, strict=True):
            if number >= 0:
                self._places.setdefault(number, deque()).append((poses.time, x, y))
        for number, places in list(self._places.items()):
            while places and places[0][0] < oldest:
                places.popleft()
            if not places:
                del self._places[number]
        return [
            (number, np.array(self._places[number], np.float32)[:, 1:])
            for number in poses.ids.tolist()
            if number in self._places
        ]


@dataclass(frozen=True, slots=True)
class Canvas:
    """A frame that is being drawn on: ``image_HW3`` (RGB), the people in it with the corners of
    their boxes and the widths of their lines in whole pixels, and the texts written so far."""

    image_HW3: NDArray[np.uint8]
    poses: Poses
    skeleton: Skeleton
    options: DrawOptions
    trails: Sequence[Trail]
    boxes: list[list[int]]
    widths: list[int]
    labels: Labels


def draw(
    image_HW3: NDArray[np.uint8],
    poses: Poses,
    skeleton: Skeleton,
    options: DrawOptions,
    trails: Sequence[Trail] = (),
) -> NDArray[np.uint8]:
    """Draws one frame's people onto ``image_HW3`` (RGB, changed in place) and returns it.

    Line width follows each person's size, so that far people stay readable. ``trails`` is what
    `Trails.update` gave for the frame.
    """
    sides = poses.boxes[:, 2:] - poses.boxes[:, :2]
    thickest = max(THINNEST, image_HW3.shape[0] // 180)
    widths = np.clip(np.rint(sides.max(axis=1) / 110), THINNEST, thickest).astype(int).tolist()
    corners = _within_reach(np.rint(poses.boxes).reshape(-1, 2), image_HW3)
    boxes = corners.reshape(-1, 4).astype(int).tolist()
    labels = Labels(image_HW3)
    canvas = Canvas(image_HW3, poses, skeleton, options, trails, boxes, widths, labels)
    layers = options.layers
    for layer, paint in PAINTERS:
        if layer is None or layer in layers:
            paint(canvas)
    return image_HW3


def _blurred_faces(canvas: Canvas) -> None:
    blur_faces(canvas.image_HW3, canvas.poses, canvas.skeleton)


def _trails(canvas: Canvas) -> None:
    for number, places in canvas.trails:
        points = np.rint(_within_reach(places, canvas.image_HW3)).astype(np.int32)
        cv2.polylines(canvas.image_HW3, [points], False, _colour(number), THINNEST, cv2.LINE_AA)


def _boxes(canvas: Canvas) -> None:
    ids = canvas.poses.ids.tolist()
    for box, number, width in zip(canvas.boxes, ids, canvas.widths, strict=True):
        _frame(canvas.image_HW3, box, _colour(number), width)


def _tags(canvas: Canvas) -> None:
    """Identities and scores, if they are layers, and actions, which are there if asked for."""
    for i, (box, number) in enumerate(zip(canvas.boxes, canvas.poses.ids.tolist(), strict=True)):
        label = _label(canvas.poses, i, canvas.options.layers)
        if label:
            canvas.labels.tag(label, box[0], box[1], _colour(number))


def _colour(number: int) -> Colour:
    return PALETTE[number % len(PALETTE)]


def _frame(image_HW3: NDArray[np.uint8], box: list[int], colour: Colour, width: int) -> None:
    """Four filled bars, which OpenCV paints in half the time of a rectangle with thick lines."""
    x0, y0, x1, y1 = box
    a, b = width // 2, width - width // 2 - 1
    for corners in (
        ((x0 - a, y0 - a), (x1 + b, y0 + b)), ((x0 - a, y1 - a), (x1 + b, y1 + b)),
        ((x0 - a, y0 - a), (x0 + b, y1 + b)), ((x1 - a, y0 - a), (x1 + b, y1 + b)),
    ):  # fmt: skip
        cv2.rectangle(image_HW3, *corners, colour, cv2.FILLED)


@dataclass(frozen=True)
class Lines:
    """A skeleton as it is drawn, side by side: what crosses the one side lies over the other.

    ``limbs`` (L, 2) of each colour, whether each goes on (L,) where the one before it ends, and
    which of them are ``fine`` (L,): details of a head or a hand, which thick lines would hide.
    ``fine_joints`` (K,) likewise, and ``details`` (K,) are those that the body does without.
    """

    limbs: tuple[tuple[Colour, NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]], ...]
    fine_joints: NDArray[np.bool_]
    details: NDArray[np.bool_]


@functools.lru_cache(16)
def _lines(skeleton: Skeleton) -> Lines:
    fine = np.array([any(word in name for word in FINE_WORDS) for name in skeleton.joints], bool)
    if not skeleton.body and fine.mean() > 0.5:  # a hand or a face alone
        fine[:] = False
    limbs = np.array(skeleton.limbs, np.intp).reshape(-1, 2)
    colours = [skeleton.limb_colour(limb) for limb in skeleton.limbs]
    groups: list[tuple[Colour, NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]] = []
    for colour in (MIDDLE, RIGHT, LEFT):
        mine = limbs[[own == colour for own in colours]]
        if len(mine):
            goes_on = np.append(False, mine[1:, 0] == mine[:-1, 1])
            groups.append((colour, mine, goes_on, fine[mine[:, 0]] & fine[mine[:, 1]]))
    details = fine.copy()
    details[list(skeleton.body or range(len(skeleton)))] = False
    return Lines(tuple(groups), fine, details)


def _skeletons(canvas: Canvas) -> None:
    image_HW3, poses, min_score = canvas.image_HW3, canvas.poses, canvas.options.min_score
    lines = _lines(canvas.skeleton)
    places = _within_reach(poses.keypoints, image_HW3)
    fixed = np.rint(places * (1 << SUBPIXEL_BITS)).astype(np.int32)
    seen = poses.scores >= min_score
    dots = poses.scores >= max(CERTAIN, min_score)
    crowded, with_limb = np.zeros((2, *dots.shape), bool)
    thick_widths = np.array(canvas.widths)
    fine_widths = np.maximum(THINNEST, thick_widths // 2)
    groups = []
    for colour, limbs, goes_on, fine in lines.limbs:
        shown = seen[:, limbs[:, 0]] & seen[:, limbs[:, 1]]
        # A line shorter than it is wide is a blot.
        ends = places[:, limbs]
        length = np.abs(ends[:, :, 0] - ends[:, :, 1]).max(axis=2)
        shown &= length >= np.where(fine, 2 * THINNEST, 1)
        people, which = np.nonzero(shown)
        with_limb[people[:, None], limbs[which]] = True
        people, which = np.nonzero(length < THINNEST)
        crowded[people[:, None], limbs[which]] = True
        thin = shown & fine & (fine_widths < thick_widths)[:, None]
        for some, wide in ((thin, fine_widths), (shown & ~thin, thick_widths)):
            if some.any():
                chains = _chains(fixed, some, limbs, goes_on)
                groups.append((colour, chains, wide.tolist()))
    radii = thick_widths // 2  # within the outline, which keeps the joint apart from the picture
    dot_radii = np.where(lines.fine_joints, np.maximum(1, radii // 2)[:, None], radii[:, None])
    # As close as those of a small face and of a small hand are, they would be one white spot.
    dots = (dots & ~(crowded & lines.details)) | with_limb
    whole = np.rint(places).astype(np.intp)
    stamped = [
        _stamped(whole, dots & (dot_radii == radius), radius, image_HW3)
        for radius in range(1, LARGEST_STAMP + 1)
    ]
    large = dots & (dot_radii > LARGEST_STAMP)
    for i, has_large in enumerate(large.any(axis=1).tolist()):
        for colour, chains, wide in groups:
            _outlined(image_HW3, chains[i], colour, wide[i])
        for pixels in stamped:
            image_HW3[pixels[i]] = WHITE
        if has_large:
            for place, radius in zip(whole[i][large[i]], dot_radii[i][large[i]], strict=True):
                cv2.circle(image_HW3, place.tolist(), int(radius), WHITE, cv2.FILLED)


def _chains(
    places: NDArray[np.int32],
    shown: NDArray[np.bool_],
    limbs: NDArray[np.intp],
    goes_on: NDArray[np.bool_],
) -> list[list[NDArray[np.int32]]]:
    """The shown limbs (N, L) of each person, as lines of two or more of the ``places`` (N, K, 2).

    A limb that goes on where another ends shares its line: round ends cost OpenCV much.
    """
    people, which = np.nonzero(shown)
    new = ~goes_on[which]
    new[1:] |= (people[1:] != people[:-1]) | (which[1:] != which[:-1] + 1)
    new[:1] = True
    last = np.cumsum(1 + new) - 1  # where each limb's end lies among the points
    points = np.empty((len(which) + np.count_nonzero(new), 2), np.int32)
    points[last] = places[people, limbs[which, 1]]
    points[last[new] - 1] = places[people[new], limbs[which[new], 0]]
    lines = [points[i:j] for i, j in pairwise([*(last[new] - 1).tolist(), len(points)])]
    of_person = np.searchsorted(people[new], np.arange(len(shown) + 1)).tolist()
    return [lines[i:j] for i, j in pairwise(of_person)]


def _stamped(
    places: NDArray[np.intp], shown: NDArray[np.bool_], radius: int, image_HW3: NDArray[np.uint8]
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of the pixels of each person's circles around the shown places (N, K, 2).

    OpenCV would take longer for the calls than for the painting, as small as these circles are.
    """
    people, joints = np.nonzero(shown)
    pixels = (places[people, joints][:, None] + _stamp(radius)).reshape(-1, 2)
    inside = ((pixels >= 0) & (pixels < image_HW3.shape[1::-1])).all(axis=1)
    columns, rows = pixels[inside].T
    owners = people.repeat(len(_stamp(radius)))[inside]
    of_person = np.searchsorted(owners, np.arange(len(shown) + 1)).tolist()
    return [(rows[i:j], columns[i:j]) for i, j in pairwise(of_person)]


@functools.lru_cache(LARGEST_STAMP)
def _stamp(radius: int) -> NDArray[np.intp]:
    """The pixels (P, 2) of OpenCV's filled circle, around its middle."""
    side = 2 * radius + 1
    circle = np.zeros((side, side), np.uint8)
    cv2.circle(circle, (radius, radius), radius, 1, cv2.FILLED)
    return np.argwhere(circle)[:, ::-1] - radius


def _outlined(
    image_HW3: NDArray[np.uint8], lines: list[NDArray[np.int32]], colour: Colour, width: int
) -> None:
    """Lines (2 or more, 2) in sub-pixels."""
    if not lines:
        return
    around = width + max(2, width // 3)
    # Smooth edges cost three times as much, and around a line nobody sees them.
    cv2.polylines(image_HW3, lines, False, OUTLINE, around, cv2.LINE_8, SUBPIXEL_BITS)
    cv2.polylines(image_HW3, lines, False, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def _names(canvas: Canvas) -> None:
    """The joints' names, of the largest people first, but for details of heads and hands."""
    poses, skeleton, min_score = canvas.poses, canvas.skeleton, canvas.options.min_score
    fine = _lines(skeleton).fine_joints
    sides = poses.boxes[:, 2:] - poses.boxes[:, :2]
    for person in np.argsort(-sides.max(axis=1)).tolist():
        for joint in np.flatnonzero((poses.scores[person] >= min_score) & ~fine).tolist():
            x, y = np.clip(np.rint(poses.keypoints[person, joint]), -MARGIN, 1e6).astype(int)
            canvas.labels.note(skeleton.joints[joint].replace("_", " "), int(x), int(y))


def _within_reach(points: Float32Array, image_HW3: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Points (..., 2) no further than `MARGIN` from the picture."""
    height, width = image_HW3.shape[:2]
    return np.clip(points, -MARGIN, (width + MARGIN, height + MARGIN))


def _label(poses: Poses, i: int, layers: set[str]) -> str:
    parts = [str(int(poses.ids[i]))] if "ids" in layers and poses.ids[i] >= 0 else []
    if "scores" in layers:
        parts.append(f"{poses.person_scores[i]:.2f}")
    action = poses.actions[i] if poses.actions is not None else None
    if action is not None and action.label != "unknown":
        parts.append(f"{action.label.replace('_', ' ')} {action.score:.0%}")
    return "  ".join(parts)


PAINTERS: tuple[tuple[str | None, Callable[[Canvas], None]], ...] = (
    ("blur-faces", _blurred_faces),
    ("trails", _trails),
    ("boxes", _boxes),
    ("skeleton", _skeletons),
    (None, _tags),
    ("names", _names),
)
"""What paints each layer, in the order of painting; None is painted whatever the layers are."""


def draw_heatmaps(
    image_HW3: NDArray[np.uint8],
    heatmaps_NKHW: NDArray[np.float32],
    to_image: NDArray[np.float64],
    input_hw: tuple[int, int],
) -> None:
    """Blends each person's strongest response over all joints into the image, in place.

    ``to_image`` (N, 2, 3) maps crop pixels, of a crop of ``input_hw``, to image pixels.
    """
    size = image_HW3.shape[1], image_HW3.shape[0]
    heat = np.zeros(image_HW3.shape[:2], np.float32)
    for maps_KHW, affine in zip(heatmaps_NKHW, to_image, strict=True):
        grow = np.diag([input_hw[1] / maps_KHW.shape[2], input_hw[0] / maps_KHW.shape[1], 1.0])
        one = cv2.warpAffine(maps_KHW.max(axis=0), affine @ grow, size)
        np.maximum(heat, one, out=heat)
    shade = cv2.applyColorMap((np.clip(heat, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = (np.clip(heat, 0, 1) * 0.7)[..., None]
    blended = image_HW3 * (1 - weight) + shade[..., ::-1] * weight
    image_HW3[...] = blended.astype(np.uint8)
