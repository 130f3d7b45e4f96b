"""Join the runs of run.sh into metrics.json and a table, and draw their pictures."""

import csv
import json
import shutil
import sys
from pathlib import Path

from omegaconf import OmegaConf

from keyframe.drawing import PALETTE, dress, key, save_figure, sheet

HERE = Path(__file__).parent
KEYS = ("test/spearman", "test/spearman_std", "test/kendall", "test/annotator_spearman", "test/annotator_kendall")


def main(out: Path) -> None:
    """Write metrics.json, epochs.png and curve.png beside this file; `out` has one folder per sweep of run.sh."""
    collected: dict[str, float] = {}
    runs: dict[str, Path] = {}
    for path in sorted(out.glob("*/*/metrics.json")):
        name = f"{path.parts[-3]}/data{OmegaConf.load(path.parent / 'config.yaml').data.seed}"
        runs[name] = path.parent
        metrics = json.loads(path.read_text())
        collected |= {f"{name}/{one}": round(metrics[one], 4) for one in (*KEYS, "val/spearman")}
        val = list(epochs(path.parent).values())
        collected[f"{name}/val/last_epoch"] = round(val[-1], 4)
        print(f"| {name} |", *(f"{metrics[one]:.3f} |" for one in KEYS), f"{max(val):.3f} | {val[-1]:.3f} |")
    for kind in ("dual", "random", "framewise"):
        means = [value for name, value in collected.items() if name.startswith(f"{kind}/") and name.endswith(KEYS[0])]
        collected[f"{kind}/mean/{KEYS[0]}"] = round(sum(means) / len(means), 4)
        print(f"| {kind} | {collected[f'{kind}/mean/{KEYS[0]}']:.3f} |")
    (HERE / "metrics.json").write_text(json.dumps(collected, indent=2) + "\n")
    shutil.copy(runs["dual/data11"] / "curves" / "test.png", HERE / "curve.png")
    draw({"today's settings": runs["dual/data11"], "the settings of before": runs["before/data11"]})


def epochs(run: Path) -> dict[int, float]:
    """Epoch -> Spearman with the annotators' mean on the validation videos."""
    count = OmegaConf.load(run / "config.yaml").trainer.max_epochs  # what is logged later is of the best checkpoint
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/spearman"]]
    return {int(row["epoch"]): float(row["val/spearman"]) for row in rows if int(row["epoch"]) < count}


def draw(runs: dict[str, Path]) -> None:
    """One line per run through its epochs."""
    figure = sheet("Validation over epochs, data.seed=11; stage 2 begins at the dashed line", 3.2)
    axis = dress(figure.subplots(), "y")
    lines = []
    for colour, run in zip(PALETTE, runs.values(), strict=False):
        values = epochs(run)
        lines += axis.plot(list(values), list(values.values()), color=colour, marker="o", markersize=4)
    switch = OmegaConf.load(run / "config.yaml").finetune.switch_epoch
    axis.axvline(switch - 0.5, color="0.6", linestyle="--", linewidth=1)
    axis.set_xlabel("epoch")
    axis.set_ylabel("Spearman, annotators' mean")
    key(figure, lines, list(runs))
    save_figure(figure, HERE / "epochs.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
