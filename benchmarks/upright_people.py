"""Picks the upright people of LSPE for the small ablation study (docs/research/ablations.md).

    python -m benchmarks.upright_people LSPET OUTPUT

LSPET holds train.json, val.json and images/. Upright: shoulders above hips above knees above
ankles, and legs and trunk not folded. Writes train.json with the first 1,900 of the training
part, and val.json with its others and those of the validation part; no photo is in both.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from hrtrack.cli import run

TRAINED = 1900
LEVELS = ("shoulder", "hip", "knee", "ankle")
TRUNK, LEGS = 0.15, 0.25
"""Least heights of trunk and legs, as shares of the box."""


@click.command(help=__doc__)
@click.argument("source", metavar="LSPET", type=click.Path(True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    train, val = (json.loads((source / f"{part}.json").read_text()) for part in ("train", "val"))
    names = train["categories"][0]["keypoints"]
    upright = [
        [one for one in part["annotations"] if is_upright(one, names)] for part in (train, val)
    ]
    kept = {"train": upright[0][:TRAINED], "val": upright[0][TRAINED:] + upright[1]}
    # Both parts count from 1.
    files = {
        (n, image["id"]): image for n, part in enumerate((train, val)) for image in part["images"]
    }
    for name, people in kept.items():
        content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": train["categories"],
        }
        for number, one in enumerate(people, start=1):
            part = 0 if any(one is other for other in upright[0]) else 1
            content["images"].append({**files[part, one["image_id"]], "id": number})
            content["annotations"].append({**one, "id": number, "image_id": number})
        (output / f"{name}.json").write_text(json.dumps(content))
        print(f"{name}: {len(people)} people")


def is_upright(one: dict[str, Any], names: list[str]) -> bool:
    """Whether the labelled person stands, walks or runs with the head up."""
    if one.get("pseudo"):
        return False
    levels = []
    for level in LEVELS:
        joints = [3 * names.index(f"{side}_{level}") for side in ("left", "right")]
        known = [one["keypoints"][at + 1] for at in joints if one["keypoints"][at + 2] > 0]
        if not known:
            return False
        levels.append(sum(known) / len(known))
    height = one["bbox"][3]
    falling = all(upper < lower for upper, lower in pairwise(levels))
    trunk, legs = levels[1] - levels[0], levels[3] - levels[1]
    return falling and trunk > TRUNK * height and legs > LEGS * height


if __name__ == "__main__":
    run(main, "upright_people")
