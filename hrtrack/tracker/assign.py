"""Exact assignment for a handful of people, without SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


def match(similarity: NDArray[np.floating]) -> Pairs:
    """The one-to-one matching of rows and columns with the greatest total similarity.

    Args:
        similarity: (N, M); pairs with a value <= 0 are never matched.

    Returns:
        The matched rows (ascending) and their columns.
    """
    if similarity.size == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    best = similarity.argmax(axis=1)
    rows = np.flatnonzero(similarity[np.arange(len(best)), best] > 0)
    columns = best[rows]
    # Where no two rows want the same column, each row's maximum is the optimum.
    if len(set(columns.tolist())) == len(columns):
        return rows, columns
    if similarity.shape[0] <= similarity.shape[1]:
        chosen = _hungarian((-np.maximum(similarity, 0.0)).tolist())
        rows, columns = np.arange(len(chosen)), np.array(chosen)
    else:
        chosen = _hungarian((-np.maximum(similarity.T, 0.0)).tolist())
        rows, columns = np.array(chosen), np.arange(len(chosen))
    keep = similarity[rows, columns] > 0
    rows, columns = rows[keep], columns[keep]
    order = np.argsort(rows)
    return rows[order], columns[order]


def _hungarian(cost: list[list[float]]) -> list[int]:
    """The column of each row in the cheapest full assignment of N rows to M >= N columns.

    Shortest augmenting paths with dual potentials (Kuhn 1955, Munkres 1957; O(N^2 M)),
    on plain lists: at these sizes an array call costs more than the loop it saves.
    """
    count, width = len(cost), len(cost[0])
    row_dual = [0.0] * (count + 1)
    column_dual = [0.0] * (width + 1)
    owner = [0] * (width + 1)  # 1-based row of each column, 0 for none
    for row in range(1, count + 1):
        owner[0] = row
        column = 0
        shortest = [float("inf")] * (width + 1)
        previous = [0] * (width + 1)
        done = [False] * (width + 1)
        while owner[column]:
            done[column] = True
            current = owner[column]
            costs, dual = cost[current - 1], row_dual[current]
            step, following = float("inf"), 0
            for j in range(1, width + 1):
                if done[j]:
                    continue
                reduced = costs[j - 1] - dual - column_dual[j]
                if reduced < shortest[j]:
                    shortest[j] = reduced
                    previous[j] = column
                if shortest[j] < step:
                    step, following = shortest[j], j
            for j in range(width + 1):
                if done[j]:
                    row_dual[owner[j]] += step
                    column_dual[j] -= step
                else:
                    shortest[j] -= step
            column = following
        while column:
            owner[column] = owner[previous[column]]
            column = previous[column]
    chosen = [0] * count
    for j in range(1, width + 1):
        if owner[j]:
            chosen[owner[j] - 1] = j - 1
    return chosen
