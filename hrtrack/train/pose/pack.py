"""A pose training's people, cut out and packed for a machine that has no photos.

Squares reach 1.5 times as far as the network's crop. There (docs/gpu_training.md):

    hrtrack train FOLDER/config.yaml data.root=FOLDER [teacher.model=FOLDER/teacher.onnx]
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
import yaml

from ...configs.pose_schema import TrainConfig
from ...errors import ConfigError
from ...writable import make_folder
from .data.pseudo_labels import training_people, validation_people
from .data.shards import Kind, write_shards
from .distillation import Teacher


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
    bytes), and ``config.yaml``, which is the configuration with ``data.shards``. The network of
    ``teacher.model`` is copied beside them.

    Args:
        config: of the training; pseudo labels of its sets go in.
        output: a folder, in which earlier packs are replaced.
        side: pixels of the squares.
        quality: of the pictures, 1 to 100.
        kind: of the pictures; WebP needs about half of JPEG's bytes.
        megabytes: the limit.

    Raises:
        ConfigError: the teacher is missing or does not fit, or there are no photos to pack.
        DataError: a set cannot be read.
        SinkError: the folder cannot be written into.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if config.data.shards is not None:
        raise ConfigError("data.shards: these people are packed already; packs are made of photos")
    file = None if config.teacher is None else Path(config.teacher.model)
    if file is not None and not file.is_file():
        raise ConfigError(f"teacher.model: no file {file}")
    people, val = training_people(config.data), validation_people(config.data)
    said = config.model_dump(mode="json")
    said["data"] |= {"root": ".", "shards": "."}
    if file is not None:
        # What does not serve is to fail here and not there.
        Teacher(file, len(people.skeleton), torch.device("cpu"))
    make_folder(output)
    for old in (*output.glob("train_*.npz"), *output.glob("val_*.npz")):
        old.unlink()  # the training reads whatever packs there are
    if file is not None:
        copy = output / "teacher.onnx"
        if not (copy.exists() and copy.samefile(file)):
            shutil.copyfile(file, copy)
        said["teacher"]["model"] = copy.name
    for name, part in (("train", people), ("val", val)):
        if part is None:
            continue
        began = time.monotonic()
        written = write_shards(
            part,
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
        yield (f"{name}: {len(part)} people, {len(written)} packs, {size:.1f} MB, {took:.0f} s")
    text = yaml.safe_dump(said, sort_keys=False)
    (output / "config.yaml").write_text(text, encoding="utf-8")
