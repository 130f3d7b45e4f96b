"""Run the README's commands on the stand-in videos, and record what each stage costs.

    python experiments/011_tvsum_rehearsal/rehearse.py ydata-tvsum50.mat DIR

Everything is written under DIR; `stages.json` there has seconds, CPU seconds and peak memory (MB) of each stage, and
files and MB under DIR after it. A second start goes on with the stages that are missing. At the end the record's tables
are printed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def stages(labels: Path, directory: Path) -> dict[str, list[str]]:
    """The commands in order: Model 2 on all five folds; Model 1, three to four times as dear, on one."""

    def command(name: str, *arguments: str) -> list[str]:
        return ["-c", f"from keyframe.cli.main import {name}; {name}()", *arguments]

    data = ["data=tvsum", f"data.root={directory}", f"data.labels={labels}", f"cache.dir={directory / 'cache'}"]
    model1, model2 = directory / "model1", directory / "model2"
    lite, resnet = ["backbone=efficientnet_lite0"], ["backbone=resnet50", "backbone.pretrained=false"]
    few = ["logger=csv", "trainer.max_epochs=6", "finetune.switch_epoch=4"]
    fewer = ["logger=csv", "trainer.max_epochs=4", "finetune.switch_epoch=3"]
    once = ["speed.videos=[1]", "speed.repeats=1", "memory.videos=[]"]
    return {
        "videos": [str(HERE / "make_videos.py"), str(labels), str(directory)],
        "train model 2": command(
            "train", "experiment=cross_validation", *data, *lite, *few, f"hydra.sweep.dir={model2}"
        ),
        "evaluate model 2": command("evaluate", f"runs={model2}", f"hydra.run.dir={directory / 'evaluate'}"),
        "train model 1": command("train", *data, *resnet, *fewer, f"hydra.run.dir={model1}"),
        "compare": command(
            "compare", f"runs=[{model2 / '0'},{model1}]", *once, f"hydra.run.dir={directory / 'compare'}"
        ),
    }


def main(labels: Path, directory: Path) -> None:
    """Run what is not yet recorded."""
    directory.mkdir(parents=True, exist_ok=True)
    record = directory / "stages.json"
    known: dict[str, dict[str, float]] = json.loads(record.read_text()) if record.is_file() else {}
    for stage, arguments in stages(labels, directory).items():
        if stage in known:
            continue
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, *arguments])
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{stage} failed")
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
        known[stage] = {
            "seconds": round(time.monotonic() - start, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
            "files": len(sizes),
            "disk_mb": round(sum(sizes) / 1e6),
        }
        record.write_text(json.dumps(known, indent=2) + "\n")
    print_tables(known, directory)


def print_tables(known: dict[str, dict[str, float]], directory: Path) -> None:
    """What each stage cost, and the leak test: whether a model's interval lies above nearness to the middle."""
    print("| stage | wall s | CPU s | peak MB | files after it | MB after it |\n|---|---|---|---|---|---|")
    for stage, cost in known.items():
        print(f"| {stage} | {' | '.join(f'{value:.0f}' for value in cost.values())} |")
    print("\n| predictor | Kendall | Spearman | above the middle |\n|---|---|---|---|")
    for place in ("evaluate", "compare"):
        metrics = json.loads((directory / place / "metrics.json").read_text())
        models = [key.removesuffix("kendall") for key in metrics if key.endswith("test/annotator_kendall")]
        keys = {key.removesuffix("test/annotator_").rstrip("/") or "model 2": key for key in models}
        for name, key in {**keys, **{line: f"reference/{line}/" for line in ("position", "one_annotator")}}.items():
            cells = [
                f"{metrics[key + one]:.3f} ({metrics[f'{key}{one}_lo']:.3f} to {metrics[f'{key}{one}_hi']:.3f})"
                for one in ("kendall", "spearman")
            ]
            above = metrics[f"{key}spearman_lo"] > metrics["reference/position/spearman"]
            print(f"| {place}: {name} | {' | '.join(cells)} | {'yes' if above else 'no'} |")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
