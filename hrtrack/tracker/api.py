"""The tracker as a Python object: video in, poses with identities out."""

from __future__ import annotations

import functools
import logging
import os
import weakref
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..models.network import PoseNetwork, SharedNetwork, on_gpu
from ..models.pose.flip import FlipTest
from ..models.runtimes.openvino import CALLERS
from ..poses import Poses
from ..skeleton import Skeleton
from .inference.detectors.base import Detector
from .inference.gate import Gate
from .inference.open import open_detector, open_estimator, open_pose
from .loop import Doubt, Pipeline, Tagger, Upcoming
from .options import TrackerOptions
from .outputs.pictures.draw import DrawOptions, draw
from .stopwatch import Stopwatch
from .streams import Stream
from .tracking.associate import AssociationOptions, Tracks
from .tracking.budget import Budget
from .tracking.cuts import CutDetector
from .tracking.flow import Flow
from .tracking.proposals import BoxProposer
from .tracking.smooth import Smoother
from .video.base import Decode
from .video.frame import Frame
from .video.open import LiveOptions, open_source
from .video.own import Clip, Picture, in_color, own_frames, to_rgb

LOG = logging.getLogger(__name__)
FASTEST = 60.0
"""The most frames per second for ``target_fps="auto"`` and a live source of unknown rate."""
NO_PEOPLE = {
    "onehand21": ("hands", "rtmdet_nano_8xb32-300e_hand, or whole for pictures of one hand"),
    "ap10k17": ("animals", "whole, for pictures of one animal"),
}
"""Skeletons whose models need boxes of something other than people: of what, and what to use."""
P = ParamSpec("P")
S = TypeVar("S")


def _takes_fields_of(
    options: Callable[P, object],
) -> Callable[[Callable[Concatenate[S, ...], None]], Callable[Concatenate[S, P], None]]:
    """Declares the fields of a class as a method's arguments, for readers and type checkers."""
    takes = signature(options)

    def declare(method: Callable[Concatenate[S, ...], None]) -> Callable[Concatenate[S, P], None]:
        me = Parameter("self", Parameter.POSITIONAL_ONLY)
        whole = takes.replace(parameters=[me, *takes.parameters.values()])
        method.__signature__ = whole  # type: ignore[attr-defined]
        return method

    return declare


