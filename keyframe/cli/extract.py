"""keyframe-extract: the keyframes of a user's own videos."""

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from keyframe.cli.terminal import VideoProgress, bar, from_here
from keyframe.config import as_list
from keyframe.export.model import find_run, is_exported
from keyframe.extraction.engines import VideoJob, VideoResult, plan
from keyframe.extraction.extract import ExtractionSpec, has_weights
from keyframe.extraction.inputs import Part, find_inputs
from keyframe.extraction.staging import Refused, Staging, staged
from keyframe.files import one_line, write_table
from keyframe.report import text_table
from keyframe.system import cores, threads
from keyframe.trust import Trust
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)

# One worker per core with one thread each. Of six minutes of 360p on 2 cores, without a model, a second decoder thread
# costs 1.06 times the processor time, a second worker 1.5 times, which is its start (1.7 s): longer batches earn it.
_MOST_WORKERS = 8
# A longer table is left to the file, except for failures.
_MOST_ROWS = 40
_MOST_LETTERS = 60


def extract(config: DictConfig) -> None:
    """Extract keyframes from the videos that the configuration names, and report the result of each."""
    if config.input is None:
        raise KeyframeError("there is no video to extract from: name some, such as keyframe-extract holiday.mp4.")
    choose_scorer(config)
    engine = instantiate(config.engine)
    output = output_folder(config)
    run_dir = Path(config.run_dir)
    named = [str(entry) for entry in as_list(config.input)]
    with staged(run_dir / "inputs", config.image_rate) as staging:
        inputs = find_inputs(named, bool(config.recursive), [output, run_dir], staging)
        _report_videos(_extract_all(config, engine, inputs, output, staging), run_dir, from_here(output), staging)


def choose_scorer(config: DictConfig) -> None:
    """Set the keys about what scores that are "auto"."""
    if config.run is not None and config.device == "auto" and is_exported(str(config.run)):
        config.device = "cpu"
    if config.features == "auto":
        config.features = "lite0" if config.run is None and has_weights() else "none"


def output_folder(config: DictConfig) -> Path:
    """Where results go."""
    try:
        return Path(str(config.output)).expanduser()
    except RuntimeError as error:  # ~unknown
        raise KeyframeError(f"output={config.output}: there is no such user; choose another folder.") from error


def _extract_all(
    config: DictConfig, engine: Any, inputs: Sequence[Path | Refused], output: Path, staging: Staging
) -> list[VideoResult]:
    """The result of each input, in order."""
    paths = [path for path in inputs if not isinstance(path, Refused)]
    workers, threads = _workers(config, len(paths))
    spec = extraction_spec(config, threads)
    progress = VideoProgress()
    spec.reader.progress = progress
    if config.run is None:
        log.info("No run= was given: scored without a trained model (shots, novelty, typicality, sharpness)")
    entries = plan(paths, output, spec, bool(config.overwrite))
    jobs = [entry for entry in entries if isinstance(entry, VideoJob)]
    results = {entry.path: entry for entry in entries if isinstance(entry, VideoResult)}
    refused = [one for one in inputs if isinstance(one, Refused)]
    results |= {one.path: VideoResult(one.path, "failed", notes=one.reason) for one in refused}
    try:
        with logging_redirect_tqdm(), closing(progress), closing(engine(spec, jobs, workers)) as finished:
            for number, result in enumerate(bar(finished, "Extracting", len(jobs)), start=1):
                results[result.path] = result
                log.info("[%d/%d] %s", number, len(jobs), staging.shown(_result_line(result)))
    except KeyboardInterrupt:
        log.info("Stopped after %d of %d videos: the same command continues from there", len(results), len(inputs))
        raise
    return [results[one.path if isinstance(one, Refused) else one] for one in inputs]


def _workers(config: DictConfig, videos: int) -> tuple[int | None, int]:
    """Processes, and the threads of each; None for as many as a cluster has room for."""
    workers = config.workers
    check_number("workers", workers, 1, optional=True)
    check_number("threads", config.threads, 1, optional=True)
    if config.engine.get("address") is not None:  # The cores of this machine do not limit a cluster.
        return workers, config.threads or 1
    if workers is None:
        computes = config.run is not None or config.features != "none"
        on_gpu = computes and videos > 1 and _on_gpu(config.device)
        workers = 1 if on_gpu else max(1, min(cores(), videos, _MOST_WORKERS))
    return workers, config.threads or max(1, threads() // workers)


def _on_gpu(device: str) -> bool:
    if device != "auto":
        return device != "cpu"
    import torch  # takes seconds, and extraction by an exported file or without a model needs none of it

    return torch.cuda.is_available()


def extraction_spec(config: DictConfig, threads: int) -> ExtractionSpec:
    """What the keys of `conf/extraction.yaml` ask for, after `choose_scorer`; each worker has so many threads."""
    config.threads = threads
    return ExtractionSpec(
        shots=instantiate(config.shots),
        selector=instantiate(config.selection),
        reader=instantiate(config.reader),
        rate=config.rate,
        summary_video=bool(config.summary_video),
        part=Part.of(config.stream, config.start, config.end, config.region),
        quality=config.quality,
        format=config.format,
        height=config.height,
        cut_lists=(config.cut_lists,) if isinstance(config.cut_lists, str) else tuple(config.cut_lists or ()),
        steady=bool(config.steady),
        checkpoint=None if config.run is None else find_run(config.run),
        features=config.features,
        device=config.device,
        threads=threads,
        bf16=bool(config.bf16),
        trust=Trust.of(config.trust),
    )


def _result_line(result: VideoResult) -> str:
    if result.directory is None:
        return f"failed: {result.notes}"
    found = f"{result.keyframes} {'keyframe' if result.keyframes == 1 else 'keyframes'}"
    notes = f" ({result.notes})" if result.notes else ""
    return f"{result.path.name}: {found} in {result.seconds:.1f} s, {from_here(result.directory)}{notes}"


def _report_videos(results: Sequence[VideoResult], run_dir: Path, output: Path, staging: Staging) -> None:
    """Write the table of all videos and log it; refuse if a video failed."""
    rows = [
        {
            "video": staging.shown(str(result.path)),
            "result": result.status,
            "keyframes": str(result.keyframes) if result.directory else "",
            "folder": "" if result.directory is None else str(from_here(result.directory)),
            "notes": one_line(staging.shown(result.notes)),
        }
        for result in results
    ]
    write_table(run_dir / "videos.csv", rows)
    failed = [row for row in rows if row["result"] == "failed"]
    if len(rows) == 1:
        if failed:
            raise KeyframeError(failed[0]["notes"])
        before = "Done before, with these settings" if results[0].status == "skipped" else "Done"
        log.info("%s: see %s", before, from_here(results[0].directory or output) / "index.html")
        return
    statuses = [result.status for result in results]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in ("done", "skipped", "failed"))
    shown = [
        {**row, "video": _shortened(row["video"]), "folder": _shortened(row["folder"])}
        for row in (rows if len(rows) <= _MOST_ROWS else failed)
    ]
    log.info(f"\n{text_table(shown, {'keyframes'})}\n")
    log.info("%d videos: %s. Results: %s; this table: %s", len(rows), counts, output, from_here(run_dir / "videos.csv"))
    if failed:
        raise KeyframeError(f"{len(failed)} of {len(rows)} videos failed; the table above shows why.")


def _shortened(name: str) -> str:
    """A name for a column of a terminal; the end tells names apart."""
    return name if len(name) <= _MOST_LETTERS else f"...{name[3 - _MOST_LETTERS :]}"
