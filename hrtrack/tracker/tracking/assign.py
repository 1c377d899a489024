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
    pairs: list[tuple[int, int]] = []
    values = np.maximum(similarity, 0.0).tolist()
    for some_rows, some_columns in _islands(values):
        pairs += _best(values, some_rows, some_columns)
    pairs.sort()
    found = np.array(pairs, np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _islands(values: list[list[float]]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns that hang together by values > 0; each island has an optimum of its own."""
    islands: list[tuple[list[int], list[int]]] = []
    place: dict[int, int] = {}  # the island of each column
    for row, similar in enumerate(values):
        columns = [column for column, value in enumerate(similar) if value > 0]
        if not columns:
            continue
        rows, mine = [row], [column for column in columns if column not in place]
        for island in sorted({place[column] for column in columns if column in place}):
            rows, mine = islands[island][0] + rows, islands[island][1] + mine
            islands[island] = [], []
        place.update(dict.fromkeys(mine, len(islands)))
        islands.append((rows, mine))
    return [island for island in islands if island[0]]


def _best(values: list[list[float]], rows: list[int], columns: list[int]) -> list[tuple[int, int]]:
    """The pairs of one island with the greatest total."""
    if len(rows) == 1 or len(columns) == 1:
        return [max(((r, c) for r in rows for c in columns), key=lambda at: values[at[0]][at[1]])]
    if len(rows) <= len(columns):
        chosen = _hungarian([[-values[row][column] for column in columns] for row in rows])
        pairs = [(rows[i], columns[j]) for i, j in enumerate(chosen)]
    else:
        chosen = _hungarian([[-values[row][column] for row in rows] for column in columns])
        pairs = [(rows[i], columns[j]) for j, i in enumerate(chosen)]
    return [(row, column) for row, column in pairs if values[row][column] > 0]


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
