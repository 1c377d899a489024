"""Names what each tracked person is doing, from the last seconds of their joints.

Needs numpy and a function from joints to logits; nothing of it is loaded without ``--action``.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import ModelError, one_line
from ..models.info import read_onnx_metadata
from ..models.runtimes.openvino import openvino_core
from ..models.zoo import resolve
from ..poses import Action, Poses
from ..skeleton import Skeleton
from ..types import Float32Array
from .bridge import Bridge
from .info import ActionInfo, action_info, normalise, sample

Logits = Callable[[Float32Array], Float32Array]

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Voting:
    """How answers become a label, in seconds and probabilities.

    A person is asked about every ``every`` seconds once seen for ``warm_up``, or for the
    network's window where that is shorter; answers are
    averaged over about ``memory`` seconds. A label appears when its average passes the
    network's threshold and stays until another passes it or its own falls below
    ``stay`` x threshold, so that it does not flicker. Joints at or below ``min_score`` are
    unseen; a person with fewer than ``min_joints`` seen on average gets no label. Tracks not
    seen for ``forget`` are dropped.
    """

    every: float = 0.2
    warm_up: float = 1.0
    memory: float = 0.6
    stay: float = 0.8
    min_score: float = 0.2
    min_joints: float = 5.0
    forget: float = 2.0


@dataclass
class _Track:
    times: deque[float] = field(default_factory=deque)
    joints: deque[Float32Array] = field(default_factory=deque)
    asked: float = -math.inf
    votes: Float32Array | None = None
    action: Action | None = None


class ActionTagger:
    """Fills in ``Poses.actions``, one stream at a time.

    ``network`` takes normalised joints (N, 3, T, 13) and gives logits (N, labels + 1),
    the last for "unknown"; ``info`` says what they mean and how they are calibrated.
    ModelError when the skeleton has too few of the joints that actions are read from.
    """

    def __init__(
        self,
        network: Logits,
        info: ActionInfo,
        skeleton: Skeleton,
        voting: Voting | None = None,
    ) -> None:
        self.network = network
        self.labels = (*info.labels, UNKNOWN)
        self.window = info.window
        self.temperature = info.temperature
        self.threshold = info.threshold
        self.voting = voting or Voting()
        self._bridge = Bridge(skeleton)
        self._tracks: dict[int, _Track] = {}

    def update(self, poses: Poses) -> Poses:
        """The same poses with ``actions``: None while too little of a person has been seen.

        Times are the poses' own; a source that jumps back in time starts afresh.
        """
        now = poses.time
        joints = self._bridge(poses.keypoints, poses.scores, self.voting.min_score)
        known = [(int(i), j) for i, j in zip(poses.ids, joints, strict=True) if i >= 0]
        for identity, person in known:
            self._remember(identity, now, person)
        self._drop_old(now)
        due = [i for i, _ in known if self._is_due(self._tracks[i], now)]
        if due:
            self._ask(due, now)
        actions = tuple(self._tracks[int(i)].action if i >= 0 else None for i in poses.ids)
        return replace(poses, actions=actions)

    def _remember(self, identity: int, now: float, joints: Float32Array) -> None:
        track = self._tracks.get(identity)
        if track is None or (track.times and now <= track.times[-1]):
            track = self._tracks[identity] = _Track()
        track.times.append(now)
        track.joints.append(joints)
        # One frame more than the window, for its first moment may lie between two frames.
        oldest = now - self.window.seconds
        while len(track.times) > 2 and track.times[1] < oldest:
            track.times.popleft()
            track.joints.popleft()

    def _drop_old(self, now: float) -> None:
        for identity in list(self._tracks):
            if abs(now - self._tracks[identity].times[-1]) > self.voting.forget:
                del self._tracks[identity]

    def _is_due(self, track: _Track, now: float) -> bool:
        seen_for = now - track.times[0]
        # Frames older than the window are forgotten, so nobody is seen for longer than that.
        warm_up = min(self.voting.warm_up, self.window.seconds)
        # Half a millisecond, for frame times are rounded.
        return seen_for >= warm_up - 5e-4 and now - track.asked >= self.voting.every - 5e-4

    def _ask(self, due: Sequence[int], now: float) -> None:
        tracks = [self._tracks[i] for i in due]
        windows = np.stack(
            [sample(np.array(t.times), np.stack(t.joints), now, self.window) for t in tracks]
        )
        logits = self.network(normalise(windows)) / self.temperature
        raised = np.exp(logits - logits.max(1, keepdims=True))
        answers = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
        seen = (windows[..., 2] > 0).sum(-1)
        for track, answer, joints in zip(tracks, answers, seen, strict=True):
            shown = joints[joints > 0]
            if not len(shown) or shown.mean() < self.voting.min_joints:
                track.votes, track.action, track.asked = None, None, now
                continue
            if track.votes is None:
                track.votes = answer
            else:
                share = 1.0 - math.exp(-(now - track.asked) / self.voting.memory)
                track.votes = track.votes + share * (answer - track.votes)
            track.asked = now
            track.action = self._decide(track.votes, track.action)

    def _decide(self, votes: Float32Array, before: Action | None) -> Action:
        known = votes[:-1]
        best = int(known.argmax())
        if before is not None and before.label != UNKNOWN:
            held = self.labels.index(before.label)
            # Another label must win by right of its own threshold, not by a hair.
            challenged = best != held and known[best] >= self.threshold
            if not challenged and known[held] >= self.voting.stay * self.threshold:
                return Action(before.label, float(known[held]))
        if known[best] >= self.threshold and known[best] >= votes[-1]:
            return Action(self.labels[best], float(known[best]))
        return Action(UNKNOWN, float(1.0 - known[best]))


def open_actions(
    name_or_path: str | Path, skeleton: Skeleton, threads: int | None = None
) -> Callable[[], ActionTagger]:
    """An action model by bundled name or path, on OpenVINO, for joints of ``skeleton``.

    Loaded once; each call of the result gives a tagger that has seen nobody yet. ModelError when
    it is missing, no action model or does not fit the skeleton; BackendError without OpenVINO.
    """

    network, info = open_action_network(name_or_path, threads)
    ActionTagger(network, info, skeleton)  # does it fit?
    return lambda: ActionTagger(network, info, skeleton)


def open_action(
    name_or_path: str | Path, skeleton: Skeleton, threads: int | None = None
) -> ActionTagger:
    """The first tagger of `open_actions`, for those who need one only."""
    return open_actions(name_or_path, skeleton, threads)()


def open_action_network(
    name_or_path: str | Path, threads: int | None = None
) -> tuple[Callable[[Float32Array], Float32Array], ActionInfo]:
    """(network, info) of a bundled action model or an ONNX file.

    The network takes (N, 3, T, 13) with any N from 1 and gives (N, len(labels) + 1) logits; any
    number of threads may call it.
    ModelError when the file is missing or no action model, BackendError without OpenVINO.
    """
    path = resolve(name_or_path, task="action")
    info = action_info(read_onnx_metadata(path), path)
    core = openvino_core()
    config: dict[str, object] = {
        # The default of CPUs with AMX is bfloat16, which moves the calibrated confidence.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = core.compile_model(str(path), "CPU", config)
    except RuntimeError as error:
        line = one_line(error)
        raise ModelError(f"OpenVINO cannot load the action model {path}: {line}") from error
    expected = (3, info.window.samples, 13)
    found = compiled.input(0).partial_shape
    if str(found) != f"[?,{','.join(map(str, expected))}]":
        raise ModelError(f"{path} takes {found}; (any number, 3, {expected[1]}, 13) was expected")
    request = compiled.create_infer_request()
    one_at_a_time = threading.Lock()  # it takes less than what a request of one's own would

    def network(joints: Float32Array) -> Float32Array:
        with one_at_a_time:
            request.infer({0: np.ascontiguousarray(joints)})
            return np.array(request.get_output_tensor(0).data)

    return network, info
