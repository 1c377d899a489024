"""Target heatmaps against the official code's, and the losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hrtrack.models.pose.hrnet import to_heatmaps
from hrtrack.train.pose.targets import Kind, cross_entropy, heatmap_targets, squared_error

NOBODY_GONE = torch.zeros(1, 1, dtype=torch.bool)


@pytest.mark.shared
def test_official_targets(shared: Path) -> None:
    golden = np.load(shared / "golden" / "target.npz")
    points = torch.from_numpy(golden["joints"][None, :, :2])
    visible = torch.from_numpy(golden["visible"][None, :, 0]).float()
    outside = torch.zeros(1, 17, dtype=torch.bool)
    maps, weights = heatmap_targets(points, visible, outside, (64, 48), 2.0, "gaussian")
    np.testing.assert_array_equal(weights[0].numpy(), golden["target_weight"][:, 0])
    seen = weights[0] > 0
    np.testing.assert_allclose(maps[0][seen].numpy(), golden["target"][seen.numpy()], atol=1e-6)


@pytest.mark.parametrize("kind", ["unbiased", "distribution"])
def test_subpixel_targets_have_their_mean_at_the_joint(kind: Kind) -> None:
    point = torch.tensor([[[81.0, 102.6]]])
    maps, weights = heatmap_targets(point, torch.ones(1, 1), NOBODY_GONE, (64, 48), 2.0, kind)
    mass = maps[0, 0] / maps[0, 0].sum()
    x = (mass.sum(dim=0) * torch.arange(48)).sum() * 4
    y = (mass.sum(dim=1) * torch.arange(64)).sum() * 4
    assert float(x) == pytest.approx(81.0, abs=1e-3)
    assert float(y) == pytest.approx(102.6, abs=1e-3)
    assert float(weights) == 1
    if kind == "distribution":
        assert float(maps.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "weight"), [("gaussian", 0.0), ("unbiased", 0.0), ("distribution", 1.0)]
)
def test_a_joint_outside_the_crop(kind: Kind, weight: float) -> None:
    point, outside = torch.tensor([[[-60.0, 20.0]]]), torch.ones(1, 1, dtype=torch.bool)
    maps, weights = heatmap_targets(point, torch.ones(1, 1), outside, (64, 48), 2.0, kind)
    assert float(weights) == weight
    assert float((maps * weights[..., None, None]).sum()) == 0


def test_cross_entropy_is_least_at_its_target_and_teaches_absence() -> None:
    point = torch.tensor([[[40.0, 40.0], [0.0, 0.0]]])
    outside = torch.tensor([[False, True]])
    targets, weights = heatmap_targets(
        point, torch.ones(1, 2), outside, (16, 16), 1.5, "distribution"
    )
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(200):
        total, divisor = cross_entropy(logits, targets, weights)
        optimizer.zero_grad()
        (total / divisor).backward()
        optimizer.step()
    heatmaps = to_heatmaps(logits.detach(), "softmax", sigma=1.5)
    assert float(heatmaps[0, 0].max()) == pytest.approx(1.0, abs=0.05)
    assert int(heatmaps[0, 0].argmax()) == 10 * 16 + 10
    assert float(heatmaps[0, 1].sum()) < 0.2
    entropy = -(targets[0, 0] * (targets[0, 0] + 1e-12).log()).sum()
    assert float(total.detach()) == pytest.approx(float(entropy), abs=0.05)


def test_squared_error_is_the_official_mean() -> None:
    """Half the mean over joints of each joint's mean over batch and cells."""
    random = torch.Generator().manual_seed(0)
    maps, targets = torch.rand(2, 3, 5, 8, 6, generator=random)
    weights = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.5]] * 3)
    total, divisor = squared_error(maps, targets, weights)
    official = 0.0
    for joint in range(5):
        w = weights[:, joint, None, None]
        official += 0.5 * float(((maps[:, joint] * w - targets[:, joint] * w) ** 2).mean())
    assert float(total / divisor) == pytest.approx(official / 5, rel=1e-5)
