"""Bars on a terminal, and elsewhere a line now and then, so that a log shows that work goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress, Task

EVERY = 25.0
"""Seconds between two lines."""


@contextmanager
def shown(progress: Progress, every: float = EVERY) -> Iterator[Progress]:
    """Shows a progress' tasks while the block runs.

    Where its console is a terminal they are bars; where it is a file or a pipe each is a line
    every ``every`` seconds, however long a step of the work takes, and, of longer work, at the
    end. Nothing where the progress is disabled or its console quiet.
    """
    if progress.disable or progress.console.quiet:
        yield progress
        return
    if progress.console.is_terminal:
        with progress:
            yield progress
        return
    ended = threading.Event()
    begun = time.monotonic()

    def say() -> None:
        for task in progress.tasks:
            progress.console.print(_line(task, time.monotonic() - begun), soft_wrap=True)

    def keep_saying() -> None:
        while not ended.wait(every):
            say()

    thread = threading.Thread(target=keep_saying, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join()
        if time.monotonic() - begun >= every:
            say()


def _line(task: Task, passed: float) -> str:
    words = [f"{task.description}: {_clock(passed)}"]
    if task.total:
        share = f"{task.percentage:.0f} %"
        counted = f" ({task.completed:.0f} of {task.total:.0f})" if task.total > 1 else ""
        words.append(share + counted)
        if 0 < task.completed < task.total:
            left = passed * (task.total / task.completed - 1)
            words.append(f"about {_clock(left)} left")
    words += [str(value) for value in task.fields.values() if value]
    return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
