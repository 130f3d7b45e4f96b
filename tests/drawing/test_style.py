from itertools import combinations

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from keyframe.drawing import HEADING, PALETTE, TEXT, dress, key, look, sheet, shorten, wrap
from tests.drawing.drawn import clashes, texts

LONG = "efficientnet_b0-distilled-from-resnet50/seed 3"

# Machado et al. (2009), table 1, severity 1, for linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def lab(colour, sight):
    """CIELAB (D65) of an sRGB colour as an eye of that kind sees it (IEC 61966-2-1, CIE 15)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_kind_of_eye_tells_the_colours_apart():
    # 2.3 is a just noticeable difference (Mahy et al., 1994); lines on a screen need about ten of them.
    for sight in SIGHT:
        seen = [lab(colour, sight) for colour in PALETTE]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 23


def test_a_look_goes_by_the_place_and_no_two_are_the_same():
    names = [str(number) for number in range(36)]
    looks = look(names)
    assert len(set(looks.values())) == len(names)
    assert look(names[:2]) == {name: looks[name] for name in names[:2]}


def test_wrapped_lines_keep_to_the_width_and_lose_nothing():
    for inches in (0.5, 1.0, 2.0, 20.0):
        lines = wrap(LONG, inches, 10).split("\n")
        assert all(len(line) <= 10 * inches for line in lines)
        assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
        assert (len(lines) == 1) == (inches == 20)
    assert wrap("resnet50_framewise", 1.4, 10) == "resnet50_\nframewise"


def test_a_shortened_name_keeps_both_ends():
    assert shorten(LONG, 20) == LONG
    head, tail = shorten(LONG, 1.5).split("…")
    assert LONG.startswith(head) and LONG.endswith(tail) and head and tail
    assert len(head + tail) < 20


def test_a_wrapped_line_is_about_as_wide_as_asked():
    figure = sheet("", 1)
    for size, per_inch in ((TEXT, 12.5), (HEADING, 10.0)):
        text = "Predicted importance and the annotators' mean of efficientnet_b0 on all scored frames"
        width = figure.text(0, 0, text, size=size).get_window_extent().width / figure.dpi
        assert width <= len(text) / per_inch


def test_a_sheet_keeps_its_height_whatever_stands_around_it():
    heights = []
    for title, caption in (("a", ""), ("a long title with $ and _ " * 9, "and a caption " * 20)):
        figure = sheet(title, 3, caption=caption)
        axis = dress(figure.add_subplot())
        names = ["_hidden", "$a$", LONG, "b"]
        if not caption:
            legend = key(figure, [Line2D([], []) for _ in names], names, "a title")
            assert [text.get_text() for text in legend.get_texts()] == names
        assert not clashes(figure) and len(texts(figure)) > 10
        heights.append(axis.get_window_extent().height / figure.dpi)
    assert min(heights) > 2.3
