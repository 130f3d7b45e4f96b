"""What the page answers over HTTP: to whom, with which headers, and what a request cannot reach."""

import io
import json
import shlex
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tests.app.conftest import TOKEN, video_id
from tests.commands import in_process


def test_the_token_is_in_the_address_once_then_in_a_cookie_that_scripts_do_not_see(served):
    status, headers, content = served.ask(f"/?token={TOKEN}", Cookie="")
    assert status == 200 and b">Videos</h1>" in content
    cookie = headers["set-cookie"]
    assert cookie == f"keyframe-{served.port}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert served.ask("/", Cookie=cookie.split(";")[0])[0] == 200
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ") and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cookie": ""}, 403),
        ({"Cookie": "keyframe-1=the-token"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),  # of another port
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),  # another port of this machine
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_other_sites_and_whoever_has_no_token_are_refused(served, headers, status):
    for path, body in (
        ("/api/library", None),
        ("/", None),
        ("/static/style.css", None),
        ("/api/score", {"videos": []}),
    ):
        assert served.ask(path, body, **headers)[0] == status, path


def test_a_token_in_the_address_lets_nothing_be_changed(served):
    assert served.ask(f"/api/score?token={TOKEN}", {"videos": []}, Cookie="")[0] == 403
    assert served.ask("/?token=wrong", Cookie="")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static//etc/passwd"),
        *("/api/videos/..%2f..%2fa.mp4/file", "/api/videos/%2fetc%2fpasswd/file", "/api/videos/a.mp4/file"),
        *("/api/videos/0000000000000000/file", "/etc/passwd", "/api/videos/x/still?at=0", "/api/nothing"),
    ],
)
def test_only_ids_name_files(served, path):
    status, _, content = served.ask(path)
    assert status == 404 and b"root:" not in content and b"import" not in content


def test_ranges_of_a_video_are_its_bytes(served):
    id = video_id(served, "a.mp4")
    whole = next(video.path for video in served.library.videos() if video.id == id).read_bytes()
    status, headers, content = served.ask(f"/api/videos/{id}/file")
    assert (status, content) == (200, whole) and headers["accept-ranges"] == "bytes"
    for asked, part in (("0-99", whole[:100]), ("500-", whole[500:]), ("-7", whole[-7:])):
        status, headers, content = served.ask(f"/api/videos/{id}/file", Range=f"bytes={asked}")
        assert (status, content) == (206, part)
        assert headers["content-range"].endswith(f"/{len(whole)}")
    assert served.ask(f"/api/videos/{id}/file", Range=f"bytes={len(whole)}-")[0] == 416


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"videos": 3}', b"[" * 60_000, b" " * 70_000])
def test_a_body_that_is_no_request_is_refused_with_a_sentence(served, body):
    status, _, content = served.ask("/api/score", body, method="POST")
    assert status == 400 and json.loads(content)["error"].endswith(("reload the page.", "send less at once."))


def test_a_hundred_requests_at_once_while_others_hang(served):
    """Connections that send half a request, or read nothing, stop no one."""
    import socket

    id = video_id(served, "a.mp4")
    slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(served.ask(f"/api/videos/{id}/file")[0])) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in slow:
        connection.close()
    assert found == [200] * 100


def test_a_name_from_a_file_is_text(served):
    status, headers, content = served.ask("/api/library")
    assert status == 200 and headers["content-type"] == "application/json"
    assert "c <b>bold.avi" in {video["name"] for video in json.loads(content)["videos"]}


def test_what_the_command_did_is_not_done_again_and_the_reverse(served):
    id = video_id(served, "a.mp4")
    served.json("score", {"videos": [id]})
    assert [task["state"] for task in served.finish() if task["video"] == id] == ["done"]
    served.library.refresh()
    assert served.json("library")["videos"][0]["scored"] == ["rule"]
    (curve,) = served.json(f"videos/{id}/curves")["curves"]
    assert curve["seconds"][:3] == [0, 0.48, 1] and len(curve["score"]) == 16
    assert curve["shots"][0]["start"] == 0 and curve["shots"][-1]["end"] == 8


