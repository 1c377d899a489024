"""Saved results as what gives a run its people, for `hrtrack draw`."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ....errors import DataError, ModelError, UsageError
from ....poses import Poses
from ....skeleton import COCO17, NAMES, Skeleton, open_skeleton
from ...video.frame import Frame
from ..base import FORMATS, Target
from .read import read_results, saved_results

LOG = logging.getLogger(__name__)


class Replay:
    """Gives the people that a results file holds for each frame.

    The file is read along with the video, so its length does not matter. Frames that the
    file does not name have nobody in them. A warning counts them in the end, unless the format
    leaves out frames with nobody in them and any frame was found. People of a format without
    joints have joints of score 0, so that their boxes are drawn and nothing else.

    ``path`` is what `read_results` takes; a name that tells no format is taken for JSONL.
    ``skeleton`` is what `open_skeleton` takes, where the file's is not a built-in one.

    Raises:
        DataError: the file cannot be read, is no hrtrack results file, is of another skeleton or
            a table of several clips.
        ModelError: the file's skeleton is not a built-in one and none is given.
    """

    def __init__(self, path: str | Path, skeleton: str | Path | Skeleton | None = None) -> None:
        saved = _saved(path)
        self._path, self._form = saved.path, FORMATS[saved.format]
        given = None if skeleton is None else open_skeleton(skeleton)
        # A format that names its skeleton, not the joints, does not know them of one's own.
        named = self._named(saved, given)
        self._frames = read_results(f"{saved.format}:{saved.path}", named or given)
        self._next = next(self._frames, None)
        self.skeleton = self._skeleton(named or given)
        self._steps, self._missing = 0, list[int]()

    def _named(self, saved: Target, given: Skeleton | None) -> Skeleton | None:
        if self._form.skeleton is None:
            return None
        written = self._form.load(self._form.skeleton)(saved.path)
        if given is None and written not in NAMES:
            raise ModelError(
                f"{saved.path} has the keypoint set '{written}'; "
                "name its file with --skeleton FILE.yaml"
            )
        known = open_skeleton(written) if given is None else given
        if known.name != written:
            raise DataError(
                f"{saved.path} has the keypoint set '{written}', "
                f"and --skeleton names '{known.name}'"
            )
        return known

    def _skeleton(self, given: Skeleton | None) -> Skeleton:
        first = self._next
        if first is not None and first.source is not None:
            raise DataError(
                f"{self._path} is a table of several clips; "
                "hrtrack draw needs the results of one clip"
            )
        told = None if first is None else first.skeleton
        if given is not None or told is not None:
            return given or told or COCO17
        if first is not None and len(first) and first.scores.shape[1]:
            raise ModelError(
                f"{self._path} does not name its {first.scores.shape[1]} joints; "
                "name them with --skeleton FILE.yaml"
            )
        return COCO17

    def step(self, frame: Frame) -> Poses:
        """The saved people of ``frame``, found by its index."""
        self._steps += 1
        while self._next is not None and self._next.frame < frame.index:
            self._next = next(self._frames, None)
        if self._next is not None and self._next.frame == frame.index:
            return self._filled(self._next, frame)
        self._missing.append(frame.index)
        return Poses.empty(frame.index, frame.time, len(self.skeleton), self.skeleton)

    def _filled(self, poses: Poses, frame: Frame) -> Poses:
        """The poses with the time and the joints that not every format holds."""
        if math.isnan(poses.time):
            poses = replace(poses, time=frame.time)
        people, joints = poses.scores.shape
        if joints == len(self.skeleton):
            return poses
        return replace(
            poses,
            keypoints=np.zeros((people, len(self.skeleton), 2), np.float32),
            scores=np.zeros((people, len(self.skeleton)), np.float32),
            skeleton=self.skeleton,
        )

    def close(self) -> None:
        """Warns of frames that the results lack: they are of another clip, or not of all of it."""
        sparse = "empty frames" in self._form.lacks
        if self._missing and not (sparse and len(self._missing) < self._steps):
            LOG.warning(
                "%s lacks %d of the %d frames, the first of them frame %d; nobody is drawn there",
                self._path,
                len(self._missing),
                self._steps,
                self._missing[0],
            )


def results_path(path: str | Path) -> str:
    """The file or folder that `Replay` reads."""
    return _saved(path).path


def _saved(path: str | Path) -> Target:
    try:
        return saved_results(path)
    except UsageError:
        return Target("jsonl", str(path))
