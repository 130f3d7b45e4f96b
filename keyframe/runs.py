"""A finished training run: its model, its data as training divided them, and its whole configuration.

A run is loaded from a checkpoint, or from an exported file and its card. Both name classes; only those listed here are
built, from plain values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keyframe.data.decord_reader import DecordReader
from keyframe.data.divided import DividedData, DividedFeatures, DividedVideos
from keyframe.data.feature_file import FeatureVideo
from keyframe.data.folder import DemoSource, DirectorySource
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling, UniformSampling, chosen_frames, label_positions, labelled_frames
from keyframe.data.splits import Split
from keyframe.evaluation import video as evaluation
from keyframe.evaluation.video import EvalVideo, Shots
from keyframe.export import model as exports
from keyframe.export.model import ExportedModel, card_path
from keyframe.files import flat, unchanged
from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import KeyframeDetector, count_parameters, find_device
from keyframe.models.head import TemporalHead
from keyframe.models.published_heads import PUBLISHED_HEADS
from keyframe.models.weights import read_checkpoint, rebuild
from keyframe.pipeline import Scorer, TrainedModel, score_frames
from keyframe.timing import TimedModel, random_videos, weights_mb
from keyframe.trust import NO_TRUST, Trust, TrustLike, build, check_plain, names_of
from keyframe.types import FloatArray, KeyframeError, LabelledVideo, Labels, UInt8Array, VideoError

# Frames of a video for timing, if the model takes any number of them.
_USUAL_FRAMES = 60
# Height in pixels.
_THUMBNAIL = 100
# Parts of the configuration that make a model what it is.
_RECIPE = ("model", "loss", "distillation", "optimizer", "finetune", "sampling", "augmentation")

# What a checkpoint may build.
MODEL_CLASSES = (Backbone, KeyframeDetector, NoBackbone, TemporalHead, *PUBLISHED_HEADS)
DATA_CLASSES = (
    *(DividedFeatures, DividedVideos, DemoSource, DirectorySource),
    *(DecordReader, PyAVReader, FpsSampling, UniformSampling),
)
# What a run trained on, without the batches.
_DIVIDED = {
    f"keyframe.data.datamodule.{kind.state_key}": names_of(kind)[0] for kind in (DividedFeatures, DividedVideos)
}
# Nothing is downloaded, read or generated because a checkpoint says so; it holds the weights itself.
_FIXED: dict[type, dict[str, Any]] = {Backbone: {"pretrained": False, "weights": None}, DemoSource: {"make": False}}


@dataclass(frozen=True)
class PixelVideo(LabelledVideo):
    """A labelled video file of a run, read as the run's data say; its packets are indexed once."""

    data: DividedVideos

    @cached_property
    def index(self) -> PacketIndex:
        """The packets of the file; `VideoError` if it cannot be read."""
        return index_packets(self.path)

    def eval_video(self, shots: Shots) -> EvalVideo:
        """The video as evaluation sees it, at every pick."""
        return evaluation.pixel_eval_video(self, self.index, self.data.reader, shots, *self._scale)

    def eval_and_score(self, shots: Shots, model: Scorer) -> tuple[EvalVideo, FloatArray]:
        """`eval_video`, and its `score`, for which it is decoded once."""
        assert model.size is not None
        scores: list[FloatArray] = []

        def see(images: Iterator[UInt8Array], n: int) -> None:
            scores.append(model.score(model.see(images, n)))

        how = shots, *self._scale, model.size, see
        return evaluation.pixel_eval_video(self, self.index, self.data.reader, *how), scores[0]

    @property
    def _scale(self) -> tuple[float, float]:
        """The scores in the label file that 0 and 1 stand for."""
        scales: Mapping[str, tuple[float, float]] = getattr(self.data.source, "scales", {})
        return scales.get(self.folder, (1.0, 5.0))

    def sampled(self, eval_video: EvalVideo) -> EvalVideo:
        """The same video at the frames that the run's own sampling chooses."""
        index = self.index
        frames = self.data.reader.grid(chosen_frames(self.data.sampling, index), index)
        seconds = index.timestamps[frames] - index.timestamps[0]
        entries = label_positions(len(self.labels), index.n_frames, frames, seconds, index.duration, self.path)
        entries, first = np.unique(entries, return_index=True)
        return evaluation.at_entries(eval_video, self.labels, entries, seconds[first])

    def score(self, model: TrainedModel | ExportedModel, eval_video: EvalVideo) -> FloatArray:
        """Scores at the video's entries, in [0, 1], (n,)."""
        frames = labelled_frames(len(self.labels), eval_video.entries, self.index)
        return score_frames(model, self.index, frames, self.data.reader)

    def thumbnails(self, seconds: Sequence[float]) -> list[tuple[float, UInt8Array]]:
        """Small frames near the given seconds: (second, uint8 (h, w, 3)) each."""
        times = self.index.timestamps - self.index.timestamps[0]
        frames = np.unique(np.searchsorted(times, seconds, side="right") - 1).clip(0)
        height, width = self.index.shown_size
        size = (_THUMBNAIL, max(1, round(_THUMBNAIL * width / height)))
        try:
            read = self.data.reader.read(self.path, frames, size, self.index)
        except VideoError:
            return []  # the scored frames decode; these few only decorate
        return [(float(times[frame]), pixels) for frame, pixels in zip(frames, read.pixels, strict=True)]


