"""Videos at addresses: what is downloaded from servers of all kinds, and what is not."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keyframe.extraction import download
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Refused, staged
from tests.videos import write_video

SEGMENTS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"


class Server(ThreadingHTTPServer):
    """Answers each path by a function of its handler, others by 404; `asked` are the paths that came."""

    daemon_threads = True

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = answers, []
        self.root = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Clients hang up here on purpose."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path) or self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
        else:
            answer(self)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(**answers):
    """A server on this machine; an answer is a function, or content of a stated length."""
    functions = {path: one if callable(one) else content(one) for path, one in answers.items()}
    with Server({f"/{path}": one for path, one in functions.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def content(body, status=200, length=None, **headers):
    """An answer with a body; a length of -1 is not stated, another one is a lie."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if length != -1:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(place):
    return content(b"", 302, Location=place)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.ts", frames=12).read_bytes()


def only(folder, address):
    """Name and content of the file that an address leads to, or why there is none."""
    with staged(folder / "inputs", None) as staging:
        [one] = find_inputs([address], False, [folder], staging)
        if isinstance(one, Refused):
            return one.reason
        assert staging.shown(str(one)) == download.shown_address(address)
        return one.name, one.read_bytes()


def test_a_file_is_downloaded_whatever_its_name(video, tmp_path):
    names = {
        "a.mp4": "a.mp4",
        "get?id=3&key=secret": "get",
        "x/%C3%A9t%C3%A9%20..%2F..%2Fb.mkv": "b.mkv",
        "n" * 300 + ".mp4": "n" * 160 + ".mp4",
        "a%00b%0Ac.mp4": "a_b_c.mp4",
        "": "video",
    }
    with serving(**dict.fromkeys(names, video)) as server:
        for path, name in names.items():
            assert only(tmp_path, f"{server.root}/{path}") == (name, video)
        assert only(tmp_path, f"{server.root}/a.mp4#t=10") == ("a.mp4", video)
        server.answers["/%C3%A9%20.mp4"] = content(video)
        assert only(tmp_path, f"{server.root}/é .mp4") == ("é.mp4", video)
    assert not (tmp_path / "inputs").exists()


def test_a_list_may_name_addresses_and_each_is_downloaded_once(video, tmp_path):
    with serving(**{"a.mp4": video, "b/a.mp4": video}) as server:
        (tmp_path / "list.txt").write_text(f"{server.root}/a.mp4\n{server.root}/a.mp4\n{server.root}/b/a.mp4\n")
        with staged(tmp_path / "inputs", None) as staging:
            found = find_inputs([str(tmp_path / "list.txt")], False, [tmp_path], staging)
            assert [path.name for path in found] == ["a.mp4", "a.mp4"] and len(set(found)) == 2
        assert server.asked == ["/a.mp4", "/b/a.mp4"]


def test_what_leads_to_no_video_is_refused_with_its_cause(video, tmp_path):
    answers = {
        "page": content(b"<html>", Content_Type="text/html; charset=utf-8"),
        "live": content(video, length=-1),
        "huge": content(video, length=10**15),
        "short": content(video, length=len(video) + 7),
        "to_file": redirect("file:///etc/passwd"),
        "to_ftp": redirect("ftp://127.0.0.1/a.mp4"),
        "circle": redirect("/circle"),
        "denied": content(b"", 403),
    }
    says = {
        "page": "is a web page, not a video: give the address of the file itself",
        "live": "states no length, it may be endless: download the video by other means",
        "huge": "has 1000000000000000 bytes, but only ",
        "short": f"broke off after {len(video)} of {len(video) + 7} bytes: try again",
        "to_file": "leads to file:///etc/passwd, which is not followed",
        "to_ftp": "cannot be reached (unknown url type: ftp)",
        "circle": "/circle, which is not followed",
        "denied": "is answered by 403 (Forbidden)",
        "gone": "is answered by 404 (Not Found)",
    }
    with serving(**answers) as server:
        for path, words in says.items():
            reason = only(tmp_path, f"{server.root}/{path}?key=secret")
            assert reason.startswith(f"{server.root}/{path} ") and words in reason and "secret" not in reason
            assert "\n" not in reason and reason.endswith(".")
        reason = only(tmp_path, f"{server.root.replace('//', '//me:secret@')}/a.mp4")
        assert reason.startswith(f"{server.root}/a.mp4 holds a user name, which logs would keep")
    assert "cannot be reached (" in only(tmp_path, f"{server.root}/a.mp4")
    assert "cannot be reached (" in only(tmp_path, "http://[::1/a.mp4")
    for address in ("ftp://host/a.mp4", "rtsp://me:secret@host/1", "data:video/mp4;base64,AAAA", "file:///a.mp4"):
        reason = only(tmp_path, address)
        assert "is not an http(s) address: download the video by other means" in reason and "secret" not in reason


