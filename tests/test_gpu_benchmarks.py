"""The one command for a lent GPU, rehearsed on the CPU with the packages that are missing there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.checkpoints import random_network

ROOT = Path(__file__).resolve().parents[1]
MISSING = ("pydantic", "yaml", "av", "openvino", "pycocotools", "pooch", "nncf", "scipy")


def lspe_folder(folder: Path) -> Path:
    """Two labelled people on noise, in the layout of LSPE val."""
    (folder / "images").mkdir(parents=True)
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    noise = np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    for number in range(2):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), noise)
        content["images"].append({"id": number, "file_name": f"{number}.png"})
        person = {"image_id": number, "bbox": [30, 20, 90, 160], "keypoints": [70, 80, 2] * 17}
        content["annotations"].append(person | {"neck": [70, 60, 2], "head_top": [70, 30, 2]})
    (folder / "val.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_a_rehearsal_without_the_packages_that_are_missing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, packed, out = lspe_folder(tmp_path / "lspe"), tmp_path / "packed", tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["gpu", "--lspe", str(data), "--pack", str(packed)])
    main()
    words = ["--lspe", str(packed), "--output", str(out), "--device", "cpu"]
    program = (
        f"import runpy, sys\nfor name in {MISSING!r}: sys.modules[name] = None\n"
        f"sys.argv = {['gpu', *words]!r}\n"
        "runpy.run_module('benchmarks.gpu', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    report = json.loads((out / "gpu.json").read_text())
    steps = {name: step for name, step in report.items() if isinstance(step, dict)}
    said = [f"{step}: {name}" for step, found in steps.items() for name in found]
    assert [line for line in said if line.endswith("failed")] == []
    assert report["lspe"]["within 0.1"] == {"apart": 0.0, "so": True}
    assert report["parity"]["person_fast"]["mean_iou"] > 0.99
    assert report["throughput"]["body_fast batch 2"]["graphs_fp16"]["crops_per_s"] > 0
    loop = report["pipeline_1080p"]["body_fast 2 people"]
    assert loop["people"] == pytest.approx(2, abs=0.5)
    assert {"detect", "crop", "infer", "associate"} <= {name.split("_")[0] for name in loop}
    assert report["frames_1080p"]["2 crops"]["crops_per_s"] > 0
    assert "left out" in report["decode_1080p"]  # without PyAV
    assert (out / "gpu.png").stat().st_size > 5000


def test_random_weights_stay_in_the_range_of_float16() -> None:
    network = random_network(8, (64, 64), "cpu")
    greatest = []
    for layer in network.modules():
        layer.register_forward_hook(
            lambda layer, _, out: (
                greatest.append(float(out.abs().max())) if isinstance(out, torch.Tensor) else None
            )
        )
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        peaks = network(noise).amax(dim=(2, 3))
    assert max(greatest) < 1000
    assert 0.2 < float(peaks.mean()) < 3
