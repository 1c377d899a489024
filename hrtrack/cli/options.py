"""Options that know which heading of ``--help`` they stand under."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""`hrtrack.tracker.infer.Precision`, without loading it for a help text."""
Function = TypeVar("Function", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option with a heading."""

    heading = "Options"


def option(heading: str, *names: str, **settings: Any) -> Callable[[Function], Function]:
    """`click.option` under a heading of the help text."""
    kind = type("Option", (GroupedOption,), {"heading": heading})
    return click.option(*names, cls=kind, **settings)


class GroupedGroup(click.Group):
    """A group whose help lists its options under their headings, then its commands."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                heading = getattr(parameter, "heading", "Other")
                headings.setdefault(heading, []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)
