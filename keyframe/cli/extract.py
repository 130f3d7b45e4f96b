"""keyframe-extract: the keyframes of anybody's videos."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from keyframe.types import KeyframeError

if TYPE_CHECKING:
    from keyframe.extraction.engines import ExtractionSpec, VideoResult

log = logging.getLogger(__name__)

# One worker a core with one thread each. Of six minutes of 360p on 2 cores, without a model, a second decoder thread
# costs 1.06 times the processor time, a second worker 1.5 times, which is its start (1.7 s): longer batches earn it.
_MOST_WORKERS = 8
# A longer table is left to the file, but for what failed.
_MOST_ROWS = 40
_MOST_LETTERS = 60


def extract(config: DictConfig) -> None:
    """Extract keyframes from the videos that the configuration names, and say what became of each."""
    from contextlib import closing

    from hydra.utils import instantiate
    from tqdm.contrib.logging import logging_redirect_tqdm

    from keyframe.cli.terminal import VideoProgress, bar, from_here
    from keyframe.export.model import is_exported
    from keyframe.extraction.engines import VideoJob, VideoResult, plan
    from keyframe.extraction.inputs import Refused, find_inputs

    if config.run is not None and config.device == "auto" and is_exported(str(config.run)):
        config.device = "cpu"
    engine = instantiate(config.engine)
    try:
        output = Path(str(config.output)).expanduser()
    except RuntimeError as error:  # ~somebody
        raise KeyframeError(f"output={config.output}: there is no such user; choose another folder.") from error
    inputs = find_inputs(_inputs(config), bool(config.recursive), [output, Path(config.run_dir)])
    paths = [path for path in inputs if not isinstance(path, Refused)]
    workers, threads = _workers(config, len(paths))
    progress = VideoProgress()
    recipe = _recipe(config, threads)
    recipe.reader.progress = progress
    if config.run is None:
        log.info("No run= was given: scored without a trained model (shots, novelty, typicality, sharpness)")
    entries = plan(paths, output, recipe, bool(config.overwrite))
    jobs = [entry for entry in entries if isinstance(entry, VideoJob)]
    outcomes = {entry.path: entry for entry in entries if not isinstance(entry, VideoJob)}
    refused = [one for one in inputs if isinstance(one, Refused)]
    outcomes |= {one.path: VideoResult(one.path, "failed", notes=one.reason) for one in refused}
    for handler in logging.getLogger().handlers:
        handler.addFilter(_make_printable)  # Whoever logs: a file's name may hold anything.
    try:
        with logging_redirect_tqdm(), closing(progress), closing(engine(recipe, jobs, workers)) as finished:
            for number, outcome in enumerate(bar(finished, "Extracting", len(jobs)), start=1):
                outcomes[outcome.path] = outcome
                log.info("[%d/%d] %s", number, len(jobs), _line(outcome))
    except KeyboardInterrupt:
        log.info("Stopped after %d of %d videos: the same command goes on from there", len(outcomes), len(inputs))
        raise
    _report(
        [outcomes[one.path if isinstance(one, Refused) else one] for one in inputs],
        Path(config.run_dir),
        from_here(output),
    )


def _inputs(config: DictConfig) -> list[str]:
    if config.input is None:
        raise KeyframeError("there is no video to extract from: name some, such as keyframe-extract holiday.mp4.")
    entries = OmegaConf.to_container(config.input, resolve=True) if OmegaConf.is_list(config.input) else [config.input]
    assert isinstance(entries, list)
    return [str(entry) for entry in entries]


def _workers(config: DictConfig, videos: int) -> tuple[int | None, int]:
    """Processes, and the threads of each; None for as many as a cluster has room for."""
    from keyframe.system import cores

    workers = config.workers
    if config.engine.get("address") is not None:  # The cores of this machine say nothing of a cluster's.
        return workers, config.threads or 1
    if workers is None:
        on_gpu = (
            config.run is not None
            and videos > 1
            and (_has_gpu() if config.device == "auto" else config.device != "cpu")
        )
        workers = 1 if on_gpu else max(1, min(cores(), videos, _MOST_WORKERS))
    return workers, config.threads or max(1, cores() // workers)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _recipe(config: DictConfig, threads: int) -> "ExtractionSpec":
    from hydra.utils import instantiate

    from keyframe.export.model import find_run
    from keyframe.extraction.engines import ExtractionSpec
    from keyframe.extraction.extract import Settings

    config.threads = threads
    if config.quality > 95:
        raise KeyframeError(f"quality={config.quality} must be a whole number from 1 to 95.")
    return ExtractionSpec(
        shots=instantiate(config.shots),
        selector=instantiate(config.selection),
        reader=instantiate(config.reader),
        settings=Settings(float(config.rate), bool(config.summary_video), config.quality),
        checkpoint=None if config.run is None else find_run(config.run),
        device=config.device,
        threads=threads,
        bf16=bool(config.bf16),
    )


def _make_printable(record: logging.LogRecord) -> bool:
    from keyframe.report.render import printable

    record.msg, record.args = printable(record.getMessage()), ()
    return True


def _line(outcome: "VideoResult") -> str:
    """One video in the log."""
    from keyframe.cli.terminal import from_here
    from keyframe.report.render import one_line

    if outcome.status == "failed" or outcome.directory is None:
        return one_line(f"failed: {outcome.notes}")
    found = f"{outcome.keyframes} {'keyframe' if outcome.keyframes == 1 else 'keyframes'}"
    notes = f" ({outcome.notes})" if outcome.notes else ""
    return one_line(f"{outcome.path.name}: {found} in {outcome.seconds:.1f} s, {from_here(outcome.directory)}{notes}")


def _report(outcomes: Sequence["VideoResult"], run_dir: Path, output: Path) -> None:
    """The table of all videos, for the terminal and as a file.

    Raises:
        KeyframeError: a video failed.
    """
    from keyframe.cli.terminal import from_here
    from keyframe.files import write_table
    from keyframe.report.render import one_line, printable, text_table

    rows = [
        {
            "video": printable(one_line(str(outcome.path))),
            "result": outcome.status,
            "keyframes": str(outcome.keyframes) if outcome.directory else "",
            "folder": "" if outcome.directory is None else str(from_here(outcome.directory)),
            "notes": printable(one_line(outcome.notes)),
        }
        for outcome in outcomes
    ]
    write_table(run_dir / "videos.csv", rows)
    failed = [row for row in rows if row["result"] == "failed"]
    if len(rows) > 1:
        counts = ", ".join(f"{_count(rows, status)} {status}" for status in ("done", "skipped", "failed"))
        shown = [
            {**row, "video": _shortened(row["video"]), "folder": _shortened(row["folder"])}
            for row in (rows if len(rows) <= _MOST_ROWS else failed)
        ]
        table = text_table(shown, {"keyframes"})
        log.info("\n%s\n", table)
        log.info(
            "%d videos: %s. Results: %s; this table: %s", len(rows), counts, output, from_here(run_dir / "videos.csv")
        )
        if failed:
            raise KeyframeError(f"{len(failed)} of {len(rows)} videos failed; the table above says why.")
    elif failed:
        raise KeyframeError(failed[0]["notes"])
    else:
        log.info("%s", _result_line(outcomes[0]))


def _shortened(name: str) -> str:
    """A name for a column of a terminal; its end tells it from others."""
    return name if len(name) <= _MOST_LETTERS else f"...{name[3 - _MOST_LETTERS :]}"


def _count(rows: Iterable[dict[str, str]], status: str) -> int:
    return sum(row["result"] == status for row in rows)


def _result_line(outcome: "VideoResult") -> str:
    from keyframe.cli.terminal import from_here

    assert outcome.directory is not None
    before = "Done before, with these settings" if outcome.status == "skipped" else "Done"
    return f"{before}: see {from_here(outcome.directory) / 'index.html'}"


def main() -> None:
    """Stand in for keyframe.cli.main until the console scripts are installed anew."""
    from keyframe.cli import main as scripts

    scripts.extract()


if __name__ == "__main__":
    main()
