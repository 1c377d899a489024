"""Any pose model's opinion on a training's labels, for `hrtrack.train.clean`.

    python -m scripts.opinion CONFIG MODEL FOLDER [KEY=VALUE ...]

As `python -m hrtrack.train.clean`, but MODEL may be whatever `hrtrack --model` takes on a CPU,
PP-TinyPose for instance. Writes FOLDER/teacher_N.npz for the Nth training set, for
data.train.N.teacher.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.configs.schema import load_config
from hrtrack.errors import DataError, HrtrackError, ModelError
from hrtrack.geometry import crop_affines, crop_boxes, invert, transform
from hrtrack.tracker.infer import open_network
from hrtrack.train.clean import clean, load_opinion, save_opinion
from hrtrack.train.data.sets import open_people

BATCH = 16


def main() -> None:
    """Looks at every labelled person once."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    name, model, folder, *overrides = sys.argv[1:]
    try:
        write_opinions(name, model, Path(folder), overrides)
    except HrtrackError as error:
        sys.exit(str(error))


def write_opinions(name: str, model: str, folder: Path, overrides: list[str]) -> None:
    """One file a training set."""
    config = load_config(name, overrides)
    network = open_network(model, backend="openvino")
    height, width = network.input_hw
    folder.mkdir(parents=True, exist_ok=True)
    for number, spec in enumerate(config.data.train):
        people = open_people(config.data, [spec.model_copy(update={"teacher": None})])
        windows = crop_boxes(people.boxes, width / height, config.input.padding)
        affines = crop_affines(windows, network.input_hw)
        found = np.zeros((len(people), len(people.skeleton), 3))
        if network.info.skeleton.joints != people.skeleton.joints:
            raise ModelError(f"{model} predicts other joints than {spec.annotations} has")
        for begin in track(range(0, len(people), BATCH), spec.annotations):
            rows, crops = [], []
            for row in range(begin, min(begin + BATCH, len(people))):
                try:
                    photo = people.photo(row)
                except DataError:
                    continue  # nobody's opinion: score 0
                rows.append(row)
                crops.append(cv2.warpAffine(photo, affines[row], (width, height)))
            if not rows:
                continue
            seen = np.asarray(network(np.stack(crops))["keypoints"], np.float64)
            seen[..., :2] = transform(seen[..., :2], invert(affines[rows]))
            found[rows] = seen
        path = folder / f"teacher_{number}.npz"
        save_opinion(people, found, path)
        print(f"{path}: {clean(people, load_opinion(people, path))[1]}")


if __name__ == "__main__":
    main()
