"""Hundreds of clips in parallel processes, or over a Ray cluster; a broken-off job goes on.

The list of what is begun and done stands beside the outputs as JSON lines, written by this
process alone. A clip that is done without a fault is not run again while it, the options and its
outputs are what they were; only outputs that a job began are replaced.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import BackendError, SinkError, one_line
from ..interrupt import SIGNALS

ATTEMPTS = 3
"""How often a clip is begun whose process was killed under it."""
SUMMARY = "hrtrack.done.jsonl"


@dataclass(frozen=True, slots=True)
class Done:
    """How one clip went: ``error`` is its line, ``code`` the exit code it would have had."""

    source: str
    frames: int = 0
    people: int = 0
    seconds: float = 0.0
    error: str | None = None
    code: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What a job is to do: ``outputs`` are the files of each clip, ``options`` stands for
    everything else that shapes them. ``overwrite`` begins anew, whatever is there."""

    outputs: Mapping[str, Sequence[Path]]
    options: str = ""
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What the list says of a clip: how it was done last, None where it was begun only, from what
    and into what; and ``own``, all that jobs have ever made of it. Lists of before 0.1 knew no
    options and no outputs: None is any."""

    done: Done | None
    state: list[int]
    options: str | None
    outputs: list[str] | None
    own: frozenset[str] | None = frozenset()


RunOne = Callable[[str], Done]
"""Runs one clip, replacing what an earlier attempt left; picklable, and never raises for a clip."""


def run_many(
    work: Work,
    run_one: RunOne,
    *,
    jobs: int,
    folder: Path,
    on_done: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """Runs every clip that ``folder``'s summary does not have yet, ``jobs`` at a time.

    A process that is killed costs its clip an attempt, not the job. ``on_done`` is told of each
    clip as it ends. Returns all clips' outcomes, earlier ones included, in order. SinkError,
    before any work, for an output that exists and that no job here has begun.
    """
    return _collect(work, folder, on_done, lambda todo: _in_processes(todo, run_one, jobs))


def run_on_ray(
    work: Work,
    run_one: RunOne,
    *,
    address: str,
    folder: Path,
    cpus: float = 1.0,
    on_done: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """`run_many` over a Ray cluster: a task a clip, Ray's own scheduling and retries.

    ``address`` is the cluster's, ``auto`` for the one this machine belongs to, ``local`` for one
    of its own. Clips and ``folder`` must be reachable under the same paths everywhere.
    BackendError when Ray is missing or the cluster does not answer.
    """
    return _collect(work, folder, on_done, lambda todo: _on_ray(todo, run_one, address, cpus))


def read_summary(folder: Path) -> dict[str, Entry]:
    """What is known of each clip."""
    entries: dict[str, Entry] = {}
    path = folder / SUMMARY
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            state, options = row.pop("state"), row.pop("options", None)
            outputs, begun = row.pop("outputs", None), row.pop("begun", None)
            clip = begun or row["source"]
            before = entries[clip].own if clip in entries else frozenset()
            own = None if outputs is None or before is None else before | set(outputs)
            entries[clip] = Entry(None if begun else Done(**row), state, options, outputs, own)
        except (ValueError, KeyError, TypeError, AttributeError):
            # The last line of a job that was killed while it wrote, or another version's.
            continue
    return entries


def _collect(
    work: Work,
    folder: Path,
    on_done: Callable[[Done], None],
    run: Callable[[list[str]], Generator[Done, None, None]],
) -> list[Done]:
    known = read_summary(folder)
    results = {clip: done for clip in work.outputs if (done := _finished(work, clip, known))}
    todo = [clip for clip in work.outputs if clip not in results]
    for clip in todo:
        own = known[clip].own if clip in known else frozenset()
        if own is None or work.overwrite:
            continue
        for output in map(str, work.outputs[clip]):
            if output not in own and os.path.exists(output):
                raise SinkError(f"{output} exists already; pass --overwrite to replace it")
    if todo:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / SUMMARY
            before = path.read_bytes() if path.is_file() else b""
            summary = path.open("a", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"{folder / SUMMARY} cannot be written: {error.strerror}") from None

        def note(row: dict[str, object], clip: str) -> None:
            outputs = [str(path) for path in work.outputs[clip]]
            kept = row | {"state": _state(clip), "options": work.options, "outputs": outputs}
            print(json.dumps(kept), file=summary, flush=True)

        with summary:
            if before and not before.endswith(b"\n"):
                # A killed job's half line must not swallow the next one.
                summary.write("\n")
            for clip in todo:
                note({"begun": clip}, clip)
            with closing(run(todo)) as finished:
                for done in finished:
                    results[done.source] = done
                    note(asdict(done), done.source)
                    on_done(done)
    return [results[clip] for clip in work.outputs]


def _finished(work: Work, clip: str, known: Mapping[str, Entry]) -> Done | None:
    """How a clip went that need not be run again."""
    entry = known.get(clip)
    if work.overwrite or entry is None or entry.done is None or entry.done.error is not None:
        return None
    outputs = [str(path) for path in work.outputs[clip]]
    same = entry.state == _state(clip) and entry.options in (None, work.options)
    same = same and entry.outputs in (None, outputs)
    return entry.done if same and all(os.path.exists(path) for path in outputs) else None


def _state(clip: str) -> list[int]:
    """What changes when a clip does."""
    try:
        found = os.stat(clip)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _in_processes(clips: list[str], run_one: RunOne, jobs: int) -> Generator[Done, None, None]:
    begun = dict.fromkeys(clips, 0)
    waiting = list(clips)
    # Forked copies of a process with running threads can hang.
    context = multiprocessing.get_context("spawn")
    while waiting:
        running: dict[Future[Done], str] = {}
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(min(jobs, len(waiting)), context, _begin_child)
        with pool:
            try:
                while waiting or running:
                    # Only as many as there are processes, so that a dead one costs few attempts.
                    while waiting and len(running) < jobs:
                        clip = waiting.pop(0)
                        begun[clip] += 1
                        with _held_back():
                            running[pool.submit(run_one, clip)] = clip
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        done = future.result()
                        del running[future]
                        yield done
            except BrokenProcessPool:
                # Which one died is not told: those that were under way begin again.
                for clip in running.values():
                    if begun[clip] < ATTEMPTS:
                        waiting.append(clip)
                    else:
                        line = f"its process died {ATTEMPTS} times"
                        yield Done(clip, error=line, code=1)
            except BaseException:
                # Leaving the pool waits until they have finished what they were writing.
                for child in set(multiprocessing.active_children()) - others:
                    child.terminate()
                raise


@contextmanager
def _held_back() -> Iterator[None]:
    """Signals wait, also in processes started here, until these are ready for them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_child() -> None:
    """For a child's start: it ends when its parent does, and when its parent says so.

    Ctrl-C and a closed terminal reach the whole group of processes, ``timeout`` signals each of
    them; what a clip does at SIGTERM, its ``run_one`` decides.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(
    clips: list[str], run_one: RunOne, address: str, cpus: float
) -> Generator[Done, None, None]:
    try:
        import ray
    except ImportError:
        raise BackendError("Ray is missing: pip install 'hrtrack[ray]'") from None
    own = not ray.is_initialized()
    if own:
        try:
            where = None if address == "local" else address
            ray.init(address=where, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            line = one_line(error)
            raise BackendError(f"no Ray cluster at {address}: {line}") from None
    try:

        def one(clip: str) -> Done:
            return run_one(clip)

        task = ray.remote(one).options(max_retries=ATTEMPTS - 1, num_cpus=cpus)
        pending = {task.remote(clip): clip for clip in clips}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            clip = pending.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                line = one_line(error)[:200]
                yield Done(clip, error=f"its worker died: {line}", code=1)
    finally:
        if own:
            ray.shutdown()
