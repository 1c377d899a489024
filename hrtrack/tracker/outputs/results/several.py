"""One table of several clips (``--save all.parquet``): each clip writes a part, and the parts are
joined when the run ends, however it ends.

The parts stand in the folder ``all.part.parquet``, so that clips can run in processes of their
own, and so that what a killed run had finished can be read. The joined table has the clip's name
in its first column, ``source``, and is sorted by it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ....errors import DataError, HrtrackError, SinkError, one_line, write_error
from ....interrupt import shield
from ....writable import is_unfinished, unfinished
from ..base import FORMATS, Part, Target, prepare

LOG = logging.getLogger(__name__)


def part_of(table: Target, clip: str, stem: str) -> Target:
    """One clip's part of a table; ``stem`` is what the clip's outputs are called."""
    from ...video.base import without_password  # which loads OpenCV; reading results must not

    source = "stdin" if clip == "-" else without_password(clip)
    # Clips of two folders, or of two formats, may have one stem.
    apart = hashlib.sha256(clip.encode()).hexdigest()[:8]
    begins = re.sub(r"[^\w.-]+", "_", stem)[:100]
    place = table.part / f"{begins}-{apart}{Path(table.path).suffix}"
    return Target(table.format, str(place), Part(source, table.path))


@contextmanager
def joining(tables: Sequence[Target]) -> Iterator[None]:
    """Joins the parts of the tables when the block ends; a fault of the block is the one raised."""
    try:
        yield
    finally:
        failed: HrtrackError | None = None
        with shield():
            for table in tables:
                try:
                    _join(table)
                except HrtrackError as error:
                    failed = failed or error
        if failed is not None:
            if sys.exc_info()[0] is None:
                raise failed
            LOG.error("%s", failed)


def begin(table: Target, *, overwrite: bool) -> None:
    """Makes sure, before any work, that a table may be written; its old parts are removed if
    ``overwrite``.

    SinkError for one that exists (unless ``overwrite``), for parts that a killed run left, and
    for what cannot be written.
    """
    path = Path(table.path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SinkError(f"{path} is no regular file, which a table of several clips needs")
    if overwrite and table.part.is_dir():
        _remove_parts(table)
    prepare(table, overwrite=overwrite)


def sources_of(table: Target) -> list[str]:
    """The clips that have rows in a finished table; DataError for another file."""
    try:
        return list(dict.fromkeys(FORMATS[table.format].module().sources(table.path)))
    except OSError as error:
        raise DataError(f"cannot read {table.path}: {error.strerror or one_line(error)}") from None
    except (ValueError, LookupError, TypeError) as error:
        reason = one_line(error)
        raise DataError(f"{table.path} does not hold {table.format} results: {reason}") from None


def take_apart(table: Target, place_of: Callable[[str], Path], empty: Iterable[str] = ()) -> None:
    """Makes parts of a finished table again, for a run that goes on with it.

    A part that is there already is newer than the table and stays. ``empty`` are clips that are
    done although they have no rows.
    """
    try:
        table.part.mkdir(parents=True, exist_ok=True)
        made = set[Path]()

        def target(source: str) -> Path | None:
            place = place_of(source)
            if place in made:
                raise SinkError(
                    f"{table.path} was changed after hrtrack wrote it: the rows of {source} are "
                    "not next to one another"
                )
            if place.exists():
                return None
            made.add(place)
            return unfinished(place)

        FORMATS[table.format].module().take_apart(table.path, target, empty)
        for place in made:
            unfinished(place).replace(place)
    except OSError as error:
        raise write_error(table.path, error) from None


def _parts(table: Target) -> list[Path]:
    suffix = Path(table.path).suffix
    found = sorted(table.part.glob(f"*{suffix}")) if table.part.is_dir() else []
    return [path for path in found if not is_unfinished(path)]


def _join(table: Target) -> None:
    parts = _parts(table)
    if parts:
        whole = table.part / f"joined.part{Path(table.path).suffix}"
        try:
            FORMATS[table.format].module().join(parts, whole)
            whole.replace(table.path)
        except OSError as error:
            trouble = write_error(table.path, error)
            raise SinkError(f"{trouble}; each clip's rows are in {table.part}") from None
    if table.part.is_dir():
        _remove_parts(table)


def _remove_parts(table: Target) -> None:
    """Removes the folder of the parts, unless something else is in it."""
    try:
        for path in table.part.glob(f"*{Path(table.path).suffix}"):
            path.unlink()
        table.part.rmdir()
    except OSError as error:
        raise write_error(table.part, error) from None
