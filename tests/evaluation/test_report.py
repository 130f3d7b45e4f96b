import math

import numpy as np

from keyframe.evaluation.reference import LINES, Line, reference_metrics, reference_table
from keyframe.evaluation.report import (
    agreement_rows,
    pair_rows,
    pair_sentence,
    reference_design_rows,
    reference_document,
    reference_notes,
    reference_videos,
    report_document,
)
from keyframe.evaluation.results import METRICS, Evaluation, ModelResult, compare_pairs, model_result
from keyframe.evaluation.video import RIDGE
from keyframe.report import render_text
from tests.evaluation.example import eval_video_of, labels_of


def model(name, values):
    rows = {f"video{place}": dict.fromkeys(METRICS, value) for place, value in enumerate(values)}
    return ModelResult(name, rows, {}, dict.fromkeys(rows, 1), [])


def pair_of(first, second):
    [pair] = compare_pairs([first, second])
    return pair


def test_the_sentence_follows_the_p_value():
    rng = np.random.default_rng(0)
    base = rng.random(20)
    better = model("b", base + 0.1 + 0.01 * rng.random(20))
    for pair in (pair_of(model("a", base), better), pair_of(better, model("a", base))):
        sentence = pair_sentence(pair, "spearman")
        assert sentence.startswith("b is better than a (Spearman's rho with the annotators' mean: difference")
    unclear = pair_of(model("a", base), model("b", rng.permutation(base)))
    assert pair_sentence(unclear, "spearman").startswith("These videos show no difference between a and b (")


def test_five_videos_are_not_enough_for_five_percent():
    # all five favour b: of 2**5 sign patterns two are as extreme, p = .0625
    pair = pair_of(model("a", np.zeros(5)), model("b", np.ones(5)))
    assert pair.differences["kendall"].p_value == 2 / 32
    assert pair_sentence(pair, "kendall").startswith("These videos show no difference")


def test_one_video_is_too_few():
    pair = pair_of(model("a", [0.1]), model("b", [0.9]))
    assert pair_sentence(pair, "spearman") == "1 video(s) are too few to compare a and b."
    [row] = pair_rows([pair], ["spearman"])
    assert row["95 %"] == row["p"] == "not available" and row["difference"] == "0.800"


def test_claims_are_changes_from_model_1_to_model_2():
    model1 = {"params_total": 26.4e6, "seconds_1": 2.0, "peak_mb_1": 200.0, "spearman": 0.5}
    model2 = {"params_total": 6.6e6, "seconds_1": 1.5, "peak_mb_1": math.nan, "spearman": 0.49}
    rows = {
        row["claim of the reference design"]: (row["claimed"], row["measured here"])
        for row in reference_design_rows(model1, model2)
    }
    assert rows["parameters in all"] == ("-70%", "-75%")
    assert rows["time for one video"] == ("-28%", "-25%")
    assert rows["memory, one video"] == ("-37%", "not available")
    assert rows["time for eight videos"][1] == "not available"
    assert rows["accuracy kept (Spearman, annotators' mean)"] == ("97%", "98%")


def test_everything_that_is_left_out_is_named():
    rng = np.random.default_rng(0)
    videos = {name: eval_video_of(labels_of(rng.integers(0, 5, (3, 600)) / 4), name) for name in "abc"}
    runs = [{name: rng.random(40) for name in "abc"}, {"a": rng.random(40), "b": np.full(40, 0.5)}]
    results = [
        model_result("seeds", runs, videos, ["seed 0", "seed 1"]),
        model_result("flat", [{name: np.full(40, 0.5) for name in "abc"}], videos, ["seed 0"]),
    ]
    baselines = {RIDGE: results[0].metrics}
    skipped = {"d": "d.mp4 is damaged."}
    evaluation = Evaluation(results, baselines, {}, "How.", skipped, compare_pairs(results))
    page = " ".join(render_text(report_document(evaluation, [])).split())
    for sentence in (
        "seeds: 2 runs, 1 to 2 per video; a video's numbers are the mean over the runs that were not trained on it.",
        "Left out: 1 video.",
        "d: d.mp4 is damaged.",
        "flat: 9 of 9 correlations with annotators are not defined",
        "flat: 3 of 3 videos have no rank correlation with the annotators' mean",
        "flat: annotator_kendall is not available for 3 of 3 videos.",
        "The label file holds one track and no annotators",
        "| seeds | seed 1 | 2 |",
    ):
        assert sentence in page, sentence
    one = report_document(Evaluation(results[:1], baselines, {}, "How.", parts=dict.fromkeys("abc", "test")), [])
    assert one.title == "Evaluation of seeds" and "Pair by pair" not in [section.title for section in one.sections]
    assert one.lead.startswith("On 3 videos it was not trained on, seeds agrees with the reference importance at")
    for parts, words in (
        (["other"] * 3, "On 3 videos of another data set, seeds agrees"),
        (["train"] * 3, "On 3 videos it was trained on, seeds agrees"),
        (
            ["test", "new", "train"],
            "On 3 videos (1 it was trained on, 1 in no part of its split, 1 it was not trained on), seeds",
        ),
    ):
        mixed = Evaluation(results[:1], baselines, {}, "How.", parts=dict(zip("abc", parts, strict=True)))
        assert report_document(mixed, []).lead.startswith(words)


# Reference lines


def made_labels(seed=0, category=""):
    scores = np.random.default_rng(seed).integers(1, 6, (6, 40))
    return labels_of(np.repeat((scores - 1) / 4, 15, axis=1), category)


def test_the_page_explains_each_line(tmp_path):
    labels = {name: made_labels(seed, "VT") for seed, name in enumerate("abc")}
    table = dict(reference_table(labels))
    page = " ".join(render_text(reference_document(tmp_path / "labels.tsv", reference_metrics(table))).split())
    assert "Otani et al." in page and "the 3 videos of labels.tsv" in page
    for name in table["a"]:
        assert f"{name.replace('_', ' ')}: {LINES[name]}" in page
    rows = reference_videos(labels, table)
    assert [row["video"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["category"], rows[0]["frames"], rows[0]["picks"], rows[0]["annotators"]) == ("VT", 600, 40, 6)
    assert rows[0]["ceiling/kendall"] == table["a"]["ceiling"].kendall


def test_selections_are_said_to_be_the_summaries(tmp_path):
    metrics = reference_metrics(dict(reference_table({"a": made_labels()})))
    scores, selected = (render_text(reference_document(tmp_path / "l.tsv", metrics, kind)) for kind in (False, True))
    assert "selections are the users' summaries as they are" in " ".join(selected.split()) and "tau-b" in selected
    assert "selections" not in scores


def test_one_video_has_no_interval():
    metrics = reference_metrics(dict(reference_table({"a": made_labels()})))
    assert all(math.isnan(metrics[f"reference/ceiling/kendall{end}"]) for end in ("_lo", "_hi", "_std"))
    assert "[" not in agreement_rows({}, metrics)[0]["Kendall tau [95 %]"]
    assert reference_notes(metrics) == ["Intervals are not available: they need at least two videos."]


def test_a_number_that_rounds_to_nothing_has_no_sign():
    lines = {name: Line(-1e-5, -1e-5, 1, 0) for name in LINES}
    rows = agreement_rows({}, reference_metrics({"a": lines, "b": lines}))
    assert rows[0]["Kendall tau [95 %]"] == "0.000 [0.000, 0.000]"
