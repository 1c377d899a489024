"""Names for models: the bundled ones, and public ones that are downloaded on first use.

Downloads go through pooch into the user's cache, resume where they broke off, and are checked.
OpenMMLab file names carry the first eight hex digits of the file's SHA-256; a file for which no
hash is published is loaded only where the user says so, and its hash at the first use is kept
beside it: a file that has changed since is refused.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import zipfile
import zlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..skeleton import Skeleton
from ..writable import atomic_write, unfinished
from .info import holds_graph
from .public import BUNDLED, PUBLIC, Entry, Task

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30
_BUNDLED_TASKS: dict[str, Task] = {"person": "detector", "body": "pose", "action": "action"}


def weights_folder() -> Path:
    """Where the bundled models lie."""
    return Path(str(resources.files("hrtrack.models") / "weights"))


def bundled_path(name: str) -> Path | None:
    """The file of a bundled model, or None if no bundled model has that name."""
    path = weights_folder() / f"{name}.onnx"
    return path if "/" not in name and path.is_file() else None


def entries() -> list[Entry]:
    """Every model that has a name, bundled ones first; for `hrtrack models`."""
    names = [path.stem for path in sorted(weights_folder().glob("*.onnx"))]
    return [*(BUNDLED.get(name) or _unlisted(name) for name in names), *PUBLIC]


def _unlisted(name: str) -> Entry:
    task = _BUNDLED_TASKS.get(name.split("_")[0], "pose")
    return Entry(name, task, None, None, "Apache-2.0", "bundled", run_here=True)


def cache_folder() -> Path:
    """Where downloads and compiled networks lie; the variable HRTRACK_CACHE moves it."""
    import platformdirs

    return Path(os.environ.get("HRTRACK_CACHE") or platformdirs.user_cache_dir("hrtrack"))


def resolve(
    name_or_path: str | Path, *, task: Task | None = None, trust_unhashed: bool = False
) -> Path:
    """The local file of a path, a bundled name or a public name, downloaded if need be.

    Raises:
        ModelError: there is no such file or name, a name is of a model for another ``task``, the
            download failed or does not match its hash, or no hash is known and
            ``trust_unhashed`` was not given.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    known = entries()
    found = next((entry for entry in known if entry.name == text), None)
    fitting = [entry.name for entry in known if task in (None, entry.task)]
    if found is not None and text not in fitting:
        raise ModelError(
            f"{text} is a model for the task {found.task}, but the task here is {task}; take one "
            f"of {', '.join(fitting[:3])}{', ...' if len(fitting) > 3 else ''} "
            "(hrtrack models lists all)"
        )
    if found is not None:
        folder = Path() if found.bundled else cache_folder()
        return fetch(found, folder, trust_unhashed=trust_unhashed)
    if path.suffix in {".onnx", ".pth", ".pt", ".safetensors"} or len(path.parts) > 1:
        raise ModelError(f"no model file at {text}")
    close = difflib.get_close_matches(text, fitting, 3) or fitting[:3]
    raise ModelError(
        f"unknown model '{text}': neither a file nor a known name; close: {', '.join(close)} "
        "(hrtrack models lists all)"
    )


def local_path(name_or_path: str | Path) -> Path | None:
    """The file of a path or name if it is here, without a download and unchecked."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    found = next((entry for entry in entries() if entry.name == str(name_or_path)), None)
    if found is None:
        return None
    path = file_of(found, Path() if found.bundled else cache_folder())
    return path if path.is_file() else None


def file_of(entry: Entry, folder: Path) -> Path:
    """Where the file of a model lies, or will lie once it is downloaded into ``folder``."""
    if entry.url is None:
        return weights_folder() / f"{entry.name}.onnx"
    file = entry.url.rsplit("/", 1)[1]
    return folder / (f"{entry.name}.onnx" if file.endswith(".zip") else file)


def converted_path(checkpoint: Path, skeleton: Skeleton | None = None) -> Path:
    """Where the cache keeps the ONNX file made of a checkpoint, found again by its content.

    ``skeleton`` are the joints that the user names, for they stand in the file.
    """
    named = "" if skeleton is None else f"-{skeleton.name}"
    return (
        cache_folder()
        / "converted"
        / f"{_digest(checkpoint)[:16]}{named}"
        / (f"{checkpoint.stem}.onnx")
    )


def fetch(entry: Entry, folder: Path, *, trust_unhashed: bool = False, again: bool = False) -> Path:
    """Downloads a public model into ``folder`` unless it is there; returns the model file.

    A file there that does not match its published hash, or any with ``again``, is downloaded anew.
    Where none is published the file must be what it was at its first use. A bundled model lies in
    the package.

    Raises:
        ModelError: as for `resolve`.
    """
    final = file_of(entry, folder)
    if entry.url is None:
        return final
    import pooch

    file = entry.url.rsplit("/", 1)[1]
    if final.is_file() and not again and _matches(final, entry):
        if entry.sha256 is None:
            _require_first_use(final, entry)
        return final
    if entry.sha256 is None and not trust_unhashed:
        raise ModelError(
            f"no hash is published for {entry.name} ({entry.url}), so a download cannot be "
            f"verified; hrtrack models fetch {entry.name} --trust-unhashed loads it anyway"
        )

    def download(url: str, output_file: str, _: Any) -> None:
        part = unfinished(folder / file)
        _transfer(url, part, entry.name)
        _check(part, entry, file)
        if entry.sha256 is None:
            try:
                _require_first_use(part, entry, _record(folder / file))
            except ModelError:
                part.unlink()
                raise
        os.replace(part, output_file)

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"downloads cannot be kept in {folder}: {error.strerror}; HRTRACK_CACHE moves them"
        ) from None
    try:
        final.unlink(missing_ok=True)
        # pooch would print what it calls an unverified hash; ours was checked while loading.
        pooch.get_logger().setLevel("WARNING")
        got = pooch.retrieve(entry.url, None, fname=file, path=folder, downloader=download)
    except ModelError:
        raise
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        begun = (part := unfinished(folder / file)).is_file() and part.stat().st_size
        advice = "; the next try goes on where this one stopped" if begun else ""
        raise ModelError(
            f"cannot download {entry.name} from {entry.url}: {_reason(error)}{advice}"
        ) from None
    if file.endswith(".zip"):
        final = _unpack(Path(got), final)
        _require_first_use(final, entry)
    return final


def _transfer(url: str, part: Path, title: str) -> None:
    """Fetches ``url`` into ``part``, going on from what is already there."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it had arrived
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0
        rest = answer.headers.get("Content-Length", "")
        total = have + int(rest) if rest.isdecimal() else None
        columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        console = Console(stderr=True)
        with (
            # Rich would leave an empty line in a log.
            Progress(
                *columns, console=console, transient=True, disable=not console.is_terminal
            ) as progress,
            part.open("ab" if have else "wb") as out,
        ):
            task = progress.add_task(title, total=total, completed=have)
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                progress.advance(task, len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"{part.stat().st_size} of {total} bytes arrived")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _matches(path: Path, entry: Entry) -> bool:
    return entry.sha256 is None or _digest(path).startswith(entry.sha256)


