"""The tracker as a Python object: video in, poses with identities out."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..models.network import PoseNetwork, SharedNetwork, on_gpu
from ..models.pose.flip import FlipTest
from ..poses import Poses
from ..skeleton import Skeleton, open_skeleton
from .inference.backends.base import Backend, Converter, EngineBuilder, Precision
from .inference.detectors.base import Detector
from .inference.gate import Gate
from .inference.open import open_detector, open_estimator, open_network
from .loop import Doubt, Pipeline, Tagger
from .outputs.pictures.draw import DrawOptions, draw
from .stopwatch import Stopwatch
from .streams import Stream
from .tracking.associate import AssociationOptions, Tracks
from .tracking.cuts import CutDetector
from .tracking.proposals import BoxProposer
from .tracking.smooth import Smoother
from .video.base import Decode
from .video.frame import Frame
from .video.open import LiveOptions, open_source
from .video.own import Clip, Color, Picture, in_color, own_frames, to_rgb

Smoothing = Literal["off", "light", "strong"]
Cuts = Literal["auto", "off"]


class Tracker:
    """Finds, follows and smooths people's poses.

    - `track` opens a file, camera or URL, or takes pictures of yours, and yields every frame with
      its people.
    - `update` takes the next frame of a loop of your own; `reset` begins another clip. For more
      cameras than one, `new_stream` gives each an ``update`` and a ``reset`` of its own.
    - `image` finds the people of a single picture; `draw` draws them.

    The networks are loaded once; every clip and every stream has its own tracks, so identities
    start at 1 in each and are never reused within it. `hrtrack.Poses` says what a frame's people
    are.

    Pictures are uint8 arrays (H, W, 3) in RGB, or in OpenCV's BGR with ``color="bgr"``. Grey
    arrays (H, W), arrays with a fourth channel for transparency, PIL pictures, and paths or bytes
    of picture files do, too. All coordinates are pixels of the picture as it is given.

    Any number of threads may use one tracker at a time, with the results of one thread: each
    `track`, each `image` and each stream follows its own people, over the same networks. One
    iterator that `track` gave belongs to one thread at a time. On an NVIDIA GPU the threads must
    share a CUDA stream, as they do unless they choose another, and take turns. In asyncio,
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
        color: the order of the channels in all arrays that the tracker takes and gives, the
            images of the frames that `track` yields included: ``rgb``, or OpenCV's ``bgr``.
        skeleton: the pose model's joints where it does not say them: the name of a built-in
            keypoint set, a YAML file that describes one, or a `Skeleton`.
        stopwatch: where the time of each stage is entered; a new one by default.
        build_engine: makes a missing TensorRT engine, as the command line does; without it a
            missing engine is an error that names the command.
        convert: makes ONNX of a checkpoint at its first use, as the command line does; without it
            a checkpoint that was not converted yet runs on torch.

    Raises:
        UsageError: an option has a value that it cannot have.
        ModelError: a model is unknown or does not fit.
        BackendError: the back end or its hardware is missing.
        ConfigError: the file of the skeleton cannot be read or does not fit together.
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
        color: Color = "rgb",
        skeleton: str | Path | Skeleton | None = None,
        stopwatch: Stopwatch | None = None,
        build_engine: EngineBuilder | None = None,
        convert: Converter | None = None,
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
        _check_choice("color", color, get_args(Color))
        network = open_network(
            model,
            backend=backend,
            device=device,
            precision=precision,
            threads=threads,
            build_engine=build_engine,
            skeleton=open_skeleton(skeleton) if isinstance(skeleton, str | Path) else skeleton,
            convert=convert,
        )
        self.network: PoseNetwork = FlipTest(network) if flip else network
        self.skeleton: Skeleton = network.skeleton
        # On a GPU both networks look at one upload of the frame.
        there = on_gpu(network)
        self.detector = open_detector(
            str(detector),
            threads=threads,
            device=there.device if there else None,
            eight_bits=precision in ("auto", "int8"),
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
        self._color: Color = color
        # Not a method of this object, which a circle of references would keep in memory.
        self._gate = Gate(functools.partial(_free, self.network, self.detector, self._new_tagger))
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._stream = Stream(_weakly(self.pipeline), self._gate, color)

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
        self._doubt.report(self._min_score)
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
                detector=self.detector,
            ),
            tracks=tracks,
            smoother=Smoother(self.skeleton, self._smooth),
            tagger=self._new_tagger() if self._new_tagger else None,
            stopwatch=self.stopwatch,
            cuts=CutDetector() if self._cuts == "auto" else None,
            in_use=self._gate,
            doubt=self._doubt,
            skeleton=self.skeleton,
        )

    def update(self, image: Picture, time: float | None = None) -> Poses:
        """The people of the next frame of a loop of your own, followed from the frames before.

        The person detector runs on the calling thread. Frames of one camera or clip belong
        together: see `reset` and `new_stream`. Calls from several threads take turns.

        Args:
            image: what `image` takes.
            time: when the frame was taken, in seconds from any moment on, never less than before;
                the monotonic clock's time when None. For the frames of a recording give the
                recording's times, for how far people move between frames depends on it.

        Returns:
            The people with their identities. ``poses.frame`` counts the calls from 0.

        Raises:
            ImageError: ``image`` is no picture, or not of a kind that can be taken.
            SourceError: a picture's file cannot be read.
            UsageError: ``time`` is no number or goes back, the tracker is closed, or another
                process opened it.
        """
        return self._stream.update(image, time)

    def reset(self) -> None:
        """Makes the next `update` the first of another clip, in which identities begin at 1.

        UsageError where the tracker is closed, or another process opened it.
        """
        self._stream.reset()

    def new_stream(self) -> Stream:
        """A stream of frames with its own people, ``update`` and ``reset``, over the same networks.

        Make one for each camera; each may run in a thread of its own. The results are those of a
        tracker that sees this stream alone.

        UsageError where the tracker is closed, or another process opened it.
        """
        self._gate.check()
        stream = Stream(self.pipeline, self._gate, self._color)
        self._streams.add(stream)
        if len(self._streams) > 1:
            self.share(len(self._streams))
        return stream

    def share(self, streams: int) -> None:
        """Prepares the networks for so many streams at a time, each in a thread of its own.

        `new_stream` does so by itself. On a CPU calls at the same time then run side by side, each
        on a share of the cores, and what comes out of them stays the same to the bit. On a GPU the
        crops of all streams that wait go through the pose network as one batch.

        UsageError where the tracker is closed, or another process opened it.
        """
        self._gate.check()
        if on_gpu(self.network) is not None:
            from .inference.gathered import GatheredNetwork

            if not isinstance(self.network, GatheredNetwork):
                self.network = GatheredNetwork(self.network)
        for one in (self.network, self.detector):
            if isinstance(one, SharedNetwork):
                one.share(streams)

    def track(
        self,
        source: str | Path | Clip,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        live: LiveOptions | None = None,
        decode: Decode = "cpu",
        sequence: float | None = None,
    ) -> Iterator[tuple[Frame, Poses]]:
        """Follows the people of a video, camera or stream, or of pictures of your own.

        Args:
            source: what ``hrtrack --source`` takes: ``webcam``, a file, a URL, ...; or an open
                ``cv2.VideoCapture``, always taken for BGR and never closed here; or an iterable
                of what `image` takes, or of ``(time, image)`` with the time in seconds. The other
                arguments but ``sequence`` are for sources that are opened here.
            start: seconds from which on frames are used.
            end: seconds up to which frames are used.
            stride: use every so many frames.
            live: camera and stream settings.
            decode: ``cuda`` decodes files on an NVIDIA GPU.
            sequence: takes a folder of numbered pictures, or pictures without times, as one clip
                of so many a second. Without it pictures of your own have the time of the monotonic
                clock when they come.

        Yields:
            Each frame with its people. ``poses.boxes`` (N, 4), ``poses.keypoints``
            (N, K, 2), ``poses.scores`` (N, K) and ``poses.ids`` (N,).

        Raises:
            SourceError: the source cannot be read.
            ImageError: a picture of yours is none, or not of a kind that can be taken.
            BackendError: there is no GPU to decode on.
            UsageError: the tracker is closed, another process opened it, the source is nothing
                that can be tracked, or times go back.
        """
        self._gate.check()
        if not isinstance(source, (str, Path, int)):
            if (start, end, stride, live, decode) != (None, None, 1, None, "cpu"):
                raise UsageError(
                    "start, end, stride, live and decode are for sources that track() opens itself"
                )
            pipeline = self.pipeline()
            for frame in own_frames(source, self._color, sequence):
                yield self._given(frame), pipeline.step(frame)
            return
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
                    yield self._given(frame), pipeline.step(frame)
            finally:
                pipeline.close()

    def image(self, image: Picture) -> Poses:
        """The people of a single picture; their ids are 1, 2, ...

        Args:
            image: a uint8 array (H, W, 3), (H, W, 4) or (H, W), a PIL picture, or a picture file's
                path or bytes.

        Raises:
            ImageError: ``image`` is no picture, or not of a kind that can be taken.
            SourceError: a picture's file cannot be read.
            UsageError: the tracker is closed, or another process opened it.
        """
        self._gate.check()
        image_HW3 = to_rgb(image, self._color)
        return self.pipeline().step(Frame(index=0, time=0.0, image=image_HW3))

    def draw(
        self, image: Picture, poses: Poses, layers: str = "skeleton,boxes,ids"
    ) -> NDArray[np.uint8]:
        """A copy (H, W, 3) uint8 of what `image` takes, with people drawn on it.

        ``layers`` are those of ``--draw``, of which trails and heatmaps need more than one frame's
        poses and are left out.

        Raises:
            ImageError: ``image`` is no picture, or not of a kind that can be taken.
            SourceError: a picture's file cannot be read.
            ValueError: ``poses`` are none.
            UsageError: a layer is unknown.
        """
        image_HW3 = to_rgb(image, self._color)
        if not isinstance(poses, Poses):
            raise ValueError(f"poses must be what image() or track() give, found {poses!r:.60}")
        options = DrawOptions.parse(layers, min_score=0.3)
        return in_color(draw(image_HW3.copy(), poses, self.skeleton, options), self._color)

    def _given(self, frame: Frame) -> Frame:
        """A frame as it is given to the user."""
        if self._color == "rgb":
            return frame
        return replace(frame, image=in_color(frame.image, self._color))


def _weakly(method: Callable[[], Pipeline]) -> Callable[[], Pipeline]:
    """A method that does not keep its object in memory; whoever calls it, does."""
    reference = weakref.WeakMethod(method)

    def call() -> Pipeline:
        alive = reference()
        assert alive is not None
        return alive()

    return call


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