@dataclass(frozen=True)
class FeatureFileVideo(FeatureVideo):
    """A video of a feature file, with the methods of `PixelVideo`."""

    def eval_video(self, shots: Shots) -> EvalVideo:
        return evaluation.feature_eval_video(self)

    def sampled(self, eval_video: EvalVideo) -> EvalVideo:
        raise KeyframeError("protocol=sampled is for runs on pixels: a feature file is scored at every pick.")

    def score(self, model: TrainedModel | ExportedModel, eval_video: EvalVideo) -> FloatArray:
        assert isinstance(model, TrainedModel)  # no feature model is exported
        return model.score_features(self.features)

    def thumbnails(self, seconds: Sequence[float]) -> list[tuple[float, UInt8Array]]:
        return []


@dataclass(frozen=True)
class LabelVideo:
    """The labels of a video whose frames are not there, with the methods of `PixelVideo` but `score`."""

    id: str
    labels: Labels

    def eval_video(self, shots: Shots) -> EvalVideo:
        return evaluation.label_eval_video(self.id, self.labels)

    def thumbnails(self, seconds: Sequence[float]) -> list[tuple[float, UInt8Array]]:
        return []


RunVideo = PixelVideo | FeatureFileVideo


@dataclass(frozen=True, eq=False)
class Run:
    """A model, and the data and configuration of the run that trained it; made by `load_run`."""

    path: Path  # the checkpoint or exported file
    config: Mapping[str, Any]  # the whole configuration, plain nested values
    model: TrainedModel | ExportedModel  # scores frames, or features if the run was trained on a feature file
    data: DividedData[Any]  # the data, as training divided them, or another data set
    # counts, see `keyframe.models.detector.count_parameters`
    parameters: Mapping[str, float] = field(default_factory=dict)
    weights_mb: float = 0.0  # MB (10^6 bytes) of all weights, or of the exported file
    _videos: dict[str, dict[str, RunVideo]] = field(default_factory=dict, repr=False)

    @property
    def trained_model(self) -> TrainedModel:
        """The model of a checkpoint."""
        exports.require_checkpoint(self.path)
        assert isinstance(self.model, TrainedModel)
        return self.model

    @property
    def detector(self) -> KeyframeDetector:
        """The model of a checkpoint as a torch module: frames (N, T, 3, H, W) -> scores (N, T)."""
        return self.trained_model.detector

    @property
    def scorer(self) -> TrainedModel | ExportedModel:
        """The model, if it scores frames."""
        if self.model.size is None:
            raise _no_frames(self.path)
        return self.model

    @property
    def video_data(self) -> DividedVideos:
        """The data of a run on videos."""
        if not isinstance(self.data, DividedVideos):
            raise _no_frames(self.path)
        return self.data

    @property
    def name(self) -> str:
        """The backbone's name, and the format of an exported file."""
        return self.model.backbone + ("" if self.model.format is None else f" ({self.model.format})")

    @property
    def directory(self) -> Path:
        """The run directory, or the folder of a file that lies in none."""
        parent = self.path.parent
        return parent.parent if parent.name == "checkpoints" else parent

    @property
    def label(self) -> str:
        """Seed and fold, which tell runs of one model apart."""
        return f"seed {self.config.get('seed')}, fold {self.data.fold}"

    @property
    def frame_shape(self) -> tuple[int, int, int] | None:
        """Frames of a usual video, their height and width; None if the model takes features, not frames."""
        return None if self.model.size is None else (self.model.window or _USUAL_FRAMES, *self.model.size)

    @property
    def recipe(self) -> dict[str, Any]:
        """The part of the configuration that runs of one model share, flat, and the format of an exported file."""
        # a part that is off may have been unknown to an older version
        parts = {key: self.config[key] for key in _RECIPE if self.config.get(key) is not None}
        # how gradients are rounded depends on the machine as well
        plain = {key: value for key, value in flat(parts) if not key.endswith(".gradients")}
        return plain | ({} if self.model.format is None else {"format": self.model.format})

    @property
    def sizes(self) -> dict[str, float]:
        """`params_backbone`, `params_total` ... and `weights_mb`."""
        return {f"params_{name}": count for name, count in self.parameters.items()} | {"weights_mb": self.weights_mb}

    @property
    def timed_model(self) -> TimedModel:
        """The model and its usual input, frames or features, to be timed."""
        model, shape = self.model, self.frame_shape
        if isinstance(model, ExportedModel):
            assert shape is not None
            program = model.program
            return TimedModel(
                lambda frames: torch.from_numpy(program(frames.numpy())), partial(random_videos, shape=shape)
            )
        device = model.detector.pixel_mean.device
        if shape is not None:
            return TimedModel(model.detector, partial(random_videos, shape=shape, device=device))
        width = model.detector.backbone.width
        return TimedModel(model.detector.score, lambda count: torch.randn(count, _USUAL_FRAMES, width, device=device))

    def to(self, device: str) -> None:
        """Move the model to a device, by a name that torch knows or "auto"."""
        if isinstance(self.model, ExportedModel):
            exports.require_cpu(self.path, device)
        else:
            self.model.detector.to(find_device(device))

    @property
    def held_out(self) -> str:
        """What it is measured on: `test`, or `all` if the videos are another data set."""
        self.data.prepare_data()
        return "all" if self.data.other_set else "test"

    def part_of(self, id_: str) -> str:
        """What the run has to do with a video: `train`, `val`, `test` or `new` (in none of these).

        It is `other` if the videos are another data set, and `unknown` if the run has not stored its split.
        """
        if self.data.kept_split is None:
            return "unknown"
        return "other" if self.data.other_set else self.data.parts[id_]

    def videos(self, split: str) -> dict[str, RunVideo]:
        """The videos of `train`, `val`, `test`, `new` or `all` by id (see `split_videos`); none is decoded."""
        if split not in self._videos:
            self.data.prepare_data()
            found = self.data.split_videos(split)
            if isinstance(self.data, DividedVideos):
                self._videos[split] = {one.id: PixelVideo(**vars(one), data=self.data) for one in found}
            else:
                self._videos[split] = {one.id: FeatureFileVideo(**vars(one)) for one in found}
        return self._videos[split]


