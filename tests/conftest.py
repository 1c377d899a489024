"""Fixtures for every test."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """One cache for all tests and what they start: a network is compiled once, not each time.

    Workers of pytest-xdist and other processes have it from the first process's environment.
    """
    if "HRTRACK_CACHE" not in os.environ:
        config.stash[CACHE] = tempfile.TemporaryDirectory(
            prefix="hrtrack-tests-", ignore_cleanup_errors=True
        )
        os.environ["HRTRACK_CACHE"] = config.stash[CACHE].name
    # Tests start some hundred processes: each would compile hrtrack anew if none kept it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Takes the cache away."""
    if (cache := config.stash.get(CACHE, None)) is not None:
        del os.environ["HRTRACK_CACHE"]
        cache.cleanup()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips, photos and golden outputs beside the repository."""
    if not (SHARED / "README.md").is_file():
        pytest.skip("the shared data folder is absent")
    return SHARED


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undoes what a test's commands and libraries set of logging, for tests that read the log."""
    known = [logging.getLogger(), *map(logging.getLogger, _loggers())]
    before = [(one, one.level, one.propagate, one.disabled) for one in known]
    disabled = logging.root.manager.disable
    yield
    logging.root.manager.disable = disabled
    for logger, level, propagate, off in before:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, off


def _loggers() -> list[str]:
    return [name for name in logging.root.manager.loggerDict if name.startswith("hrtrack")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves the GPU tests out where there is no GPU to run them on."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _has_gpu():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


def pytest_collection_finish() -> None:
    """The networks of tests are small: a second thread of PyTorch only waits for the first."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
