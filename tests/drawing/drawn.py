"""What stands on a figure, in pixels."""

from itertools import combinations

from matplotlib.text import Text


def texts(figure):
    """Every text that is drawn, with its box."""
    figure.draw_without_rendering()
    found = [*figure.texts]
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    for plot in figure.axes:
        found += [*plot.texts, plot.title, plot._left_title]
        if not plot.axison:
            continue
        for axis in (plot.xaxis, plot.yaxis):
            found.append(axis.label)
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            found += [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [
        (text.get_text().strip(), Text.get_window_extent(text))
        for text in found
        if text.get_visible() and text.get_text()
    ]


def clashes(figure):
    """Pairs of texts that cover each other, and texts that leave the figure."""
    boxes = texts(figure)
    pairs = [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if one.overlaps(two)]
    page = figure.bbox
    outside = [text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > page.width or box.y1 > page.height]
    return pairs + outside
