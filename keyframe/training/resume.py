"""What a training that resumes may change, and what it has changed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyframe.files import one_line
from keyframe.trust import check_plain, current_name
from keyframe.types import KeyframeError

# Keys of one start alone: where it writes and who follows it.
_OF_A_START = ("run_dir", "ckpt_path", "sweep", "trust", "name", "group", "tags", "logger", "tune")
# Keys that count from the epoch that the run resumes at. All others stay what they were: the model, the videos and
# their split, the frames seen of them, the loss, the seed, and the class of the optimizer.
_CHANGEABLE = (
    *("trainer", "callbacks", "scheduler", "finetune.lr_factor", "deterministic", "compile", "model.chunk"),
    *("data.root", "data.path", "data.labels", "data.allow_missing", "data.strict", "data.workers"),  # may have moved
    *("cache", "reader._target_", "reader.threads", "teacher"),
)
_NUMBERS = "optimizer"  # of it, numbers may change; a switch such as amsgrad needs a state that was not kept
_BEFORE_THE_SWITCH = "finetune.switch_epoch"

_ABSENT = object()
_REFERENCE = re.compile(r"\$\{[\w.]+\}")


@dataclass(frozen=True)
class Resume:
    """A checkpoint that a training goes on from."""

    path: Path  # of the checkpoint
    epoch: int = 0  # the first that is trained now, from 0; maybe the rest of it
    # of the training that wrote the checkpoint, plain nested values; empty if it is not known
    config: Mapping[str, Any] = field(default_factory=dict)
    # key -> (value until then, value from `epoch` on), as texts
    changes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """A sentence per change."""
        return [f"{key} is now {now}, was {was}, from epoch {self.epoch}" for key, (was, now) in self.changes.items()]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The changes of this and of all earlier resumes: `epoch`, and `changes`, key -> [was, now]."""
        earlier = self.config.get("resumed")
        history = list(earlier) if isinstance(earlier, list) else []
        if self.changes:
            changes = {key: list(values) for key, values in self.changes.items()}
            history.append({"epoch": self.epoch, "changes": changes})
        return history


def compare(path: Path, checkpoint: Mapping[str, Any], config: Mapping[str, Any], written: Any) -> Resume:
    """Compare a checkpoint's configuration with the one to go on with; a KeyframeError names what cannot change.

    `config` is the configuration now, plain nested values; `written` the same with its references as they are written.
    """
    before = checkpoint.get("hyper_parameters")
    if not isinstance(before, dict):
        before = {}
    check_plain(before, path)
    if not before:
        return Resume(path)
    switched = nested(checkpoint, "callbacks", "TwoStage", "switched") is True
    changes: dict[str, tuple[str, str]] = {}
    refused = []
    for key, was, now in _differences(before, config, written):
        if _is_below(key, *_OF_A_START):
            continue
        name, values = key.removesuffix("._target_"), (_shown(key, was), _shown(key, now))
        if _may_change(key, was, now, switched):
            changes[name] = values
        elif _is_below(key, _NUMBERS) or _ABSENT not in (was, now):  # else another version of keyframe has no such key
            was, now = (text if len(text) <= 40 else f"{text[:37]}..." for text in values)
            refused.append(f"{name}={was}, now {now}")
    if refused:
        more = f", and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise KeyframeError(
            f"{path} was trained with {'; '.join(refused[:3])}{more}: a resumed run keeps these, give them as they "
            "were, or start a new run without ckpt_path."
        )
    epoch = nested(checkpoint, "loops", "fit_loop", "epoch_progress", "current", "processed")
    resume = Resume(path, epoch if isinstance(epoch, int) else 0, before, changes)
    epochs = nested(config, "trainer", "max_epochs")
    if isinstance(epochs, int) and epochs < resume.epoch:
        raise KeyframeError(f"{path} has trained {resume.epoch} epochs: trainer.max_epochs={epochs} is over; raise it.")
    return resume


def _may_change(key: str, was: Any, now: Any, switched: bool) -> bool:
    if key == _BEFORE_THE_SWITCH:
        return not switched
    if _is_below(key, _NUMBERS):
        return key != _NUMBERS and all(value is _ABSENT or _is_number(value) for value in (was, now))
    return _is_below(key, *_CHANGEABLE)


def _is_below(key: str, *parents: str) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _differences(was: Any, now: Any, written: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key whose value differs, the value before and now."""
    if isinstance(written, str) and _REFERENCE.search(written):
        return  # the key that it refers to is compared
    if isinstance(was, dict) and isinstance(now, dict) and isinstance(written, dict):
        for name in now if not key else {**now, **was}:
            child = f"{key}.{name}" if key else name
            before, after, text = (part.get(name, _ABSENT) for part in (was, now, written))
            yield from _differences(before, after, text, child)
    elif was != now and not (isinstance(was, str) and current_name(was) == now):
        yield key, was, now


def _shown(key: str, value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    if isinstance(value, dict):
        key, value = "_target_", value.get("_target_", "set")
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))[:100]


def nested(value: Any, *names: str) -> Any:
    """A value in nested dicts that may be anything; None if it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
