"""The tracker as a Python object: video in, poses with identities out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..models.network import PoseNetwork
from ..models.pose.flip import FlipTest
from ..poses import Poses
from ..skeleton import Skeleton
from .inference.backends.base import Backend, EngineBuilder, Precision
from .inference.cuts import CutDetector
from .inference.detectors.base import Detector
from .inference.gate import Gate
from .inference.open import open_detector, open_estimator, open_network
from .loop import Doubt, Pipeline, Tagger
from .outputs.pictures.draw import DrawOptions, draw
from .stopwatch import Stopwatch
from .tracking.associate import AssociationOptions, Tracks
from .tracking.proposals import BoxProposer
from .tracking.smooth import Smoother
from .video.base import Decode
from .video.frame import Frame
from .video.open import LiveOptions, open_source

Smoothing = Literal["off", "light", "strong"]
Cuts = Literal["auto", "off"]


class Tracker:
    """Finds, follows and smooths people's poses.

    The networks are loaded once; every clip gets its own tracks, so identities start at 1
    with each call of `track` and are never reused within it.

    Any number of threads may use one tracker at a time, with the results of one thread: each
    `track` and each `image` follows its own people, over the same networks. One iterator that
    `track` gave belongs to one thread at a time. On an NVIDIA GPU the threads must share a CUDA
    stream, as they do unless they choose another, and take turns. In asyncio,
    ``poses = await asyncio.to_thread(tracker.image, picture)`` leaves the event loop free.

    `close` waits for the frames under way in other threads; every later use, the next frame of a
    `track` included, is a UsageError. So is every use in a process that was forked from the one
    that opened the tracker, for the networks' threads stayed behind. Open a tracker in each
    process, best with multiprocessing's start method ``spawn``: CUDA does not survive a fork.

    Args:
        model: a bundled pose model's name, or the path of an ONNX file or checkpoint.
        detector: a bundled person detector's name, or the path of a YOLOX, RT-DETR style or
            RTMDet ONNX file.
        detect_every: look for people every so many frames, following them in between;
            ``auto`` weighs the detector's cost against the motion seen.
        max_people: follow at most so many, the most certain first.
        min_score: a person needs this score to be picked up; less keeps someone in view.
        backend: what runs the pose network; ``auto`` says what it chose and why.
        device: the back end's device, for example ``CPU``, ``GPU`` or ``cuda:0``.
        precision: number format of the pose network; ``auto`` is the fastest that keeps
            the accuracy.
        threads: CPU threads for the networks; all cores when None.
        flip: estimate every pose twice, of the person and of the mirror image, and average:
            more accurate, for about twice the time of the pose network.
        smooth: strength of the One-Euro filter.
        cuts: ``auto`` ends all tracks at a hard cut, so that whoever is seen after it is a new
            person; ``off`` follows people across. Flashes, fades and shaking end no track.
        action: name or path of an action model; None leaves actions out.
        stopwatch: where the time of each stage is entered; a new one by default.
        build_engine: makes a missing TensorRT engine, as the command line does; without it a
            missing engine is an error that names the command.

    Raises:
        UsageError: an option has a value that it cannot have.
        ModelError: a model is unknown or does not fit.
        BackendError: the back end or its hardware is missing.
    """

    def __init__(
        self,
        model: str | Path = "body_fast",
        detector: str | Path = "person_fast",
        *,
        detect_every: int | Literal["auto"] = "auto",
        max_people: int | None = None,
        min_score: float = 0.25,
        backend: Backend = "auto",
        device: str | None = None,
        precision: Precision = "auto",
        threads: int | None = None,
        flip: bool = False,
        smooth: Smoothing = "light",
        cuts: Cuts = "auto",
        action: str | Path | None = None,
        stopwatch: Stopwatch | None = None,
        build_engine: EngineBuilder | None = None,
    ) -> None:
        if detect_every != "auto":
            _check_count("detect_every", detect_every, "'auto' or ")
        if max_people is not None:
            _check_count("max_people", max_people)
        if threads is not None:
            _check_count("threads", threads)
        _check_score("min_score", min_score)
        _check_model("model", model)
        _check_model("detector", detector)
        if action is not None:
            _check_model("action", action)
        _check_choice("precision", precision, get_args(Precision))
        _check_choice("smooth", smooth, get_args(Smoothing))
        _check_choice("cuts", cuts, get_args(Cuts))
        network = open_network(
            model,
            backend=backend,
            device=device,
            precision=precision,
            threads=threads,
            build_engine=build_engine,
        )
        self.network: PoseNetwork = FlipTest(network) if flip else network
        self.skeleton: Skeleton = network.skeleton
        # On a GPU both networks look at one upload of the frame.
        device = getattr(network, "device", None)
        self.detector = open_detector(
            str(detector), threads=threads, device=device, eight_bits=precision in ("auto", "int8")
        )
        self.stopwatch = stopwatch or Stopwatch()
        self._detect_every = detect_every
        self._max_people = max_people
        self._min_score = min_score
        self._smooth: Smoothing = smooth
        self._cuts: Cuts = cuts
        self._doubt = Doubt()
        self._new_tagger: Callable[[], Tagger] | None = None
        if action is not None:
            from ..actions.tagger import open_actions

            self._new_tagger = open_actions(str(action), self.skeleton, threads)
        # Not a method of this object, which a circle of references would keep in memory.
        self._gate = Gate(functools.partial(_free, self.network, self.detector, self._new_tagger))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the networks, once the frames under way in other threads are done."""
        self._doubt.tell(self._min_score)
        self._gate.close()

    def pipeline(self, *, live: bool = False, keep_heatmaps: bool = False) -> Pipeline:
        """A fresh pipeline, without tracks, over the loaded networks; UsageError once closed."""
        self._gate.check()
        tracks = Tracks(self.skeleton, AssociationOptions(min_score=self._min_score))
        return Pipeline(
            proposer=BoxProposer(
                self.detector,
                tracks,
                every=self._detect_every,
                max_people=self._max_people,
                background=live,
            ),
            estimate=open_estimator(
                self.network,
                len(self.skeleton),
                self.stopwatch,
                keep_heatmaps=keep_heatmaps,
                upload=getattr(self.detector, "upload", None),
            ),
            tracks=tracks,
            smoother=Smoother(self.skeleton, self._smooth),
            tagger=self._new_tagger() if self._new_tagger else None,
            stopwatch=self.stopwatch,
            cuts=CutDetector() if self._cuts == "auto" else None,
            in_use=self._gate,
            doubt=self._doubt,
        )

    def track(
        self,
        source: str | Path,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        live: LiveOptions | None = None,
        decode: Decode = "cpu",
        sequence: float | None = None,
    ) -> Iterator[tuple[Frame, Poses]]:
        """Follows the people of a video, camera or stream.

        Args:
            source: what ``hrtrack --source`` takes: ``webcam``, a file, a URL, ...
            start: seconds from which on frames are used.
            end: seconds up to which frames are used.
            stride: use every so many frames.
            live: camera and stream settings.
            decode: ``cuda`` decodes files on an NVIDIA GPU.
            sequence: takes a folder of numbered pictures as one clip of so many a second.

        Yields:
            Each frame with its people. ``poses.boxes`` (N, 4), ``poses.keypoints``
            (N, K, 2), ``poses.scores`` (N, K) and ``poses.ids`` (N,).

        Raises:
            SourceError: the source cannot be read.
            BackendError: there is no GPU to decode on.
            UsageError: the tracker is closed, or another process opened it.
        """
        self._gate.check()
        frames = open_source(
            str(source),
            start=start,
            end=end,
            stride=stride,
            live=live,
            stopwatch=self.stopwatch,
            decode=decode,
            sequence=sequence,
        )
        with frames:
            pipeline = self.pipeline(live=frames.is_live)
            try:
                for frame in frames:
                    yield frame, pipeline.step(frame)
            finally:
                pipeline.close()

    def image(self, image_HW3: NDArray[np.uint8]) -> Poses:
        """The people of a single RGB image (H, W, 3) uint8; their ids are 1, 2, ...

        ValueError for anything else; UsageError where the tracker is closed or another process
        opened it.
        """
        _check_image(image_HW3)
        return self.pipeline().step(Frame(index=0, time=0.0, image=image_HW3))

    def draw(self, image_HW3: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        """A copy of an RGB image (H, W, 3) uint8 with skeletons, boxes and ids on it.

        ValueError for anything else.
        """
        _check_image(image_HW3)
        if not isinstance(poses, Poses):
            raise ValueError(f"poses must be what image() or track() give, found {poses!r:.60}")
        options = DrawOptions({"skeleton", "boxes", "ids"})
        return draw(image_HW3.copy(), poses, self.skeleton, options)


def _free(network: PoseNetwork, detector: Detector, _: Callable[[], Tagger] | None) -> None:
    network.close()
    detector.close()


def _check_count(name: str, value: object, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UsageError(f"{name} is {value!r}; it must be {otherwise}a whole number of at least 1")


def _check_model(name: str, value: object) -> None:
    if not isinstance(value, (str, Path)):
        raise UsageError(f"{name} is {value!r}; it must be a model's name or a path")


def _check_score(name: str, value: object) -> None:
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value <= 1:
        raise UsageError(f"{name} is {value!r}; it must be a number from 0 to 1")


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{name} is {value!r}; known are {', '.join(known)}")


def _check_image(image: object) -> None:
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
    elif image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        found = f"{image.shape} {image.dtype}"
    else:
        return
    raise ValueError(f"an image must be a NumPy array (H, W, 3) uint8 with pixels, found {found}")
