"""Moments of still footage: slides, what is added to them, what passes a camera; and what is none."""

import numpy as np

from keyframe.summary.candidates import quality_flags
from keyframe.summary.changes import LocalChanges
from keyframe.summary.describe import GRID
from keyframe.summary.moments import find_moments
from keyframe.summary.selection import AdaptiveSelection, TopSelection
from tests.summary.generated import video

PAPER = np.full((GRID, GRID), 240.0)


def text(seed, lines=5):
    """A slide as cells: lines of words, each two cells high."""
    rng, slide = np.random.default_rng(seed), PAPER.copy()
    for line in range(lines):
        width = rng.integers(20, 40)
        slide[4 + 7 * line : 6 + 7 * line, 4 : 4 + width] = rng.integers(120, 230, (2, width))
    return slide


def room(seed=0):
    """What a fixed camera sees: furniture of many tones."""
    rng, view = np.random.default_rng(seed), np.full((GRID, GRID), 110.0)
    for _ in range(30):
        (top, left), (height, width) = rng.integers(0, GRID, 2), rng.integers(3, 20, 2)
        view[top : top + height, left : left + width] = rng.integers(40, 200)
    return view


def filmed(pictures, noise=1.0):
    rng = np.random.default_rng(1)
    return np.stack([(p + rng.normal(0, noise, p.shape)).clip(0, 255).round() for p in pictures]).astype(np.uint8)


def moments(pictures, shots=None, looks=None):
    looks = np.ones(len(pictures), dtype=np.int64) if looks is None else np.array(looks)
    shots = np.array([[0, len(pictures) - 1]]) if shots is None else np.array(shots)
    return find_moments(LocalChanges(filmed(pictures), shots, looks), looks)


def spans(found):
    return [(int(moment.frames[0]), int(moment.frames[-1]), moment.finished) for moment in found]


def test_each_slide_is_a_moment_and_one_that_returns_is_the_same():
    slides = [text(number) for number in (0, 1, 2, 0) for _ in range(10)]
    # the first and last frame of each may still show the change
    assert spans(moments(slides)) == [(1, 38, True), (11, 18, True), (21, 28, True)]
    # whatever cuts them into shots
    assert len(moments(slides, shots=[[0, 14], [15, 29], [30, 39]])) == 3
    # a frame that the video holds is one look of many
    assert len(moments([text(number) for number in range(8)], looks=[9] * 7 + [1])) == 8


