import itertools
import re
import shutil
import subprocess
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.summary.stills import Still, _best_layout, save_contact_sheet, save_stills
from keyframe.types import VideoError
from tests.videos import (
    CAN_ROTATE,
    CLIPS,
    COPIES,
    KINDS,
    N_FRAMES,
    build,
    draw_frame,
    first_number,
    overwrite,
    packet_places,
    read_frame_number,
    write_video,
)

BT709, BT601 = 1, 5
LIMITED, FULL = 1, 2


def pixels_of(still):
    with Image.open(still.path) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        return np.asarray(picture)


def player_frames(path, numbers):
    """Number -> upright picture and time after the first, by decoding from the start."""
    shown, first = {}, None
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(container.streams.best("video"))):
            first = frame.time if first is None else first
            if number in numbers:
                shown[number] = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90), frame.time - first
            if len(shown) == len(numbers):
                break
    return shown


@pytest.mark.parametrize("name", [*KINDS, *COPIES])
def test_a_still_is_the_frame_that_it_says(name, tmp_path):
    if "rotat" in name and not CAN_ROTATE:
        pytest.skip("this PyAV writes no rotation")
    path = build(name, tmp_path)
    index = index_packets(path)
    frames = np.unique(np.linspace(0, index.n_frames - 1, 4).astype(int))
    stills = save_stills(index_packets(path), frames, np.arange(len(frames), 0, -1), tmp_path / "stills", PyAVReader())
    assert [still.frame for still in stills] == frames.tolist()
    assert [still.rank for still in stills] == list(range(len(frames), 0, -1))
    for still in stills:
        pixels = pixels_of(still)
        assert pixels.shape[:2] == KINDS.get(name, {}).get("size", (160, 96))[::-1]
        assert read_frame_number(pixels) == first_number(name) + still.frame
        assert still.seconds == index.timestamps[still.frame] - index.timestamps[0]


# without clips the fixture says so
@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.glob("*.*") if path.suffix != ".md") or ["any"])
def test_a_still_of_a_real_clip_is_what_a_player_shows(name, clips, tmp_path):
    if name == "decord_corrupted.mp4":
        pytest.skip("no two decoders patch this damaged stream alike")
    frames = np.unique(np.linspace(0, min(index_packets(clips / name).n_frames, 120) - 1, 4).astype(int))
    expected = player_frames(clips / name, frames.tolist())
    stills = save_stills(index_packets(clips / name), frames, 1 + np.arange(len(frames)), tmp_path, PyAVReader())
    for still in stills:
        picture, seconds = expected[still.frame]
        pixels = pixels_of(still)
        assert pixels.shape == picture.shape
        assert still.seconds == pytest.approx(seconds, abs=1e-6)
        # JPEG loses 1 to 3 levels at this quality; the readers' versions of FFmpeg differ by up to one.
        assert np.abs(pixels.astype(int) - picture).mean() < 4


def test_colours_are_those_that_were_filmed(tmp_path):
    for matrix, colour_range, reader in itertools.product(
        (BT709, BT601), (LIMITED, FULL), (PyAVReader(), DecordReader())
    ):
        colour = {"colorspace": matrix, "color_range": colour_range}
        path = write_video(tmp_path / "c.mp4", frames=3, size=(280, 160), colour=colour, options={"crf": "4"})
        (still,) = save_stills(index_packets(path), np.array([1]), np.array([1]), tmp_path, reader)
        # The middle of each colour bar, away from its blurred edges; the wrong matrix or range is 10 to 30 levels off.
        bars = (slice(10, 70), slice(12, None, 40))
        assert np.abs(pixels_of(still)[bars].astype(int) - draw_frame(1, (280, 160))[bars]).mean(axis=0).max() < 6


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["flower.mp4", "tc_nasa.mp4", "bikes.mp4", "rot90.mov"])
def test_agrees_with_ffmpeg(name, clips, tmp_path):
    # PNG, because ffmpeg's JPEG keeps the video's matrix where JFIF means BT.601.
    command = ["ffmpeg", "-v", "error", "-i", clips / name, "-vf", "select=eq(n\\,2)", "-frames:v", "1"]
    subprocess.run([*command, tmp_path / "ffmpeg.png"], check=True)
    (still,) = save_stills(index_packets(clips / name), np.array([2]), np.array([1]), tmp_path, PyAVReader())
    with Image.open(tmp_path / "ffmpeg.png") as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    difference = pixels_of(still) - expected
    assert np.abs(difference).mean() < 3
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.6  # no cast