class Tracker:
    """Finds the people in pictures, tracks them, and smooths their poses.

    ::

        with Tracker() as tracker:
            for frame, poses in tracker.track("clip.mp4"):
                for person in poses:
                    print(frame.time, person.id, person["left_wrist"])

    - `track` opens a file, a camera or a URL, or takes your own pictures, and yields every frame
      with its people.
    - `update` takes the next frame of your own loop, and `reset` begins another clip. For several
      cameras, `new_stream` gives each camera its own ``update`` and ``reset``.
    - `image` finds the people in a single picture, and `draw` draws them.

    The arguments are the fields of `hrtrack.TrackerOptions`, which describes each of them. You may
    give ``model`` and ``detector`` by position, and all others by name only.

    A tracker loads its networks once. Every clip and every stream has its own tracks: identities
    start at 1 in each of them and are never reused within it. `hrtrack.Poses` describes the people
    of a frame.

    Pictures are uint8 arrays (H, W, 3) in RGB, or in OpenCV's BGR with ``color="bgr"``. Grey
    arrays (H, W), arrays with a fourth channel for transparency, PIL pictures, and paths or bytes
    of picture files work as well. All coordinates are in pixels of the given picture.

    Any number of threads may use one tracker at the same time, with the same results as in one
    thread: each call of `track` or `image` and each stream tracks its own people and shares the
    networks. Only one thread at a time may use an iterator that `track` returned. On an NVIDIA GPU
    the threads take turns and must use the same CUDA stream, which is the default. In asyncio,
    ``poses = await asyncio.to_thread(tracker.image, picture)`` does not block the event loop.

    `close` waits for the frames that other threads are processing. Every later use raises a
    UsageError. So does every use in a process that was forked from the one that opened the
    tracker, because the threads of the networks do not survive a fork. Open a tracker in each
    process, preferably with the start method ``spawn`` of multiprocessing.

    Raises:
        UsageError: an option has an invalid value.
        ModelError: a model is unknown or cannot be used.
        BackendError: the back end or its hardware is missing.
        ConfigError: the skeleton file cannot be read or is invalid.
    """

    @_takes_fields_of(TrackerOptions)
    def __init__(self, *given: Any, **named: Any) -> None:
        self._begin(TrackerOptions(*given, **named), None)

    def _begin(self, options: TrackerOptions, network: PoseNetwork | None) -> None:
        self.options: TrackerOptions = options
        if network is None:
            network = open_pose(options)
        self.network: PoseNetwork = FlipTest(network) if options.flip else network
        self.skeleton: Skeleton = network.skeleton
        # On a GPU both networks look at one upload of the frame.
        there = on_gpu(network)
        self.detector = open_detector(
            str(options.detector),
            threads=options.threads,
            device=there.device if there else None,
            eight_bits=options.precision in ("auto", "int8"),
        )
        if self.skeleton.name in NO_PEOPLE and self.detector.name == "person_fast":
            what, advice = NO_PEOPLE[self.skeleton.name]
            LOG.warning(
                "the model is for %s, but person_fast finds people; give --detector %s",
                what,
                advice,
            )
        self.stopwatch = options.stopwatch or Stopwatch()
        self._doubt = Doubt()
        self._new_tagger: Callable[[], Tagger] | None = None
        if options.action is not None:
            from ..actions.tagger import open_actions

            self._new_tagger = open_actions(str(options.action), self.skeleton, options.threads)
        # Not a method of this object, which a circle of references would keep in memory.
        self._gate = Gate(functools.partial(_free, self.network, self.detector, self._new_tagger))
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._stream = Stream(_weakly(self.pipeline), self._gate, options.color)

    @classmethod
    def of(cls, options: TrackerOptions, network: PoseNetwork | None = None) -> Self:
        """A tracker with these options, as ``Tracker(...)`` makes it from the same values.

        ``network`` is the pose network of these options, if it is open already.
        """
        tracker = cls.__new__(cls)
        tracker._begin(options, network)
        return tracker

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
        """Waits for the frames that other threads are processing, and frees the networks."""
        self._doubt.report(self.options.min_score)
        self._gate.close()

    def pipeline(
        self,
        *,
        live: bool = False,
        rate: float | None = None,
        waits: bool = True,
        keep_heatmaps: bool = False,
        upcoming: Upcoming | None = None,
    ) -> Pipeline:
        """A new pipeline with the loaded networks and without tracks; UsageError after `close`.

        Args:
            live: whether the source is a camera or stream.
            rate: the frames per second of the source, if they are known.
            waits: whether the loop may have to wait for the next frame; it need not for a file.
            keep_heatmaps: whether to keep the data for drawing heatmaps. ``target_fps="auto"``
                then estimates everybody, because a carried person has no heatmap.
            upcoming: what gives the next frame, or None if it is not decoded yet. On a CPU the
                detector then works ahead, and the networks leave room for the video's decoder and
                encoder; `Pipeline.close` ends that. Results stay the same to the bit. With one
                thread, nothing is done at the same time.
        """
        self._gate.check()
        target: float | str = self.options.target_fps
        if target == "auto":
            # Of a source that does not tell, the budget measures the rate.
            target = (rate or FASTEST) if live and not keep_heatmaps else "off"
        budget = None if isinstance(target, str) else Budget(target_fps=target, waits=waits)
        beside = ExitStack()
        threads = self.options.threads or os.cpu_count() or 1
        # A detector on a GPU is quick, and is called by one thread at a time.
        if threads == 1 or not isinstance(self.detector, SharedNetwork):
            upcoming = None
        if upcoming is not None:
            beside.enter_context(CALLERS.enter())
            for one in (self.network, self.detector):
                if isinstance(one, SharedNetwork):
                    one.make_room()
        tracks = Tracks(self.skeleton, AssociationOptions(min_score=self.options.min_score))
        return Pipeline(
            proposer=BoxProposer(
                self.detector,
                tracks,
                every=self.options.detect_every,
                max_people=self.options.max_people,
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
            smoother=Smoother(self.skeleton, self.options.smooth),
            tagger=self._new_tagger() if self._new_tagger else None,
            stopwatch=self.stopwatch,
            cuts=CutDetector() if self.options.cuts == "auto" else None,
            in_use=self._gate,
            doubt=self._doubt,
            skeleton=self.skeleton,
            budget=budget,
            flow=None if budget is None else Flow(),
            upcoming=upcoming,
            beside=beside,
        )

    def update(self, image: Picture, time: float | None = None) -> Poses:
        """Tracks the people in the next frame of your own loop.

        All frames must come from one camera or clip; for others, see `reset` and `new_stream`. The
        person detector runs on the calling thread. Calls from several threads take turns.

        Args:
            image: a picture of any kind that `image` takes.
            time: when the frame was taken, in seconds from any starting point; it must not
                decrease. None takes the time of the monotonic clock. For a recording, give the
                times of its frames, because the tracker predicts motion from these times.

        Returns:
            The people with their identities. ``poses.frame`` counts the calls from 0.

        Raises:
            ImageError: ``image`` is not a picture of a supported kind.
            SourceError: a picture file cannot be read.
            UsageError: ``time`` is not a number or decreases, the tracker is closed, or another
                process opened it.
        """
        return self._stream.update(image, time)

    def reset(self) -> None:
        """Makes the next `update` the first of another clip, in which identities start at 1.

        Raises UsageError if the tracker is closed or another process opened it.
        """
        self._stream.reset()

    def new_stream(self) -> Stream:
        """A stream of frames with its own people, ``update`` and ``reset``, and the same networks.

        Make one stream for each camera; each may run in its own thread. The results are those of
        a tracker that processes only this stream.

        Raises UsageError if the tracker is closed or another process opened it.
        """
        self._gate.check()
        stream = Stream(self.pipeline, self._gate, self.options.color)
        self._streams.add(stream)
        if len(self._streams) > 1:
            self.share(len(self._streams))
        return stream

    def share(self, streams: int) -> None:
        """Prepares the networks for this number of streams, each in its own thread.

        `new_stream` does this by itself. On a CPU, simultaneous calls then run in parallel, each on
        some of the cores, and the results stay exactly the same. On a GPU, the waiting crops of all
        streams go through the pose network as one batch, and the waiting frames through the person
        detector.

        Raises UsageError if the tracker is closed or another process opened it.
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
    ) -> Generator[tuple[Frame, Poses], None, None]:
        """Tracks the people in a video, a camera, a stream, or your own pictures.

        Args:
            source: one of three: what ``hrtrack --source`` takes, such as ``webcam``, a file or a
                URL; an open ``cv2.VideoCapture``, which gives BGR and which `track` does not close;
                or an iterable of pictures that `image` takes, or of ``(time, image)`` with the
                time in seconds. Of the other arguments, the last two kinds take only ``sequence``.
            start: the first second to use.
            end: the last second to use.
            stride: use every ``stride``-th frame.
            live: the settings of a camera or stream.
            decode: ``cuda`` decodes files on an NVIDIA GPU.
            sequence: the frame rate of a folder of numbered pictures, or of your own pictures
                without times; they then form one clip. Without it, each of your own pictures gets
                the time of the monotonic clock at its arrival.

        Yields:
            Each frame with its people: among others ``poses.boxes`` (N, 4), ``poses.keypoints``
            (N, K, 2), ``poses.scores`` (N, K) and ``poses.ids`` (N,).

        Raises:
            SourceError: the source cannot be read.
            ImageError: one of your pictures is not a picture of a supported kind.
            BackendError: there is no GPU to decode on.
            UsageError: the tracker is closed, another process opened it, the source is of no
                supported kind, or times decrease.
        """
        self._gate.check()
        if not isinstance(source, (str, Path, int)):
            if (start, end, stride, live, decode) != (None, None, 1, None, "cpu"):
                raise UsageError(
                    "start, end, stride, live and decode are for sources that track() opens itself"
                )
            pipeline = self.pipeline()
            for frame in own_frames(source, self.options.color, sequence):
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
            rate = float(frames.fps) / stride if frames.fps else None
            pipeline = self.pipeline(
                live=frames.is_live,
                rate=rate,
                waits=frames.is_live,
                upcoming=frames.upcoming if frames.kind == "file" else None,
            )
            try:
                for frame in frames:
                    yield self._given(frame), pipeline.step(frame)
            finally:
                pipeline.close()

    def image(self, image: Picture) -> Poses:
        """Finds the people in a single picture; their ids are 1, 2, ...

        Args:
            image: a uint8 array (H, W, 3), (H, W, 4) or (H, W), a PIL picture, or the path or the
                bytes of a picture file.

        Raises:
            ImageError: ``image`` is not a picture of a supported kind.
            SourceError: a picture file cannot be read.
            UsageError: the tracker is closed, or another process opened it.
        """
        self._gate.check()
        image_HW3 = to_rgb(image, self.options.color)
        return replace(self.pipeline(), budget=None).step(Frame(index=0, time=0.0, image=image_HW3))

    def draw(
        self, image: Picture, poses: Poses, layers: str = "skeleton,boxes,ids"
    ) -> NDArray[np.uint8]:
        """Draws people on a copy (H, W, 3) uint8 of a picture of any kind that `image` takes.

        ``layers`` are those of ``--draw``, except for trails and heatmaps, which need more than the
        poses of one frame and are left out.

        Raises:
            ImageError: ``image`` is not a picture of a supported kind.
            SourceError: a picture file cannot be read.
            ValueError: ``poses`` is not a `Poses` object.
            UsageError: a layer is unknown.
        """
        image_HW3 = to_rgb(image, self.options.color)
        if not isinstance(poses, Poses):
            raise ValueError(f"poses must be what image() or track() give, found {poses!r:.60}")
        options = DrawOptions.parse(layers, min_score=0.3)
        return in_color(draw(image_HW3.copy(), poses, self.skeleton, options), self.options.color)

    def _given(self, frame: Frame) -> Frame:
        """A frame as it is given to the user."""
        if self.options.color == "rgb":
            return frame
        return replace(frame, image=in_color(frame.image, self.options.color))


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
