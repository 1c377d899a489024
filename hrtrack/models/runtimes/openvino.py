"""The one OpenVINO runtime of a process."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from ...errors import BackendError

if TYPE_CHECKING:
    import openvino


_FIRST = threading.Lock()


def openvino_core() -> openvino.Core:
    """OpenVINO's core, made at the first call and kept to the end.

    On CPUs with AMX every core gives the thread a new alternate signal stack, and puts the one
    before back when it goes. Of two cores, if the older goes first, the younger puts back memory
    that is no longer there, and the next signal that Python handles (Ctrl-C, a child that ends)
    is a segmentation fault.

    Raises:
        BackendError: OpenVINO is not installed.
    """
    with _FIRST:
        return _core()


@functools.cache
def _core() -> openvino.Core:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"this needs OpenVINO ({error}): pip install openvino") from None
    return openvino.Core()


def port_shape(port: Any) -> tuple[int, ...]:
    """The sides of a graph's input or output; -1 for one that is left open."""
    return tuple(side.get_length() if side.is_static else -1 for side in port.partial_shape)
