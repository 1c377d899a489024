"""What OpenVINO makes of a model file, kept in the cache folder for the next process.

Reading a graph, quantising it and compiling it takes most of a short run. OpenVINO can write a
compiled network and read it again; here one is found by everything it depends on: the content of
the model file, the code that prepares the graph, OpenVINO's version, the CPU and the options. The
answers are those of a network that was compiled anew, bit for bit.

The cache is a side matter: whatever is missing, damaged or cannot be written costs time only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__
from ..zoo import cache_folder

if TYPE_CHECKING:
    import openvino

LOG = logging.getLogger(__name__)
MARK = b"hrtrack compiled 1\n"
LIMIT = 1 << 30
"""So many bytes are kept at most; what was not used for longest goes first."""
DEVICE = "CPU"
"""Networks for other devices are compiled anew: OpenVINO caches for them only in part."""


class Compiled:
    """The kept networks and facts of one model file, opened for the code in ``makers``.

    ``makers`` are the source files that prepare the graph: who edits them never meets a graph
    of the code before. ``data`` are the bytes of the model file until somebody frees them; None
    from the start if nothing is kept of it.
    """

    def __init__(self, core: openvino.Core, path: Path, makers: tuple[str, ...]) -> None:
        self._core = core
        self.data: bytes | None = None
        with suppress(OSError):
            self.data = _content(path)
        self._own: list[str] = []
        if self.data is not None:
            own = [hashlib.sha256(self.data).hexdigest(), *_sources((__file__, *makers))]
            self._own = [*own, path.name, path.suffix]

    def facts(self, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``find`` tells of the model, a JSON object; asked once for each file."""
        if not self._own:
            return find()
        place = self._place("facts")
        kept = _read(place)
        if kept is not None:
            found: dict[str, Any] = json.loads(kept)
            return found
        found = find()
        _write(place, json.dumps(found).encode())
        return found

    def network(
        self,
        build: Callable[[], openvino.Model],
        device: str,
        options: Mapping[str, Any],
        *about: str | int,
    ) -> openvino.CompiledModel:
        """The compiled network; ``build`` gives its graph if it is not kept.

        ``about`` is what tells this graph from others of the same file.

        Raises:
            RuntimeError: OpenVINO cannot compile the graph.
        """
        if not self._own or device != DEVICE:
            return self._core.compile_model(build(), device, dict(options))
        place = self._place("network", *about, *_machine(self._core), repr(sorted(options.items())))
        kept = _read(place)
        if kept is not None:
            network = self._imported(kept, device, options)
            if network is not None:
                return network
        network = self._core.compile_model(build(), device, dict(options))
        with suppress(RuntimeError):
            _write(place, network.export_model().getbuffer())
        return network

    def _imported(
        self, kept: bytes, device: str, options: Mapping[str, Any]
    ) -> openvino.CompiledModel | None:
        import openvino

        tensor = openvino.Tensor(np.frombuffer(kept, np.uint8))
        try:
            return self._core.import_model(tensor, device, dict(options))
        except RuntimeError as error:
            LOG.debug("a kept network cannot be used: %s", error)
            return None

    def _place(self, kind: str, *about: str | int) -> Path:
        import openvino

        parts = [kind, __version__, openvino.get_version(), *self._own, *about]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return cache_folder() / "compiled" / f"{key[:32]}.{kind}"


def _content(path: Path) -> bytes | None:
    """All bytes that a model is made of; None where some may lie in files unknown here."""
    if path.suffix == ".xml":
        return path.read_bytes() + b"\0" + path.with_suffix(".bin").read_bytes()
    data = path.read_bytes()
    # So ONNX calls the file in which a tensor's values lie outside.
    return data if path.suffix == ".onnx" and b"location" not in data else None


@functools.cache
def _sources(makers: tuple[str, ...]) -> tuple[str, ...]:
    with suppress(OSError):
        return tuple(hashlib.sha256(Path(maker).read_bytes()).hexdigest() for maker in makers)
    return makers  # installed without its sources, which nobody edits then


@functools.cache
def _machine(core: openvino.Core) -> tuple[str, ...]:
    """What a compiled network depends on beside its graph: the CPU and how it may be used."""
    settings = [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(("ONEDNN_", "DNNL_", "OV_", "OPENVINO_"))
    ]
    return (
        platform.system(), platform.machine(), _cpu_flags(), str(os.cpu_count()),
        core.get_property(DEVICE, "FULL_DEVICE_NAME"),
        *sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")),
        *settings,
    )  # fmt: skip


def _cpu_flags() -> str:
    """The instructions of a Linux CPU: virtual machines give different CPUs one name."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.processor()


def _read(place: Path) -> bytes | None:
    """What was kept under a name, whole and unharmed, or None."""
    try:
        kept = place.read_bytes()
    except OSError:
        return None
    start = len(MARK) + hashlib.sha256().digest_size
    mark, content = kept[:start], kept[start:]
    if mark != MARK + hashlib.sha256(content).digest():
        return None
    with suppress(OSError):
        os.utime(place)  # so that it is not the next to go
    return content


def _write(place: Path, content: bytes | memoryview) -> None:
    """Keeps something under a name, at once and whole; another process may do so too."""
    if len(content) > LIMIT // 2:
        return
    part = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            file.write(MARK + hashlib.sha256(content).digest())
            file.write(content)
        part.replace(place)
        part = None
        _tidy(place.parent)
    except OSError as error:
        LOG.debug("%s is not kept: %s", place, error)
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    used = 0
    for _, size, path in sorted(_files(folder), reverse=True):
        used += size
        if used > LIMIT:
            with suppress(OSError):
                path.unlink()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    for path in folder.iterdir():
        with suppress(OSError):  # another process may have taken it away
            state = path.stat()
            yield state.st_mtime, state.st_size, path
