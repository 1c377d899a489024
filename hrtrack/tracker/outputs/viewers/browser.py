"""A page in the browser for machines without a screen: the picture, the figures, the results.

The loop draws a picture when the viewers are ready for one and only leaves it behind; it is encoded
once for all of them and sent on the server's own threads, so that no viewer slows the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import secrets
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from ....errors import SinkError, UsageError
from ..base import Run, Target
from ..results.jsonl import JsonLines

if TYPE_CHECKING:
    from ....poses import Poses
    from ...video.frame import Frame
    from ..base import Picture

PAGE = Path(__file__).with_name("viewer.html")
BOUNDARY = "frame"
PART = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
MOST_FPS = 15
SHARE = 0.05
"""Encoding takes no more of a processor core: large pictures come less often."""
LARGEST = 960
"""Pixels of the longer side; a larger picture is scaled down for the viewers."""
QUALITY = 80
COOKIE = "hrtrack_token"
LOGIN = """<!doctype html><title>hrtrack</title>
<form style="font:15px system-ui;margin:3rem"><label>Token: <input name="token" autofocus></label>
<button>Open</button></form>"""


class Viewer:
    """Serves the run at ``host:port`` until it ends.

    ``urls`` are where, with the token if any; of ``0.0.0.0`` and ``::`` the addresses that other
    computers use, most likely first. A ``wall`` shows several streams in one picture: it has their
    figures in it, and no results of its own.
    """

    def __init__(
        self,
        run: Run,
        host: str,
        port: int,
        made_by: str,
        token: str | None,
        *,
        wall: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hrtrack")
        self._path = Path(self._folder.name, "results.jsonl")
        self._results = None if wall else JsonLines(Target("jsonl", str(self._path)), run)
        self._run, self._made_by = run, made_by
        self._local = _is_loopback(host)
        self._token = token or (None if self._local else secrets.token_urlsafe(16))
        self._newest: NDArray[np.uint8] | None = None
        self._wanted = False
        self._part = b""
        self._figures: dict[str, Any] = {}
        self._ids: set[int] = set()
        self._written: deque[float] = deque(maxlen=30)
        self._watching = 0
        self._loop = asyncio.new_event_loop()
        self._asked, self._drawn = asyncio.Event(), asyncio.Event()
        self._encoded = asyncio.Condition()
        self._figures = self._facts(None, 0)
        self._thread = threading.Thread(target=self._loop.run_forever, name="viewer", daemon=True)
        self._thread.start()
        try:
            self._runner, bound = self._wait(self._start(host, port))
        except OSError as error:
            self._stop_thread()
            reason = error.strerror or str(error)
            raise SinkError(
                f"cannot serve on {host}:{port}: {reason[:1].lower()}{reason[1:]}"
            ) from None
        self._port = bound
        asked = f"?token={self._token}" if self._token else ""
        shown = (f"[{one}]" if ":" in one else one for one in reachable(host))
        self.urls = [f"http://{one}:{bound}/{asked}" for one in shown]

    @property
    def url(self) -> str:
        """The likeliest of ``urls``."""
        return self.urls[0]

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Leaves the newest picture and figures for the viewers; draws only if they want one."""
        if self._results is not None:
            self._results.write(frame, poses, picture)
        self._written.append(time.monotonic())
        self._ids.update(int(i) for i in poses.ids if i >= 0)
        self._figures = self._facts(frame, len(poses))
        if self._wanted:
            self._newest, self._wanted = picture(), False
            self._loop.call_soon_threadsafe(self._drawn.set)
        return True

    def wants(self) -> bool:
        """Whether a viewer waits for a picture."""
        return self._wanted

    def close(self, *, complete: bool) -> None:
        """Ends every viewer's stream and gives the port back."""
        self._wait(self._runner.cleanup())
        self._stop_thread()

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
        if self._results is not None:
            self._results.close(complete=True)
        self._folder.cleanup()

    def _wait(self, work: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(timeout=15)

    def _facts(self, frame: Frame | None, people: int) -> dict[str, Any]:
        times = self._written
        span = times[-1] - times[0] if len(times) > 1 else 0.0
        arrived = frame.arrived if frame else None
        source = self._run.source
        latency = None if arrived is None else round((time.monotonic() - arrived) * 1000)
        if self._results is None:
            return {
                "source": source.name,
                "made_by": self._made_by,
                "people": people,
                "ids": len(self._ids),
                "viewers": self._watching,
                "results": False,
            }
        return {
            "source": source.name if source.is_live else Path(source.name).name,
            "made_by": self._made_by,
            "frame": frame.index if frame else 0,
            "time": round(frame.time, 2) if frame else 0.0,
            "fps": round((len(times) - 1) / span, 1) if span else 0.0,
            "people": people,
            "ids": len(self._ids),
            "latency_ms": latency,
            "dropped": frame.dropped if frame and arrived is not None else None,
            "viewers": self._watching,
            "results": True,
        }

    async def _start(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/stream", self._stream),
                web.get("/figures", self._send_figures),
                web.get("/results", self._download),
            ]
        )
        app.on_cleanup.append(self._finish)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        self._encoding = asyncio.create_task(self._encode())
        return runner, int(runner.addresses[0][1])

    async def _finish(self, app: web.Application) -> None:
        self._encoding.cancel()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The token on open addresses; on the loopback, no pages of other names (rebinding)."""
        if self._token is None:
            host = request.host.rsplit(":", 1)[0] if "]" not in request.host[-1:] else request.host
            if not _is_loopback(host.strip("[]")):
                raise web.HTTPForbidden(text="this viewer answers to localhost only")
            return await handler(request)
        given = request.query.get("token") or request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.Response(status=401, text=LOGIN, content_type="text/html")
        if "token" in request.query:
            # The token leaves the address bar, and with it the browser's history.
            answer = web.Response(status=303, headers={"Location": request.path})
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="Strict")
            return answer
        return await handler(request)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def _send_figures(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._figures | {"viewers": self._watching})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        if self._results is None:
            raise web.HTTPNotFound(text="several streams: their results are written with --save")
        name = "attachment; filename=results.jsonl"
        headers = {"Content-Disposition": name, "Content-Type": "application/x-ndjson"}
        return web.FileResponse(self._path, headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        await answer.prepare(request)
        self._watching += 1
        try:
            sent = b""
            while True:
                async with self._encoded:
                    while self._part is sent or not self._part:
                        self._asked.set()
                        await self._encoded.wait()
                    sent = self._part
                await answer.write(sent)
        except (ConnectionError, asyncio.CancelledError):
            return answer
        finally:
            self._watching -= 1

    async def _encode(self) -> None:
        """Asks the loop for a picture when a viewer waits for one, and encodes it once for all."""
        while True:
            # Those who stall do not ask: for them alone nothing is drawn.
            await self._asked.wait()
            self._asked.clear()
            self._drawn.clear()
            self._wanted = True
            await self._drawn.wait()
            assert self._newest is not None
            part, cost = await asyncio.to_thread(jpeg_part, self._newest)
            async with self._encoded:
                self._part = part
                self._encoded.notify_all()
            await asyncio.sleep(max(1 / MOST_FPS, cost / SHARE))


def viewer(
    address: str,
    made_by: str = "",
    announce: Callable[[str], None] | None = None,
    token: str | None = None,
    *,
    wall: bool = False,
) -> Callable[[Run], Viewer]:
    """What `open_sinks` makes the viewer with, on ``HOST:PORT`` or ``PORT`` (on the loopback).

    ``announce`` is told each URL. On any address but the loopback a token is asked for; one is
    made up unless given. ``wall``: the run shows several streams. UsageError for an address that
    is none.
    """
    host, port = parse_address(address)

    def make(run: Run) -> Viewer:
        made = Viewer(run, host, port, made_by, token, wall=wall)
        if announce is not None:
            for url in made.urls:
                announce(url)
        return made

    return make


def parse_address(address: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` or ``PORT``."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--serve {address}: HOST:PORT was expected, for example 127.0.0.1:8000")
    return host.strip("[]") or "127.0.0.1", int(port)


def reachable(host: str) -> list[str]:
    """The addresses under which others reach a server bound to ``host``.

    A host that stands for every address is replaced by those of this machine: that of the route
    to the world, then those its name has; its name where there is none.
    """
    try:
        bound = ipaddress.ip_address(host)
    except ValueError:
        return [host]
    if not bound.is_unspecified:
        return [host]
    # Servers on :: answer to IPv6 alone. The targets are addresses for documentation (RFC 5737,
    # RFC 3849): choosing a route to one sends nothing.
    six = bound.version == 6
    family = socket.AF_INET6 if six else socket.AF_INET
    found, name = [], socket.gethostname()
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.connect(("2001:db8::1" if six else "192.0.2.1", 9))
        found.append(str(asked.getsockname()[0]))
    with contextlib.suppress(OSError):
        found += [str(answer[4][0]) for answer in socket.getaddrinfo(name, None, family)]
    usable = [one for one in dict.fromkeys(found) if not _is_local(one)]
    return usable or [name]


def _is_local(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_loopback or found.is_link_local


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def jpeg_part(image_HW3: NDArray[np.uint8]) -> tuple[bytes, float]:
    """The picture as one part of the stream, and the seconds of processor that took."""
    began = time.thread_time()
    scale = LARGEST / max(image_HW3.shape[:2])
    if scale < 1:
        # Averaging areas costs more than the JPEG, and shows only where pixels would be skipped.
        how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
        image_HW3 = cv2.resize(image_HW3, None, fx=scale, fy=scale, interpolation=how)
    bgr = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR)
    encoded: NDArray[np.uint8] = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    jpeg = encoded.tobytes()
    return PART % len(jpeg) + jpeg + b"\r\n", time.thread_time() - began
