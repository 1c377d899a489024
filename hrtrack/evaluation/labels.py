"""The labelled people an evaluation is judged on: a training set's people and what to ignore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.pose_schema import SetSection
from ..datasets.coco import check_coco, people_of, read_json
from ..datasets.mpii import read_mpii
from ..datasets.people import People, in_share
from ..types import FloatArray


@dataclass(frozen=True, slots=True)
class Labels:
    """N people in I photos.

    ``files`` (I,) names every photo of the annotation file, with or without people, and
    ``image`` (N,) says in which one each of ``people`` stands. ``ignored`` (M, 5) are boxes
    x0, y0, x1, y1 after their photo's index: crowds, people without labelled joints and
    annotations marked ``pseudo``, on which a found person is neither right nor wrong.
    ``has_areas``: whether the file's areas are people's, as OKS needs them.
    """

    people: People
    files: tuple[str, ...]
    image: NDArray[np.int64]
    ignored: FloatArray
    has_areas: bool

    def __len__(self) -> int:
        return len(self.people)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N, K) joints that count."""
        return self.people.weights > 0

    def read_photo(self, index: int) -> NDArray[np.uint8]:
        """Photo ``index`` of ``files`` as (H, W, 3) RGB; DataError when it cannot be read."""
        return self.people.sources[0].read(self.files[index])


def read_labels(annotations: Path, images: Path, share: tuple[float, float] = (0.0, 1.0)) -> Labels:
    """Reads a file by what it is.

    A JSON object is COCO format, a JSON list MPII's official converted file (PCKh needs it
    to be called ``valid.json``, with ``gt_valid.mat`` beside it), a ``.mat`` the original
    MPII release, of which everybody in the training images is taken: the test images'
    labels were never published. Only photos in ``share`` are taken, an interval of [0, 1) as
    in a training's configuration.

    Raises:
        DataError: missing, unreadable, of none of these kinds, or without a labelled person.
    """
    spec = SetSection(annotations=str(annotations), images=str(images), share=share)
    content = None if annotations.suffix.lower() == ".mat" else read_json(annotations)
    if content is None or isinstance(content, list):
        people = read_mpii(spec, annotations, images)
        files = tuple(dict.fromkeys(people.files))
        ignored: FloatArray = np.zeros((0, 5))
    else:
        content = check_coco(content, annotations)
        people = people_of(content, spec, annotations, images)
        photos = [image for image in content["images"] if in_share(image["file_name"], share)]
        files = tuple(image["file_name"] for image in photos)
        order = {image["id"]: index for index, image in enumerate(photos)}
        ignored = _ignored(content["annotations"], order, set(people.ids.tolist()))
    place = {file: index for index, file in enumerate(files)}
    image = np.array([place[file] for file in people.files], np.int64)
    return Labels(people, files, image, ignored, has_areas=isinstance(content, dict))


def _ignored(entries: list[dict[str, Any]], order: dict[Any, int], judged: set[int]) -> FloatArray:
    """Boxes of those who are not judged, behind their photo's place in ``order``."""
    rows = []
    for entry in entries:
        if entry["id"] not in judged and entry["image_id"] in order and entry.get("bbox"):
            x, y, width, height = entry["bbox"]
            rows.append([order[entry["image_id"]], x, y, x + width, y + height])
    return np.array(rows, np.float64).reshape(-1, 5)
