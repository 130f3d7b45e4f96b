import numpy as np

from keyframe.evaluation.report import report_document
from keyframe.evaluation.results import (
    Evaluation,
    chosen_videos,
    compare_pairs,
    draw_overview,
    draw_videos,
    keyshot_keyframes,
    model_result,
)
from keyframe.evaluation.video import TRAINING_FREE
from keyframe.report import render_text
from tests.evaluation.example import eval_video_of, labels_of


def example():
    rng = np.random.default_rng(0)
    videos = {name: eval_video_of(labels_of(rng.integers(0, 5, (3, 600)) / 4), name) for name in "abc"}
    results = [model_result(name, [{id_: rng.random(40) for id_ in videos}], videos) for name in ("one", "two")]
    return videos, results


def test_a_comparison_is_drawn_and_its_costs_are_listed(tmp_path):
    videos, results = example()
    sizes = {f"params_{part}": 2e6 for part in ("backbone", "total", "trainable_stage1", "trainable_stage2")}
    times = {"seconds_1": 0.5, "seconds_1_p25": 0.4, "seconds_1_p75": 0.6, "repeats": 5.0}
    costs = {
        "one": {**sizes, **times, "weights_mb": 8.0, "peak_mb_1": 20.0},
        "two": {**sizes, **times, "weights_mb": 9.0},
    }
    baselines, pairs = {TRAINING_FREE: results[0].metrics}, compare_pairs(results)
    evaluation = Evaluation(results, baselines, {}, "How.", {}, pairs, costs, ("one", "two"))
    overview = draw_overview(evaluation, videos, tmp_path)
    names = ["accuracy.png", "videos.png", "scatter.png", "tradeoff.png"]
    assert [image.path.name for image in overview.blocks] == names
    curves = draw_videos(results, videos, {"b": lambda seconds: []}, tmp_path)
    assert [image.alt for image in curves.blocks] == ["Importance along b"]
    page = " ".join(render_text(report_document(evaluation, [overview, curves], {"CPU": "Abacus 3"})).split())
    for words in (
        "| one | 2.00 M | 2.00 M | 2.00 M | 2.00 M | 8.0 MB |",
        "| one | 0.500 (0.400 to 0.600) s |",
        "median of 5 after a warm-up",
        "Measured on: CPU Abacus 3.",
        "| two | 9 MB | not available |",
        "From one to two. The claims are for another machine and TVSum.",
    ):
        assert words in page, words


def test_keyframes_are_the_best_entries_of_the_kept_shots():
    videos, results = example()
    scores = results[0].scores["a"]
    kept = videos["a"].summary(scores)
    chosen = keyshot_keyframes(scores, videos["a"])
    assert kept[videos["a"].entries[chosen]].all() and len(chosen) == kept.sum() // 30
    for position in chosen:
        shot = videos["a"].entries[position] // 30
        assert scores[position] == scores[2 * shot : 2 * shot + 2].max()


def test_drawn_videos_go_from_the_best_to_the_worst():
    _, results = example()
    rhos = {video: row["spearman"] for video, row in results[0].rows.items()}
    order = sorted(rhos, key=lambda video: -rhos[video])
    assert chosen_videos(results[0], 2) == [order[0], order[-1]]
    assert chosen_videos(results[0], 9) == order and chosen_videos(results[0], 0) == []
