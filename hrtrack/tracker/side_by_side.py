"""Several streams at a time in one process, each in a thread of its own over the same networks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..interrupt import Stopped
from .video.base import Source
from .video.frame import Frame

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds that stopped streams have to finish their outputs."""
TICK = 0.03


class Halt:
    """Ends streams in other threads: a signal reaches the main thread alone."""

    def __init__(self) -> None:
        self._stopped: Stopped | None = None
        self._sources: list[Source] = []
        self._changing = threading.Lock()

    def frames(self, source: Source) -> Iterator[Frame]:
        """The frames of a source, until it ends or `stop` is called.

        Raises:
            Stopped: the streams were stopped, also where the source waits for a frame.
        """
        with self._changing:
            self._sources.append(source)
        try:
            self.check()
            for frame in source:
                self.check()
                yield frame
            self.check()
        finally:
            with self._changing:
                self._sources.remove(source)

    def stop(self, why: Stopped) -> None:
        """Has every stream raise ``why`` in place of its next frame."""
        with self._changing:
            self._stopped = why
            for source in self._sources:
                source.halt()

    def check(self) -> None:
        """Raises `Stopped` once the streams are to end."""
        if self._stopped is not None:
            raise self._stopped


def side_by_side(
    streams: Sequence[Callable[[], T]],
    halt: Halt,
    attend: Callable[[], None] | None = None,
) -> list[T | BaseException]:
    """Runs every stream to its end, whatever becomes of the others.

    Args:
        streams: each runs one stream, whose frames it takes from `Halt.frames`.
        halt: ends them where the main thread is stopped.
        attend: called again and again on the calling thread, where windows must be.

    Returns:
        What each stream returned or raised, in order; `Stopped` for one that did not end in time.
    """
    ended: list[T | BaseException | None] = [None] * len(streams)

    def run(place: int) -> None:
        try:
            ended[place] = streams[place]()
        except BaseException as error:
            ended[place] = error

    # Daemons, for one that waits in a camera's driver must not keep the process alive.
    threads = [
        threading.Thread(target=run, args=(place,), name=f"stream {place + 1}", daemon=True)
        for place in range(len(streams))
    ]
    late: BaseException | None = None
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if attend is not None:
                attend()
            time.sleep(TICK)
    except Stopped as stopped:
        late = stopped
        halt.stop(stopped)
        until = time.monotonic() + PATIENCE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
    return [late or RuntimeError("a stream is lost") if one is None else one for one in ended]
