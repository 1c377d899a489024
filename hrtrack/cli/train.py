"""`hrtrack train` and `hrtrack ablate`: pose networks, the person detector, action networks."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, UsageError
from .options import FOLDER, Finite, former

SCOPES = ("stem", "blocks", "all")
SEEDS = 3
DETECTOR, ACTION, POSE = "detector", "action", "pose"
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="Device to train on: cpu, cuda or cuda:0. auto is the GPU if there is one.",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Hide the progress bar.")


@click.command(short_help="Train a pose network, a person detector or an action network.")
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", "-o", type=FOLDER, help="Folder of the run.  [default: runs/CONFIG]")
@click.option(
    "--init",
    metavar="PATH|NAME|bundled",
    help="Start from these weights: a file, a model's name, or the bundled model of the task.",
)
@click.option("--resume", is_flag=True, help="Resume the run in --output from its last checkpoint.")
@click.option(
    "--time-limit",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this time, save, and write the current weights; --resume continues. Allow "
    "about half a minute more for saving.",
)
@device_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Data of an action network: Penn Action, a folder of ACTION/*.jsonl, or a label file "
    "(.csv).",
)
@click.option("--seed", type=int, help="Random seed of an action network's run.  [default: 0]")
@click.option(
    "--throughput",
    is_flag=True,
    help="Only measure images per second: of the data loader alone, of the network alone, and of "
    "the training. Nothing is written.",
)
@former("--ablate", is_flag=True, instead="hrtrack ablate CONFIG")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), hidden=True)
@click.option("--epochs", type=click.IntRange(1), hidden=True)
@click.option("--seeds", type=click.IntRange(1), hidden=True)
@quiet_option
def train(config: str | None, overrides: tuple[str, ...], **settings: Any) -> None:
    """Train with CONFIG: the name of a bundled configuration or a YAML file. KEY=VALUE changes
    single entries. Without CONFIG, list the bundled ones.

    \b
    hrtrack train body_fast_256x192 data.root=photos
    hrtrack train mine.yaml --init bundled fit.epochs=40
    hrtrack train mine.yaml --throughput
    hrtrack train person_fast data.root=photos
    hrtrack train action --data penn_action
    torchrun --nproc-per-node 4 -m hrtrack train mpii_w32_256x256 data.root=mpii
    """
    begun = time.monotonic()
    if config is None:
        _list_configs()
        return
    limit = settings["time_limit"]
    settings["until"] = math.inf if limit is None else begun + limit
    _leave_cores_free()
    kind = task_of(config)
    if kind != ACTION and (settings["data"] or settings["seed"] is not None):
        raise UsageError(
            "--data and --seed are for actions; here write data.root=.. and fit.seed=.."
        )
    _require_sense(settings)
    output = settings["output"] or Path("runs") / Path(config).stem
    if settings["throughput"]:
        if kind != POSE:
            raise UsageError("--throughput is for pose networks")
        _throughput(config, overrides, settings)
    elif settings["ablate"]:
        _ablate(config, overrides, output, settings)
    elif kind == ACTION:
        _action(config, overrides, output, settings)
    elif kind == DETECTOR:
        _detector(config, overrides, output, settings)
    else:
        _pose(config, overrides, output, settings)


@click.command(short_help="Train with and without batch norm and activation, to compare.")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", "-o", type=FOLDER, help="Folder of the runs.  [default: runs/CONFIG]")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Part of the network that loses normalisation and activation. Repeatable.  [default: "
    "all three, one after the other]",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs of each run.  [default: those of CONFIG]"
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=SEEDS,
    show_default=True,
    help="Runs of each variant, with different random seeds.",
)
@device_option
@quiet_option
def ablate(config: str, overrides: tuple[str, ...], **settings: Any) -> None:
    """Train the pose network of CONFIG three times: unchanged, without batch norm, and without
    batch norm and activation.

    CONFIG and KEY=VALUE are those of `hrtrack train`. The same command resumes an interrupted
    study.
    """
    _leave_cores_free()
    output = settings["output"] or Path("runs") / Path(config).stem
    _ablate(config, overrides, output, settings)


def _leave_cores_free() -> None:
    # Read when torch is loaded. Threads that spin while they wait take the cores from the
    # processes that make the batches, and from whatever else the machine does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _require_sense(settings: dict[str, Any]) -> None:
    """UsageError for options that would be ignored."""
    if settings["throughput"] and settings["ablate"]:
        raise UsageError("--throughput and --ablate do not go together")
    if settings["time_limit"] is not None and (settings["throughput"] or settings["ablate"]):
        raise UsageError("--time-limit is for a training, not for --throughput or --ablate")
    begins = settings["init"] is not None or settings["resume"]
    if settings["throughput"] and settings["resume"]:
        raise UsageError("--throughput trains nothing, so it cannot resume; leave out --resume")
    if settings["ablate"] and begins:
        raise UsageError(
            "hrtrack ablate starts from random weights and resumes by itself; leave out "
            "--init and --resume"
        )
    study = settings["scopes"] or settings["epochs"] or settings["seeds"]
    if study and not settings["ablate"]:
        raise UsageError(
            "--scope, --epochs and --seeds are for hrtrack ablate; here write fit.epochs=.. and "
            "fit.seed=.."
        )


def task_of(config: str) -> str:
    """Which of the three trainings a configuration is for, told by its sections."""
    import yaml

    from .. import configs

    path = Path(config)
    if not path.is_file():
        path = Path(configs.__file__).parent / f"{config}.yaml"
    if not path.is_file():
        return POSE  # whose loader lists the known names
    try:
        keys = set(yaml.safe_load(path.read_text(encoding="utf-8")) or ())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration '{config}' is not YAML: {error}") from None
    if "window" in keys:
        return ACTION
    return DETECTOR if "stages" in keys and "target" not in keys else POSE


def _list_configs() -> None:
    from ..configs.base import config_names

    click.echo("pose networks: " + ", ".join(config_names()))
    click.echo("person detector: person_fast")
    click.echo("actions: action")


def _pose(config: str, overrides: tuple[str, ...], output: Path, settings: dict[str, Any]) -> None:
    from ..configs.pose_schema import load_config
    from ..train.pose.loop import train_pose

    final = train_pose(
        load_config(config, overrides),
        output,
        init=_init(settings["init"]),
        resume=settings["resume"],
        device=settings["device"],
        quiet=settings["quiet"],
        until=settings["until"],
    )
    click.echo(final)


def _throughput(config: str, overrides: tuple[str, ...], settings: dict[str, Any]) -> None:
    from ..configs.pose_schema import load_config
    from ..train.pose.throughput import measure_throughput

    click.echo(
        measure_throughput(
            load_config(config, overrides),
            init=_init(settings["init"]),
            device=settings["device"],
        )
    )


def _init(name: str | None) -> str | None:
    return "body_fast" if name == "bundled" else name


def _detector(
    config: str, overrides: tuple[str, ...], output: Path, settings: dict[str, Any]
) -> None:
    from ..configs.detector_schema import load_detector_config
    from ..export.detector import detector_ranges, export_detector
    from ..models.zoo import resolve
    from ..train.detector.batches import calibration_pictures
    from ..train.detector.fit import train_detector

    name = "person_fast" if settings["init"] == "bundled" else settings["init"]
    if (output / "state.pt").exists() and not settings["resume"]:
        raise UsageError(
            f"{output} already holds a training: add --resume, or --output another folder"
        )
    checked = load_detector_config(config, overrides)
    detector = train_detector(
        checked,
        output,
        init=None if name is None else resolve(name, task="detector"),
        device=settings["device"],
        quiet=settings["quiet"],
        until=settings["until"],
    )
    model = output / f"{checked.name}.onnx"
    detector = detector.cpu().eval()
    ranges = detector_ranges(detector, calibration_pictures(checked, output))
    said = {"name": checked.name, "task": "detector"}
    export_detector(detector, checked.model.size, model, said, ranges)
    click.echo(model)


def _action(
    config: str, overrides: tuple[str, ...], output: Path, settings: dict[str, Any]
) -> None:
    from ..actions.training.run import train_action
    from ..configs.action_schema import load_action_config
    from ..export.action import export_action
    from ..writable import make_folder

    if settings["data"] is None:
        raise UsageError(
            "train action needs --data: Penn Action, a folder of ACTION/*.jsonl, or labels.csv"
        )
    if settings["time_limit"] is not None:
        raise UsageError("--time-limit is for pose networks and detectors")
    if overrides:
        raise UsageError("train action takes its changes from a YAML file: copy action.yaml")
    if settings["init"] or settings["resume"] or settings["device"] not in ("auto", "cpu"):
        raise UsageError(
            "train action starts afresh on the CPU; leave out --init, --resume and --device"
        )
    make_folder(output)
    path = Path(config) if Path(config).is_file() else None
    fitted = train_action(
        load_action_config(path),
        settings["data"],
        seed=settings["seed"] or 0,
        show_progress=not settings["quiet"],
    )
    export_action(fitted.net, fitted.info, output / "action.onnx")
    click.echo(output / "action.onnx")


def _ablate(
    config: str, overrides: tuple[str, ...], output: Path, settings: dict[str, Any]
) -> None:
    if task_of(config) != POSE:
        raise UsageError("hrtrack ablate is for pose networks")
    from ..configs.pose_schema import load_config
    from ..train.pose import ablate as study

    scopes: Any = settings["scopes"] or SCOPES
    runs = study.ablate(
        load_config(config, overrides),
        output,
        scopes=scopes,
        epochs=settings["epochs"],
        seeds=range(settings["seeds"] or SEEDS),
        device=settings["device"],
        quiet=settings["quiet"],
    )
    click.echo(f"{runs[0].measure} after the last epoch, mean over seeds and standard deviation")
    for scope in scopes:
        for variant, (mean, spread, seeds) in study.summary(runs, scope).items():
            click.echo(f"{scope:7} {variant:36} {mean:5.1f} +- {spread:.1f}  ({seeds} seeds)")
    click.echo(output)
