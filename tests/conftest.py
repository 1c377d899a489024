"""Fixtures for every test."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips, photos and golden outputs beside the repository."""
    if not (SHARED / "README.md").is_file():
        pytest.skip("the shared data folder is absent")
    return SHARED


@pytest.fixture(autouse=True)
def audible() -> None:
    """Lets every test hear the package's warnings: libraries that other tests use configure
    logging as they like, and silence loggers that are there already."""
    logging.root.setLevel(logging.WARNING)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.name.startswith("hrtrack"):
            logger.disabled = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves the GPU tests out where there is no GPU to run them on."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _has_gpu():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
