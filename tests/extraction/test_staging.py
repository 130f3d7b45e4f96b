"""Images and standard input become files that are read like any other."""

import io
import sys
from types import SimpleNamespace

import numpy as np
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.inputs import Refused, find_inputs
from keyframe.extraction.staging import staged
from tests.videos import draw_frame, write_video


def test_images_are_a_video_of_that_rate(tmp_path):
    for suffix in ("png", "jpg"):
        folder = tmp_path / suffix
        folder.mkdir()
        for number in range(12):
            Image.fromarray(draw_frame(number, (160, 96))).save(folder / f"{number + 1:03}.{suffix}")
    with staged([str(folder)], tmp_path / "inputs", None) as entries:  # a folder of pictures is no video by itself
        assert entries == [str(folder)]
    contents = []
    for entry in (tmp_path / "png", tmp_path / "png" / "%03d.png", tmp_path / "jpg"):
        with staged([str(entry)], tmp_path / "run" / "inputs", 5) as (file,):
            (path,) = find_inputs([file], False, [tmp_path / "run"])
            index = index_packets(path)
            np.testing.assert_allclose(index.timestamps, np.arange(12) / 5)
            images = PyAVReader().read(path, np.arange(12), None, index).pixels
            if entry.name != "jpg":
                np.testing.assert_array_equal(images, [draw_frame(number, (160, 96)) for number in range(12)])
            contents.append(path.read_bytes())
        assert not (tmp_path / "run" / "inputs").exists()
    assert contents[0] == contents[1]


def test_standard_input_is_read_and_other_inputs_stay(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", frames=5)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(video.read_bytes())))
    odd = ["no.mp4", "~nobody.mp4", "n" * 300, "\0", "[a-z]*?.mp4", "100%s.mp4"]
    with staged(["-", str(video), *odd], tmp_path / "inputs", 25) as (stdin, *others):
        assert index_packets(next(iter(find_inputs([stdin], False, [])))).n_frames == 5
        assert others == [str(video), *odd]


def test_what_cannot_be_staged_is_refused_with_its_cause(tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("1.png", "2.jpg"):
        Image.new("RGB", (32, 32)).save(mixed / name)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "1.png").write_text("no image")
    wrong = {
        "https://example.org/a.mp4": "is an address, not a file: download the video first",
        str(tmp_path / "mixed" / "%04d.png"): "matches no image",
        str(mixed): "2.jpg is mjpeg, but the images before it png",
        str(tmp_path / "text"): "is no image that FFmpeg can read",
    }
    with staged(list(wrong), tmp_path / "inputs", 25) as entries:
        for entry, reason in zip(find_inputs(entries, False, []), wrong.values(), strict=True):
            assert isinstance(entry, Refused) and reason in entry.reason
