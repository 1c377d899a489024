"""Names, downloads and checks of public models, against a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hrtrack.cli import main
from hrtrack.errors import ModelError
from hrtrack.models import zoo
from hrtrack.models.info import guess_info
from hrtrack.skeleton import COCO17, by_joint_count, by_name

BODY = bytes(range(256)) * 4000
GRAPH = b"\x3a\x04abcd"
"""What an ONNX file is told by: field 7, of four bytes."""


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
    # It looks that often whether it shall stop.
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
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
    (tmp_path / "net.part.pth").write_bytes(BODY[:300_000])
    assert zoo.fetch(known, tmp_path).read_bytes() == BODY
    assert server.starts == [300_000]


def test_complete_part_is_used(server: Server, tmp_path: Path) -> None:
    known = entry(server, "net.pth", BODY, hashlib.sha256(BODY).hexdigest())
    (tmp_path / "net.part.pth").write_bytes(BODY)
    assert zoo.fetch(known, tmp_path).read_bytes() == BODY


def test_without_a_hash_only_on_trust(server: Server, tmp_path: Path) -> None:
    known = entry(server, "yolox.onnx", GRAPH, None)
    with pytest.raises(ModelError, match=f"models fetch {known.name} --trust-unhashed"):
        zoo.fetch(known, tmp_path)
    assert server.starts == []
    path = zoo.fetch(known, tmp_path, trust_unhashed=True)
    assert path.read_bytes() == GRAPH
    # Anew only where that is asked for.
    assert zoo.fetch(known, tmp_path) == path
    assert len(server.starts) == 1
    again = zoo.fetch(known, tmp_path, trust_unhashed=True, again=True)
    assert again.read_bytes() == GRAPH
    assert len(server.starts) == 2


def packed(**files: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name, content in files.items():
            out.writestr(f"sdk/{name}.onnx", content)
    return archive.getvalue()


@pytest.mark.parametrize("file", ["rtmpose.zip", "yolox.onnx"])
def test_a_file_without_a_hash_stays_that_of_its_first_use(
    file: str, server: Server, tmp_path: Path
) -> None:
    zipped = file.endswith(".zip")
    known = entry(server, file, packed(end2end=GRAPH) if zipped else GRAPH, None)
    path = zoo.fetch(known, tmp_path, trust_unhashed=True)
    record = tmp_path / f"{path.name}.first-use.json"
    said = json.loads(record.read_text())
    assert said["sha256"] == hashlib.sha256(GRAPH).hexdigest()
    assert (said["bytes"], said["url"]) == (len(GRAPH), known.url)
    assert zoo.fetch(known, tmp_path) == path

    path.write_bytes(GRAPH + b"?")
    with pytest.raises(ModelError, match="no longer the file of its first use") as caught:
        zoo.fetch(known, tmp_path)
    assert "\n" not in str(caught.value)

    other = b"\x3a\x04wxyz"
    server.files[file] = packed(end2end=other) if zipped else other
    with pytest.raises(ModelError, match="no longer the file"):
        zoo.fetch(known, tmp_path, trust_unhashed=True, again=True)
    for kept in tmp_path.glob("*.first-use.json"):
        kept.unlink()
    assert zoo.fetch(known, tmp_path, trust_unhashed=True, again=True).read_bytes() == other
    record.write_text("[]")
    with pytest.raises(ModelError, match=f"{record.name} is damaged"):
        zoo.fetch(known, tmp_path)


def test_a_page_instead_of_a_model_is_not_kept(server: Server, tmp_path: Path) -> None:
    known = entry(server, "yolox.onnx", b"<html>not found</html>", None)
    with pytest.raises(ModelError, match="no ONNX file"):
        zoo.fetch(known, tmp_path, trust_unhashed=True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    known = entry(server, "net.pth", BODY, hashlib.sha256(BODY).hexdigest()[:8])
    (tmp_path / "net.pth").write_bytes(b"half a download")
    assert zoo.fetch(known, tmp_path).read_bytes() == BODY


def test_a_cache_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    known = entry(server, "net.pth", BODY, "0" * 8)
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/below"):
        with pytest.raises(ModelError, match="HRTRACK_CACHE moves them"):
            zoo.fetch(known, tmp_path / place)


def test_a_name_of_another_task_is_refused_before_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        ModelError, match=r"for the task pose, but the task here is detector; .*person_fast"
    ):
        zoo.resolve("hrnet_w32_coco_256x192", task="detector")
    with pytest.raises(
        ModelError, match=r"for the task detector, but the task here is pose; .*body_fast"
    ):
        zoo.resolve("yolox_nano", task="pose")
    with pytest.raises(ModelError) as caught:
        zoo.resolve("person_fasd", task="detector")
    assert "person_fast" in str(caught.value)
    assert "body_fast" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_fetch_means_the_model_and_no_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "yolox_nano").write_text("x")
    with pytest.raises(SystemExit):
        main(["models", "fetch", "yolox_nano"])
    assert "no hash is published" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["models", "fetch", "person_fast"])
    assert capsys.readouterr().out.strip() == str(zoo.bundled_path("person_fast"))


def test_zip_gives_its_onnx(server: Server, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("sdk/deploy.json", "{}")
        files.writestr("sdk/end2end.onnx", BODY)
    known = entry(server, "yolox_nano.zip", archive.getvalue(), None)
    path = zoo.fetch(known, tmp_path, trust_unhashed=True)
    assert (path.name, path.read_bytes()) == ("some-model.onnx", BODY)
    records = {f"{name}.first-use.json" for name in (path.name, "yolox_nano.zip")}
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *records}


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    known = entry(server, "here.pth", BODY, "0" * 8)
    gone = dataclasses.replace(known, url=server.url + "gone.pth")
    with pytest.raises(ModelError, match=r"cannot download some-model .*404"):
        zoo.fetch(gone, tmp_path)


class Faults(BaseHTTPRequestHandler):
    """Answers, each wrong in the way its path names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fault = self.path.strip("/").removesuffix(".onnx")
        self.close_connection = True
        if fault == "silent":
            time.sleep(1)
        elif fault == "garbage":
            self.wfile.write(b"\x00\x01\r\n\r\n")
        elif fault == "down":
            self.send_error(503)
        else:
            self.send_response(302 if fault == "loop" else 200)
            headers = {
                "loop": ("Location", self.path),
                "short": ("Content-Length", "1000"),
                "chunks": ("Transfer-Encoding", "chunked"),
                "coded": ("Content-Encoding", "gzip"),
            }
            self.send_header(*headers[fault])
            self.end_headers()
            self.wfile.write(b"5\r\nabcde\r\nzz")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def faults() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Faults) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("down", "the server answers 503 Service Unavailable"),
        ("silent", "no answer within 0.2 s"),
        ("garbage", "the connection broke off"),
        ("short", "the connection broke off"),
        ("chunks", "the connection broke off"),
        ("coded", "the server's answer makes no sense"),
        ("loop", "without end"),
        ("closed", "the server cannot be reached; is this machine online?"),
        ("nobody", "the server's name is not known here; is this machine online?"),
        ("tls", "no secure connection"),
    ],
)
def test_a_failed_download_is_told_in_a_few_words(
    fault: str,
    words: str,
    faults: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(zoo, "TIMEOUT_SECONDS", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        base = {
            "closed": f"http://127.0.0.1:{closed.getsockname()[1]}/",
            "nobody": "http://nobody.invalid/",
            "tls": faults.replace("http", "https"),
        }.get(fault, faults)
        made = zoo.Entry("some-model", "pose", f"{base}{fault}.onnx", None, "none", "test")
        with pytest.raises(ModelError) as error:
            zoo.fetch(made, tmp_path, trust_unhashed=True)
    assert words in str(error.value)
    assert len(str(error.value)) < 200
    assert capfd.readouterr() == ("", "")


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


def test_what_is_bundled_needs_nothing_for_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert zoo.resolve("person_fast", task="detector").parent == zoo.weights_folder()
    with pytest.raises(ImportError):
        zoo.resolve("yolox_nano", task="detector")


def test_public_entries_are_told_apart_and_hashed() -> None:
    names = [e.name for e in zoo.PUBLIC]
    assert len(set(names)) == len(names) == 74
    for e in zoo.PUBLIC:
        assert e.url is not None
        assert (e.sha256 is not None) == e.url.endswith(".pth")
        if e.sha256 is not None:
            assert len(e.sha256) == 8
            assert f"-{e.sha256}_" in e.url
        assert e.input_hw is not None
        assert e.task == "detector" or "x".join(map(str, e.input_hw)) in e.name
        assert (e.score is None) == (e.source == "")
    skeletons = {e.skeleton for e in zoo.PUBLIC if e.task == "pose"}
    assert skeletons == {
        "coco17", "mpii16", "halpe26", "wholebody133", "aic14", "crowdpose14", "ap10k17",
        "onehand21",
    }  # fmt: skip


def test_the_file_s_name_in_the_cache_tells_the_skeleton(tmp_path: Path) -> None:
    """Several skeletons have 14 or 17 joints: what is read off the name must be the entry's."""
    for e in zoo.PUBLIC:
        if e.task == "pose":
            path = zoo.file_of(e, tmp_path)
            assert by_joint_count(len(by_name(e.skeleton)), path).name == e.skeleton
            rtmw = e.name.startswith("rtmw_")
            assert guess_info(COCO17, path).certain == (10.0 if rtmw else 1.0)


def test_local_path_downloads_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path))
    known = entry(server, "net.pth", BODY, hashlib.sha256(BODY).hexdigest()[:8])
    monkeypatch.setattr(zoo, "PUBLIC", (known,))
    assert zoo.local_path("some-model") is None
    assert zoo.local_path("nothing") is None
    assert zoo.local_path("body_fast") == zoo.bundled_path("body_fast")
    zoo.fetch(known, tmp_path)
    assert zoo.local_path("some-model") == tmp_path / "net.pth"
    assert server.starts == [0]