@pytest.mark.parametrize(
    ("ratio", "rotation", "shape"),
    [
        ("4/3", 0, (96, 213, 3)),
        ("3/4", 0, (128, 160, 3)),
        pytest.param("4/3", 90, (128, 160, 3), marks=pytest.mark.skipif(not CAN_ROTATE, reason="no rotation here")),
        ("9/1", 0, (96, 160, 3)),
    ],
)
def test_pixels_that_are_not_square(ratio, rotation, shape, tmp_path):
    # The upright picture is 160 x 96 coded pixels; turned by 90, its pixels are high instead of wide.
    path = write_video(tmp_path / "s.mp4", frames=2, rotation=rotation, options={"x264-params": f"sar={ratio}"})
    (still,) = save_stills(index_packets(path), np.array([1]), np.array([1]), tmp_path, DecordReader())
    assert pixels_of(still).shape == shape
    assert read_frame_number(pixels_of(still)) == 1


def test_names_sort_by_rank_and_carry_the_time(tmp_path):
    # One picture every 1000.25 s: the hour comes up after four of them.
    path = write_video(tmp_path / "my: odd % name.mp4", times=[4001 * number for number in range(12)], fps=1)
    ranks = np.array([12, 3, 100, 1])
    stills = save_stills(index_packets(path), np.array([0, 1, 4, 11]), ranks, tmp_path / "out", PyAVReader())
    assert [still.path.name for still in stills] == [
        "keyframe_012_00h00m00.000s.jpg",
        "keyframe_003_00h16m40.250s.jpg",
        "keyframe_100_01h06m41.000s.jpg",
        "keyframe_001_03h03m22.750s.jpg",
    ]
    in_order = sorted(stills, key=lambda still: still.path.name)
    assert [still.rank for still in in_order] == [1, 3, 12, 100]
    assert sorted((tmp_path / "out").iterdir()) == [still.path for still in in_order]


def test_milliseconds_carry_over(tmp_path):
    path = write_video(tmp_path / "v.mp4", times=[0, 4 * 60 * 3000 - 1], fps=3000)
    (_, still) = save_stills(index_packets(path), np.array([0, 1]), np.array([1, 2]), tmp_path, PyAVReader())
    assert still.seconds == pytest.approx(60 - 1 / 12000)
    assert still.path.name == "keyframe_02_00h01m00.000s.jpg"


def test_a_frame_that_does_not_decode_is_named_after_its_stand_in(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=40, options={"g": "1"})
    whole = index_packets(path)
    overwrite(path, packet_places(path)[20:21])
    index = replace(whole, state=index_packets(path).state)
    stills = save_stills(index, np.array([5, 20]), np.array([1, 2]), tmp_path, PyAVReader(max_missing=0.5))
    assert [still.frame for still in stills] == [5, 19]
    assert stills[1].seconds == pytest.approx(19 / 25)
    assert [read_frame_number(pixels_of(still)) for still in stills] == [5, 19]


def test_all_or_nothing(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=40, options={"g": "1"})
    whole = index_packets(path)
    overwrite(path, packet_places(path)[20:])
    index, out = replace(whole, state=index_packets(path).state), tmp_path / "out"
    with pytest.raises(VideoError, match=re.escape(str(path))):
        save_stills(index, np.array([5, 30, 35]), np.array([1, 2, 3]), out, PyAVReader())
    assert list(out.iterdir()) == []


def test_no_frames_no_files(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=N_FRAMES)
    none = np.array([], np.int64)
    assert save_stills(index_packets(path), none, none, tmp_path / "out", PyAVReader()) == []


