from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from napari_flowmag.download import download
from napari_flowmag.errors import Cancelled, FlowmagError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Answers ranges; `cut` bytes after the beginning of an answer the connection breaks off."""

    class Handler(BaseHTTPRequestHandler):
        cut = None
        ranges: list = []  # noqa: RUF012

        def do_GET(self):
            asked = self.headers.get("Range")
            type(self).ranges.append(asked)
            if self.path == "/nonsense":
                self.wfile.write(b"no\r\nanswer\r\n\r\n")
                return
            if self.path == "/pieces":  # the second of which never comes
                self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                self.wfile.write(b"100\r\n" + CONTENT[:256] + b"\r\n100\r\n" + CONTENT[:9])
                return
            start = int(re.match(r"bytes=(\d+)-", asked).group(1)) if asked else 0
            if self.path != "/file":
                self.send_error(404)
                return
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            stop = len(CONTENT) if self.cut is None else start + self.cut
            self.wfile.write(CONTENT[start:stop])

        def log_message(self, *_):
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield Handler, f"http://127.0.0.1:{made.server_port}/file"
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_file_is_fetched_once(server, tmp_path):
    handler, url = server
    steps = []
    path = download(url, tmp_path / "new" / "file", SHA256, progress=lambda *s: steps.append(s))
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    download(url, path, SHA256)
    assert handler.ranges == [None]
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    handler.ranges.clear()


def test_it_goes_on_where_it_broke_off(server, tmp_path):
    handler, url = server
    handler.cut = 300_000
    with pytest.raises(FlowmagError, match="broke off"):
        download(url, tmp_path / "file", SHA256[:6])
    assert not (tmp_path / "file").exists()

    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        download(url, tmp_path / "file", SHA256, check=stop)
    handler.cut, handler.ranges = None, []
    assert download(url, tmp_path / "file", SHA256).read_bytes() == CONTENT
    assert handler.ranges == ["bytes=300000-"]


@pytest.mark.parametrize("answer", ["nonsense", "pieces"])
def test_an_answer_that_is_none_or_stops_is_one_line(server, tmp_path, answer):
    _, url = server
    with pytest.raises(FlowmagError, match=r"cannot fetch .* try again") as caught:
        download(url.replace("file", answer), tmp_path / "file", SHA256)
    assert "\n" not in str(caught.value)


def test_another_file_is_refused(server, tmp_path):
    _, url = server
    with pytest.raises(FlowmagError, match="not the file that was meant"):
        download(url, tmp_path / "file", "0123")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FlowmagError, match="cannot fetch"):
        download(url + "-none", tmp_path / "file", SHA256)
