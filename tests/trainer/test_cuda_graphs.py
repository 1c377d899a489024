"""A training step as one CUDA graph."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hrtrack.errors import ModelError
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.train.pose.data.loader import Batch
from hrtrack.train.pose.step import batch_loss
from hrtrack.trainer.cuda_graphs import CapturedStep, CudaGraphCache

from ..train.asked import Asked

JOINTS = 5


def inputs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops and their points."""
    dice = torch.Generator("cuda").manual_seed(seed)
    crops = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=dice, device="cuda")
    return crops, 64 * torch.rand(4, JOINTS, 2, generator=dice, device="cuda")


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

    def step(
        crops: torch.Tensor, points: torch.Tensor, sigma: float = 1.5
    ) -> dict[str, torch.Tensor]:
        known = torch.ones(points.shape[:2], device="cuda")
        batch = Batch(crops, points, known, known == 0, sigma=sigma, unreadable=())
        total, divisor = batch_loss(network, batch, config, pixels)
        loss = total / divisor
        loss.backward()
        return {"loss": loss.detach()}

    return network, step


@pytest.mark.gpu
def test_a_recorded_step_learns_as_a_plain_one() -> None:
    losses = []
    for recorded in (False, True):
        network, step = network_and_step()
        parameters = list(network.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        run = CapturedStep(step, [network], inputs(0)) if recorded else step
        found = []
        for seed in range(6):
            if not recorded:
                optimizer.zero_grad(set_to_none=True)
            found.append(run(*inputs(seed % 2))["loss"].clone())
            optimizer.step()
        losses.append(torch.stack(found))
    torch.testing.assert_close(losses[0], losses[1], rtol=0.03, atol=0.03)
    assert losses[1][-2] < losses[1][0]


@pytest.mark.gpu
def test_a_recording_leaves_the_norms_as_they_were() -> None:
    network, step = network_and_step()
    before = {name: value.clone() for name, value in network.named_buffers()}
    run = CapturedStep(step, [network], inputs(0))
    for name, value in network.named_buffers():
        torch.testing.assert_close(value, before[name], msg=name)
    run(*inputs(1))
    assert not torch.equal(network.bn1.running_mean, before["bn1.running_mean"])


@pytest.mark.gpu
def test_two_recordings_take_turns() -> None:
    network, step = network_and_step()
    parameters = list(network.parameters())
    pool = torch.cuda.graph_pool_handle()
    both = [inputs(seed) for seed in (0, 1)]
    runs = [CapturedStep(step, [network], one, pool) for one in both]
    found = []
    for turn in (0, 1, 0):
        runs[turn](*both[turn])
        found.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    torch.testing.assert_close(found[2], found[0], rtol=0.05, atol=1e-4)
    assert (found[1] - found[0]).norm() > 0.05 * found[0].norm()


@pytest.mark.gpu
def test_what_cannot_be_recorded_is_told() -> None:
    network, step = network_and_step()
    calls = 0

    def other(crops: torch.Tensor, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """Counts on the host how often it was called."""
        nonlocal calls
        calls += 1
        return step(crops, points, 1.5 * calls)

    with pytest.raises(ModelError, match="a recorded step gives a loss"):
        CapturedStep(other, [network], inputs(0))

    def asking(crops: torch.Tensor, points: torch.Tensor) -> dict[str, torch.Tensor]:
        found = step(crops, points)
        assert float(found["loss"]) > 0
        return found

    said: list[str] = []
    recordings = CudaGraphCache([network], said.append)
    for seed in (0, 1):  # goes on without
        assert float(recordings(asking, inputs(seed))["loss"]) > 0
    assert len(said) == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would record it")
def test_where_nothing_is_recorded_a_line_says_so_and_steps_are_computed() -> None:
    said: list[str] = []
    layer = torch.nn.Linear(2, 1, bias=False)
    weight = layer.weight
    recordings = CudaGraphCache([layer], said.append)

    def step(x: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (weight * x).sum()
        loss.backward()
        return {"loss": loss.detach()}

    for x in (torch.tensor([1.0, 4.0]), torch.tensor([5.0, 6.0])):
        assert float(recordings(step, [x])["loss"]) == pytest.approx(
            float((weight.detach() * x).sum())
        )
        torch.testing.assert_close(weight.grad[0], x)  # not those of both
    (line,) = said
    assert line.startswith("training without a CUDA graph: ")


@pytest.mark.parametrize("kind", ["gaussian", "unbiased", "distribution"])
def test_a_pose_s_step_never_waits(kind: str) -> None:
    network = HRNet(HRNetConfig(JOINTS, 8, (1, 1, 1), 1))
    config = SimpleNamespace(
        fit=SimpleNamespace(precision="fp32"), target=SimpleNamespace(kind=kind), teacher=None
    )
    known = torch.ones(2, JOINTS)
    crops = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    points = 64 * torch.rand(2, JOINTS, 2)
    batch = Batch(crops, points, known, known == 0, sigma=1.5, unreadable=())
    pixels = torch.full((3,), 1 / 255), torch.zeros(3)
    with Asked() as asked:
        total, divisor = batch_loss(network, batch, config, pixels)
        total.backward()
    assert asked.waits == []
    assert float(total.detach() / divisor) > 0
