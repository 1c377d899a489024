"""One OpenVINO core a process: signals must still be heard when networks come and go."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hrtrack.models.runtimes.openvino import openvino_core

SIGNALS = """
import gc, os, signal
import numpy as np
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.inference.open import open_detector
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
picture = np.zeros((64, 64, 3), np.uint8)
for _ in range(2):
    detector = open_detector("person_fast")
    detector(picture)
    with Tracker() as tracker:
        tracker.image(picture)
        del detector
        gc.collect()
    del tracker
    gc.collect()
    os.kill(os.getpid(), signal.SIGALRM)
assert len(heard) == 2
"""


def test_there_is_one_core() -> None:
    assert openvino_core() is openvino_core()


@pytest.mark.skipif(sys.platform == "win32", reason="no alternate signal stacks on Windows")
def test_signals_are_heard_after_networks_have_gone() -> None:
    run = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


LEAN = """
import sys
from hrtrack.models.runtimes.openvino import import_lean, openvino_core
import_lean()
assert "openvino" in sys.modules and "openvino.tools.ovc" not in sys.modules
from hrtrack import Tracker
from hrtrack.models.agreement import drawn_crops
with Tracker() as tracker:
    assert len(tracker.network(drawn_crops(tracker.network.input_hw, 2))["keypoints"]) == 2
import openvino.tools.ovc  # whoever wants the converter still gets it
"""


def test_openvino_runs_without_its_converter() -> None:
    run = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_program_of_others_gets_all_of_openvino() -> None:
    code = "import hrtrack; hrtrack.Tracker(); import openvino; openvino.convert_model"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
