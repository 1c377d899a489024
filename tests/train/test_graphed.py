"""A training step as one CUDA graph."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hrtrack.errors import ModelError
from hrtrack.models.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.train.graphed import GraphedStep
from hrtrack.train.loader import Batch
from hrtrack.train.step import batch_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]
JOINTS = 5


def batch(seed: int) -> Batch:
    dice = torch.Generator("cuda").manual_seed(seed)
    return Batch(
        crops=torch.randint(
            0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=dice, device="cuda"
        ),
        points=64 * torch.rand(4, JOINTS, 2, generator=dice, device="cuda"),
        weights=torch.ones(4, JOINTS, device="cuda"),
        gone=torch.zeros(4, JOINTS, dtype=torch.bool, device="cuda"),
        sigma=1.5,
        unreadable=(),
    )


def network_and_step():
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(JOINTS, 8, (1, 1, 1), 1)).cuda()
    initialise(network, "he")
    torch.nn.init.normal_(network.final_layer.weight, std=0.1)
    config = SimpleNamespace(
        fit=SimpleNamespace(precision="bf16"),
        target=SimpleNamespace(kind="distribution"),
        teacher=None,
    )
    pixels = torch.full((3,), 1 / 255, device="cuda"), torch.zeros(3, device="cuda")

    def step(batch: Batch) -> torch.Tensor:
        total, divisor = batch_loss(network, batch, config, pixels)
        loss = total / divisor
        loss.backward()
        return loss.detach()

    return network, step


def test_a_recorded_step_learns_as_a_plain_one() -> None:
    losses = []
    for recorded in (False, True):
        network, step = network_and_step()
        parameters = list(network.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        run = GraphedStep(step, parameters, batch(0)) if recorded else step
        found = []
        for seed in range(6):
            if not recorded:
                optimizer.zero_grad(set_to_none=True)
            found.append(run(batch(seed % 2)).clone())
            optimizer.step()
        losses.append(torch.stack(found))
    torch.testing.assert_close(losses[0], losses[1], rtol=0.03, atol=0.03)
    assert losses[1][-2] < losses[1][0]


def test_what_cannot_be_recorded_is_told() -> None:
    network, step = network_and_step()

    def other(batch: Batch) -> torch.Tensor:
        """Counts on the host how often it was called."""
        other.calls += 1
        return step(replace(batch, sigma=batch.sigma * other.calls))

    other.calls = 0
    with pytest.raises(ModelError, match="a recorded step gives a loss"):
        GraphedStep(other, list(network.parameters()), batch(0))
