"""Text results, written line by line so that a killed run leaves every finished line."""

from __future__ import annotations

import os
import stat
import sys

from ...errors import SinkError, write_error
from .targets import Target


class LineFile:
    """Whole lines to a file or to standard output, each handed to the system at once."""

    def __init__(self, target: Target) -> None:
        self.name = "standard output" if target.to_stdout else target.path
        self._good = 0
        try:
            if target.to_stdout:
                sys.stdout.flush()
                self._file = os.dup(sys.stdout.fileno())
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
                self._file = os.open(target.path, flags, 0o666)
        except OSError as error:
            raise write_error(self.name, error) from None
        regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._can_shrink = regular and not target.to_stdout

    def write(self, text: str) -> bool:
        """Writes whole lines; False when nobody reads the pipe any more.

        SinkError when the disk is full: the file then ends after its last whole line.
        """
        data = memoryview(text.encode())
        try:
            sent = 0
            while sent < len(data):
                sent += os.write(self._file, data[sent:])
        except BrokenPipeError:
            return False
        except OSError as error:
            if self._can_shrink:
                os.ftruncate(self._file, self._good)
            trouble = write_error(self.name, error)
            raise SinkError(f"{trouble}; what was written so far is good") from None
        self._good += len(data)
        return True

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)
