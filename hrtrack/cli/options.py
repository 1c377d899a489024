"""Options that several commands share, the values they take, and a command whose first word may
be what it is to work on."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from ..tracker.options import Choice, Count, Rate, Share, shown_options
from ..tracker.outputs.base import RESULTS, TABLES
from ..tracker.outputs.pictures.encoders import ENCODERS

SOURCE, OUTPUT, DISPLAY, LIVE = "Source", "Output", "Display", "Cameras and streams"
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]
EVERY_OPTION = "hrtrack.every_option"


def worded(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


class CountOr(click.ParamType):
    """A whole number from ``least`` on, or a word in its place."""

    def __init__(self, word: str, least: int) -> None:
        self.word, self.least, self.name = word, least, f"N|{word}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == self.word or isinstance(value, int):
            return value
        if str(value).isdecimal() and int(value) >= self.least:
            return int(value)
        raise click.BadParameter(
            f"'{value}' is neither {self.word} nor a whole number of at least {self.least}"
        )


class RateOr(click.ParamType):
    """Frames a second above 0, or one of a few words in their place."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words, self.name = words, "|".join(("N", *words))

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if value in self.words:
            return str(value)
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            words = ", ".join(self.words)
            raise click.BadParameter(f"'{value}' is neither {words} nor a number above 0")
        return rate


