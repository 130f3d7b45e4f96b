import pytest

from keyframe.benchmark.report import Measured, SuiteResult, benchmark_document, flat, ratio
from keyframe.drawing.plots import draw_bars
from keyframe.report.render import render_text

MACHINE = {"CPU": "Abacus 3", "cores": "2"}


def result():
    figures = [
        Measured("read/seconds", (12.5,), "s", "all of it"),
        ratio("read/ratio_to_plain", [1, 3, 2, 5, 4], [10, 10, 10, 10, 10], "reading, over plain reading"),
    ]
    return SuiteResult("read", "Reading takes 12.5 s.", figures, {"open": 2.5, "scan": 10.0}, ["Nothing is left out."])


def test_a_ratio_is_taken_in_each_round():
    # medians of the seconds would give 2 / 4
    assert ratio("a/b", [2, 1, 9], [4, 5, 3], "").value == 0.5
    assert ratio("a/b", [2, 9, 1], [1, 9, 8], "").value == 1


def test_one_flat_object():
    assert flat([result()], MACHINE) == pytest.approx(
        {
            "machine/cpu": "Abacus 3",
            "machine/cores": "2",
            "read/seconds": 12.5,
            "read/ratio_to_plain": 0.3,
            "read/ratio_to_plain_p25": 0.2,
            "read/ratio_to_plain_p75": 0.4,
            "read/ratio_to_plain_repeats": 5,
        }
    )


def test_the_report_holds_figures_machine_and_picture(tmp_path):
    picture = tmp_path / "read.png"
    draw_bars(result().bars, {}, {}, "read", "seconds").savefig(picture)
    page = " ".join(render_text(benchmark_document([result()], {"read": picture}, MACHINE)).replace("|", " ").split())
    assert "Reading takes 12.5 s." in page
    assert "read/seconds 12.500 s 1 all of it" in page
    assert "read/ratio_to_plain 0.300 0.200 to 0.400 5 reading, over plain reading" in page
    assert "CPU: Abacus 3" in page and "Nothing is left out." in page and str(picture) in page
