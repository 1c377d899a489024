"""Where there is no terminal, a line now and then shows that work goes on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from hrtrack.progress import EVERY, shown

ROOT = Path(__file__).resolve().parents[2]


class Lines(io.StringIO):
    """Tells when so many lines were written."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.there = count, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self.count:
            self.there.set()
        return written


def test_lines_come_while_a_step_takes_long() -> None:
    file = Lines(3)
    bar = Progress(console=Console(file=file, width=200))
    with shown(bar, every=0.01):
        task = bar.add_task("training", total=8, said="loss 3.2")
        bar.update(task, completed=2)
        assert file.there.wait(60), "no lines came"  # nothing is done meanwhile
    lines = file.getvalue().splitlines()
    assert all(line.startswith("training: 0:") for line in lines[-2:])
    assert "25 % (2 of 8), about 0:00:0" in lines[-1]
    assert lines[-1].endswith("left, loss 3.2")
    assert EVERY < 30


def test_quick_and_quiet_work_says_nothing() -> None:
    for quiet, disable in ((False, False), (True, False), (False, True)):
        file = io.StringIO()
        bar = Progress(console=Console(file=file, quiet=quiet), disable=disable)
        with shown(bar, every=0.01 if quiet or disable else 60):
            bar.add_task("training", total=1)
        assert file.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    file = io.StringIO()
    bar = Progress(console=Console(file=file, force_terminal=True, width=80))
    with shown(bar, every=0.01):
        assert bar.live.is_started
        bar.add_task("training", total=1)
    assert not bar.live.is_started


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_wait_passively_unless_the_user_wants_it_otherwise(own: str | None) -> None:
    program = """
import os, sys
from hrtrack.cli import main
assert "torch" not in sys.modules
try:
    main(["train", "no_such_configuration"])
finally:
    print(os.environ["OMP_WAIT_POLICY"])
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if own is None else {"OMP_WAIT_POLICY": own})
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stdout.strip() == (own or "PASSIVE")
