import math

import numpy as np
import pytest

from keyframe.evaluation.report import claim_rows
from keyframe.evaluation.results import METRICS, ModelResult, pair_metrics, pair_rows, pairs, sentence


def model(name, values):
    rows = {f"video{place}": dict.fromkeys(METRICS, value) for place, value in enumerate(values)}
    return ModelResult(name, rows, {}, dict.fromkeys(rows, 1), [])


def test_every_pair_once_and_in_order():
    found = pairs([model("a", [0.1, 0.2]), model("b", [0.3, 0.3]), model("c", [0.2, 0.2])])
    assert [(pair.first, pair.second) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.differences["spearman"].value for pair in found] == pytest.approx([0.15, 0.05, -0.1])


def test_the_sentence_follows_the_p_value():
    rng = np.random.default_rng(0)
    base = rng.random(20)
    [clear] = pairs([model("a", base), model("b", base + 0.1 + 0.01 * rng.random(20))])
    assert sentence(clear, "spearman").startswith("b is better than a (Spearman's rho with the annotators' mean")
    [back] = pairs([model("b", base + 0.1 + 0.01 * rng.random(20)), model("a", base)])
    assert sentence(back, "spearman").startswith("b is better than a")
    [unclear] = pairs([model("a", base), model("b", rng.permutation(base))])
    assert sentence(unclear, "spearman").startswith("No difference between a and b can be told from these videos")


def test_five_videos_are_not_enough_for_five_percent():
    # all five favour b: of 2**5 sign patterns two are as extreme, p = .0625
    [pair] = pairs([model("a", np.zeros(5)), model("b", np.ones(5))])
    assert pair.differences["kendall"].p_value == pytest.approx(2 / 32)
    assert sentence(pair, "kendall").startswith("No difference")


def test_one_video_tells_nothing():
    [pair] = pairs([model("a", [0.1]), model("b", [0.9])])
    assert sentence(pair, "spearman") == "Whether a or b is better cannot be told from 1 video(s)."
    [row] = pair_rows([pair], ["spearman"])
    assert row["95 %"] == row["p"] == "not available" and row["difference"] == "0.800"
    flat = pair_metrics([pair])
    assert flat["difference/b-a/spearman"] == pytest.approx(0.8) and math.isnan(flat["difference/b-a/spearman_p"])


def test_a_video_that_one_model_has_no_number_for_is_left_out_and_the_count_says_so():
    [pair] = pairs([model("a", [0.1, math.nan, 0.3]), model("b", [0.2, 0.5, 0.4])])
    assert pair.differences["mse"].videos == 2 and pair.differences["mse"].value == pytest.approx(0.1)


def test_claims_are_changes_from_model_1_to_model_2():
    model1 = {"params_total": 26.4e6, "seconds_1": 2.0, "peak_mb_1": 200.0, "spearman": 0.5}
    model2 = {"params_total": 6.6e6, "seconds_1": 1.5, "peak_mb_1": math.nan, "spearman": 0.49}
    rows = {
        row["claim of the reference design"]: (row["said"], row["measured here"]) for row in claim_rows(model1, model2)
    }
    assert rows["parameters in all"] == ("-70%", "-75%")
    assert rows["time for one video"] == ("-28%", "-25%")
    assert rows["memory, one video"] == ("-37%", "not available")
    assert rows["time for eight videos"][1] == "not available"
    assert rows["accuracy kept (Spearman, annotators' mean)"] == ("97%", "98%")
