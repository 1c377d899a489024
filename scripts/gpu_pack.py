"""Packs a training's people for `gpu_train.py`; needs photos, but no GPU.

    python scripts/gpu_pack.py CONFIG OUTPUT [--side 256] [--quality 85] [--format jpg]
        [KEY=VALUE ...]

CONFIG is a name or file as for `hrtrack train`, KEY=VALUE changes it, so that labels cleaned by
a first model go in with data.train.0.teacher=FILE.npz; the network of teacher.model=FILE.onnx is
copied beside the packs. Writes OUTPUT/train_NN.npz and val_NN.npz, none above --megabytes, and
plan.json, which holds the configuration and the joints. WebP needs about half of JPEG's bytes.
Squares of --side pixels reach 1.5 times as far as the network's crop (docs/gpu_training.md).
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

import cv2
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.configs.pose_schema import load_config
from hrtrack.errors import ConfigError, HrtrackError
from hrtrack.models.info import PoseInfo
from hrtrack.train.pose.data.pseudo_labels import open_people
from hrtrack.train.pose.data.shards import QUALITY, write_shards
from hrtrack.train.pose.distillation import DeviceTeacher
from hrtrack.train.pose.network import network_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("output", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--format", choices=QUALITY, default="jpg")
    parser.add_argument("--megabytes", type=float, default=30.0)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        pack(options)
    except HrtrackError as error:
        sys.exit(str(error))


def pack(options: argparse.Namespace) -> None:
    """Writes everything."""
    config = load_config(options.config, options.overrides)
    options.output.mkdir(parents=True, exist_ok=True)
    for old in (*options.output.glob("train_*.npz"), *options.output.glob("val_*.npz")):
        old.unlink()  # the training reads whatever packs there are
    sets = {"train": config.data.train, "val": (config.data.val,) if config.data.val else ()}
    file = None if config.teacher is None else Path(config.teacher.model)
    if file is not None and not file.is_file():
        raise ConfigError(f"teacher.model: no file {file}")
    opened = {name: open_people(config.data, chosen) for name, chosen in sets.items() if chosen}
    if config.teacher is not None and file is not None:
        # What does not serve is to fail here and not there.
        DeviceTeacher(file, len(opened["train"].skeleton), torch.device("cpu"))
        copy = options.output / "teacher.onnx"
        if not (copy.exists() and copy.samefile(file)):
            shutil.copyfile(file, copy)
        config = config.model_copy(
            update={"teacher": config.teacher.model_copy(update={"model": copy.name})}
        )
    for name, people in opened.items():
        began = time.monotonic()
        written = write_shards(
            people,
            options.output,
            name,
            side=options.side,
            padding=config.input.padding,
            quality=options.quality,
            kind=options.format,
            megabytes=options.megabytes,
        )
        megabytes = sum(path.stat().st_size for path in written) / 1e6
        took = time.monotonic() - began
        print(
            f"{name}: {len(people)} people, {len(written)} packs, {megabytes:.1f} MB, {took:.0f} s"
        )
        network = dataclasses.asdict(network_config(config, people.skeleton))
        described = PoseInfo(people.skeleton, config.input.size, config.target.sigma, network)
        plan = {"config": config.model_dump(mode="json"), **described.metadata()}
        (options.output / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")


if __name__ == "__main__":
    main()
