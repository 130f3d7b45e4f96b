"""Many videos: what is left to do, one video as a job that cannot stop the others, and who works on the jobs.

An engine is a function of plain arguments, `(recipe, jobs, workers) -> outcomes in any order`: `run_local` here, and
`keyframe.ray_engine.RayEngine`, which does the same on Ray.
"""

import logging
import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from keyframe.data.content import content_id
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError, VideoError
from keyframe.export.formats import is_exported
from keyframe.extraction.folder import folder_name, is_complete, read_summary, remove_abandoned
from keyframe.extraction.identity import fingerprint
from keyframe.extraction.scorers import TrainingFree, load_scorer, model_description
from keyframe.extraction.video import Settings, ShotCutter, extract_video, recorded
from keyframe.summary.candidates import Selector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How each video of a batch is done; it can be pickled, and holds no model.

    Attributes:
        shots: cuts videos.
        selector: chooses keyframes.
        reader: decodes frames.
        settings: everything else.
        checkpoint: of the model that scores, or an exported file; None for training-free scoring.
        device: where the model computes.
        threads: of one worker's computations, at least 1.
        bf16: whether a run's model computes in bfloat16.

    Raises:
        KeyframeError: `bf16` where no run's own model scores.
    """

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    settings: Settings = field(default_factory=Settings)
    checkpoint: Path | None = None
    device: str = "auto"
    threads: int = 1
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.bf16 and (self.checkpoint is None or is_exported(self.checkpoint)):
            raise KeyframeError(
                "bf16=true is for the model of a run: exported files and the rule without a model compute as they are; "
                "leave it out."
            )

    @property
    def fingerprint(self) -> str:
        """What the extractions of this recipe will bear, known without loading the model."""
        scorer = TrainingFree.description if self.checkpoint is None else model_description(self.checkpoint, self.bf16)
        return fingerprint(scorer, recorded(self.shots, self.selector, self.reader, self.settings))


@dataclass(frozen=True)
class Job:
    """One video to do, and the folder of its results."""

    path: Path
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        path: the video.
        status: done, skipped or failed.
        directory: its folder; None where it failed.
        keyframes: how many the folder holds.
        notes: why it was skipped or has failed, or what fell short; "" where there is nothing to say.
        seconds: how long it took.
    """

    path: Path
    status: Literal["done", "skipped", "failed"]
    directory: Path | None = None
    keyframes: int = 0
    notes: str = ""
    seconds: float = 0.0


def plan(paths: Sequence[Path], output: Path, recipe: Recipe, overwrite: bool = False) -> list[Job | Outcome]:
    """Give each video its folder, and tell those that need no work.

    A folder is called after the file. Where another video has that name already (in this batch, in `output` before, or
    differing only in upper and lower case) or the folder is not ours, eight digits of the content's hash are added, so
    that a video finds its folder again whatever else is in the batch. Done is a video whose folder bears its content
    and the recipe's fingerprint and lacks no file.

    Args:
        paths: videos, none twice.
        output: the folder of all folders.
        recipe: how they would be done.
        overwrite: whether what is done is done again.

    Returns:
        One entry a video, in order: a job, or the outcome of one that was skipped or cannot be read.

    Raises:
        KeyframeError: `output` cannot be written.
    """
    wanted = recipe.fingerprint
    names = _existing(output)
    taken: dict[str, tuple[str, Path]] = {}
    entries: list[Job | Outcome] = []
    for path in paths:
        try:
            content = content_id(path)
        except VideoError as error:
            entries.append(Outcome(path, "failed", notes=str(error)))
            continue
        name = folder_name(path)
        directory, summary = _place(output, (name, f"{name}-{content[:8]}"), content, names, taken)
        other = taken.get(directory.name.casefold())
        taken[directory.name.casefold()] = content, path
        if other is not None:
            entries.append(Outcome(path, "skipped", directory, notes=f"the same video as {other[1]}"))
        elif summary is None or overwrite or summary["fingerprint"] != wanted or not is_complete(directory, summary):
            entries.append(Job(path, directory))
        else:
            entries.append(
                Outcome(path, "skipped", directory, len(summary["keyframes"]), "done before, with these settings")
            )
    return entries


class Extractor:
    """Does jobs one after the other, with the model loaded once.

    Raises:
        KeyframeError: the recipe's checkpoint cannot be loaded, or its device is not there.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.scorer = load_scorer(recipe.checkpoint, recipe.device, recipe.threads, recipe.bf16)

    def __call__(self, job: Job) -> Outcome:
        """Do one video; whatever is wrong with it becomes its outcome."""
        start = perf_counter()
        recipe = self.recipe
        try:
            done = extract_video(
                job.path, job.directory, self.scorer, recipe.shots, recipe.selector, recipe.reader, recipe.settings
            )
        except KeyframeError as error:
            return Outcome(job.path, "failed", notes=str(error), seconds=perf_counter() - start)
        except OSError as error:
            reason = (
                f"{job.directory} cannot be written ({error.strerror or error}): make room or choose another output."
            )
            return Outcome(job.path, "failed", notes=reason, seconds=perf_counter() - start)
        except Exception as error:
            log.debug("%s", traceback.format_exc())
            reason = f"{job.path} cannot be done, for a fault of ours ({type(error).__name__}: {error}): report it."
            return Outcome(job.path, "failed", notes=" ".join(reason.split()), seconds=perf_counter() - start)
        notes = "; ".join(done.selection.notes)
        return Outcome(job.path, "done", job.directory, len(done.stills), notes, perf_counter() - start)


def run_local(recipe: Recipe, jobs: Sequence[Job], workers: int = 1) -> Generator[Outcome, None, None]:
    """Do jobs on this machine.

    Args:
        recipe: how.
        jobs: what; no two with one folder.
        workers: processes; 1 works in this process.

    Yields:
        An outcome a job, as they end.

    Raises:
        KeyframeError: as `Extractor` says, before the first outcome.
    """
    if not jobs:
        return
    if workers == 1 or len(jobs) == 1:
        extractor = Extractor(recipe)
        yield from map(extractor, jobs)
    else:
        from keyframe.workers import run_in_processes

        yield from run_in_processes(recipe, jobs, min(workers, len(jobs)))


def _existing(output: Path) -> dict[str, str]:
    """Names in the output folder by their caseless form.

    The folder is made, proven to be writable, and rid of what a process that was killed has left.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # Another command's, at the same time.
        remove_abandoned(output)
        return {entry.name.casefold(): entry.name for entry in output.iterdir()}
    except OSError as error:
        raise KeyframeError(f"output={output} cannot be written ({error.strerror}): choose another folder.") from error


def _place(
    output: Path,
    names: tuple[str, str],
    content: str,
    existing: Mapping[str, str],
    taken: Mapping[str, tuple[str, Path]],
) -> tuple[Path, dict[str, Any] | None]:
    """The folder for a video and its summary: one that holds this content, else the first that is free."""
    free: list[Path] = []
    for name in names:
        folder = output / existing.get(name.casefold(), name)
        summary = read_summary(folder)
        if name.casefold() in taken:
            if taken[name.casefold()][0] == content:
                return folder, summary
        elif summary is not None and summary["video"]["content"] == content:
            return folder, summary
        elif not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            free.append(folder)
    return (free[0] if free else output / names[1]), None