class Finite(click.FloatRange):
    """A number within bounds, which ``nan`` would slip through, and no infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        # Click would show "x<=None" where there are no bounds.
        return "" if self.min is None and self.max is None else super()._describe_range()


class Time(Finite):
    """Seconds, or hours, minutes and seconds with colons between them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if ":" not in str(value):
            return super().convert(value, param, ctx)
        clock = re.fullmatch(
            r"(?:([0-9]+):)?([0-9]+):([0-9]{1,2}(?:\.[0-9]*)?)", str(value).strip()
        )
        if clock is None:
            self.fail(f"{value!r} must look like 90, 1:30 or 0:01:30.5.", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        if seconds >= 60 or (clock[1] is not None and minutes >= 60):
            self.fail(f"{value!r} has more than 59 minutes or seconds.", param, ctx)
        return 3600 * hours + 60 * minutes + seconds


class CameraMode(NamedTuple):
    """What is asked of a camera: (width, height), frames a second, pixel format."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    pixel_format: str | None = None


NO_WISH = CameraMode()


class Camera(click.ParamType):
    """``WxH@FPS,FORMAT``, of which each part may be left out."""

    name = "MODE"
    PATTERN = re.compile(
        r"(?:(?P<width>[0-9]+)x(?P<height>[0-9]+))?(?:@(?P<fps>[0-9]+(?:\.[0-9]*)?))?"
        r"(?:(?:^|,)(?P<format>[a-z][a-z0-9_]*))?"
    )

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> CameraMode:
        if isinstance(value, CameraMode):
            return value
        found = self.PATTERN.fullmatch(str(value).strip().lower())
        if found is None or not any(found.groups()):
            raise click.BadParameter(
                f"'{value}' must look like 1280x720@30,mjpeg, 1280x720, @30 or mjpeg"
            )
        width, height, fps, pixel_format = found.groups()
        size = (int(width), int(height)) if width else None
        rate = float(fps) if fps else None
        if 0 in (*(size or ()), rate):
            raise click.BadParameter(f"'{value}': size and frame rate of a camera are above 0")
        return CameraMode(size, rate, pixel_format)


class GroupedOption(click.Option):
    """An option with a heading, listed by ``--help-all`` alone if it is ``advanced``."""

    def __init__(
        self, *given: Any, heading: str = "Options", advanced: bool = False, **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self.heading, self.advanced = heading, advanced

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        if self.advanced and not ctx.meta.get(EVERY_OPTION):
            return None
        return super().get_help_record(ctx)


def option(heading: str, *names: str, advanced: bool = False, **settings: Any) -> Decorator[Any]:
    """`click.option` under a heading of the help text."""
    return click.option(*names, cls=GroupedOption, heading=heading, advanced=advanced, **settings)


def former(*names: str, instead: str, **settings: Any) -> Decorator[Any]:
    """An option's old spelling: hidden from the help; its use prints which one is in its place."""

    def tell(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value not in (None, False, ()):
            click.echo(
                f"hrtrack: {param.opts[0]} will be removed in the next version; use {instead}",
                err=True,
            )
        return value

    return click.option(*names, hidden=True, callback=tell, **settings)


def together(*decorators: Decorator[Any]) -> Decorator[Any]:
    """One decorator that adds several options, the first of them on top of the help."""

    def add(function: Function) -> Function:
        return reduce(lambda inner, one: one(inner), reversed(decorators), function)

    return add


def tracker_options(*names: str) -> Decorator[Any]:
    """The options of `TrackerOptions` with these names; without names all that have help."""
    every = not names
    return together(*(_tracker_option(name, every) for name in names or shown_options()))


def _tracker_option(name: str, every: bool) -> Decorator[Any]:
    field, shown = shown_options()[name]
    settings: dict[str, Any] = {"metavar": shown.metavar, "help": shown.help}
    match field.metadata["values"]:
        case Choice(words):
            settings["type"] = click.Choice(words)
        case Count(word=None):
            settings["type"] = click.IntRange(1)
        case Count(word=str(word)):
            settings["type"] = CountOr(word, 1)
        case Rate(words):
            settings["type"] = RateOr(words)
        case Share():
            settings["type"] = Finite(0, 1)
    if isinstance(field.default, bool):
        settings["is_flag"] = True
    elif shown.flag_value is not None:
        settings |= {"is_flag": False, "flag_value": shown.flag_value}
    letters = [] if shown.letter is None else [shown.letter]
    return option(
        shown.heading,
        f"--{name.replace('_', '-')}",
        *letters,
        advanced=shown.advanced and every,
        default=field.default,
        show_default=field.default is not None and not isinstance(field.default, bool),
        **settings,
    )


def pop_all(settings: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Takes these names out of ``settings``."""
    return {name: settings.pop(name) for name in names}


clip_options = together(
    option(
        SOURCE,
        "--start",
        type=Time(),
        metavar="TIME",
        help="Start at this time: 90, 1:30 or 0:01:30.5.",
    ),
    option(SOURCE, "--end", type=Time(), metavar="TIME", help="Stop at this time."),
    option(
        SOURCE,
        "--stride",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Use every N-th frame.",
    ),
    option(
        SOURCE,
        "--sequence",
        type=Finite(),
        metavar="FPS",
        help="Treat a folder of numbered images as one clip with this frame rate.",
    ),
    option(
        SOURCE,
        "--decode",
        default="cpu",
        show_default=True,
        type=click.Choice(["cpu", "cuda"]),
        advanced=True,
        help="Where to decode video files. cuda uses the GPU's decoder, which leaves more of the "
        "CPU free but was slower on an H200 machine.",
    ),
)
"""Which part of a clip is read, and how."""

output_options = together(
    option(
        OUTPUT,
        "--output",
        "-o",
        metavar="PATH",
        help="Write the annotated video or image here. With several sources, name a folder.",
    ),
    option(
        OUTPUT,
        "--save",
        multiple=True,
        metavar="[FORMAT:]PATH",
        help=f"Save results as {worded(RESULTS)}; the suffix or FORMAT says which. PATH '-' writes "
        f"JSONL to stdout. Several clips can share one {worded(TABLES)} file. You may give this "
        "option several times.",
    ),
    option(
        OUTPUT,
        "--segment",
        metavar="LENGTH",
        advanced=True,
        help="Split the output video into segments of this length or size: 90s, 10m, 500MB.",
    ),
    option(
        OUTPUT,
        "--encoder",
        default="libx264",
        show_default=True,
        type=click.Choice(ENCODERS),
        advanced=True,
        help="Encoder of the H.264 output video. auto uses a hardware encoder if one works, and "
        "says which. Hardware encoders have not been tried out yet.",
    ),
    option(OUTPUT, "--overwrite", is_flag=True, help="Replace existing output files."),
    option(OUTPUT, "--quiet", "-q", is_flag=True, help="Hide the progress bar and the summary."),
    option(
        OUTPUT,
        "--log-level",
        default="warning",
        show_default=True,
        type=click.Choice(["debug", "info", "warning", "error"]),
        advanced=True,
        help="Lowest level of log messages to print on stderr.",
    ),
)
"""What is written."""

display_options = together(
    option(
        DISPLAY,
        "--draw",
        default="skeleton,boxes,ids",
        show_default=True,
        metavar="LAYERS",
        help="Layers to draw: skeleton, boxes, ids, scores, trails, names, heatmaps, blur-faces; "
        "or none.",
    ),
    option(
        DISPLAY,
        "--show/--no-show",
        default=None,
        help="Open a window.  [default: only for a camera without an output]",
    ),
    option(
        DISPLAY,
        "--serve",
        metavar="[HOST:]PORT",
        help="Show the run in web browsers. Only this machine can connect, unless HOST is 0.0.0.0 "
        "or an address of this machine in the network.",
    ),
    option(
        DISPLAY,
        "--token",
        advanced=True,
        help="Access token that --serve requires from other machines.  [default: a random one]",
    ),
)
"""What is drawn and shown."""


def _list_every_option(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[EVERY_OPTION] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


help_all_option = click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_every_option,
    help="Show this message with the advanced options and exit.",
)


class GroupedCommand(click.Command):
    """A command whose help lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            # Newer versions of click list arguments, too; the text above explains these.
            argument = isinstance(parameter, click.Argument)
            record = None if argument else parameter.get_help_record(ctx)
            if record is not None:
                heading = getattr(parameter, "heading", "Help")
                headings.setdefault(heading, []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The hint at ``--help-all``, unless the help is that of ``--help-all``."""
        if not ctx.meta.get(EVERY_OPTION):
            super().format_epilog(ctx, formatter)


class SourceGroup(GroupedCommand, click.Group):
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
                    f"{ignored[0]} stands before {word} and would be ignored; write the options of "
                    f"{word} after its name, or ./{word} to track a file of that name"
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
                f"two sources, {word} and {rest[0]}; name their folder or a glob in quotes to run "
                f"one after the other, or write -s {rest[0]} to run both at the same time"
            )
        return args
