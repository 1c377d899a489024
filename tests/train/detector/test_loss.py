"""The person detector's assignment and losses, by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hrtrack.configs.detector_schema import TeacherSection  # noqa: E402
from hrtrack.models.detector.network import boxes_from_sides, cell_centres  # noqa: E402
from hrtrack.train.detector.distillation import answer_loss  # noqa: E402
from hrtrack.train.detector.loss import AssignConfig, assign, detector_loss, giou  # noqa: E402


def test_giou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1]])
    overlap, value = giou(a, b)
    torch.testing.assert_close(overlap, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(value, torch.tensor([1 / 3, -1 / 3]))


@pytest.mark.parametrize("dense", [False, True])
def test_assignment_gives_each_person_the_best_cells(dense: bool) -> None:
    centres, strides = cell_centres(64, 96)
    people = torch.tensor([[[8.0, 8, 40, 56], [60, 10, 64, 14], [0, 0, 0, 0]]])
    valid = torch.tensor([[True, True, False]])
    half = strides[:, None].expand(-1, 4)
    boxes = boxes_from_sides(centres, half * 1.5)[None]
    exact = 3 * 12 + 2
    boxes[0, exact] = people[0, 0]
    scores = torch.full((1, len(centres)), 0.1)
    owner, target = assign(scores, boxes, people, valid, centres, AssignConfig(), dense=dense)
    assert owner[0, exact] == 0
    assert target[0, exact] == pytest.approx(1.0)
    assert (owner == 2).sum() == 0
    # The second person lies between cell centres and still gets one.
    assert (owner == 1).any()
    outside = (centres[:, 0] > 70) | (centres[:, 1] > 60)
    assert (owner[0, outside] == -1).all()
    assert (target[owner == -1] == 0).all()


def test_dense_assignment_gives_the_same() -> None:
    torch.manual_seed(0)
    centres, _ = cell_centres(64, 96)
    low = torch.rand(3, 12, 2) * torch.tensor([70.0, 40.0])
    people = torch.cat([low, low + 4 + 30 * torch.rand(3, 12, 2)], 2)
    valid = torch.rand(3, 12) < 0.8
    boxes = boxes_from_sides(centres, 2 + 20 * torch.rand(3, len(centres), 4))
    scores = torch.rand(3, len(centres))
    both = [
        assign(scores, boxes, people, valid, centres, AssignConfig(), dense=dense)
        for dense in (False, True)
    ]
    assert len(both[0][0].unique()) > 8
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


def test_cells_in_ignored_regions_may_fire() -> None:
    centres, _ = cell_centres(64, 96)
    sides = torch.full((1, len(centres), 4), 8.0)
    region = torch.tensor([[[0.0, 0, 48, 64]]])
    quiet = torch.full((1, len(centres)), -8.0)
    firing = torch.where((centres[:, 0] < 48)[None], 3.0, quiet)

    def loss(logits: torch.Tensor, kind: int) -> float:
        kinds = torch.tensor([[kind]])
        args = (sides, region, kinds, centres, AssignConfig())
        return float(detector_loss(logits, *args)[1]["score_loss"])

    assert loss(firing, -1) == pytest.approx(loss(quiet, -1), rel=0.6)
    assert loss(firing, 0) > 50 * loss(quiet, 0)


def test_answer_loss_is_least_at_the_teachers_own_answer() -> None:
    centres, strides = cell_centres(64, 96)
    sides = strides[None, :, None].expand(1, -1, 4)
    scores = torch.full((1, len(centres)), 0.01)
    scores[0, 40:42] = 0.8
    settings = TeacherSection(model="any.onnx")
    boxes = boxes_from_sides(centres, sides)
    told, placed = answer_loss(scores.logit(), sides, centres, scores, boxes, settings)
    assert float(placed) == pytest.approx(0, abs=1e-5)
    worse, moved = answer_loss(-scores.logit(), sides * 1.5, centres, scores, boxes, settings)
    assert float(worse) > 3 * float(told)
    # A box grown by half on every side has IoU 1 / 2.25 and its own hull.
    assert float(moved) == pytest.approx(1 - 1 / 2.25, abs=1e-4)
