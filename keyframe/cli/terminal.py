"""What a user reads while a command runs: progress, the last lines of a run, errors as one sentence; and Ctrl-C."""

import difflib
import logging
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from tqdm import tqdm

from keyframe.files import flat, one_line
from keyframe.report.document import Document
from keyframe.report.render import printable, render_text, text_table
from keyframe.types import KeyframeError, check_number

Item = TypeVar("Item")

log = logging.getLogger(__name__)

# Seconds between two lines, and before showing a bar.
_LINE_EVERY = 60.0
_BAR_AFTER = 0.5
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s, {remaining} left{postfix}"
_ROWS = (
    ("Spearman, annotators' mean", "spearman"),
    ("Kendall, annotators' mean", "kendall"),
    ("Spearman, each annotator", "annotator_spearman"),
    ("Kendall, each annotator", "annotator_kendall"),
    ("MSE", "mse"),
    ("MAE", "mae"),
    ("precision@15 %", "precision_at_15"),
    ("Spearman with the teacher", "teacher_spearman"),
)
_asked = False


def listen() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that what was begun is removed, and remember both."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have set it to be ignored
        signal.signal(signal.SIGINT, _interrupt)


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if one was raised before and got lost in a callback of C code; called between steps."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def bar(items: Iterable[Item], title: str, total: int, unit: str = "video") -> Iterator[Item]:
    """The items, with a bar on stderr that shows a rate and the time left; on a terminal, for more than one."""
    for item in tqdm(items, title, total, unit=unit, disable=None if total > 1 else True, leave=False):
        stop_if_asked()
        yield item


class VideoProgress:
    """Shows how far each reading of a video is, by a bar or, if stderr is no terminal, by one line per minute."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._path: Path | None = None
        self._pass = 0
        self._start = self._latest_line = 0.0
        self._bar: Any = None

    def __call__(self, path: Path, seconds: float, of: float) -> None:
        """Show that so many seconds of the video are read."""
        stop_if_asked()
        now = time.monotonic()
        if seconds == 0:
            self._begin(path, of, now)
            return
        speed = seconds / max(now - self._start, 1e-3)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{speed:.1f} x real time", refresh=False)
            self._bar.update(seconds - self._bar.n)
        elif not self._on_terminal and now - self._latest_line >= _LINE_EVERY and seconds < of:
            self._latest_line = now
            left = (of - seconds) / speed
            log.info("%s: %.0f of %.0f s, %.1f x real time, about %.0f s left", self._title, seconds, of, speed, left)
        if seconds >= of:
            self.close()

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _title(self) -> str:
        assert self._path is not None
        return f"Reading {printable(one_line(self._path.name))}, pass {self._pass}"

    def _begin(self, path: Path, of: float, now: float) -> None:
        self.close()  # the bar of a video that has failed in the middle
        self._pass = self._pass + 1 if path == self._path else 1
        self._path = path
        self._start = self._latest_line = now
        if self._on_terminal:
            self._bar = tqdm(desc=self._title, total=of, bar_format=_BAR, delay=_BAR_AFTER, leave=False)


def result_lines(metrics: Mapping[str, float], skipped: Mapping[str, str], run_dir: Path, best: Path) -> str:
    """Validation and test metrics, mean +- standard deviation over videos, then paths."""

    def cell(split: str, name: str) -> str:
        if f"{split}/{name}" not in metrics:
            return "-"
        spread = metrics.get(f"{split}/{name}_std")
        value = f"{metrics[f'{split}/{name}']:.3f}"
        return value if spread is None else f"{value} +- {spread:.3f}"

    rows = [
        {"metric": label, "validation": cell("val", name), "test": cell("test", name)}
        for label, name in _ROWS
        if name != "teacher_spearman" or "val/teacher_spearman" in metrics
    ]
    counts = ", ".join(f"{metrics[f'data/videos_{split}']:.0f} {split}" for split in ("train", "val", "test"))
    lines = [f"Videos: {counts}; sampled frames of each", "", text_table(rows), ""]
    if undefined := int(metrics.get("test/undefined", 0)):
        lines.append(f"{undefined} test videos have no rank correlation (constant scores or labels).")
    if skipped:
        lines.append(f"{len(skipped)} videos were left out:")
        lines += [f"  {video}: {reason}" for video, reason in skipped.items()]
    run_dir = from_here(run_dir)
    lines += [
        f"Best checkpoint: {from_here(best)}",
        f"Metrics:         {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Curves:          {run_dir / 'curves'}",
        f"Run directory:   {run_dir}",
    ]
    return "\n".join(lines)


def short_text(document: Document, sections: int) -> str:
    """The first sections of a report, for the terminal."""
    return render_text(replace(document, sections=document.sections[:sections]))


def report_lines(run_dir: Path, figures: Path | None = None) -> list[str]:
    """Where the results of an evaluation are."""
    run_dir = from_here(run_dir)
    lines = [
        f"Metrics:       {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Report:        {run_dir / 'report.html'} (also .md, .txt)",
    ]
    if figures is not None:
        lines.append(f"Figures:       {from_here(figures)}")
    return [*lines, f"Run directory: {run_dir}"]


def from_here(path: Path) -> Path:
    """The path as a user would type it from the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


