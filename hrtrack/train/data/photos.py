"""Photos by name from a folder or a zip."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...pictures import PictureError, decode_picture

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and the values of it that exchange width and height."""


class Photos:
    """Reads RGB photos; can be used from several processes."""

    def __init__(self, where: str | Path) -> None:
        """DataError when there is neither a folder nor a zip at ``where``."""
        self.where = Path(where).expanduser()
        self._zip: zipfile.ZipFile | None = None
        self._owner = -1
        if self.where.is_dir():
            self._names: dict[str, str] | None = None
        elif self.where.is_file() and zipfile.is_zipfile(self.where):
            with zipfile.ZipFile(self.where) as archive:
                self._names = _by_suffix(archive.namelist())
        else:
            raise DataError(f"no photos: {self.where} is neither a folder nor a zip")

    def has(self, name: str) -> bool:
        """Whether there is a file of that name (it may still be damaged)."""
        if self._names is None:
            return (self.where / name).is_file()
        return name in self._names

    def read(self, name: str) -> NDArray[np.uint8]:
        """The photo (H, W, 3) in RGB; DataError names it when it cannot be read."""
        try:
            data = self._bytes(name)
        except (OSError, KeyError, zipfile.BadZipFile):
            raise DataError(f"cannot read the photo {name} in {self.where}") from None
        try:
            return decode_picture(data)
        except PictureError as error:
            raise DataError(f"the photo {name} in {self.where} {error}") from None

    def size(self, name: str) -> tuple[int, int] | None:
        """Width and height of a photo as it is shown, from its header; None where that says
        nothing."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self._bytes(name))) as photo:
                width, height = photo.size
                turned = photo.getexif().get(ORIENTATION, 1) in SIDEWAYS
        except Exception:  # of whatever kind: the reader will tell what is wrong with the photo
            return None
        return (height, width) if turned else (width, height)

    def _bytes(self, name: str) -> bytes:
        if self._names is None:
            return (self.where / name).read_bytes()
        # An open zip has one file position, which forked processes would share.
        if self._zip is None or self._owner != os.getpid():
            self._zip, self._owner = zipfile.ZipFile(self.where), os.getpid()
        return self._zip.read(self._names[name])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_zip": None}


def _by_suffix(members: list[str]) -> dict[str, str]:
    """Members by full name and by the name below the zip's top folder or folders."""
    names: dict[str, str] = {}
    for member in members:
        parts = member.split("/")
        for start in range(len(parts)):
            names.setdefault("/".join(parts[start:]), member)
    return names
