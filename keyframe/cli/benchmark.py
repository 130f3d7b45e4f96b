"""keyframe-benchmark: what the project costs on this machine."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from keyframe.cli.app import command
from keyframe.cli.arguments import prepare
from keyframe.errors import KeyframeError

if TYPE_CHECKING:
    from keyframe.benchmark.record import SuiteResult

log = logging.getLogger(__name__)


def benchmark(config: DictConfig) -> None:
    """Run the suites that `suite=` names, and say where the results lie."""
    suites = {"evaluate": _evaluate}
    if config.suite not in (*suites, "all"):
        raise KeyframeError(f"suite={config.suite} is none of {', '.join((*suites, 'all'))}.")

    from keyframe.benchmark.cost import machine
    from keyframe.benchmark.record import benchmark_document, flat
    from keyframe.cli.results import from_here, short_text
    from keyframe.config import save_config
    from keyframe.drawing.plots import draw_bars
    from keyframe.evaluation.record import write_metrics
    from keyframe.report.render import write_report

    results = [run(config) for name, run in suites.items() if config.suite in (name, "all")]

    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    figures = run_dir / "figures"
    figures.mkdir(exist_ok=True)
    pictures = {result.name: figures / f"{result.name}.png" for result in results}
    for result in results:
        bars = draw_bars(result.bars, {}, {}, f"Suite {result.name}: where the time goes", "seconds")
        bars.savefig(pictures[result.name], dpi=110)
    document = benchmark_document(results, pictures, machine())
    write_report(document, run_dir)
    write_metrics(run_dir / "benchmark.json", flat(results, machine()))
    lines = [
        short_text(document, len(document.sections)),
        f"Figures:       {from_here(run_dir) / 'benchmark.json'}",
        f"Report:        {from_here(run_dir) / 'report.html'} (also .md, .txt)",
        f"Run directory: {from_here(run_dir)}",
    ]
    log.info("%s", "\n".join(lines))


def _evaluate(config: DictConfig) -> "SuiteResult":
    from functools import partial

    from hydra.utils import instantiate

    from keyframe.benchmark.evaluate import Size, evaluate_suite
    from keyframe.cli.progress import bar

    size = Size(config.evaluate.videos, config.evaluate.frames, config.evaluate.annotators, config.seed)
    return evaluate_suite(size, instantiate(config.shots), config.repeats, partial(bar, unit="step"))


def main() -> None:
    """Console script."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("benchmark", benchmark)


if __name__ == "__main__":
    main()