# Ranges of keys that torch and Lightning take, which would report them late or not at all: see `check_number`.
_RANGES: dict[str, dict[str, Any]] = {
    "seed": {"lowest": 0},
    "optimizer.lr": {"lowest": 0, "whole": False, "above": True},
    "optimizer.weight_decay": {"lowest": 0, "whole": False},
    "trainer.max_epochs": {"lowest": 1},
    "trainer.accumulate_grad_batches": {"lowest": 1},
    "trainer.gradient_clip_val": {"lowest": 0, "whole": False, "optional": True},
}
# Options that Hydra has with the extra `sweep` only.
_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


def check_values(config: DictConfig) -> None:
    """Check that every mandatory key is set, and the ranges of keys that no class of ours takes."""
    values = OmegaConf.to_container(config)  # interpolations stay, so each `???` is named where a user sets it
    for key, value in flat(values):
        if value == "???":
            raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, allowed in _RANGES.items():
        value = OmegaConf.select(config, key, default="absent")
        if value != "absent":
            check_number(key, value, **allowed)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    sys.exit(f"keyframe-{name}: {sentence}")


def sentence_of(error: BaseException, config: DictConfig | None = None) -> str | None:
    """Describe an error in one sentence; None if a user cannot mend it. The config serves to name keys."""
    match error:
        case KeyframeError():
            return str(error)
        case InstantiationException():
            return _not_built(error, config)
        case MissingConfigException() if error.missing_cfg_file and error.options:
            return _no_option(error.missing_cfg_file, error.options)
        case OverrideParseException():
            reason = "".join(str(error).splitlines()[1:2])
            return (
                f"{error.override} cannot be read ({reason}): write key=value, "
                "and a value with special characters in two kinds of quotes, \"key='value'\"."
            )
        case MissingMandatoryValue():
            key = getattr(error, "full_key", None) or getattr(error, "key", None)
            return f"{key} is not set: add {key}=... to the command."
        case ConfigKeyError() | ConfigAttributeError():
            return _no_key(error)
        case CompactHydraException() if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
            return _no_key(error.__cause__)
        case ValueError() if str(error) == "No trials are completed yet.":  # Optuna's, at the end of a search
            return "no job of the search has completed: the lines above and sweep.csv in its directory show why."
        case ValueError() if str(error).startswith("Config group override"):  # Hydra's, of loss=3 say
            return f"{str(error).rstrip('.')}: a group takes the name of an option, see --help."
        case RuntimeError() if _lost_a_process(error):
            return (
                "another process of this training has ended; its message, if it left one, shows why: "
                "go on with ckpt_path=last."
            )
        case Exception() if _is_misconfiguration(error):
            return one_line(str(error))
        case CompactHydraException() | OmegaConfBaseException():
            lines = [str(error), str(error.__cause__ or "")]
            return " ".join(text.splitlines()[0].strip() for text in lines if text.strip())
    return None


def _is_misconfiguration(error: BaseException | None) -> bool:
    """Whether Lightning refuses its options; its class is too heavy to import here."""
    return type(error).__name__ == "MisconfigurationException"


def _lost_a_process(error: RuntimeError) -> bool:
    """Whether gloo or NCCL reports that a rank does not answer; their classes are too heavy to import here."""
    text = str(error)
    return type(error).__name__ in ("DistBackendError", "DistNetworkError") or (
        "gloo" in text and any(words in text for words in ("onnection closed", "onnection reset", "imed out"))
    )


def _no_key(error: OmegaConfBaseException) -> str:
    """A key that the configuration does not have, and the one that may be meant."""
    key = str(error.full_key or error.key)
    siblings = list(error.parent_node) if isinstance(error.parent_node, DictConfig) else []
    close = difflib.get_close_matches(str(error.key), [str(name) for name in siblings], n=1)
    meant = ".".join([*key.split(".")[:-1], *close])
    remedy = f"did you mean {meant}?" if close else "see the keys with --help."
    return f"there is no key {key}: {remedy}"


def _no_option(name: str, options: Sequence[str]) -> str:
    """An option that a configuration group does not have."""
    group, _, option = name.rpartition("/")
    if option in _PLUGINS.get(group, ()):
        return f"{group}={option} is a plugin that is not installed: pip install 'keyframe[sweep]'."
    known = ", ".join(option for option in options if not option.startswith("base"))
    more = " (any other timm model: backbone=timm backbone.name=NAME)" if group == "backbone" else ""
    return f"{group}={option} is not there: choose one of {known}{more}."


def _not_built(error: InstantiationException, config: DictConfig | None) -> str | None:
    """An object that cannot be made from its part of the configuration."""
    cause = error.__cause__
    if cause is not None and (sentence := sentence_of(cause)):
        return sentence
    lines = str(error).splitlines()
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    if isinstance(cause, ValueError | TypeError) or _is_misconfiguration(cause):
        message = one_line(str(cause))
        argument = re.match(r"\w+(?= must )", message)  # our own messages begin with the argument's name
        if key and argument:
            return f"{_set_key(config, f'{key}.{argument[0]}')}{message[argument.end() :]}"
        return f"{_set_key(config, key) or 'the configuration'}: {message}"
    if lines[0].startswith("Error locating target"):
        return f"{_set_key(config, key)}._target_ cannot be imported: {lines[0].split(', set env')[0]}."
    return None


def _set_key(config: DictConfig | None, key: str) -> str:
    """The key that a user sets: `data.size` for `datamodule.size`, whose value is `${data.size}`."""
    values = {} if config is None else dict(flat(OmegaConf.to_container(config)))
    for part in accumulate(key.split("."), lambda parent, name: f"{parent}.{name}"):
        if source := re.fullmatch(r"\$\{([\w.]+)\}", str(values.get(part))):
            return _set_key(config, source[1] + key[len(part) :])
    return key
