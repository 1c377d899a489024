"""Where results go: checked before the work, and named as finished only when they are.

While a file is being written it is called ``NAME.part.EXT``; the suffix stays last because FFmpeg
and others choose the format by it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import SinkError, write_error

MARK = ".part"


def make_folder(folder: Path) -> None:
    """Makes a folder that files can be written into; SinkError when there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SinkError(f"{folder} cannot be written into: it is a file") from None
    except OSError as error:
        raise write_error(folder, error) from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(folder, error) from None


def require_file(path: Path) -> None:
    """Makes a file's folder; SinkError when no file of that name can be written."""
    try:
        if path.is_dir():
            raise SinkError(f"{path} is a folder; a file name was expected")
        if path.exists():  # which may be a device in a folder that takes no new files
            with path.open("ab"):
                return
    except OSError as error:
        raise write_error(path, error) from None
    make_folder(path.parent)


def unfinished(path: Path) -> Path:
    """What the file ``path`` is called until it is finished: ``NAME.part.EXT`` beside it."""
    return path.with_name(f"{path.stem}{MARK}{path.suffix}")


def is_unfinished(path: Path) -> bool:
    """Whether a file has the name of one that is being written or that a killed run left."""
    return path.stem.endswith(MARK)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """The name to write under (`unfinished`); the file gets its own when the block is done.

    A block that fails leaves the file of before, if there was one, and nothing beside it.
    """
    part = unfinished(path)
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def require_picture(path: Path) -> None:
    """`require_file` for a picture, whose suffix must be one that OpenCV writes."""
    import cv2

    if not cv2.haveImageWriter(path.name):
        raise SinkError(f"cannot write the picture {path}; give a name ending in .png or .jpg")
    require_file(path)
