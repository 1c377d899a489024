"""The command line; each command loads what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from ..errors import HrtrackError, one_line
from ..interrupt import Stopped, listening
from ..tracker.outputs.base import FORMATS
from .main import hrtrack

INTERRUPTED = 130
MISSING_LIBRARY = ("libGL", "libgthread", "libglib", "libX11", "libSM", "libxcb")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this package."""
    run(hrtrack, "hrtrack", arguments)


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> None:
    """Runs a command and turns every foreseen fault into one line and an exit code."""
    try:
        with listening():
            code = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Abort as error:
        # Click makes this of every KeyboardInterrupt.
        code = error.__cause__.exit_code if isinstance(error.__cause__, Stopped) else INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"{name}: {' '.join(error.format_message().split())}", err=True)
        code = error.exit_code
    except HrtrackError as error:
        click.echo(f"{name}: {one_line(error)}", err=True)
        code = error.exit_code
    except ImportError as error:
        click.echo(f"{name}: {_import_advice(error)}", err=True)
        code = 1
    except KeyboardInterrupt as error:
        code = error.exit_code if isinstance(error, Stopped) else INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout has gone; Python would complain again at exit.
        sys.stderr.close()
        code = 0
    except SystemExit as ending:
        # What Click makes of a BrokenPipeError: the reader of our stdout has gone.
        code = 0 if type(sys.stdout).__name__.endswith("PacifyFlushWrapper") else ending.code
    except OSError as error:
        click.echo(f"{name}: {_system_fault(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _system_fault(error: OSError) -> str:
    if not error.strerror:
        return one_line(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}"


def _import_advice(error: ImportError) -> str:
    text = one_line(error)
    for library in MISSING_LIBRARY:
        if library in text:
            return (
                f"OpenCV needs the system library {library} ({text}); install it, "
                "or pip install opencv-python-headless in place of opencv-python"
            )
    extras = {
        "torch": "train", "safetensors": "train", "pycocotools": "train", "scipy": "train",
        "matplotlib": "train", "tensorboard": "train", "onnx": "train", "onnxscript": "train",
        "PIL": "train", "ray": "ray", "nncf": "int8", "aiohttp": "serve",
        **dict(form.package for form in FORMATS.values() if form.package is not None),
    }  # fmt: skip
    package = (error.name or "").split(".")[0]
    if package in extras:
        return f"this needs {package}: pip install 'hrtrack[{extras[package]}]'"
    return f"a package is missing or broken: {text}"
