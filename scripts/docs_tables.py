"""What MkDocs asks while it builds the site: tables that come from the code (mkdocs.yml names this
file)."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hrtrack.configs.action_schema import ActionConfig
from hrtrack.configs.detector_schema import DetectorTrainConfig
from hrtrack.configs.pose_schema import TrainConfig
from hrtrack.models.zoo import entries

CONFIGURATIONS = {"pose": TrainConfig, "detector": DetectorTrainConfig, "action": ActionConfig}
PLACE = re.compile(r"<!-- table: (?:(\w+) configuration|models) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts the tables in the place of their marks."""
    return PLACE.sub(
        lambda mark: configuration(CONFIGURATIONS[mark[1]]) if mark[1] else models(), markdown
    )


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
