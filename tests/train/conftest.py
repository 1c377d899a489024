"""Fixtures of the training tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .dots import write_dots
from .sticks import write_set


@pytest.fixture(scope="session")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.json``, ``val.json`` and ``images``."""
    folder = tmp_path_factory.mktemp("sticks")
    write_set(folder, "train", 96, seed=0)
    write_set(folder, "val", 16, seed=1)
    return folder


@pytest.fixture
def dots(tmp_path: Path) -> Path:
    """A folder with ``dots.json`` and its photos (`write_dots` says what is in them)."""
    write_dots(tmp_path)
    return tmp_path