def test_a_slide_that_builds_up_is_finished_at_its_end():
    built = [text(number, lines) for number in (0, 1) for lines in range(1, 6) for _ in range(8)]
    found = moments(built)
    assert [moment.finished for moment in found] == [False] * 4 + [True] + [False] * 4 + [True]
    n = len(built)
    candidates = video(np.full(n, 0.5), np.arange(n) / 2, np.ones((n, 1), np.float32), cells=filmed(built))
    assert len(AdaptiveSelection()(candidates)) == 2
    for every in (AdaptiveSelection(steps=True), TopSelection(k=10)):
        selection = every(candidates)
        assert np.unique(selection.keyframes // 8).tolist() == list(range(10)) and not selection.notes
    least = AdaptiveSelection(steps=True, most=4)(candidates)
    assert least.notes == ("selection.most=4 keyframes leave out 6 of 10 moments",)


def test_a_word_put_in_place_of_another_is_no_step_of_a_slide():
    # As of 48-pixel type at 720p: 14 cells change, of which 5 lose contrast.
    slide, other = text(3), text(3)
    slide[18:20, 10:17], other[18:20, 10:17] = 200, 170
    other[18, 10:15] = 225
    for first, second in ((slide, other), (other, slide)):
        assert spans(moments([first] * 10 + [second] * 10)) == [(1, 8, True), (11, 18, True)]


def test_handwriting_is_its_last_picture():
    board = [PAPER.copy() for _ in range(40)]
    for step in range(30):
        for later in board[step:]:
            later[10 + step // 10 * 6, 5 + step % 10 * 3 : 8 + step % 10 * 3] = 60
    first, *rest = spans(moments(board))[-1]
    assert first >= 28 and rest == [38, True]


def test_slides_beside_a_speaker_who_moves_are_moments_and_the_speaker_is_none():
    rng, speaker = np.random.default_rng(4), np.zeros((12, 12))
    filmed_talk = []
    for number in range(60):
        slide = text(number // 15, lines=4)
        if rng.random() < 0.5:
            speaker = rng.integers(0, 255, (12, 12))
        slide[36:, 36:] = speaker
        filmed_talk.append(slide)
    assert spans(moments(filmed_talk)) == [(1, 13, True), (16, 28, True), (31, 43, True), (46, 58, True)]
    # Slides that stay for two seconds are no such part, though they change often.
    assert len(moments([text(number // 4, lines=2) for number in range(60)])) == 15


def test_what_passes_a_fixed_camera_is_a_moment_each_time():
    for light in (0.0, 0.15):
        views = [room() * (1 + light * np.sin(n / 30)) for n in range(240)]
        for start in (60, 150):
            for step in range(10):
                # 0.5 % of the picture, a second of it behind something
                if step not in (4, 5):
                    views[start + step][20:26, 3 + 4 * step : 5 + 4 * step] -= 45
        found = spans(moments(views))
        assert found[0][:2] == (1, 238) and len(found) == 5
        assert [first for first, _, _ in found[1:]] == [60, 66, 150, 156]
    # somebody who stays for a while is a picture; who is there for one look is none
    there = room()
    there[20:26, 20:22] -= 60
    assert len(moments([room()] * 20 + [there] * 10 + [room()] * 20)) == 2
    assert len(moments([room()] * 20 + [there] + [room()] * 20)) == 1


def test_a_slide_of_one_look_is_a_moment_and_what_is_passed_through_is_none():
    for number in range(4):
        slides = [text(number)] * 10 + [text(number + 10)] + [text(number + 20)] * 10
        assert [moment.frames.tolist() for moment in moments(slides)][1:2] == [[10]] and len(moments(slides)) == 3
    # a wipe, a dissolve, a scroll, a push, a flash, and a line that flies in
    one, other = text(0), text(1)
    joined = np.concatenate([one, other])
    flying = one.copy()
    flying[40:43, 10:30] = 120
    for between in (
        np.concatenate([other[:, :20], one[:, 20:]], axis=1), 0.4 * one + 0.6 * other, joined[17:65],
        np.concatenate([one[:, 30:], other[:, :30]], axis=1), one * 0.5 + 127, flying,
    ):  # fmt: skip
        assert len(moments([one] * 10 + [between] + [other] * 10)) == 2
    # a film that plays on a screen
    rng = np.random.default_rng(8)
    assert len(moments([one] * 20 + [rng.integers(0, 255, (GRID, GRID)) for _ in range(8)] + [other] * 20)) == 2


def test_each_who_passes_is_a_moment_though_the_scene_is_seldom_or_never_empty():
    for gap, empty in ((8, 1), (4, 1), (0, 0)):
        views = []
        for number in range(8):
            for step in range(20 + gap):
                view = np.pad(room(), 4)
                if step < 20:
                    left = round(2.6 * step)
                    view[10 + 3 * number : 18 + 3 * number, left : left + 3] = 20 if number % 3 else 235
                views.append(view[4:-4, 4:-4])
        found = moments(views)
        at = [int(moment.frames[0]) // (20 + gap) for moment in found[empty:]]
        assert at == list(range(8)) and len(found) == 8 + empty
        assert all(moment.finished for moment in found)
    # somebody at a desk who is never still is none, who looks in is one
    rng, desk = np.random.default_rng(5), []
    for number in range(80):
        view = room()
        view[20 + rng.integers(0, 5) : 30, 8 + rng.integers(0, 5) : 16] = 30
        if 40 <= number < 50:
            view[16:30, 36 - (number - 40) : 39 - (number - 40)] = 235
        desk.append(view)
    seen = [moment.frames for moment in moments(desk) if (moment.frames >= 40).all() and (moment.frames < 50).all()]
    assert len(seen) == 1 and len(moments(desk)) <= 3


def test_a_pointer_a_clock_and_a_laser_dot_at_once_are_none():
    rng, talk = np.random.default_rng(6), []
    for number in range(60):
        slide = text(number // 20, lines=4)
        slide[1:3, 44:46] = rng.integers(0, 200, (2, 2))
        slide[20:22, 6 + number * 5 % 36 : 8 + number * 5 % 36] = 0
        slide[32:34, 40 - number * 7 % 36 : 42 - number * 7 % 36] = 120
        talk.append(slide)
    assert [moment.frames[0] // 20 for moment in moments(talk)] == [0, 1, 2]
    n = len(talk)
    candidates = video(np.linspace(0, 1, n), np.arange(n) / 2, np.ones((n, 1), np.float32), cells=filmed(talk))
    # two of three slides, though all look alike as a whole
    assert (TopSelection(k=2)(candidates).keyframes // 20).tolist() == [1, 2]


def test_noise_flicker_light_a_flash_a_pointer_and_a_dissolve_are_none():
    rng = np.random.default_rng(2)
    view = room()
    assert len(moments([view * (1 + 0.06 * np.sin(2.1 * n)) + rng.normal(0, 4, view.shape) for n in range(60)])) == 1
    assert len(moments([view * (1 - 0.4 * n / 60) for n in range(60)])) == 1
    assert len(moments([view] * 20 + [view + 120] + [view] * 20)) == 1
    pointer = [text(0) for _ in range(40)]
    for number, slide in enumerate(pointer):
        row, column = rng.integers(0, GRID - 2, 2)
        slide[row : row + 2, column : column + 1 + number % 2] = 0
    assert len(moments(pointer)) == 1
    mixed = [text(0) * (1 - share) + text(1) * share for share in (0.2, 0.4, 0.6, 0.8)]
    assert len(moments([text(0)] * 10 + mixed + [text(1)] * 10)) == 2
    # of the slides and the dissolve between them, that comes last
    dissolve = [text(0)] * 10 + mixed + [text(1)] * 10
    looks = np.ones((24, 1), np.float32)
    candidates = video(np.full(24, 0.5), np.arange(24) * 1.0, looks, cells=filmed(dissolve))
    assert quality_flags(candidates).tolist() == [0] * 10 + [1] * 4 + [0] * 10
    # a fade to black is no light that changes, and black is no keyframe
    faded = [view * share for share in (0.75, 0.5, 0.25)]
    assert len(moments([view] * 10 + faded + [view * 0] * 10)) == 2


def test_footage_that_moves_has_none():
    large = np.kron(np.random.default_rng(3).integers(40, 220, (30, 30)), np.ones((4, 4)))
    pan = [large[n : n + GRID, 2 * n : 2 * n + GRID] for n in range(30)]
    assert moments(pan) == []
    # and what is still beside it has
    assert spans(moments(pan + [text(0)] * 10, shots=[[0, 29], [30, 39]])) == [(31, 38, True)]


def test_changes_are_symmetric_and_count_six_times_where_nothing_moves():
    there = room()
    there[20:26, 20:24] += 60
    changes = LocalChanges(filmed([room()] * 5 + [there] * 5, noise=0), np.array([[0, 9]]), np.ones(10, dtype=np.int64))
    share = changes.between(0, np.arange(10))
    np.testing.assert_allclose(share[5:], 6 * 24 / GRID**2)
    assert (share[:5] == 0).all() and (changes.between(9, np.array([0])) == share[9]).all()
