"""Labelling over HTTP: what is on disk when, what one annotator may see of others, and who else reads the file."""

import json
import subprocess
import sys
import threading
from urllib.parse import quote

import numpy as np
import pytest

from keyframe.app.annotations import Annotations, find_shots
from keyframe.app.label import order_of
from keyframe.data.labels import read_labels
from keyframe.evaluation.reference import reference_metrics, reference_table
from tests.app.conftest import serve_folder, video_id
from tests.videos import write_video


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two videos of five and four seconds at 25 frames a second."""
    folder = tmp_path_factory.mktemp("label") / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=125)
    write_video(folder / "[b] c.mp4", frames=100)
    page = serve_folder(folder, shot_seconds=0.5)
    yield page
    page.close()


@pytest.fixture
def site(server, tmp_path):
    """The server with a label file to be."""
    server.library.annotations.close()
    server.library.labels = tmp_path / "labels.tsv"
    server.library.annotations.__init__(server.library.labels)
    return server


def begin(site, video, annotator, order="random"):
    site.json(f"videos/{video}/shots", {"annotator": annotator, "order": order, "kind": "even"})
    site.json(f"videos/{video}/shots", {"annotator": annotator, "watched": True})
    return site.json(f"videos/{video}/shots?annotator={quote(annotator)}")


def rate_all(site, video, annotator, score_of):
    state = begin(site, video, annotator)
    for shot in state["order"]:
        answer = site.json(f"videos/{video}/shots", {"annotator": annotator, "shot": shot, "score": score_of(shot)})
    assert answer == {"done": len(state["shots"]), "of": len(state["shots"])}


def refusal(site, path, body):
    status, _, content = site.ask(f"/api/{path}", body)
    assert status == 400, content
    return json.loads(content)["error"]


def test_shots_are_two_seconds_of_frames_and_a_short_rest_belongs_to_the_last(tmp_path):
    write_video(tmp_path / "a.mp4", frames=110)  # 4.4 s: a rest of .4 s
    shots = find_shots(tmp_path / "a.mp4", 2.0)
    assert (shots.frames, shots.seconds, shots.starts, shots.first) == (110, 4.4, (0.0, 2.0), (0, 50))
    own = find_shots(tmp_path / "a.mp4", 2.0, [0, 1, 3.2], entries=111)  # within 1 %: by time
    assert (own.starts, own.kind, own.entries) == ((0.0, 1.0, 3.2), "own", 111)
    assert len(own.per_entry({0: 1, 1: 2, 2: 5})) == 111


def test_the_order_is_each_annotators_own_and_the_same_again():
    assert order_of("a", "Ann", "chronological", 4) == [0, 1, 2, 3]
    orders = {tuple(order_of(video, name, "random", 20)) for video in "ab" for name in ("Ann", "Bo") for _ in range(2)}
    assert len(orders) == 4 and all(sorted(order) == list(range(20)) for order in orders)


def test_a_rating_is_on_disk_before_it_is_answered_and_the_row_once_all_are(site):
    video = video_id(site, "a.mp4")
    state = begin(site, video, "Ann")
    journal = site.library.labels.with_name("labels.tsv.journal")
    assert len(state["shots"]) == 10
    for number, shot in enumerate(state["order"], start=1):
        assert not site.library.labels.exists()
        site.json(f"videos/{video}/shots", {"annotator": "Ann", "shot": shot, "score": 1 + shot % 5})
        assert sum("score" in json.loads(line) for line in journal.read_text().splitlines()) == number
    (labels,) = read_labels(site.library.labels).values()
    # frame n is at n / 25 s, in the shot of half a second that it starts in
    shots = np.minimum(np.arange(125) / 25 // 0.5, 9)
    assert np.array_equal(labels.annotators, [(shots % 5) / 4])
    assert site.json("library")["videos"][1]["labelled"] == [{"annotator": "Ann", "share": 1.0}]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"annotator": "", "order": "random"}, "a name of 1 to 40"),
        ({"annotator": "x" * 41, "order": "random"}, "a name of 1 to 40"),
        ({"annotator": "Ann", "order": "backwards"}, "order=backwards is not known"),
        ({"annotator": "Zoe", "watched": True}, "has not started"),
        ({"annotator": "Ann", "shot": 0, "score": 3}, "watch the whole video first"),
        ({"annotator": "Ann", "shot": True, "score": 3}, "shot is missing or of the wrong kind"),
    ],
)
def test_what_is_no_rating_is_refused(site, body, part):
    video = video_id(site, "a.mp4")
    site.json(f"videos/{video}/shots", {"annotator": "Ann", "order": "random"})
    assert part in refusal(site, f"videos/{video}/shots", body)
    site.json(f"videos/{video}/shots", {"annotator": "Ann", "watched": True})
    for wrong in ({"shot": 10, "score": 1}, {"shot": -1, "score": 1}, {"shot": 0, "score": 6}, {"shot": 0, "score": 0}):
        assert "a score is 1 to 5" in refusal(site, f"videos/{video}/shots", {"annotator": "Ann", **wrong})


def test_no_request_tells_scores_of_others_before_ones_own_are_complete(site):
    video = video_id(site, "a.mp4")
    rate_all(site, video, "Ann", lambda shot: 5)
    assert site.json(f"videos/{video}/curves")["labels"]["mean"][0] == 1
    state = begin(site, video, "Bo")
    assert state["scores"] == {}
    found = site.json(f"videos/{video}/curves")
    assert found["labels"] is None and "once Bo has completed" in found["note"]
    agreement = site.json("agreement")
    assert (agreement["all"], agreement["annotators"], agreement["withheld"]) == (None, [], ["a"])
    site.json(f"videos/{video}/shots", {"annotator": "Bo", "given_up": True})
    assert site.json(f"videos/{video}/curves")["labels"]["annotators"] == 1
    assert "has given up" in refusal(site, f"videos/{video}/shots", {"annotator": "Bo", "shot": 0, "score": 1})


def test_two_annotators_at_once(site):
    video = video_id(site, "a.mp4")
    people = {"Ann": lambda shot: 1 + shot % 5, "Bo <b>": lambda shot: 5 - shot % 5, "Cy": lambda shot: 3}
    threads = [threading.Thread(target=rate_all, args=(site, video, name, score)) for name, score in people.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (labels,) = read_labels(site.library.labels).values()
    shots = np.minimum(np.arange(125) / 25 // 0.5, 9)
    expected = sorted([(shots % 5) / 4, 1 - (shots % 5) / 4, np.full(125, 0.5)], key=list)
    assert np.array_equal(sorted(labels.annotators, key=list), expected)


def test_rows_of_others_stay_and_a_file_that_another_program_has_changed_is_not_written(site):
    theirs = "a\tnews\t" + ",".join(["2"] * 125)  # no line break at its end
    site.library.labels.write_text(theirs)
    video = video_id(site, "a.mp4")
    rate_all(site, video, "Ann", lambda shot: 1 + shot % 5)
    lines = site.library.labels.read_text().splitlines()
    assert lines[0] == theirs and lines[1].startswith("a\tnews\t1,1,") and len(lines) == 2
    assert [row["name"] for row in site.json("agreement")["annotators"]] == ["row 1 of the file", "Ann"]
    site.library.labels.write_text(theirs + "\n")
    body = {"annotator": "Ann", "shot": 0, "score": 5}
    assert "was changed by another program: move it away" in refusal(site, f"videos/{video}/shots", body)
    assert site.library.labels.read_text() == theirs + "\n"


def test_the_agreement_is_that_of_keyframe_evaluate(site):
    random = np.random.default_rng(0)
    for name in ("a.mp4", "[b] c"):
        video = video_id(site, name)
        for annotator in ("Ann", "Bo", "Cy"):
            scores = random.integers(1, 6, 10)
            rate_all(site, video, annotator, lambda shot, scores=scores: int(scores[shot]))
    labels = read_labels(site.library.labels)
    assert list(labels) == ["a", "[b] c"]
    expected = reference_metrics(dict(reference_table(labels)))
    found = site.json("agreement")
    for metric in ("spearman", "spearman_lo", "spearman_hi", "kendall", "kendall_std"):
        assert found["all"][metric] == pytest.approx(expected[f"reference/other_annotators/{metric}"], abs=1e-4)
    assert [(row["name"], row["videos"]) for row in found["annotators"]] == [("Ann", 2), ("Bo", 2), ("Cy", 2)]


_KILLED = """
import os, sys
from pathlib import Path
from keyframe.app.annotations import Annotations, Shots
one = Annotations(Path(sys.argv[1]))
one.open()
one.begin("a", "Ann", "random", Shots(125, 5.0, 125, (0.0, 2.0, 4.0), (0, 50, 100), "even"))
one.watched("a", "Ann")
one.rate("a", "Ann", 0, 4)
one.rate("a", "Ann", 2, 1)
os.kill(os.getpid(), 9)
"""


def test_a_kill_loses_nothing_and_a_torn_line_is_dropped(tmp_path, caplog):
    labels = tmp_path / "labels.tsv"
    assert subprocess.run([sys.executable, "-c", _KILLED, str(labels)]).returncode == -9
    with (tmp_path / "labels.tsv.journal").open("a") as journal:
        journal.write('{"video": "a", "annotator": "Ann", "sh')
    one = Annotations(labels)
    one.open()
    assert "the last line is incomplete, and is dropped" in caplog.text
    assert one.found["a"]["Ann"].scores == {0: 4, 2: 1}
    one.rate("a", "Ann", 1, 2)
    one.close()
    assert read_labels(labels)["a"].annotators.shape == (1, 125)
    labels.unlink()  # as if it had been killed between the journal and the file
    again = Annotations(labels)
    again.open()
    assert np.array_equal(np.unique(read_labels(labels)["a"].annotators), [0, 0.25, 0.75])
    again.close()


def test_a_journal_that_is_damaged_or_in_use_is_told_and_kept(tmp_path):
    first, second = Annotations(tmp_path / "labels.tsv"), Annotations(tmp_path / "labels.tsv")
    first.open()
    with pytest.raises(Exception, match="in use by another keyframe-app"):
        second.open()
    first.close()
    for line in (b"5", b'{"video": "a", "annotator": "Ann", "score": 9, "shot": 0}', b'{"video": "a", "shots": {}}'):
        journal = tmp_path / "labels.tsv.journal"
        journal.write_bytes(line + b"\n")
        with pytest.raises(Exception, match=r"line 1 is damaged .*: remove the line"):
            second.open()
        assert journal.read_bytes() == line + b"\n"


def test_a_full_disk_refuses_a_rating_and_leaves_the_journal_whole(site, monkeypatch):
    video = video_id(site, "a.mp4")
    begin(site, video, "Ann")
    before = site.library.annotations.place.read_bytes()
    body = {"annotator": "Ann", "shot": 0, "score": 5}
    with monkeypatch.context() as full:
        full.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert "make room on the disk" in refusal(site, f"videos/{video}/shots", body)
    assert site.library.annotations.place.read_bytes() == before
    assert site.json(f"videos/{video}/shots?annotator=Ann")["scores"] == {}
    assert site.json(f"videos/{video}/shots", body) == {"done": 1, "of": 10}


@pytest.mark.parametrize("name", ["labels.json", "labels.csv", "labels.mat"])
def test_a_file_of_another_form_is_not_written(tmp_path, name):
    with pytest.raises(Exception, match=r"to label, start keyframe-app with labels=NEW\.tsv"):
        Annotations(tmp_path / name).open()
    assert not list(tmp_path.iterdir())