def test_refuses_frames_that_are_not_there_and_quality(tmp_path):
    index = index_packets(write_video(tmp_path / "v.mp4", frames=10))
    for frame, quality in ((-1, 92), (10, 92), (0, 0), (0, 96)):
        with pytest.raises(ValueError):
            save_stills(index, np.array([frame]), np.array([1]), tmp_path / "out", PyAVReader(), quality)


# Colours that no caption and no paper has.
COLOURS = [(200, 30, 30), (30, 160, 30), (40, 40, 200)]


def contact_sheet(images, directory, times=None):
    """The sheet of plain images, each a colour and a shape (H, W), a second apart by default."""
    stills = []
    for number, (colour, shape) in enumerate(images):
        path = directory / f"{number}.jpg"
        Image.fromarray(np.full((*shape, 3), colour, np.uint8)).save(path, quality=95)
        stills.append(Still(path, number, float(number) if times is None else times[number], number + 1))
    out = directory / "new" / "sheet.jpg"
    save_contact_sheet(stills, out)
    assert list(out.parent.iterdir()) == [out]
    with Image.open(out) as image:
        assert (image.format, image.mode, image.width) == ("JPEG", "RGB", 1600)
        return np.asarray(image)


def box(sheet, colour):
    """Top, bottom, left and right of what is about of one colour."""
    rows, columns = np.nonzero(np.all(np.abs(sheet.astype(int) - colour) < 20, axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_every_still_is_on_the_sheet_in_its_own_shape(tmp_path):
    for count, shape in ((1, (90, 160)), (5, (160, 90)), (20, (90, 210)), (200, (90, 160))):
        images = [((120, 60, 60), shape)] * (count - 1) + [(COLOURS[0], shape)]
        sheet = contact_sheet(images, tmp_path)
        top, bottom, left, right = box(sheet, COLOURS[0])
        assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.03)
        same = np.all(np.abs(sheet.astype(int) - (120, 60, 60)) < 20, axis=-1).sum()
        # JPEG blurs the edges.
        assert same == pytest.approx((count - 1) * (bottom - top) * (right - left), rel=0.08, abs=1)


def test_stills_are_in_order_of_time_each_over_its_caption(tmp_path):
    shape = (90, 160)
    sheet = contact_sheet([(colour, shape) for colour in COLOURS], tmp_path, [3725.04, 0.0, 61.96])
    last, first, middle = (box(sheet, colour) for colour in COLOURS)
    assert abs(first[0] - middle[0]) <= 2 and first[3] <= middle[2]
    assert last[0] > first[1] or last[2] > middle[3]
    # A caption is centred below its still, within the still's width.
    for _, bottom, left, right in (first, middle, last):
        ink = np.nonzero((sheet[bottom + 4 : bottom + 40, left:right] < 150).all(axis=(2)).any(axis=0))[0]
        assert len(ink) and ink.min() > 0 and ink.max() < right - left - 1
        assert (ink.min() + ink.max()) / 2 == pytest.approx((right - left) / 2, abs=4)
    # It tells time and rank: other times and ranks give another picture.
    other = contact_sheet([(colour, shape) for colour in COLOURS], tmp_path / "new", [3725.04, 0.0, 71.96])
    changed = np.nonzero(np.abs(sheet.astype(int) - other).max(axis=(0, 2)) > 60)[0]
    assert middle[2] <= changed.min() and changed.max() < middle[3]


def test_another_shape_stands_whole_in_the_middle_of_its_cell(tmp_path):
    wide, tall = (90, 160), (160, 90)
    plain = box(contact_sheet([(colour, wide) for colour in COLOURS], tmp_path), COLOURS[1])
    mixed = contact_sheet(list(zip(COLOURS, (wide, tall, wide), strict=True)), tmp_path)
    top, bottom, left, right = box(mixed, COLOURS[1])
    assert (top, bottom) == pytest.approx(plain[:2], abs=1)
    assert (right - left) / (bottom - top) == pytest.approx(90 / 160, rel=0.03)
    assert left + right == pytest.approx(plain[2] + plain[3], abs=3)


def test_thousands_of_stills_fit_in_a_jpeg_file():
    layout = _best_layout(20_000, 16 / 9)
    assert layout.height <= 65_500 and layout.columns * layout.rows >= 20_000
