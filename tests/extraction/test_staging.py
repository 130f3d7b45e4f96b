"""Images, animations and standard input become files that are read like any other."""

import io
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Refused, staged
from keyframe.types import KeyframeError
from tests.videos import draw_frame, write_video


def found(staging, *entries):
    return find_inputs([str(entry) for entry in entries], False, [staging.folder.parent], staging)


def pipe(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))


@pytest.fixture
def images(tmp_path):
    """Folders of twelve images of each kind."""
    for suffix in ("png", "jpg"):
        (tmp_path / suffix).mkdir()
        for number in range(12):
            Image.fromarray(draw_frame(number, (160, 96))).save(tmp_path / suffix / f"{number + 1:03}.{suffix}")
    return tmp_path


def test_images_are_a_video_of_that_rate(images):
    (images / "list.txt").write_text("png/%03d.png\n")
    contents = []
    for entry in ("png", "png/%03d.png", "list.txt", "jpg"):
        with staged(images / "run" / "inputs", 5) as staging:
            [path] = found(staging, images / entry)
            index = index_packets(path)
            np.testing.assert_allclose(index.timestamps, np.arange(12) / 5)
            pixels = PyAVReader().read(path, np.arange(12), None, index).pixels
            if entry != "jpg":
                np.testing.assert_array_equal(pixels, [draw_frame(number, (160, 96)) for number in range(12)])
            contents.append(path.read_bytes())
        assert not (images / "run" / "inputs").exists()
    assert contents[0] == contents[1] == contents[2]


def test_a_folder_of_images_needs_their_rate(images):
    with staged(images / "run" / "inputs", None) as staging:
        [refused] = found(staging, images / "png")
        assert refused.reason.startswith(f"{images / 'png'} holds no videos but 12 images: if they form a sequence")
        assert "image_rate=25" in refused.reason
        [path] = found(staging, images / "png" / "%03d.png")
        assert index_packets(path).fps == pytest.approx(25)


def test_two_inputs_of_one_name_stay_two(images):
    (images / "other" / "png").mkdir(parents=True)
    for image in (images / "jpg").iterdir():
        image.rename(images / "other" / "png" / image.name)
    with staged(images / "run" / "inputs", 5) as staging:
        both = found(staging, images / "png", images / "other" / "png", images / "png")
        assert [path.name for path in both] == ["png.mov", "png.mov"] and both[0] != both[1]
        assert [staging.shown(str(path)) for path in both] == [str(images / "png"), str(images / "other" / "png")]


def test_an_animated_webp_is_read_at_its_times(tmp_path):
    pictures = [Image.fromarray(draw_frame(number, (64, 48))) for number in range(5)]
    options = {"save_all": True, "append_images": pictures[1:], "duration": [40, 200, 0, 40, 60], "lossless": True}
    pictures[0].save(tmp_path / "a.webp", **options)
    pictures[0].save(tmp_path / "still.webp")
    with staged(tmp_path / "run" / "inputs", None) as staging:
        [path] = found(staging, tmp_path)
        assert (path.name, staging.shown(str(path))) == ("a.webp", str(tmp_path / "a.webp"))
        index = index_packets(path)
        np.testing.assert_allclose(index.timestamps, [0, 0.04, 0.24, 0.34, 0.38])
        assert index.duration == pytest.approx(0.44)
        pixels = PyAVReader().read(path, np.arange(5), None, index).pixels
        np.testing.assert_array_equal(pixels, [np.asarray(picture) for picture in pictures])
        assert found(staging, tmp_path / "still.webp") == [tmp_path / "still.webp"]
    content = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "cut.webp").write_bytes(content[: len(content) // 2])
    with staged(tmp_path / "run" / "inputs", None) as staging:
        [refused] = found(staging, tmp_path / "cut.webp")
        assert refused.reason.startswith(f"{tmp_path / 'cut.webp'} is an animated WebP that cannot be read: save it")


def test_standard_input_is_read_and_other_inputs_stay(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", frames=5)
    pipe(monkeypatch, video.read_bytes())
    odd = ["no.mp4", "~nobody.mp4", "n" * 300, "100%s.mp4"]
    with staged(tmp_path / "run" / "inputs", 25) as staging:
        stdin, *others = found(staging, "-", video, *odd, "-")
        assert index_packets(stdin).n_frames == 5
        assert [str(other) for other in others] == [str(video), *odd]
        (tmp_path / "list.txt").write_text("-\n")
        assert found(staging, tmp_path / "list.txt") == [tmp_path / "-"]


def test_standard_input_is_named_as_such(tmp_path, monkeypatch):
    pipe(monkeypatch, b"")
    with staged(tmp_path / "run" / "inputs", None) as staging:
        [refused] = found(staging, "-")
        assert refused.reason.startswith("standard input is empty (0 bytes)")
    pipe(monkeypatch, b"no video at all")
    with (
        pytest.raises(KeyframeError, match=r"^standard input is not a video that FFmpeg can read"),
        staged(tmp_path / "run" / "inputs", None) as staging,
    ):
        index_packets(*found(staging, "-"))
    monkeypatch.setattr(sys, "stdin", None)
    with staged(tmp_path / "run" / "inputs", None) as staging:
        [refused] = found(staging, "-")
        assert refused.reason.startswith("standard input is not a file or pipe")


def test_the_log_names_what_the_user_has_named(tmp_path, monkeypatch, caplog):
    pipe(monkeypatch, b"0")
    caplog.set_level("INFO")
    with staged(tmp_path / "run" / "inputs", None) as staging:
        [file] = found(staging, "-")
        logging.getLogger("keyframe.data.packets").info("%s: %d frames", file, 7)
    logging.getLogger("keyframe").info("%s", file)
    assert caplog.messages == ["standard input: 7 frames", str(file)]


def test_what_cannot_be_staged_is_refused_with_its_cause(tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("1.png", "2.jpg"):
        Image.new("RGB", (32, 32)).save(mixed / name)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "1.png").write_text("no image")
    wrong = {
        mixed / "%04d.png": "matches no image",
        mixed: "2.jpg is mjpeg, but the images before it png",
        tmp_path / "text": "is not an image that FFmpeg can read",
    }
    with staged(tmp_path / "run" / "inputs", 25) as staging:
        for entry, reason in zip(found(staging, *wrong), wrong.values(), strict=True):
            assert isinstance(entry, Refused) and reason in entry.reason
