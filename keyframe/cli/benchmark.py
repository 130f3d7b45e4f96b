"""keyframe-benchmark: what the project costs on this machine."""

import logging
from functools import partial
from pathlib import Path
from time import perf_counter

from hydra.utils import instantiate
from omegaconf import DictConfig

from keyframe.benchmark import SuiteResult, write_results
from keyframe.cli.terminal import bar, from_here, short_text
from keyframe.config import save_config
from keyframe.drawing import save_figure
from keyframe.drawing.plots import draw_bars
from keyframe.timing import machine
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

# In the order of a report; each is a node of conf/benchmark.yaml. `all` leaves out those that take long.
_ALL = ("decode", "train", "infer", "scale", "evaluate", "ddp")
_SUITES = (*_ALL, "tools", "engine", "growth", "busy", "extract", "long", "feature_scale")


def benchmark(config: DictConfig) -> None:
    """Run the suites that `suite=` names, and print the report and where the results are."""
    if config.suite not in (*_SUITES, "all"):
        raise KeyframeError(f"suite={config.suite} is none of {', '.join(_SUITES)}, all.")
    names = _ALL if config.suite == "all" else (config.suite,)
    suites = [instantiate(config[name], _convert_="all") for name in names]
    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    figures = run_dir / "figures"
    results: list[SuiteResult] = []
    for suite in suites:
        start = perf_counter()
        result = suite(partial(bar, unit="step"))
        bars = draw_bars(result.bars, {}, {}, f"Suite {result.name}: where the time goes", "seconds")
        save_figure(bars, figures / f"{result.name}.png")
        results.append(result)
        document = write_results(results, machine(), run_dir)  # after each suite, so that a later failure loses nothing
        log.info("Suite %s: %.0f s. %s", result.name, perf_counter() - start, result.summary)
    lines = [
        short_text(document, len(document.sections)),
        f"Figures:       {from_here(run_dir) / 'benchmark.json'}",
        f"Report:        {from_here(run_dir) / 'report.html'} (also .md, .txt)",
        f"Run directory: {from_here(run_dir)}",
    ]
    log.info("\n".join(lines))
