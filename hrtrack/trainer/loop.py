"""The one training loop: steps by a clock, an average, records, and a state to go on from.

What is trained is a `Task`: a pose network, a person detector, an action network.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..interrupt import shield
from ..models.finite import ADVICE, require_numbers, require_sound_state
from .logs import Logs, Meter
from .optim import Ema
from .processes import Team
from .schedule import Clock, settings_at
from .state import STATE, RunState, no_state, save_state

if TYPE_CHECKING:
    from ..configs.base import FitSection

LOG = logging.getLogger(__name__)
Batch = TypeVar("Batch")
Found = dict[str, Tensor]
"""What a step found out, on its device: ``loss``, ``gradient`` (its norm), parts of the loss."""


class Task(ABC, Generic[Batch]):
    """What a trainer trains.

    Args:
        network: is learnt and averaged; it lies on the training's device.
        optimizer: of all that learns.
    """

    title = "training"
    advice = ADVICE
    """What to do about a loss that became NaN or infinite."""
    parts: Sequence[str] = ()
    """Of the loss, for the records."""
    measures: Sequence[str] = ()
    """Of a validation, for the records."""
    batches_a_step = 1
    epoch_size: int | None = None
    """Examples of an epoch, where a training has epochs: it is validated and saved after them."""
    val_every = 1
    examples = math.inf
    """Of the whole training, where neither steps nor minutes end it."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.network, self.optimizer = network, optimizer

    @property
    def head(self) -> nn.Module | None:
        """What learns along and is thrown away at the end."""
        return None

    @abstractmethod
    def source(self, clock: Clock, step: int, seen: int) -> Iterator[Batch]:
        """Batches from a step on, each a function of the seed and of its place alone."""
        # Not of a random generator that is carried along: loaders work ahead, and their number
        # differs between machines, so that its state at a step could neither be saved nor be the
        # same elsewhere.

    @abstractmethod
    def gradients(self, batches: Sequence[Batch], share: float) -> tuple[Found, int]:
        """What the batches of one step gave and how many examples they were, in all processes.

        Afterwards the parameters have their clipped gradients.
        """

    def validate(self, run: Trainer[Any], place: dict[str, float | int]) -> float | None:
        """The score of ``run.ema``, the higher the better, or None; called in the first process
        only, so that other processes do not know it."""
        return None

    def keep_best(self, run: Trainer[Any]) -> None:
        """Keeps ``run.ema``, whose score is the best so far; called in the first process only."""

    def facts(self) -> dict[str, Any]:
        """What of its own a resumed training needs (`RunState.facts`)."""
        return {}

    def restore(self, facts: dict[str, Any]) -> None:
        """Takes `facts` back."""


def _owned(source: Iterator[Batch]) -> Generator[Batch, None, None]:
    """The same, but closing it lets go of the source."""
    yield from source


