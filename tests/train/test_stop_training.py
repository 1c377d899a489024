"""Trainings that are stopped keep what they learned."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from hrtrack.trainer.processes import GRACE

from ..test_stop import heed, nobody_left
from .detector.test_fit import config, make_set

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def stop(run: subprocess.Popen[str], log: Path, number: signal.Signals) -> str:
    """Signals the training and its workers once it has logged a step; what it told."""
    try:
        until = time.monotonic() + 300
        while not (log.is_file() and len(log.read_text().splitlines()) > 1):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.1)
        os.killpg(run.pid, number)
        # A worker that nobody ends goes on for its grace.
        told = run.communicate(timeout=GRACE)[1]
        assert nobody_left(run.pid)
        return told
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def begin(*arguments: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "hrtrack", "train", *arguments)
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_pose_training_saves_its_last_step(
    number: signal.Signals, code: int, sticks: Path, tmp_path: Path
) -> None:
    settings = ["fit.steps=100000", "fit.batch=1", "data.workers=2", "fit.val_every=1000"]
    settings += ["fit.save_minutes=1000", f"data.root={sticks}"]
    run = begin("tiny", *settings, "--output", str(tmp_path), "--device", "cpu", "--quiet")
    told = stop(run, tmp_path / "train.csv", number)
    assert run.returncode == code, told
    assert "Traceback" not in told
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert f"stopped at step {state['step']}, which is saved" in told
    logged = [int(row.split(",")[0]) for row in (tmp_path / "train.csv").read_text().split()[1:]]
    assert state["step"] >= max(logged)


@pytest.mark.slow
def test_a_detector_training_saves_its_last_step(tmp_path: Path) -> None:
    make_set(tmp_path / "set", 4)
    settings = config(tmp_path / "set", steps=100000, batch=2, workers=2, log_steps=1)
    (tmp_path / "tiny.yaml").write_text(settings.model_dump_json(exclude_none=True))
    run = begin(str(tmp_path / "tiny.yaml"), "-o", str(tmp_path / "out"), "--quiet")
    told = stop(run, tmp_path / "out" / "train.csv", signal.SIGTERM)
    assert run.returncode == 143, told
    assert "Traceback" not in told
    state = torch.load(tmp_path / "out" / "state.pt", weights_only=True)
    assert f"stopped at step {state['step']}, which is saved" in told
