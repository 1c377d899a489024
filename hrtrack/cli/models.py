"""`hrtrack models`: which models have a name, which to take here, and their downloads."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BackendError, ModelError

if TYPE_CHECKING:
    from ..models.public import Entry
    from ..models.recommend import Candidate

ROUNDS, TRIAL_SECONDS = 60, 0.6


@click.group(invoke_without_command=True, short_help="List, recommend and download models.")
@click.option("--recommend", is_flag=True, help="Recommend a pose model for this machine.")
@click.option(
    "--skeleton",
    default="coco17",
    show_default=True,
    metavar="NAME",
    help="Keypoint set that --recommend looks for.",
)
@click.option(
    "--people",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    metavar="N",
    help="Number of people that --recommend plans for.",
)
@click.option(
    "--fps",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    metavar="FPS",
    help="Frame rate that --recommend plans for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def models(
    ctx: click.Context, recommend: bool, skeleton: str, people: int, fps: float, as_json: bool
) -> None:
    """List the models that have a name; `hrtrack models fetch NAME` downloads one.

    ACCURACY is what the owners publish; the number in brackets names the source. HERE says
    whether this project has run the file.
    """
    if ctx.invoked_subcommand is not None:
        return
    from ..models.zoo import entries

    if recommend:
        _recommend(skeleton, people, fps, as_json)
        return
    known = entries()
    if as_json:
        rows = [{**asdict(entry), "bytes": _bytes(entry)} for entry in known]
        click.echo(json.dumps(rows, indent=2))
        return
    sources = list(dict.fromkeys(entry.source for entry in known if entry.source))
    head = ("NAME", "TASK", "SKELETON", "INPUT", "ACCURACY", "SIZE", "SHA-256", "HERE", "LICENCE")
    _table([head, *(_row(entry, sources) for entry in known)])
    click.echo("")
    for number, source in enumerate(sources, 1):
        click.echo(f"[{number}] {source}")


def _row(entry: Entry, sources: list[str]) -> tuple[str, ...]:
    accuracy = "not published"
    if entry.score is not None:
        accuracy = f"{entry.accuracy} [{sources.index(entry.source) + 1}]"
    return (
        entry.name,
        entry.task,
        entry.skeleton or "-",
        "x".join(str(side) for side in entry.input_hw) if entry.input_hw else "-",
        accuracy,
        _size(entry),
        "-" if entry.bundled else entry.sha256 or "not published",
        "run" if entry.run_here else "not run",
        entry.licence,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _bytes(entry: Entry) -> int | None:
    """The size of a model's file if it is here."""
    from ..models.zoo import local_path

    path = local_path(entry.name)
    return path.stat().st_size if path is not None else None


def _size(entry: Entry) -> str:
    """The file's size, from the number of parameters in float32 if it is not here."""
    size = _bytes(entry)
    if size is not None:
        return f"{size / 1e6:.1f} MB"
    return f"~{4 * entry.params:.0f} MB" if entry.params is not None else "unknown"


def measured(skeleton: str = "coco17") -> list[Candidate]:
    """The pose models of a skeleton with their times here, from a second's run of `body_fast`."""
    from ..models.recommend import candidates, gmacs_a_second
    from ..models.zoo import entries

    usual = _milliseconds("auto")
    # Other projects' files hold no ranges for 8 bits.
    try:
        comparable = _milliseconds("bf16")
    except BackendError:
        comparable = _milliseconds("fp32")
    return candidates(entries(), skeleton, gmacs_a_second(comparable), usual)


def _milliseconds(precision: Any) -> float:
    """The least time of `body_fast` for one crop on OpenVINO's CPU plug-in."""
    from ..models.agreement import drawn_crops
    from ..tracker.inference.open import open_network

    network = open_network("body_fast", backend="openvino", precision=precision, batches=(1,))
    crops = drawn_crops(network.input_hw, 1)
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < TRIAL_SECONDS:
        begin = time.perf_counter()
        network(crops)
        times.append(time.perf_counter() - begin)
    network.close()
    return 1e3 * min(times)


def best_line(people: int = 2, fps: float = 30.0) -> str:
    """One line for `hrtrack info`."""
    from ..models.recommend import choose

    best = choose(measured(), people, fps)
    assert best is not None
    return f"{_said(best)} for {people} people at {fps:g} fps (hrtrack models --recommend)"


def _said(best: Candidate) -> str:
    how = "measured" if best.measured else "estimated"
    return f"{best.entry.name}: {best.entry.accuracy}, {best.milliseconds:.1f} ms a person ({how})"


def _recommend(skeleton: str, people: int, fps: float, as_json: bool) -> None:
    from ..models.recommend import choose

    found = measured(skeleton)
    best = choose(found, people, fps)
    if best is None:
        raise ModelError(f"no model with a published cost predicts the skeleton '{skeleton}'")
    if as_json:
        rows = [
            {**asdict(each.entry), "milliseconds": each.milliseconds, "measured": each.measured,
             "recommended": each is best}
            for each in found
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
        return
    head = ("", "NAME", "ACCURACY", "ONE PERSON", "SIZE", "HERE", "LICENCE")
    rest = [
        (
            "*" if each is best else "",
            each.entry.name,
            each.entry.accuracy,
            f"{each.milliseconds:.1f} ms{'' if each.measured else ' (estimated)'}",
            _size(each.entry),
            "run" if each.entry.run_here else "not run",
            each.entry.licence,
        )
        for each in found
    ]
    _table([head, *rest])
    keeps = people * best.milliseconds * fps <= 1e3
    click.echo("")
    click.echo(f"For {people} people at {fps:g} fps on this CPU: {_said(best)}.")
    if not keeps:
        click.echo("None keeps up; this is the quickest.")
    if not best.entry.bundled:
        trust = "" if best.entry.sha256 else " --trust-unhashed"
        click.echo(f"hrtrack models fetch {best.entry.name}{trust}")


@models.command(short_help="Download a model.")
@click.argument("name")
@click.option("--trust-unhashed", is_flag=True, help="Accept a file whose hash is not published.")
@click.option("--again", is_flag=True, help="Download the file again even if it is there.")
def fetch(name: str, trust_unhashed: bool, again: bool) -> None:
    """Download the model NAME into the cache, check it, and print its path."""
    from ..models import zoo

    found = next((entry for entry in zoo.entries() if entry.name == name), None)
    if found is None:
        raise ModelError(f"no model is called '{name}'; `hrtrack models` lists all")
    folder = zoo.cache_folder()
    path: Path = zoo.fetch(found, folder, trust_unhashed=trust_unhashed, again=again)
    click.echo(path)
