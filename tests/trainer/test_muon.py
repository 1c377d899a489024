"""Muon: what a step of it is, what it leaves to AdamW, and that it can be resumed."""

import copy
import io

import pytest
import torch
from torch import nn

from hrtrack.configs.pose_schema import FitSection
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.trainer.optim import Muon, make_optimizer, orthogonal


@pytest.mark.parametrize("shape", [(2, 16, 48), (2, 48, 16), (1, 32, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonal_keeps_the_directions_and_evens_the_singular_values(shape, dtype):
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], shape[1], min(shape[1:])))
    right, _ = torch.linalg.qr(torch.randn(shape[0], shape[2], min(shape[1:])))
    matrices = left * torch.linspace(0.05, 1, min(shape[1:])) @ right.mT

    made = orthogonal(matrices, dtype)

    assert made.shape == matrices.shape
    assert made.dtype == torch.float32
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # In the bases of the matrix itself nothing but the diagonal is left.
    inside = left.mT @ made @ right
    off = inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < (0.02 if dtype == torch.float32 else 0.1)


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 8)), torch.zeros(1, 4, 8))


def small() -> HRNet:
    torch.manual_seed(1)
    network = HRNet(HRNetConfig(joints=5, width=8, modules=(1, 1, 1), blocks=1))
    initialise(network, "he")
    return network


def fit(**settings: object) -> FitSection:
    return FitSection.model_validate({"optimizer": "muon", "lr": 0.01, **settings})


def one_step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (network(images) - 1).square().mean().backward()
    optimizer.step()


def test_hidden_layers_step_in_all_directions_and_the_edges_are_adamw():
    network, twin = small(), small()
    optimizer, adamw = make_optimizer(network, fit()), make_optimizer(twin, fit(optimizer="adamw"))
    before = copy.deepcopy(dict(network.named_parameters()))
    one_step(network, optimizer, 0)
    one_step(twin, adamw, 0)

    hidden = 0
    for (name, now), other in zip(network.named_parameters(), twin.parameters(), strict=True):
        moved = (now - before[name]).detach()
        if now.ndim < 4 or name in ("conv1.weight", "final_layer.weight"):
            assert torch.equal(now, other), name
            continue
        hidden += 1
        rows, columns = len(moved), moved[0].numel()
        values = torch.linalg.svdvals(moved.flatten(1)) / (0.01 * 0.2 * max(rows, columns) ** 0.5)
        assert 0.6 < values.max() < 1.3, name
        if name == "conv2.weight":  # deep layers see too few cells for gradients of full rank
            assert values.min() > 0.3
    assert hidden > 40


def test_weight_decay_shrinks_hidden_layers_beside_the_step():
    moved = []
    for decay in (0.0, 0.5):
        network = small()
        before = copy.deepcopy(network.conv2.weight)
        one_step(network, make_optimizer(network, fit(weight_decay=decay)), 0)
        moved.append((network.conv2.weight - before).detach())
    torch.testing.assert_close(moved[1], moved[0] - 0.01 * 0.5 * before.detach())


def test_a_saved_optimizer_goes_on_as_if_never_stopped():
    straight = small()
    optimizer = make_optimizer(straight, fit())
    for seed in range(2):
        one_step(straight, optimizer, seed)
    file = io.BytesIO()
    torch.save({"network": straight.state_dict(), "optimizer": optimizer.state_dict()}, file)
    for seed in range(2, 4):
        one_step(straight, optimizer, seed)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = small()
    resumed.load_state_dict(saved["network"])
    again = make_optimizer(resumed, fit())
    again.load_state_dict(saved["optimizer"])
    for seed in range(2, 4):
        one_step(resumed, again, seed)
    for now, then in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(now, then)


def test_a_closure_is_called_once_and_its_loss_comes_back():
    weight = nn.Parameter(torch.eye(4))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1)
    calls = []

    def closure() -> float:
        with torch.enable_grad():
            weight.grad = None
            loss = weight.square().sum()
            loss.backward()
        calls.append(loss.item())
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert calls == [4.0]
    assert weight.square().sum() < 4


def test_a_deep_linear_network_is_learnt():
    torch.manual_seed(3)
    layers = [nn.Linear(24, 24, bias=False) for _ in range(3)]
    network = nn.Sequential(*layers)
    group = {"params": [layer.weight for layer in layers], "orthogonal": True, "weight_decay": 0.0}
    optimizer = Muon([group], lr=0.0)
    inputs = torch.randn(256, 24)
    wanted = inputs @ torch.linalg.qr(torch.randn(24, 24))[0]
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
        optimizer.zero_grad()
        loss = (network(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.9
    assert losses[-1] < 0.01
