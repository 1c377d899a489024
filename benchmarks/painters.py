"""What the two painters of training pictures cost a CPU, beside learning from their pictures.

    python -m benchmarks.painters ANNOTATIONS.json IMAGES

Prints a line for each size of crop and of canvas: milliseconds of one core, on one thread, a
picture. `all` paints the canvas itself on tensors, too, and not only its look. `learn` is a step of
the bundled configuration without a teacher, in bfloat16. Their sum says how many pictures a
second a training on CPU cores alone makes with either painter.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch

from hrtrack.cli import run
from hrtrack.configs.detector_schema import SetSection, load_detector_config
from hrtrack.configs.pose_schema import load_config
from hrtrack.models.pose.graph import pixel_scale
from hrtrack.train import appearance
from hrtrack.train.detector.mosaic import pad_boxes, random_mosaics
from hrtrack.train.detector.photos import PhotoStore, build_store
from hrtrack.train.detector.render import DeviceRenderer, mosaic_tensors, render
from hrtrack.train.detector.step import Step, fresh
from hrtrack.train.pose.data.augment import Augmentation, paint, paint_all
from hrtrack.train.pose.data.loader import Crops, collate
from hrtrack.train.pose.data.plan import Draw
from hrtrack.train.pose.data.pseudo_labels import training_people
from hrtrack.train.pose.network import new_network
from hrtrack.train.pose.step import Gradients

CPU = torch.device("cpu")
CROPS, CANVASES = 96, 24


@click.command(help=__doc__)
@click.argument("annotations", type=click.Path(exists=True, path_type=Path))
@click.argument("images", type=click.Path(exists=True, path_type=Path))
def main(annotations: Path, images: Path) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for size in ((96, 64), (256, 192)):
        print(json.dumps(crop_costs(annotations.resolve(), images.resolve(), size)), flush=True)
    for side in (192, 320):
        print(json.dumps(canvas_costs(annotations.resolve(), images.resolve(), side)), flush=True)


def cost(work: Callable[[], Any], count: int) -> tuple[float, Any]:
    """Milliseconds of this process for each of ``count`` pictures, and what was made."""
    begin = time.process_time()
    made = work()
    return round(1000 * (time.process_time() - begin) / count, 2), made


def crop_costs(annotations: Path, images: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Of a pose training."""
    where = f"[{{annotations: {annotations}, images: {images}, pseudo_weight: 1}}]"
    told = [f"data.train={where}", "data.val=null", "fit.precision=bf16", "fit.stages=[]"]
    config = load_config("body_fast_cpu", told)
    people = training_people(config.data)
    count = min(CROPS, len(people))
    draws = [Draw(row, row, size, 2.0) for row in range(count)]
    augmentation, dice = Augmentation(people.skeleton, config), torch.Generator()
    decode, photos = cost(lambda: [people.photo(row) for row in range(count)], count)
    drawing, drawn = cost(
        lambda: [
            augmentation(draw, people.boxes[row], people.keypoints[row], people.weights[row])
            for row, draw in enumerate(draws)
        ],
        count,
    )
    both = list(zip(photos, drawn, strict=True))
    opencv, _ = cost(lambda: [paint(photo, it[0], rng) for photo, (it, rng) in both], count)
    tensors, _ = cost(
        lambda: [
            paint_all(torch.from_numpy(photo)[None], [it[0]], dice) for photo, (it, _) in both
        ],
        count,
    )
    network = new_network(config, people.skeleton, None)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    gradients, crops = Gradients(network, config, pixel_scale()), Crops(people, config)
    batch = collate([crops[draw] for draw in draws[:16]])
    gradients(batch)
    learn, _ = cost(lambda: gradients(batch), len(batch.crops))
    return {
        "crop": size, "decode": decode, "draw": drawing,
        "opencv": opencv, "tensors": tensors, "learn": learn,
    }  # fmt: skip


def canvas_costs(annotations: Path, images: Path, side: int) -> dict[str, Any]:
    """Of a detector's training."""
    sets = [SetSection(annotations=annotations.name, images=str(images))]
    config = load_detector_config("person_fast", ["teacher=null", "fit.precision=bf16"])
    canvas = config.stages[0].canvases[0].model_copy(update={"size": (side, side)})
    dice = torch.Generator()
    with tempfile.TemporaryDirectory() as folder:
        build_store(sets, annotations.parent, Path(folder), quiet=True)
        store = PhotoStore(Path(folder), config.data.trust, [1.0])
        rng = np.random.default_rng(0)
        mosaics = random_mosaics(store, [canvas], CANVASES, rng)
        opencv, made = cost(lambda: [render(one, store, rng) for one in mosaics], CANVASES)
        looks = [one.colours.look() for one in mosaics]
        painted, _ = cost(
            lambda: [
                appearance.paint(one, look, rng) for one, look in zip(made, looks, strict=True)
            ],
            CANVASES,
        )
        tensors, _ = cost(
            lambda: [
                appearance.paint_all(torch.from_numpy(one)[None], [look], dice)
                for one, look in zip(made, looks, strict=True)
            ],
            CANVASES,
        )
        renderer, some = DeviceRenderer(store, CPU), mosaics[:8]
        whole, _ = cost(lambda: renderer(mosaic_tensors(some, 0)), len(some))
    step = Step(config, fresh(config, None, CPU), CPU, None, False, print)
    labels = (torch.from_numpy(part) for part in pad_boxes(some))
    batch = (torch.from_numpy(np.stack(made[: len(some)])), *labels)
    step(batch, False)
    learn, _ = cost(lambda: step(batch, False), len(some))
    return {
        "canvas": side, "opencv": opencv, "tensors": round(opencv - painted + tensors, 2),
        "all": whole, "learn": learn,
    }  # fmt: skip


if __name__ == "__main__":
    run(main, "painters")
