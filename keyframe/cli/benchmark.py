"""keyframe-benchmark: what the project costs on this machine."""

import logging
from pathlib import Path
from time import perf_counter

from omegaconf import DictConfig

from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

# In the order of a report; each is a node of conf/benchmark.yaml.
_SUITES = ("decode", "train", "infer", "scale", "evaluate", "ddp")
# Takes as long as all others together, so `all` leaves it out.
_APART = ("long",)


def benchmark(config: DictConfig) -> None:
    """Run the suites that `suite=` names, and say where the results lie."""
    known = (*_SUITES, *_APART, "all")
    if config.suite not in known:
        raise KeyframeError(f"suite={config.suite} is none of {', '.join(known)}.")
    names = _SUITES if config.suite == "all" else (config.suite,)

    from functools import partial

    from hydra.utils import instantiate

    from keyframe.benchmark.report import SuiteResult, benchmark_document, flat
    from keyframe.cli.terminal import bar, from_here, short_text
    from keyframe.config import save_config
    from keyframe.drawing.plots import draw_bars
    from keyframe.files import write_metrics
    from keyframe.report.render import write_report
    from keyframe.timing import machine

    suites = [instantiate(config[name], _convert_="all") for name in names]
    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    figures = run_dir / "figures"
    figures.mkdir(exist_ok=True)
    results: list[SuiteResult] = []
    pictures: dict[str, Path] = {}
    for suite in suites:
        start = perf_counter()
        result = suite(partial(bar, unit="step"))
        results.append(result)
        pictures[result.name] = figures / f"{result.name}.png"
        bars = draw_bars(result.bars, {}, {}, f"Suite {result.name}: where the time goes", "seconds")
        bars.savefig(pictures[result.name], dpi=110)
        # After each suite: what is measured stays when a later one fails or is stopped.
        document = benchmark_document(results, pictures, machine())
        write_report(document, run_dir)
        write_metrics(run_dir / "benchmark.json", flat(results, machine()))
        log.info("Suite %s: %.0f s. %s", result.name, perf_counter() - start, result.summary)
    lines = [
        short_text(document, len(document.sections)),
        f"Figures:       {from_here(run_dir) / 'benchmark.json'}",
        f"Report:        {from_here(run_dir) / 'report.html'} (also .md, .txt)",
        f"Run directory: {from_here(run_dir)}",
    ]
    log.info("%s", "\n".join(lines))


def main() -> None:
    """Stand in for keyframe.cli.main until the console scripts are installed anew."""
    from keyframe.cli import main as scripts

    scripts.benchmark()


if __name__ == "__main__":
    main()