def _no_frames(path: Path) -> KeyframeError:
    return KeyframeError(f"{path} was trained on a feature file and sees no frames: give a run on videos.")


def load_run(
    run: str | Path,
    root: str | Sequence[str] | None = None,
    labels: str | Sequence[str | None] | None = None,
    device: str | None = None,
    key: str = "run",
    trust: TrustLike = NO_TRUST,
    lowest: float | Sequence[float] | None = None,
    highest: float | Sequence[float] | None = None,
) -> Run:
    """Rebuild the model of a run together with its data.

    Args:
        run: a run directory (its best checkpoint), a checkpoint, or an exported file with its card.
        root: where the data lie now (`data.root`, or `data.path` of feature files), if not where they were.
        labels: the label file to use instead of the run's own, or a list with one for each folder.
        device: where the model computes, a name that torch knows, or "auto" for a GPU if there is one; None for the
            CPU.
        key: what the user calls `run`, for messages.
        trust: what the file may do besides being data: True for programs, packages whose classes it may name, or both
            in a list.
        lowest: the score of that label file that means "not important at all", or a list with one for each folder; None
            for the run's own scale.
        highest: the score that means "most important".
    """
    path, trust = Path(run).expanduser(), Trust.of(trust)
    given = {"root": root, "labels": labels, "lowest": lowest, "highest": highest}
    if exports.is_exported(path):
        exported = exports.load_exported(path, torch.get_num_threads(), trust)
        data = _data_of(card_path(path), exported.card.config, given, trust)
        if not isinstance(data, DividedVideos):
            raise KeyframeError(f"{path} has a card without videos: export the model again.")
        if exported.card.split is not None:
            data.kept_split = Split.from_plain(exported.card.split, card_path(path))
        loaded = Run(path, exported.card.config, exported, data, exported.card.parameters, path.stat().st_size / 1e6)
    else:
        path = exports.find_run(run, key)
        with unchanged(path):
            checkpoint, description = _read(path), exports.describe_model(path)
        config = checkpoint["hyper_parameters"]
        detector, data = _detector(path, checkpoint, trust), _data_of(path, config, given, trust)
        data.keep_split(checkpoint, path)
        size, window = (data.size, data.sampling.window) if isinstance(data, DividedVideos) else (None, None)
        finetune = config.get("finetune")
        two_stages = isinstance(finetune, dict) and finetune.get("switch_epoch") is not None
        counts = {name: float(count) for name, count in count_parameters(detector, two_stages).items()}
        model = TrainedModel(detector, size, window, description)
        loaded = Run(path, config, model, data, counts, weights_mb(detector))
    if data.kept_split is not None and isinstance(source := getattr(data, "source", None), DirectorySource):
        source.allow_missing = True  # a video that is gone changes no part, and is named
    if device is not None:
        loaded.to(device)
    return loaded


