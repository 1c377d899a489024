"""What MkDocs asks while it builds the site: what comes from the code (mkdocs.yml names this file).

The help of the commands is as ``--help-all`` prints it, which mkdocs-click cannot do.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hrtrack.cli.main import hrtrack
from hrtrack.cli.options import EVERY_OPTION
from hrtrack.configs.action_schema import ActionConfig
from hrtrack.configs.detector_schema import DetectorTrainConfig
from hrtrack.configs.pose_schema import TrainConfig
from hrtrack.models.zoo import entries

CONFIGURATIONS = {"pose": TrainConfig, "detector": DetectorTrainConfig, "action": ActionConfig}
PLACE = re.compile(r"<!-- from the code: (models|commands|(\w+) configuration) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts what the marks name in their places."""

    def text(mark: re.Match[str]) -> str:
        if mark[2]:
            return configuration(CONFIGURATIONS[mark[2]])
        return models() if mark[1] == "models" else "\n".join(_helps(hrtrack, "hrtrack", None))

    return PLACE.sub(text, markdown)


def _helps(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
    ctx = click.Context(command, above, name, terminal_width=84)
    ctx.meta[EVERY_OPTION] = True
    yield f"## {ctx.command_path}\n\n```text\n{command.get_help(ctx)}\n```\n"
    for below in command.list_commands(ctx) if isinstance(command, click.Group) else ():
        inner = command.get_command(ctx, below)
        if not inner.hidden:
            yield from _helps(inner, below, ctx)


def models() -> str:
    """All models that have a name, with their sources below."""
    known = entries()
    sources = list(dict.fromkeys(entry.source for entry in known if entry.source))
    lines = [
        "| Name | Task | Keypoint set | Input | Published accuracy | Run here | Licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in known:
        size = "x".join(map(str, entry.input_hw)) if entry.input_hw else ""
        mark = f" [{sources.index(entry.source) + 1}]" if entry.source else ""
        score = "" if entry.score is None else f"{entry.score:g} {entry.measure}{mark}"
        here = "yes" if entry.run_here else "no"
        lines.append(
            f"| `{entry.name}` | {entry.task} | {entry.skeleton or ''} | {size} | {score} | {here} "
            f"| {entry.licence} |"
        )
    return "\n".join([*lines, "", *(f"[{i}] {one}  " for i, one in enumerate(sources, 1))])


def configuration(model: type[BaseModel]) -> str:
    """Every key of a configuration, section by section."""
    return "\n".join(_section(model, "", 3))


def _section(model: type[BaseModel], path: str, level: int) -> Iterator[str]:
    below: list[tuple[str, type[BaseModel]]] = []
    rows = []
    for name, field in model.model_fields.items():
        inner = next((one for one in _parts(field.annotation) if _is_section(one)), None)
        key = f"{path}.{name}" if path else name
        if inner is not None:
            many = "list" in _text(field.annotation) or "tuple" in _text(field.annotation)
            below.append((f"{key}.N" if many else key, inner))
        else:
            rows.append(f"| `{name}` | {_text(field.annotation)} | {_default(field)} |")
    if path:
        yield f"{'#' * level} `{path}`\n"
        if text := inspect.getdoc(model):
            # Docstrings use two backticks for code and single ones for names.
            yield text.replace("``", "`") + "\n"
    if rows:
        yield "\n".join(["| Key | Value | Default |", "|---|---|---|", *rows]) + "\n"
    for key, inner in below:
        yield from _section(inner, key, level)


def _is_section(one: Any) -> bool:
    return inspect.isclass(one) and issubclass(one, BaseModel)


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _text(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _text(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_text(part) for part in parts)
    if origin is not None:
        inner = ", ".join("..." if part is Ellipsis else _text(part) for part in parts)
        return f"{origin.__name__} of {inner}"
    return "none" if kind is type(None) else getattr(kind, "__name__", str(kind))


def _default(field: FieldInfo) -> str:
    if field.default is not PydanticUndefined:
        return f"`{field.default!r}`"
    return "required" if field.default_factory is None else "empty"
