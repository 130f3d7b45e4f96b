"""Figures of a suite, in JSON and in a report."""

import json

import pytest

from keyframe.benchmark import SuiteResult, check_whole_numbers, flat_figures, write_results
from keyframe.drawing.plots import draw_bars
from keyframe.types import KeyframeError

MACHINE = {"CPU": "Abacus 3", "cores": "2"}


@pytest.fixture
def result():
    result = SuiteResult("read", "Reading takes 12.5 s.", bars={"open": 2.5, "scan": 10.0}, notes=["Nothing is left."])
    result.add("seconds", 12.5, "s", "all of it")
    result.add_ratio("ratio_to_plain", [1, 3, 2, 5, 4], [10] * 5, "reading, over plain reading")
    return result


def test_a_ratio_is_taken_in_each_round(result):
    assert result["ratio_to_plain"] == pytest.approx(0.3)
    # medians of the seconds would give 2 / 4
    result.add_ratio("other", [2, 1, 9], [4, 5, 3], "")
    assert result["other"] == 0.5


def test_one_flat_object(result):
    assert flat_figures([result], MACHINE) == pytest.approx(
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


def test_files_hold_figures_machine_and_image(result, tmp_path):
    (tmp_path / "figures").mkdir()
    draw_bars(result.bars, {}, {}, "read", "seconds").savefig(tmp_path / "figures" / "read.png")
    document = write_results([result], MACHINE, tmp_path)
    assert [section.title for section in document.sections] == ["read", "Machine"]
    assert json.loads((tmp_path / "benchmark.json").read_text()) == flat_figures([result], MACHINE)
    page = " ".join((tmp_path / "report.txt").read_text().replace("|", " ").split())
    assert "Reading takes 12.5 s." in page
    assert "read/seconds 12.500 s 1 all of it" in page
    assert "read/ratio_to_plain 0.300 0.200 to 0.400 5 reading, over plain reading" in page
    assert "CPU: Abacus 3" in page and "Nothing is left." in page and "read.png" in page


def test_a_number_out_of_range_names_its_key(result):
    result.notes = [3, 0]
    check_whole_numbers("suite", result, notes=0)
    with pytest.raises(KeyframeError, match=r"suite\.notes=0 must be a whole number from 1 on"):
        check_whole_numbers("suite", result, notes=1)
