"""The sets that a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.schema import DataSection, SetSection
from ..clean import clean, load_opinion
from .coco import read_coco
from .mpii import read_mpii
from .people import People, joined


def open_people(data: DataSection, sets: Sequence[SetSection]) -> People:
    """Reads and joins sets; DataError says which file is missing, empty or does not fit."""
    return joined([_open(data, spec) for spec in sets])


def _open(data: DataSection, spec: SetSection) -> People:
    root = Path(data.root).expanduser()
    annotations, images = root / spec.annotations, root / spec.images
    read = read_mpii if spec.format == "mpii" else read_coco
    people = read(spec, annotations, images)
    if spec.teacher is None:
        return people
    return clean(people, load_opinion(people, root / spec.teacher))[0]
