"""Any pose model's pseudo labels for a training's people, for
`hrtrack.train.pose.data.pseudo_labels`.

    python -m scripts.pseudo_labels CONFIG MODEL FOLDER [KEY=VALUE ...]

As `python -m hrtrack.train.pose.data.pseudo_labels`, but MODEL may be whatever `hrtrack --model`
takes on a CPU, PP-TinyPose for instance. Writes FOLDER/teacher_N.npz for the Nth training set, for
data.train.N.teacher.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.configs.pose_schema import load_config
from hrtrack.errors import HrtrackError, ModelError
from hrtrack.evaluation.predict import progress
from hrtrack.geometry import invert, transform
from hrtrack.tracker.inference.open import open_network
from hrtrack.train.pose.data.pseudo_labels import (
    clean,
    load_pseudo_labels,
    open_people,
    save_pseudo_labels,
)
from hrtrack.train.pose.validate import upright_crops


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
    folder.mkdir(parents=True, exist_ok=True)
    for number, spec in enumerate(config.data.train):
        people = open_people(config.data, [spec.model_copy(update={"teacher": None})])
        if network.info.skeleton.joints != people.skeleton.joints:
            raise ModelError(f"{model} predicts other joints than {spec.annotations} has")
        # Whoever's photo cannot be read has no pseudo labels: score 0.
        found = np.zeros((len(people), len(people.skeleton), 3))
        with progress(quiet=False) as bar:
            task = bar.add_task(spec.annotations, total=len(people))
            for rows, crops, affines in upright_crops(
                people, network.input_hw, config.input.padding
            ):
                seen = np.asarray(network(crops)["keypoints"], np.float64)
                seen[..., :2] = transform(seen[..., :2], invert(affines))
                found[rows] = seen
                bar.advance(task, len(rows))
        path = folder / f"teacher_{number}.npz"
        save_pseudo_labels(people, found, path)
        print(f"{path}: {clean(people, load_pseudo_labels(people, path))[1]}")


if __name__ == "__main__":
    main()