class Trainer(Generic[Batch]):
    """Trains a task.

    Args:
        task: what is trained.
        fit: how.
        members: the processes that share the work.
        folder: gets the records and `STATE`; without one nothing is kept.
        config: the configuration as the user wrote it, for the state.
        choice: what the machine decided of it, for the state.
        log_steps: steps between two rows of the records, so that a GPU is not asked for its loss
            at each; None: as ``fit`` says.
        until: when to stop, on the clock of `time.monotonic`, though the training is not at its
            end: at the first step that ends later, which is saved.
    """

    def __init__(
        self, task: Task[Batch], fit: FitSection, members: Team, folder: Path | None = None, *,
        config: dict[str, Any] | None = None, choice: dict[str, str | int] | None = None,
        log_steps: int | None = None, until: float = math.inf,
    ) -> None:  # fmt: skip
        if until < math.inf and members.world > 1:
            raise UsageError("a time limit follows one clock; leave it out with several processes")
        self._until = until
        self.task, self.fit, self.team, self.folder = task, fit, members, folder
        self.ema = Ema(task.network, fit.ema)
        self.logs: Logs | None = None
        self._config, self._choice = config or {}, choice or {}
        self._log_steps = log_steps or fit.log_steps
        self._saved = None if folder is None else folder / STATE
        self.step = self.seen = 0
        self.best, self.elapsed = -1.0, 0.0

    def restore(self, state: RunState) -> None:
        """Puts everything back to where ``state`` was saved; ModelError where it does not fit."""
        task = self.task
        try:
            task.network.load_state_dict(state.network)
            task.optimizer.load_state_dict(state.optimizer)
            if task.head is not None:
                task.head.load_state_dict(state.head)
            self.ema.network.load_state_dict(state.average)
            task.restore(state.facts)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise no_state(self._saved or Path(STATE)) from None
        self.step, self.seen, self.best = state.step, state.seen, state.best
        self.elapsed = state.elapsed

    def go(self, *, quiet: bool = False) -> None:
        """Trains to the end."""
        fit, task = self.fit, self.task
        clock = Clock(
            minutes=fit.minutes, steps=fit.steps, examples=task.examples, elapsed=self.elapsed
        )
        if clock.share(self.step, self.seen) >= 1:
            return
        if self.team.leads:
            with Logs(
                self.folder, self.step, title=task.title, parts=task.parts,
                measures=task.measures, quiet=quiet,
            ) as logs:  # fmt: skip
                self.logs = logs
                self._guarded(clock)
        else:
            self._fed(clock)

    def _guarded(self, clock: Clock) -> None:
        before = self.step
        try:
            self._fed(clock)
        except KeyboardInterrupt:
            if self.step > before and self.folder is not None:
                self._save(clock)
                LOG.warning("stopped at step %d, which is saved: --resume goes on", self.step)
            raise

    def _fed(self, clock: Clock) -> None:
        self._require_sound_state()  # of what it starts from
        # The traceback of what ends the steps must not keep the loading processes: they would go
        # on until the interpreter ends, and then for their grace after SIGTERM.
        with closing(_owned(self.task.source(clock, self.step, self.seen))) as source:
            self._steps(clock, source)

    def _steps(self, clock: Clock, source: Iterator[Batch]) -> None:
        task, device = self.task, self.team.device
        saved_at, saved_step = time.monotonic(), self.step
        clock.start()
        meter = Meter(self.seen)
        while (share := clock.share(self.step, self.seen)) < 1:
            settings = settings_at(self.fit, self.step, share)
            for group in task.optimizer.param_groups:
                group.update(settings)
            # A signal is not to break off the fetching either: workers are halfway in it.
            with shield():
                begin = time.monotonic()
                try:
                    batches = [next(source) for _ in range(task.batches_a_step)]
                except StopIteration:  # the loader, which works ahead, saw the clock run out first
                    break
                meter.waiting += time.monotonic() - begin
                found, examples = task.gradients(batches, share)
                if device.type == "cpu":  # which need not be waited for
                    self._require_numbers(found["loss"], found["gradient"], ahead=1)
                task.optimizer.step()
                self.step += 1
                passed = self._epochs(self.seen + examples) > self._epochs(self.seen)
                self.seen += examples
                self.ema.update(task.network, self.step)
            meter.add(found)
            share = clock.share(self.step, self.seen)
            stopped = share < 1 and time.monotonic() >= self._until
            ended = share >= 1 or stopped
            if self.logs is not None and (ended or self.step % self._log_steps == 0):
                row = meter.row(self.seen)
                self._require_numbers(row["loss"], row["gradient"])
                self._require_sound_state()
                self.logs.train({**self._place(share), "lr": settings["lr"], **row})
            if ended or (passed and self._epochs(self.seen) % task.val_every == 0):
                self._validate(share)
            late = time.monotonic() - saved_at >= 60 * self.fit.save_minutes
            if passed or ended or late:
                self._save(clock)
                saved_at, saved_step = time.monotonic(), self.step
            if stopped:
                LOG.warning(
                    "its time is up at step %d, which is saved: --resume goes on", self.step
                )
                break
        if saved_step != self.step:  # the clock ran out between two looks at it
            self._validate(1.0)
            self._save(clock)

    def _epochs(self, seen: int) -> int:
        return seen // self.task.epoch_size if self.task.epoch_size else 0

    def _place(self, share: float) -> dict[str, float | int]:
        epoch = self.seen / self.task.epoch_size if self.task.epoch_size else 0.0
        place = {"share": round(share, 5), "epoch": round(epoch, 4)}
        return {"step": self.step, "seen": self.seen, **place}

    def _validate(self, share: float) -> None:
        if self.logs is not None and self.task.measures:
            self._require_sound_state()
            score = self.task.validate(self, self._place(share))
            if score is not None and score > self.best:
                self.best = score
                self.task.keep_best(self)
        self.team.wait()

    def _require_numbers(
        self, loss: Tensor | float, gradient: Tensor | float, ahead: int = 0
    ) -> None:
        require_numbers(
            self.step + ahead,
            float(loss),
            float(gradient),
            self._saved,
            advice=self.task.advice,
        )

    def _require_sound_state(self) -> None:
        """`Diverged` where weights, norms' statistics or their averages are NaN or infinite."""
        head = {} if self.task.head is None else self.task.head.state_dict()
        network = self.task.network.state_dict() | {f"head.{k}": v for k, v in head.items()}
        require_sound_state(
            self.step, network, self.ema.state, self._saved, advice=self.task.advice
        )

    def _save(self, clock: Clock) -> None:
        if self.folder is None or not self.team.leads:
            return
        self._require_sound_state()
        task, self.elapsed = self.task, clock.elapsed
        state = RunState(
            network=task.network.state_dict(),
            average=self.ema.state,
            optimizer=task.optimizer.state_dict(),
            config=self._config,
            step=self.step,
            seen=self.seen,
            elapsed=self.elapsed,
            best=self.best,
            head={} if task.head is None else task.head.state_dict(),
            choice=self._choice,
            facts=task.facts(),
        )
        save_state(state, self.folder)