def _record(path: Path) -> Path:
    """Where the first use's hash of a file stands."""
    return path.with_name(path.name + ".first-use.json")


def _require_first_use(path: Path, entry: Entry, record: Path | None = None) -> None:
    """Keeps the hash and size of a file at its first use; ModelError where it is another later."""
    record = record or _record(path)
    digest = _digest(path)
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except FileNotFoundError:
        kept = digest
        said = {
            "url": entry.url,
            "sha256": digest,
            "bytes": path.stat().st_size,
            "first_use": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(OSError):  # a cache that cannot be written still serves
            record.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{record} is damaged; delete it to trust {path.name} anew") from None
    if kept != digest:
        raise ModelError(
            f"{entry.name} is no longer the file of its first use: SHA-256 begins {digest[:8]}, it "
            f"was {str(kept)[:8]}; delete {record} to trust the new one"
        )


def _check(path: Path, entry: Entry, file: str) -> None:
    """ModelError for a download, which will be called ``file``, that is not what was asked for."""
    if entry.sha256 is not None and not (digest := _digest(path)).startswith(entry.sha256):
        path.unlink()
        raise ModelError(
            f"{entry.url} does not match its hash: SHA-256 begins {digest[:8]}, expected "
            f"{entry.sha256[:8]}; the file was deleted"
        )
    if file.endswith(".onnx") and not holds_graph(path):
        path.unlink()
        raise ModelError(f"what {entry.url} gives is no ONNX file; it was deleted")


def _unpack(archive: Path, final: Path) -> Path:
    """Takes the one ONNX file out of a zip."""
    try:
        with zipfile.ZipFile(archive) as files:
            models = [name for name in files.namelist() if name.endswith(".onnx")]
            if len(models) != 1:
                raise ModelError(f"{archive} holds {len(models)} ONNX files, expected one")
            with atomic_write(final) as part:
                part.write_bytes(files.read(models[0]))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
        archive.unlink()
        raise ModelError(f"{archive} is no zip file that can be read; it was deleted") from None
    archive.unlink()
    return final


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words of ours: requests quotes its own objects."""
    import requests.exceptions as kinds
    import urllib3.exceptions as causes

    cause = error.args[0] if error.args else None
    cause = getattr(cause, "reason", None) or cause
    if isinstance(error, kinds.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, kinds.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    if isinstance(error, kinds.ProxyError):
        return "the proxy of this machine's settings cannot be reached"
    if isinstance(error, kinds.SSLError):
        return "no secure connection: its certificate or its kind of encryption is refused"
    if isinstance(cause, causes.NameResolutionError):
        return "the server's name is not known here; is this machine online?"
    if isinstance(cause, causes.NewConnectionError):
        return "the server cannot be reached; is this machine online?"
    if isinstance(error, kinds.TooManyRedirects):
        return "the server sends from one address to the next without end"
    if isinstance(error, (kinds.ChunkedEncodingError, kinds.ConnectionError)):
        return "the connection broke off"
    if isinstance(error, (kinds.ContentDecodingError, kinds.InvalidHeader)):
        return "the server's answer makes no sense"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return (str(error).strip() or type(error).__name__).splitlines()[0]
