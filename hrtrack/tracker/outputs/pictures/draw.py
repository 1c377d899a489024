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

    ``limbs`` (L, 2) come colour after colour, and in each colour the fine ones first: details of
    a head or a hand, which thick lines would hide. ``slots`` (L,) count these parts, two for
    each of ``colours``, and ``goes_on`` (L,) says of a limb that it begins where the one before
    it in the same part ends. ``fine_joints`` (K,) are details likewise, and ``details`` (K,)
    those of them that the body does without.
    """

    colours: tuple[Colour, ...]
    limbs: NDArray[np.intp]
    slots: NDArray[np.intp]
    goes_on: NDArray[np.bool_]
    fine_joints: NDArray[np.bool_]
    details: NDArray[np.bool_]


@functools.lru_cache(16)
def _lines(skeleton: Skeleton) -> Lines:
    fine = np.array([any(word in name for word in FINE_WORDS) for name in skeleton.joints], bool)
    if not skeleton.body and fine.mean() > 0.5:  # a hand or a face alone
        fine[:] = False
    limbs = np.array(skeleton.limbs, np.intp).reshape(-1, 2)
    own = [skeleton.limb_colour(limb) for limb in skeleton.limbs]
    colours = tuple(colour for colour in (MIDDLE, RIGHT, LEFT) if colour in own)
    thick = ~(fine[limbs[:, 0]] & fine[limbs[:, 1]])
    slots = np.array([colours.index(colour) for colour in own], np.intp) * 2 + thick
    order = np.argsort(slots, kind="stable")
    limbs, slots = limbs[order], slots[order]
    goes_on = np.zeros(len(limbs), bool)
    goes_on[1:] = (limbs[1:, 0] == limbs[:-1, 1]) & (slots[1:] == slots[:-1])
    details = fine.copy()
    details[list(skeleton.body or range(len(skeleton)))] = False
    return Lines(colours, limbs, slots, goes_on, fine, details)


def _skeletons(canvas: Canvas) -> None:
    image_HW3, poses, min_score = canvas.image_HW3, canvas.poses, canvas.options.min_score
    lines = _lines(canvas.skeleton)
    starts, ends = lines.limbs.T
    places = _within_reach(poses.keypoints, image_HW3)
    seen = poses.scores >= min_score
    shown = seen.take(starts, axis=1) & seen.take(ends, axis=1)
    along = np.abs(places.take(starts, axis=1) - places.take(ends, axis=1))
    length = np.maximum(along[..., 0], along[..., 1])
    # A line shorter than it is wide is a blot.
    shown &= length >= np.where(lines.slots % 2, 1, 2 * THINNEST)
    pieces, bounds = _chains(places, shown, lines)
    certain = poses.scores >= max(CERTAIN, min_score)
    stamped, large, radii = _dots(image_HW3, places, certain, shown, length, lines, canvas.widths)
    for i, width in enumerate(canvas.widths):
        fine_width = max(THINNEST, width // 2)
        for colour, (a, b, c) in zip(lines.colours, bounds[i], strict=True):
            if fine_width == width:
                _outlined(image_HW3, pieces[a:c], colour, width)
            else:
                _outlined(image_HW3, pieces[a:b], colour, fine_width)
                _outlined(image_HW3, pieces[b:c], colour, width)
        for pixels in stamped:
            image_HW3[pixels[i]] = WHITE
        for joint in large[i]:
            x, y = np.rint(places[i, joint]).astype(int).tolist()
            cv2.circle(image_HW3, (x, y), radii[i][joint], WHITE, cv2.FILLED)


def _chains(
    places: NDArray[np.floating], shown: NDArray[np.bool_], lines: Lines
) -> tuple[list[NDArray[np.int32]], list[list[tuple[int, int, int]]]]:
    """The shown limbs (N, L) of all people as lines of two or more of the ``places`` (N, K, 2),
    in sub-pixels; and for each person and colour where its fine ones begin and end among them,
    and where its others end.

    A limb that goes on where another ends shares its line: round ends cost OpenCV much.
    """
    fixed = np.rint(places * (1 << SUBPIXEL_BITS)).astype(np.int32)
    people, which = np.nonzero(shown)
    new = ~lines.goes_on[which]
    new[1:] |= (people[1:] != people[:-1]) | (which[1:] != which[:-1] + 1)
    new[:1] = True
    last = np.cumsum(1 + new) - 1  # where each limb's end lies among the points
    first = last[new] - 1
    points = np.empty((len(which) + len(first), 2), np.int32)
    points[last] = fixed[people, lines.limbs[which, 1]]
    points[first] = fixed[people[new], lines.limbs[which[new], 0]]
    pieces = [points[i:j] for i, j in pairwise([*first.tolist(), len(points)])]
    parts = 2 * len(lines.colours)
    owners = people[new] * parts + lines.slots[which[new]]
    ends = np.searchsorted(owners, np.arange(len(shown) * parts + 1)).tolist()
    bounds = [
        [(ends[i], ends[i + 1], ends[i + 2]) for i in range(one * parts, (one + 1) * parts, 2)]
        for one in range(len(shown))
    ]
    return pieces, bounds


Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]


def _dots(
    image_HW3: NDArray[np.uint8],
    places: NDArray[np.floating],
    certain: NDArray[np.bool_],
    shown: NDArray[np.bool_],
    length: NDArray[np.floating],
    lines: Lines,
    widths: list[int],
) -> tuple[list[list[Pixels]], list[list[int]], list[list[int]]]:
    """The circles on the joints that are ``certain`` (N, K) or have a limb: for each small radius
    the pixels of each person, the joints of each person with a large one, and the radii (N, K).
    """
    crowded, with_limb = np.zeros((2, *certain.shape), bool)
    for mark, limbs in ((with_limb, shown), (crowded, length < THINNEST)):
        people, which = np.nonzero(limbs)
        mark[people[:, None], lines.limbs[which]] = True
    # As close as those of a small face and of a small hand are, they would be one white spot.
    dots = certain & ~(crowded & lines.details) | with_limb
    # Within the outline, which keeps the joint apart from the picture.
    radii = np.array(widths, np.intp)[:, None] // 2
    radii = np.where(lines.fine_joints, np.maximum(1, radii // 2), radii)
    whole = np.rint(places).astype(np.intp)
    stamped = [
        _stamped(whole, dots & (radii == radius), radius, image_HW3)
        for radius in range(1, LARGEST_STAMP + 1)
    ]
    large = dots & (radii > LARGEST_STAMP)
    return stamped, [np.flatnonzero(row).tolist() for row in large], radii.tolist()


def _stamped(
    places: NDArray[np.intp], shown: NDArray[np.bool_], radius: int, image_HW3: NDArray[np.uint8]
) -> list[Pixels]:
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