def test_a_server_that_is_slow_is_left(video, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.3)
    monkeypatch.setattr(download, "_SLOWEST", 1e5)
    over = threading.Event()

    def drips(head):
        def answer(handler):
            handler.wfile.write(head)
            while not over.wait(0.05):
                handler.wfile.write(b"x")

        return answer

    def nothing(handler):
        over.wait(0.05)
        content(b"")(handler)

    says = {
        "silent": (lambda handler: over.wait(9), "does not answer within"),
        "head": (drips(b"HTTP/1.1 200 OK\r\nX: "), "does not answer within"),
        "all.m3u8": (content((SEGMENTS + "".join(f"{n}.ts\n" for n in range(99))).encode()), "is too slow, 0 KB"),
        "body": (drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), "is too slow, 0 KB so far"),
    }
    answers = {path: answer for path, (answer, _) in says.items()} | {f"{n}.ts": nothing for n in range(99)}
    with serving(**answers) as server:
        for path, (_, words) in says.items():
            since = time.monotonic()
            assert words in only(tmp_path, f"{server.root}/{path}")
            assert time.monotonic() - since < 2
        over.set()


def test_a_redirect_leads_nowhere_that_is_private(video, tmp_path):
    with serving(**{"a.mp4": video, "secret": video}) as other:
        localhost = other.root.replace("127.0.0.1", "localhost")
        answers = {"near": redirect("a.mp4"), "a.mp4": video, "far": redirect(f"{localhost}/secret")}
        with serving(**answers) as server:
            assert only(tmp_path, f"{server.root}/near") == ("near", video)
            reason = only(tmp_path, f"{server.root}/far")
            assert f"leads to the private address 127.0.0.1:{other.server_port}, which is not followed" in reason
        assert other.asked == []


def test_a_playlist_is_downloaded_with_its_segments_from_public_places_alone(video, tmp_path):
    with serving(secret=video) as other:
        answers = {
            "live/all.m3u8": content(
                b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n720/index.m3u8?key=1\n", length=-1, Content_Type="text/plain"
            ),
            "live/720/index.m3u8?key=1": f"{SEGMENTS}../a.ts\n#EXTINF:1,\n/b.ts\n#EXTINF:1,\n../a.ts\n".encode(),
            "live/a.ts": b"1" + video,
            "b.ts": b"2" + video,
            "moved.m3u8": redirect("live/all.m3u8"),
            "spy.m3u8": f"{SEGMENTS}{other.root}/secret\n".encode(),
            "files.m3u8": f"{SEGMENTS}file:///etc/passwd\n".encode(),
            "gone.m3u8": f"{SEGMENTS}gone.ts\n".encode(),
            "endless.m3u8": content(b"#EXTM3U\n" + bytes(9 << 20), length=-1),
        }
        with serving(**answers) as server:
            joined = b"1" + video + b"2" + video + b"1" + video
            assert only(tmp_path, f"{server.root}/live/all.m3u8") == ("all.m3u8", joined)
            assert server.asked.count("/live/a.ts") == 1
            assert only(tmp_path, f"{server.root}/moved.m3u8") == ("moved.m3u8", joined)
            for path, words in {
                "spy": f"/spy.m3u8 leads to the private address 127.0.0.1:{other.server_port}",
                "files": "file:///etc/passwd is not an http(s) address",
                "gone": "/gone.ts is answered by 404",
                "endless": "is not a playlist, it has over 8 MB",
            }.items():
                assert words in only(tmp_path, f"{server.root}/{path}.m3u8")
        assert other.asked == []


def test_the_address_that_is_connected_to_decides(video, tmp_path, monkeypatch):
    """A public name that leads to this machine is a private place; one that the user has typed is his choice."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest: resolve("127.0.0.1" if host == "public.example" else host, *rest)
    )
    with serving(secret=video) as other:
        place = f"http://public.example:{other.server_port}/secret"
        with serving(a=redirect(place)) as server:
            assert "leads to the private address 127.0.0.1" in only(tmp_path, f"{server.root}/a")
        assert other.asked == []
        assert only(tmp_path, place) == ("secret", video)
