"""The options of a tracker, declared once for `hrtrack.Tracker` and for the command line.

A new option is a field of `TrackerOptions`. `Tracker` and `hrtrack.cli.options` read its default,
its valid values and its help from there. This file imports no large package, because
``hrtrack --help`` imports it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, Field, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import UsageError

if TYPE_CHECKING:
    from ..skeleton import Skeleton
    from .inference.backends.base import Converter, EngineBuilder
    from .stopwatch import Stopwatch

Backend = Literal["auto", "openvino", "torch", "tensorrt", "tensorrt-rtx"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Smoothing = Literal["off", "light", "strong"]
Cuts = Literal["auto", "off"]
Color = Literal["rgb", "bgr"]

MODEL, TRACKING = "Model", "Tracking"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def check(self, name: str, value: object) -> None:
        if not isinstance(value, str) or value not in self.words:
            raise UsageError(f"{name} is {value!r}; choose one of {', '.join(self.words)}")


@dataclass(frozen=True)
class Count:
    """A whole number of at least 1, or ``word`` in its place."""

    word: str | None = None

    def check(self, name: str, value: object) -> None:
        if self.word is not None and isinstance(value, str) and value == self.word:
            return
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            otherwise = "" if self.word is None else f"{self.word!r} or "
            raise UsageError(
                f"{name} is {value!r}; it must be {otherwise}a whole number of at least 1"
            )


@dataclass(frozen=True)
class Rate:
    """A number of frames per second above 0, or one of a few words in its place."""

    words: tuple[str, ...]

    def check(self, name: str, value: object) -> None:
        if isinstance(value, str) and value in self.words:
            return
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 < float(value) < float("inf"):  # type: ignore[arg-type]
            words = ", ".join(repr(word) for word in self.words)
            raise UsageError(f"{name} is {value!r}; it must be {words} or a number above 0")


@dataclass(frozen=True)
class Share:
    """A number from 0 to 1."""

    def check(self, name: str, value: object) -> None:
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise UsageError(f"{name} is {value!r}; it must be a number from 0 to 1")


@dataclass(frozen=True)
class Model:
    """The name of a model, or the path of its file."""

    def check(self, name: str, value: object) -> None:
        if not isinstance(value, (str, Path)):
            raise UsageError(f"{name} is {value!r}; it must be a model's name or a path")


@dataclass(frozen=True)
class Anything:
    """Any value; the code that uses it checks it."""

    def check(self, name: str, value: object) -> None:
        pass


Values = Choice | Count | Rate | Share | Model | Anything


@dataclass(frozen=True)
class Shown:
    """How the command line offers an option.

    ``flag_value`` is the value of an option that the user gives without a value. Only
    ``--help-all`` lists an option that is ``advanced``.
    """

    heading: str
    help: str
    metavar: str | None = None
    letter: str | None = None
    flag_value: str | None = None
    advanced: bool = False


def _about(values: Values, heading: str = "", help_text: str = "", **more: Any) -> dict[str, Any]:
    shown = Shown(heading, help_text, **more) if heading else None
    return {"values": values, "shown": shown}


@dataclass(frozen=True)
class TrackerOptions:
    """The options of a `hrtrack.Tracker`.

    Args:
        model: the name of a bundled pose model, or the path of an ONNX file or a checkpoint.
        detector: the name of a bundled person detector, or the path of an ONNX file of YOLOX,
            RTMDet or a detector like RT-DETR; ``whole`` treats the whole picture as the box of one
            person.
        skeleton: the joints of a pose model whose file does not name them: the name of a built-in
            keypoint set, a YAML file that describes one, or a `Skeleton`.
        action: the name or the path of an action model; None recognises no actions.
        backend: the library that runs the pose network; ``auto`` logs its choice and the reason.
        device: the device of the back end, for example ``CPU``, ``GPU`` or ``cuda:0``.
        precision: the number format of the pose network; ``auto`` is the fastest that keeps
            the accuracy.
        threads: the number of CPU threads for the networks; None uses all cores.
        flip: the flip test: the pose of each person is the average of the estimates from the
            picture and from its mirror image. This is more accurate, but takes about twice the
            time of the pose network.
        detect_every: run the person detector in every N-th frame, and track people in between;
            ``auto`` chooses N by the cost of the detector and the motion of the people.
        max_people: track at most this many people, those with the highest scores.
        target_fps: the frame rate to keep up with, in frames per second. If the machine is too
            slow for it, the pose network estimates only some of the people in each frame. The
            joints of the others are carried, that is, propagated by their motion, for 3 frames or
            0.15 seconds at most, whichever is longer, and never for longer than 0.21 seconds;
            ``poses.estimated`` is False for these people. ``auto``, the default, is the frame
            rate of a camera or stream, and ``off`` for files. If you give a number, the results
            of a file depend on the speed of the machine. ``off`` estimates everybody in every
            processed frame: the joints in that frame are more accurate, but more frames of a
            camera are dropped, and what is shown is older.
        min_score: the minimum score to start a track; existing tracks may fall below it.
        smooth: the strength of the One-Euro filter.
        cuts: ``auto`` ends all tracks at a hard cut, so that everybody after it gets a new
            identity; ``off`` tracks people across cuts. Flashes, fades and shaking cameras do not
            end tracks.
        color: the order of the channels, ``rgb`` or OpenCV's ``bgr``, in all arrays that the
            tracker takes and returns, including the images of the frames from `Tracker.track`.
        stopwatch: the object that records the time of each stage; None makes a new one.
        build_engine: a function that builds a missing TensorRT engine, as the command line does.
            Without it, a missing engine is an error that names the command to build it.
        convert: a function that converts a checkpoint to ONNX at its first use, as the command
            line does. Without it, a checkpoint that was not converted yet runs on torch.

    Raises:
        UsageError: an option has an invalid value.
    """

    model: str | Path = field(
        default="body_fast",
        metadata=_about(
            Model(),
            MODEL,
            "Pose model: the name of a bundled model, an ONNX file or a checkpoint.",
            metavar="NAME|PATH",
            letter="-m",
        ),
    )
    detector: str | Path = field(
        default="person_fast",
        metadata=_about(
            Model(),
            MODEL,
            "Person detector: a name that hrtrack models lists, or an ONNX file. 'whole' takes the "
            "whole picture as the box of one person.",
            metavar="NAME|PATH",
        ),
    )
    _: KW_ONLY
    skeleton: str | Path | Skeleton | None = field(
        default=None,
        metadata=_about(
            Anything(),
            MODEL,
            "Keypoint set, if the file of the model or of the results does not name its joints: a "
            "built-in set or a YAML file.",
            metavar="NAME|FILE",
            advanced=True,
        ),
    )
    action: str | Path | None = field(
        default=None,
        metadata=_about(
            Model(),
            MODEL,
            "Recognise what each person is doing, with action_penn or the model that you name.",
            metavar="[NAME|PATH]",
            flag_value="action_penn",
        ),
    )
    backend: Backend = field(
        default="auto",
        metadata=_about(Choice(get_args(Backend)), MODEL, "Library that runs the pose model."),
    )
    device: str | None = field(
        default=None,
        metadata=_about(
            Anything(),
            MODEL,
            "Device of the back end: CPU, GPU, cuda:0, and so on.  [default: chosen by the back "
            "end]",
            metavar="DEVICE",
        ),
    )
    precision: Precision = field(
        default="auto",
        metadata=_about(
            Choice(get_args(Precision)),
            MODEL,
            "Precision of the pose model. auto is the fastest that keeps its accuracy: int8 on "
            "x86-64 CPUs for models that were exported with 8-bit ranges.",
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=_about(
            Count(),
            MODEL,
            "Number of CPU threads for the models.  [default: all cores]",
            metavar="N",
            advanced=True,
        ),
    )
    flip: bool = field(
        default=False,
        metadata=_about(
            Anything(),
            MODEL,
            "Average each pose with that of the mirror image: slightly more accurate, half as "
            "fast.",
            advanced=True,
        ),
    )
    detect_every: int | Literal["auto"] = field(
        default="auto",
        metadata=_about(
            Count("auto"),
            TRACKING,
            "Run the person detector every N frames. auto adapts N to the motion.",
            metavar="N|auto",
        ),
    )
    max_people: int | None = field(
        default=None,
        metadata=_about(
            Count(),
            TRACKING,
            "Track at most N people, those with the highest scores.  [default: no limit]",
            metavar="N",
        ),
    )
    target_fps: float | Literal["auto", "off"] = field(
        default="auto",
        metadata=_about(
            Rate(("auto", "off")),
            TRACKING,
            "Keep up with N frames per second. If the machine is too slow, estimate only some of "
            "the people in each frame, and move the other people's joints by optical flow. auto: "
            "the rate of a camera or stream, and off for files. off: estimate everybody.",
            metavar="N|auto|off",
        ),
    )
    min_score: float = field(
        default=0.25,
        metadata=_about(
            Share(),
            TRACKING,
            "Minimum score of a person, from 0 to 1, to start a track; existing tracks may fall "
            "below it.",
            metavar="SCORE",
        ),
    )
    smooth: Smoothing = field(
        default="light",
        metadata=_about(
            Choice(get_args(Smoothing)),
            TRACKING,
            "How strongly the One-Euro filter smooths the keypoints.",
        ),
    )
    cuts: Cuts = field(
        default="auto",
        metadata=_about(
            Choice(get_args(Cuts)),
            TRACKING,
            "What a hard cut of the film does. auto: end all tracks, so that people after the cut "
            "get new identities. off: keep tracking across cuts.",
            advanced=True,
        ),
    )
    color: Color = field(default="rgb", metadata=_about(Choice(get_args(Color))))
    stopwatch: Stopwatch | None = field(default=None, metadata=_about(Anything()))
    build_engine: EngineBuilder | None = field(default=None, metadata=_about(Anything()))
    convert: Converter | None = field(default=None, metadata=_about(Anything()))

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                one.metadata["values"].check(one.name, value)


def shown_options() -> dict[str, tuple[Field[Any], Shown]]:
    """The options that the command line offers, by the name of their field."""
    return {
        one.name: (one, one.metadata["shown"])
        for one in fields(TrackerOptions)
        if one.metadata["shown"] is not None
    }
