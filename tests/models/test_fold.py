"""Norms folded into convolutions change the speed, not the answer."""

import copy

import pytest
import torch
from torch import nn

from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.tracker.inference.backends.torch import fold_norms


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_answer_stays(norm: str) -> None:
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(joints=3, width=8, modules=(1, 2, 1), blocks=1, norm=norm))
    initialise(network, "he" if norm == "batch" else "fixup")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    network.eval()
    folded = copy.deepcopy(network)
    fold_norms(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, found = network(images), folded(images)
    assert expected.std() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
