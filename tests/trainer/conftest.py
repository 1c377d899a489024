"""The training loop's tests train what the tests of training draw."""

from __future__ import annotations

from ..train.conftest import sticks as sticks
