"""Which pose model to take on a machine: speed estimated from one measurement, and accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .public import BUNDLED, Entry

SHARE = 0.6
"""Of the time of a frame for the pose network; decoding, the detector, crops and output need the
rest."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model with its time for one person in milliseconds, ``measured`` here or estimated."""

    entry: Entry
    milliseconds: float
    measured: bool


def candidates(
    entries: Iterable[Entry], skeleton: str, gmacs_a_second: float, own_milliseconds: float
) -> list[Candidate]:
    """The pose models of a skeleton whose cost is published, the most accurate first.

    Only those whose accuracy is by the measure that most of them share are comparable, and the
    bundled ones.

    Args:
        entries: from `hrtrack.models.zoo.entries`.
        skeleton: the keypoint set's name.
        gmacs_a_second: billions of multiply-adds that this machine computes of a network in a
            second, one crop at a time.
        own_milliseconds: of `body_fast` for one crop, as it runs here.
    """
    known = [
        entry
        for entry in entries
        if entry.task == "pose"
        and entry.skeleton == skeleton
        and entry.gmac is not None
        and entry.score is not None
    ]
    measures = [entry.measure for entry in known if not entry.bundled]
    usual = max(measures, key=measures.count, default="")
    found = []
    for entry in known:
        if entry.name == "body_fast":
            found.append(Candidate(entry, own_milliseconds, True))
        elif entry.measure == usual and entry.gmac is not None:
            found.append(Candidate(entry, 1e3 * entry.gmac / gmacs_a_second, False))
    return sorted(found, key=lambda each: -(each.entry.score or 0.0))


def choose(found: list[Candidate], people: int, fps: float) -> Candidate | None:
    """The most accurate that keeps up with ``people`` at ``fps``, else the quickest; None if
    ``found``, as `candidates` gives it, is empty."""
    if not found:
        return None
    budget = SHARE * 1e3 / fps
    fitting = [each for each in found if people * each.milliseconds <= budget]
    return fitting[0] if fitting else min(found, key=lambda each: each.milliseconds)


def gmacs_a_second(own_gmac_milliseconds: float) -> float:
    """The machine's rate, from the time of `body_fast` for one crop, not in 8 bits."""
    gmac = BUNDLED["body_fast"].gmac
    assert gmac is not None
    return 1e3 * gmac / own_gmac_milliseconds
