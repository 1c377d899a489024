import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hrtrack.tracker.tracking.assign import match


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 7), (9, 4), (20, 20)])
def test_total_is_the_best_possible(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    for _ in range(30):
        similarity = np.where(rng.random(shape) < 0.4, 0.0, rng.random(shape))
        rows, columns = match(similarity)
        best = similarity[linear_sum_assignment(similarity, maximize=True)].sum()
        assert similarity[rows, columns].sum() == pytest.approx(best)
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert (similarity[rows, columns] > 0).all()
        assert (np.diff(rows) > 0).all()


def test_nothing_to_match() -> None:
    for shape in [(0, 0), (0, 3), (3, 0)]:
        rows, columns = match(np.zeros(shape))
        assert len(rows) == len(columns) == 0
    rows, _ = match(np.zeros((2, 2)))
    assert len(rows) == 0


def test_two_who_want_the_same() -> None:
    # Greedy would give (0, 0) and nothing to the second row.
    rows, columns = match(np.array([[0.9, 0.8], [0.85, 0.0]]))
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]
