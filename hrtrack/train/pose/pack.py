"""A pose training's people, cut out and packed for a machine that has no photos.

Squares reach 1.5 times as far as the network's crop (docs/gpu_training.md).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch

from ...configs.pose_schema import TrainConfig
from ...errors import ConfigError
from ...models.info import PoseInfo
from ...writable import make_folder
from .data.pseudo_labels import open_people
from .data.shards import Kind, write_shards
from .distillation import Teacher
from .network import network_config


def pack_people(
    config: TrainConfig,
    output: Path,
    *,
    side: int = 256,
    quality: int = 85,
    kind: Kind = "jpg",
    megabytes: float = 30.0,
) -> Iterator[str]:
    """Packs everybody of the training and validation sets; yields a line on each of both.

    Writes ``output/train_NN.npz`` and ``val_NN.npz``, none larger than ``megabytes`` (of 1e6
    bytes), and ``plan.json``, which holds the configuration and the joints. The network of
    ``teacher.model`` is copied beside them.

    Args:
        config: of the training; pseudo labels of its sets go in.
        output: a folder, in which earlier packs are replaced.
        side: pixels of the squares.
        quality: of the pictures, 1 to 100.
        kind: of the pictures; WebP needs about half of JPEG's bytes.
        megabytes: the limit.

    Raises:
        ConfigError: the teacher is missing or does not fit.
        DataError: a set cannot be read.
        SinkError: the folder cannot be written into.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    make_folder(output)
    for old in (*output.glob("train_*.npz"), *output.glob("val_*.npz")):
        old.unlink()  # the training reads whatever packs there are
    sets = {"train": config.data.train, "val": (config.data.val,) if config.data.val else ()}
    file = None if config.teacher is None else Path(config.teacher.model)
    if file is not None and not file.is_file():
        raise ConfigError(f"teacher.model: no file {file}")
    opened = {name: open_people(config.data, chosen) for name, chosen in sets.items() if chosen}
    if config.teacher is not None and file is not None:
        # What does not serve is to fail here and not there.
        Teacher(file, len(opened["train"].skeleton), torch.device("cpu"))
        copy = output / "teacher.onnx"
        if not (copy.exists() and copy.samefile(file)):
            shutil.copyfile(file, copy)
        config = config.model_copy(
            update={"teacher": config.teacher.model_copy(update={"model": copy.name})}
        )
    for name, people in opened.items():
        began = time.monotonic()
        written = write_shards(
            people,
            output,
            name,
            side=side,
            padding=config.input.padding,
            quality=quality,
            kind=kind,
            megabytes=megabytes,
        )
        size = sum(path.stat().st_size for path in written) / 1e6
        took = time.monotonic() - began
        yield (f"{name}: {len(people)} people, {len(written)} packs, {size:.1f} MB, {took:.0f} s")
        network = dataclasses.asdict(network_config(config, people.skeleton))
        described = PoseInfo(people.skeleton, config.input.size, config.target.sigma, network)
        plan = {"config": config.model_dump(mode="json"), **described.metadata()}
        (output / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")
