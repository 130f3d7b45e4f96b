"""Print the record's table, as Markdown, from metrics.json beside this file."""

import json
from pathlib import Path

LINES = ("ridge", "training_free", "position", "one_annotator", "ceiling")


def main() -> None:
    """One row a model, with its difference from ours (ours minus it), and one a reference line."""
    metrics = json.loads((Path(__file__).parent / "metrics.json").read_text())

    def mean(key: str) -> str:
        return f"{metrics[key]:.3f} ({metrics[f'{key}_lo']:.3f} to {metrics[f'{key}_hi']:.3f})"

    print("| head | Spearman, each annotator | ours minus it | p | Kendall | parameters | ms per video |")
    print("|---|---|---|---|---|---|---|")
    for name in [key.removesuffix("/params_total") for key in metrics if key.endswith("/params_total")]:
        key = f"difference/{name}-dual/annotator_spearman"
        ours = ["", ""]
        if key in metrics:  # it minus ours, the first
            low, high, p = (metrics[f"{key}_{end}"] for end in ("lo", "hi", "p"))
            ours = [f"{-metrics[key]:+.3f} ({-high:+.3f} to {-low:+.3f})", "< .001" if p < 0.001 else f"{p:.3f}"]
        size, speed = metrics[f"{name}/params_total"] / 1e6, 1e3 * metrics[f"{name}/seconds_1"]
        rho, tau = mean(f"{name}/test/annotator_spearman"), mean(f"{name}/test/annotator_kendall")
        print(f"| {name} | {rho} | {ours[0]} | {ours[1]} | {tau} | {size:.1f} M | {speed:.1f} |")
    for line in LINES:
        rho, tau = mean(f"reference/{line}/spearman"), mean(f"reference/{line}/kendall")
        print(f"| {line.replace('_', ' ')} | {rho} | | | {tau} | | |")


if __name__ == "__main__":
    main()
