"""`hrtrack train` with a detector configuration, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from hrtrack.cli import main
from hrtrack.tracker.inference.open import open_detector

from .test_fit import config, make_set


@pytest.mark.slow
def test_train_ends_with_a_file_the_tracker_opens(tmp_path: Path) -> None:
    make_set(tmp_path / "set", 4)
    settings = config(tmp_path / "set", steps=2, batch=2)
    (tmp_path / "tiny.yaml").write_text(settings.model_dump_json(exclude_none=True))
    output = tmp_path / "out"
    command = ["train", str(tmp_path / "tiny.yaml"), "-o", str(output), "--quiet"]
    with pytest.raises(SystemExit) as done:
        main(command)
    assert done.value.code == 0
    boxes, scores = open_detector(str(output / "tiny.onnx"), threads=1)(
        np.zeros((72, 100, 3), np.uint8)
    )
    assert boxes.shape == (len(scores), 4)
