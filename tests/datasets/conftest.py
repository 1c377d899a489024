"""The small sets of labelled photos that the training tests make."""

from __future__ import annotations

from ..train.conftest import dots, sticks

__all__ = ["dots", "sticks"]
