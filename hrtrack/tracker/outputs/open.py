"""All the sinks of a run as one: each frame goes to every one, and all are finished together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ...errors import HrtrackError, SinkError
from ...interrupt import shield
from ..stopwatch import Stopwatch
from .base import FORMATS, Run, Sink, Target, prepare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...poses import Poses
    from ...skeleton import Skeleton
    from ..video.base import Source
    from ..video.frame import Frame
    from .base import Picture
    from .pictures.segments import Limit

LOG = logging.getLogger(__name__)


class Sinks:
    """Where finished frames go. A context manager: leaving it finishes every output."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._stopped = False

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Gives a frame to every sink; ``picture`` draws it, at most once and only if needed,
        on the thread of whoever needs it first.

        False when one of them asks the run to end. SinkError when an output cannot be kept.
        """
        drawn: list[NDArray[np.uint8]] = []
        drawing = threading.Lock()

        def once() -> NDArray[np.uint8]:
            with drawing:
                if not drawn:
                    drawn.append(picture())
                return drawn[0]

        # Otherwise a frame could be in one output and not in the next.
        with shield():
            for sink in self._sinks:
                if not sink.write(frame, poses, once):
                    self._stopped = True
        return not self._stopped

    def close(self, *, complete: bool = True) -> None:
        """Finishes every output, whatever happens to the others; raises the first failure."""
        first: Exception | None = None
        with shield():
            while self._sinks:
                try:
                    self._sinks.pop().close(complete=complete)
                except Exception as error:
                    if first is not None:
                        LOG.error("%s", error)
                    first = first or error
        if first is not None:
            raise first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close(complete=not self._stopped)
            return
        try:
            self.close(complete=False)
        except HrtrackError as closing:
            # The error that ended the run is the one to report, unless both say the same.
            if str(closing) != str(error):
                LOG.error("%s", closing)


def open_sinks(
    targets: Iterable[Target],
    *,
    source: Source,
    skeleton: Skeleton,
    model: Mapping[str, str] | None = None,
    overwrite: bool = False,
    stride: int = 1,
    segment: Limit | None = None,
    stopwatch: Stopwatch | None = None,
    others: Iterable[Callable[[Run], Sink]] = (),
    budget: bool = False,
    encoder: str = "libx264",
) -> Sinks:
    """Opens every output of a run; SinkError, before any work, when one cannot be written.

    ``segment`` cuts videos into pieces (`segments.parse_limit` reads it). ``others`` make the
    sinks that are no files: a window, a viewer in the browser. With a ``budget`` not everybody is
    estimated in every frame. ``encoder`` is what `pictures.encoders.pick` gave.
    """
    targets = list(targets)
    run = Run(source, skeleton, model or {}, overwrite, stopwatch or Stopwatch(), budget, encoder)
    if sum(target.to_stdout for target in targets) > 1:
        raise SinkError("only one output can go to standard output")
    for target in targets:
        if segment is not None and target.format == "video" and not target.to_stdout:
            from .pictures.segments import prepare_pieces

            prepare_pieces(target, overwrite=overwrite)
        else:
            prepare(target, overwrite=overwrite)
    opened: list[Sink] = []
    try:
        for target in targets:
            opened.append(_open(target, run, stride, segment))
        for make in others:
            opened.append(make(run))
    except BaseException:
        Sinks(opened).close(complete=False)
        raise
    return Sinks(opened)


def _open(target: Target, run: Run, stride: int, segment: Limit | None) -> Sink:
    """One file's sink; each format's libraries are loaded only when it is asked for."""
    form = FORMATS[target.format]
    if target.format != "video":
        return cast("Sink", form.load(form.sink)(target, run))
    if segment is not None and not target.to_stdout:
        from .pictures.segments import SegmentedVideo

        return SegmentedVideo(target, run, segment, stride)
    return cast("Sink", form.load(form.sink)(target, run, stride))
