"""Exports of networks that are sure of nothing, as after a few steps of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hrtrack.cli.export import agreement_table
from hrtrack.errors import ModelError, SinkError
from hrtrack.export.run import ExportOptions, export_model
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.checkpoints import save_weights
from hrtrack.models.network import PoseNetwork
from hrtrack.models.runtimes.eight_bit import FEWEST

from .networks import INFO, small_network
from .test_run import opener


@pytest.fixture
def unsure(tmp_path: Path) -> Path:
    """Weights of a network whose maps are nearly flat."""
    network = small_network()
    network.final_layer.weight.data *= 1e-3
    save_weights(network, INFO, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


class Blind:
    """Runs an export on black crops, whatever it is shown; the scores hardly tell."""

    def __init__(self, network: PoseNetwork) -> None:
        self.network, self.input_hw = network, network.input_hw
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, crops_NHW3, *, heatmaps=False):
        self.shapes.append(crops_NHW3.shape)
        return self.network(np.zeros_like(crops_NHW3), heatmaps=heatmaps)

    def close(self) -> None:
        self.network.close()


def test_the_maps_are_compared(tmp_path: Path, unsure: Path) -> None:
    done = export_model(unsure, tmp_path / "a.onnx", ExportOptions(), opener)
    assert done.agreement is not None
    assert (done.agreement.decided, done.agreement.sure) == (0, False)
    assert done.agreement.maps is not None
    assert done.agreement.maps < 0.005
    table = agreement_table({"onnx": done.agreement})
    assert list(table.columns[4].cells) == ["-"], "no OKS of no joint"
    assert "heatmaps" in str(table.caption)


def test_a_wrong_export_is_not_saved(tmp_path: Path, unsure: Path) -> None:
    with pytest.raises(ModelError, match=r"the heatmaps' spread .*no joint was sure"):
        export_model(
            unsure, tmp_path / "a.onnx", ExportOptions(), lambda *asked: Blind(opener(*asked))
        )
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.slow
def test_calibration_crops_are_what_it_is_asked(tmp_path: Path, unsure: Path) -> None:
    crops = drawn_crops(INFO.input_hw, FEWEST)[::-1].copy()
    opened: list[Blind] = []

    def watching(*asked):
        opened.append(Blind(opener(*asked)))
        return opened[-1]

    options = ExportOptions(allow_inaccurate=True)
    export_model(unsure, tmp_path / "a.onnx", options, watching, calibration=crops)
    assert opened[0].shapes == [crops.shape]


@pytest.mark.parametrize("name", ["small.safetensors/a.onnx", "small.safetensors/b/a.xml"])
def test_where_nothing_can_be_written(tmp_path: Path, unsure: Path, name: str) -> None:
    options = ExportOptions(to="openvino" if name.endswith("xml") else "onnx")
    with pytest.raises(SinkError, match=r"small\.safetensors.* cannot be written"):
        export_model(unsure, tmp_path / name, options, opener)