def test_a_choice_is_the_commands_and_its_export_has_the_same_bytes(served, tmp_path):
    """The command that the page shows is run; then a choice by hand is exported too."""
    id, rule = video_id(served, "a.mp4"), served.library.models["rule"]
    served.json("score", {"videos": [id]})
    served.finish()
    asked = {"method": "top", "settings": {"k": 3}, "format": "png", "cut_lists": ["edl"], "summary_video": True}
    found = served.json(f"videos/{id}/choice", asked)
    assert len(found["keyframes"]) == 3 and sorted(one["rank"] for one in found["keyframes"]) == [1, 2, 3]
    words = shlex.split(found["command"])
    video = words[1]
    assert words[0] == "keyframe-extract" and "selection.k=3" in words and "selection=top" in words
    output = tmp_path / "by command"
    in_process("extract", *words[1:-1], f"output={output}", run_dir=tmp_path / "run")
    served.json(f"videos/{id}/export", asked)
    assert all(task["state"] != "failed" for task in served.finish())
    ours = Path(served.json(f"videos/{id}/export")["folder"])
    content = {path.name: path.read_bytes() for path in ours.iterdir()}
    assert content == {path.name: path.read_bytes() for path in (output / Path(video).stem).iterdir()}
    status, headers, archive = served.ask(f"/api/videos/{id}/export.zip")
    assert status == 200 and headers["content-disposition"] == 'attachment; filename="a.zip"'
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert {name: file.read(f"a/{name}") for name in content} == content
    # the page knows its scores again after the command has written there with another selection
    assert (rule.output / "a" / "candidates.npy").read_bytes() == content["candidates.npy"]
    by_hand = served.json(f"videos/{id}/choice", {"method": "times", "settings": {"seconds": [0, 1.7]}})
    assert [one["seconds"] for one in by_hand["keyframes"]] == [0, 1.48]


@pytest.mark.parametrize(
    "body",
    [
        {"method": "top", "settings": {"k": 0}},
        {"method": "top", "settings": {"k": "3"}},
        {"method": "top", "settings": {"_target_": "os.system"}},
        {"method": "os.system", "settings": {}},
        {"method": "top"},
        {"method": "times", "settings": {"seconds": []}},
        {"method": "top", "settings": {}, "format": "exe"},
        {"method": "top", "settings": {}, "cut_lists": [3]},
        {"method": "top", "settings": {}, "model": "../x"},
    ],
)
def test_a_choice_that_cannot_be_is_refused_with_a_sentence(served, body):
    status, _, content = served.ask(f"/api/videos/{video_id(served, 'a.mp4')}/choice", body)
    assert status == 400 and json.loads(content)["error"].endswith(".")


def test_a_task_is_cancelled(served):
    id = video_id(served, "b.webm")
    (task,) = served.json("score", {"videos": [id]})["tasks"]
    assert served.json("cancel", {"task": task["id"]}) == {"cancelled": True}
    assert [one["state"] for one in served.finish() if one["video"] == id] == ["cancelled"]
    assert served.json("cancel", {"task": task["id"]}) == {"cancelled": False}
    assert not list((served.library.folder.parent / "extract").glob("b*"))


def test_an_upload_is_bounded_and_kept_apart(served, monkeypatch):
    content = b"no video" * 100
    answer = served.ask("/api/uploads?name=..%2F..%2Fnew%20<i>.mp4", content)
    assert answer[0] == 200
    (kept,) = (served.library.folder / "uploads").iterdir()
    assert kept.name == "new _i_.mp4" and kept.read_bytes() == content
    while not (video := next(one for one in served.json("library")["videos"] if one["name"] == kept.name))["fault"]:
        time.sleep(0.02)
    assert "new _i_.mp4" in video["fault"]
    assert served.ask("/api/uploads?name=program.sh", content)[0] == 400
    monkeypatch.setattr("keyframe.app.library._MOST_UPLOAD", 10)
    status, _, refused = served.ask("/api/uploads?name=large.mp4", content)
    assert status == 400 and "large.mp4 is larger than" in json.loads(refused)["error"]
    assert [path.name for path in (served.library.folder / "uploads").iterdir()] == [kept.name]
