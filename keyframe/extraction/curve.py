"""The importance of one video over time, with its shots and the keyframes on it."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from keyframe.drawing.style import FAINT, INK, PALETTE, TEXT, key, key_columns, panel, sheet
from keyframe.drawing.video_plot import time_axis
from keyframe.report.characters import one_line
from keyframe.summary.candidates import Candidates, Selection

# Inches; narrower than the sheets of an evaluation, so that the text can be read on a phone.
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _TALL = 6.2, 0.62, 0.25, 0.52, 2.4
_DPI = 150
# Ranks are written beside so many keyframes; more would cover the curve.
_MOST_RANKS = 30


def draw_curve(title: str, candidates: Candidates, selection: Selection, scored_by: str) -> Figure:
    """Draw scores from 0 to 1 over the video's own clock.

    Args:
        title: the video's name.
        candidates: the scored frames.
        selection: which are keyframes; the best ones' ranks stand beside them.
        scored_by: who scored, in a few words.
    """
    seconds, scores = candidates.seconds, candidates.scores
    labels = ["score", "keyframe and its rank", "start of a shot"]
    colour, mark = PALETTE[1], PALETTE[0]
    handles = [
        Line2D([], [], color=colour),
        Line2D([], [], color=mark, marker="o", linestyle=""),
        Line2D([], [], color=FAINT),
    ]
    height = _BOTTOM + _TALL + 0.15 + key_columns(labels, _WIDTH)[1]
    figure = sheet(_drawable(one_line(title)), height, f"Scored by {scored_by}", _WIDTH)
    key(figure, handles, labels, height)
    axis = panel(figure, _LEFT, _BOTTOM, _WIDTH - _LEFT - _RIGHT, _TALL)
    starts = seconds[candidates.shots[1:, 0]]
    axis.vlines(starts, 0, 1, color=FAINT, linewidth=0.7, alpha=min(1.0, 60 / max(len(starts), 1)), zorder=0)
    # The last frame looked at stands for what follows it.
    times, values = np.append(seconds, candidates.duration), np.append(scores, scores[-1])
    axis.fill_between(times, values, color=colour, alpha=0.12, linewidth=0)
    axis.plot(times, values, color=colour, linewidth=1.3 if len(seconds) < 500 else 0.8)
    chosen = selection.keyframes
    axis.plot(seconds[chosen], scores[chosen], "o", color=mark, markersize=5.5, mew=0.8, mec="white", clip_on=False)
    for place, rank in zip(chosen.tolist(), selection.ranks.tolist(), strict=True):
        if rank <= _MOST_RANKS:
            at = float(seconds[place]), float(scores[place])
            axis.annotate(
                str(rank), at, (0, 5), textcoords="offset points", ha="center", va="bottom", size=TEXT - 1, color=INK
            )
    axis.set_xlim(0, candidates.duration)
    top = float(np.max(scores)) * 1.15
    axis.set_ylim(0, min(max(top, 0.1), 1.08))
    axis.set_ylabel("importance", size=TEXT)
    time_axis(axis)
    return figure


def _drawable(text: str) -> str:
    """The text with a box for each character that the plots' font lacks, which would be a warning each."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(character if ord(character) in known else "\u25a1" for character in text)


def save_curve(figure: Figure, path: Path) -> None:
    """Save as PNG."""
    figure.savefig(path, dpi=_DPI)