def load_detector(run: str | Path, trust: TrustLike = NO_TRUST) -> KeyframeDetector:
    """Rebuild the trained model of a run or checkpoint without its data, in eval mode, on the CPU; see `load_run`."""
    exports.require_checkpoint(run)
    path = exports.find_run(run)
    return _detector(path, _read(path), Trust.of(trust))


def _read(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    config = checkpoint.get("hyper_parameters")
    check_plain(config, path)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise KeyframeError(f"{path} does not say how its model is built: use a checkpoint that keyframe wrote.")
    return checkpoint


def _detector(path: Path, checkpoint: Mapping[str, Any], trust: Trust) -> KeyframeDetector:
    prefix = "detector."
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}

    def make() -> KeyframeDetector:
        detector = build(checkpoint["hyper_parameters"]["model"], MODEL_CLASSES, path, trust, _FIXED)
        if not isinstance(detector, KeyframeDetector):
            raise KeyframeError(f"{path} describes no KeyframeDetector: use a checkpoint that keyframe wrote.")
        return detector

    return rebuild(make, weights, path)


def _data_of(path: Path, config: Mapping[str, Any], given: Mapping[str, Any], trust: Trust) -> DividedData[Any]:
    """The data of a run's configuration, with the keys that are given (not None) instead of its own."""
    data = config.get("datamodule")
    if not isinstance(data, dict):
        raise KeyframeError(f"{path} does not say which videos it was trained on (datamodule): train it again.")
    # without what only training needs
    data = {key: value for key, value in data.items() if key not in ("augmentation", "cache")}
    if isinstance(name := data.get("_target_"), str):
        data["_target_"] = _DIVIDED.get(name, name)
    given = {name: value for name, value in given.items() if value is not None}
    source = data.get("source")
    own = source.get("root") if isinstance(source, dict) else data.get("path")
    for name in given.keys() & {"root", "labels"}:
        value = given[name]
        # The ids of a list's videos name their folder or file.
        several = isinstance(own, list) and (name == "root" or isinstance(source, dict))
        if not several and not isinstance(value, str):
            raise KeyframeError(f"the run {path} was trained on one file or folder: give data.{name} one, not a list.")
        places = [value] if isinstance(value, str) else value
        expanded = [None if place is None else str(Path(place).expanduser()) for place in places]
        given[name] = expanded if several else expanded[0]
    if isinstance(source, dict):
        data["source"] = _replaced(_source(source, given, path), given, path)
    else:
        data = _replaced(data, {"path" if name == "root" else name: value for name, value in given.items()}, path)
    divided = build(data, DATA_CLASSES, path, trust, _FIXED)
    if not isinstance(divided, DividedData):
        raise KeyframeError(f"{path} does not say which videos it was trained on (datamodule): train it again.")
    return divided


def _source(source: dict[str, Any], given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The description of a source with all its keys; where no generated set lies, a folder of videos is meant."""
    if "root" in given and source.get("_target_") in names_of(DemoSource):
        demo = build({**source, "root": given["root"]}, DATA_CLASSES, path)
        if isinstance(demo, DemoSource) and not demo.demo.folder(demo.root).is_dir():
            source = {"_target_": names_of(DirectorySource)[0], "root": given["root"]}
    if source.get("_target_") in names_of(DirectorySource):
        # A list of label files is of the folders that the run knew.
        source = source | ({"labels": None} if "root" in given and isinstance(source.get("labels"), list) else {})
        return {"labels": None, "lowest": 1.0, "highest": 5.0, **source}
    return source


def _replaced(described: dict[str, Any], given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    for key in given:
        if key not in described:
            raise KeyframeError(f"the run {path} has no data.{key} to replace: leave data.{key} out.")
    return {**described, **given}
