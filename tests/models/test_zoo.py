"""Names, downloads and checks of public models, against a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hrtrack.errors import ModelError
from hrtrack.models import zoo

BODY = bytes(range(256)) * 4000


class Server:
    """Serves files; notes the first byte asked for in each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.starts: list[int] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = owner.files.get(self.path.lstrip("/"))
                if body is None:
                    self.send_error(404)
                    return
                asked = self.headers.get("Range")
                first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                owner.starts.append(first)
                if first >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(body) - first))
                self.end_headers()
                self.wfile.write(body[first:])

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def entry(server: Server, file: str, body: bytes, sha256: str | None) -> zoo.Entry:
    server.files[file] = body
    return zoo.Entry("some-model", "pose", server.url + file, sha256, "none", "test")


def test_download_is_checked_by_the_digits_in_its_name_and_kept(
    server: Server, tmp_path: Path
) -> None:
    digits = hashlib.sha256(BODY).hexdigest()[:8]
    known = entry(server, f"net-{digits}_20200708.pth", BODY, digits)
    path = zoo.fetch(known, tmp_path)
    assert path.read_bytes() == BODY
    assert zoo.fetch(known, tmp_path) == path
    assert server.starts == [0]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_wrong_content_is_refused_and_deleted(server: Server, tmp_path: Path) -> None:
    known = entry(server, "net-00000000_20200708.pth", BODY, "00000000")
    with pytest.raises(ModelError, match="does not match its hash") as caught:
        zoo.fetch(known, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    digits = hashlib.sha256(BODY).hexdigest()[:8]
    known = entry(server, "net.pth", BODY, digits)
    (tmp_path / "net.pth.part").write_bytes(BODY[:300_000])
    assert zoo.fetch(known, tmp_path).read_bytes() == BODY
    assert server.starts == [300_000]


def test_complete_part_is_used(server: Server, tmp_path: Path) -> None:
    known = entry(server, "net.pth", BODY, hashlib.sha256(BODY).hexdigest())
    (tmp_path / "net.pth.part").write_bytes(BODY)
    assert zoo.fetch(known, tmp_path).read_bytes() == BODY


def test_without_a_hash_only_on_trust(server: Server, tmp_path: Path) -> None:
    known = entry(server, "yolox.onnx", BODY, None)
    with pytest.raises(ModelError, match=f"models fetch {known.name} --trust-unhashed"):
        zoo.fetch(known, tmp_path)
    assert server.starts == []
    assert zoo.fetch(known, tmp_path, trust_unhashed=True).read_bytes() == BODY


def test_zip_gives_its_onnx(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr("sdk/deploy.json", "{}")
        files.writestr("sdk/end2end.onnx", BODY)
    known = entry(server, "yolox_nano.zip", packed.getvalue(), None)
    path = zoo.fetch(known, tmp_path, trust_unhashed=True)
    assert (path.name, path.read_bytes()) == ("some-model.onnx", BODY)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    known = entry(server, "here.pth", BODY, "0" * 8)
    gone = dataclasses.replace(known, url=server.url + "gone.pth")
    with pytest.raises(ModelError, match=r"cannot download some-model .*404"):
        zoo.fetch(gone, tmp_path)


def test_resolve(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path / "cache"))
    own = tmp_path / "mine.onnx"
    own.write_bytes(b"x")
    assert zoo.resolve(own) == own
    with pytest.raises(ModelError, match=r"no model file at nowhere/mine\.onnx"):
        zoo.resolve("nowhere/mine.onnx")
    with pytest.raises(ModelError, match=r"unknown model 'hrnet_w32_coco'.*hrnet_w32_coco_256x192"):
        zoo.resolve("hrnet_w32_coco")
    digits = hashlib.sha256(BODY).hexdigest()[:8]
    known = entry(server, f"net-{digits}_20200708.pth", BODY, digits)
    monkeypatch.setattr(zoo, "PUBLIC", (known,))
    assert zoo.resolve("some-model").read_bytes() == BODY


def test_public_entries_are_told_apart_and_hashed() -> None:
    names = [e.name for e in zoo.PUBLIC]
    assert len(set(names)) == len(names) == 30
    for e in zoo.PUBLIC:
        assert (e.sha256 is not None) == (e.task == "pose")
        if e.sha256 is not None:
            assert len(e.sha256) == 8
            assert f"-{e.sha256}_" in str(e.url)
