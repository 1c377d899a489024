"""Options under headings, and a command whose first word may be what it is to work on."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import click

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""`hrtrack.tracker.inference.backends.base.Precision`, without loading it for a help text."""
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


class SourceGroup(GroupedGroup):
    """A group whose first word is a command, or the source that ``--source`` would name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            args = self._with_source(ctx, self._with_values(ctx, args))
        return super().parse_args(ctx, args)

    def _with_values(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options whose value may be left out get it, where a source comes next."""
        optional = {
            name: str(parameter.flag_value)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
            if isinstance(parameter.flag_value, str)
        }
        if not optional.keys() & set(args):
            return args
        from ..tracker.video.open import has_source_suffix

        return [
            f"{word}={optional[word]}" if word in optional and has_source_suffix(after) else word
            for word, after in zip(args, [*args[1:], ""], strict=True)
        ]

    def _with_source(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if not rest:
            return args
        word, *after = rest
        options = args[: len(args) - len(rest)]
        if self.get_command(ctx, word) is not None:
            ignored = [
                parameter.opts[0]
                for parameter in self.get_params(ctx)
                if parameter.name in given and not parameter.is_eager
            ]
            if ignored:
                raise click.UsageError(
                    f"{ignored[0]} before {word} would be ignored: options of a command stand "
                    f"after its name; to track something called {word} write ./{word}"
                )
            return args
        from ..tracker.video.open import has_source_suffix, names_source

        if not names_source(word):
            close = difflib.get_close_matches(word, self.list_commands(ctx), 1)
            advice = "" if has_source_suffix(word) else "; hrtrack --help lists the commands"
            advice = f"; did you mean {close[0]}?" if close else advice
            raise click.UsageError(f"no such command or file: {word}{advice}")
        if options and options[-1] == "--":
            options, after = options[:-1], ["--", *after]
        args = [f"--source={word}", *options, *after]
        _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest:
            raise click.UsageError(
                f"one source at a time: {word}, then {rest[0]}; for several clips name their "
                f"folder or a glob in quotes, or write -s {rest[0]} to run it at the same time"
            )
        return args
