"""Divide videos into train, validation and test: stratified folds, published split files, or what a run has stored."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from keyframe.data.hdf5 import TVSUM_CATEGORIES, checked_id, data_set_named, official_id
from keyframe.files import natural_key, read_small, reading, write_text
from keyframe.types import KeyframeError

SPLIT_SUFFIXES = (".json", ".yml", ".yaml", ".txt")
_FORMS = ".json, .yml, .yaml or .txt"
# Of a stored split. The largest published set has 31,892 videos.
_MAX_VIDEOS = 1_000_000
PARTS = ("train", "val", "test")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Ids of the videos to train on, to choose checkpoints by, and to report on."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for part, names in vars(self).items():
            if not names:
                raise KeyframeError(f"the {part} part is empty: add videos, or change data.folds or data.val_fraction")
            for name in names:
                if name in seen:
                    raise KeyframeError(
                        f"the split has {name} in {seen[name]} and again in {part}: a video may stand once, in one part"
                    )
                seen[name] = part

    @classmethod
    def from_plain(cls, value: Any, path: Path) -> "Split":
        """Check the split of a checkpoint or a card, which may come from anyone: lists of ids by the part's name."""
        named = type(value) is dict and value.keys() == set(PARTS) and all(type(ids) is list for ids in value.values())
        if not named or sum(map(len, value.values())) > _MAX_VIDEOS:
            raise KeyframeError(f"{path} was not loaded: its split is not a list of videos for train, val and test.")
        if not all(type(id_) is str for ids in value.values() for id_ in ids):
            raise KeyframeError(f"{path} was not loaded: its split holds something that is not a video id.")
        try:
            return cls(**{part: tuple(checked_id(id_, part) for id_ in ids) for part, ids in value.items()})
        except KeyframeError as error:
            raise KeyframeError(f"{path} was not loaded: its split is damaged or was changed ({error}).") from error

    def by_id(self) -> dict[str, str]:
        """Id -> name of the part."""
        return {id_: part for part, ids in vars(self).items() for id_ in ids}

    def to_plain(self) -> dict[str, list[str]]:
        """The ids by the name of the part, for a checkpoint or a card."""
        return {part: list(ids) for part, ids in vars(self).items()}

    def write(self, path: Path, origins: Mapping[str, str] | None = None) -> None:
        """Write a split file of one fold, in the field's form, that `read_split_file` reads.

        `origins`, id -> the folder or file that the video is of, stands beside the parts if there are any.
        """
        fold: dict[str, Any] = {f"{part}_keys": ids for part, ids in self.to_plain().items()}
        write_text(path, json.dumps([fold | ({"origins": dict(origins)} if origins else {})], indent=1) + "\n")


def stratified_folds(categories: Mapping[str, str], folds: int = 5, fold: int = 0, val_fraction: float = 0.2) -> Split:
    """Make the fold `fold`, 0 ... k - 1, of k that are alike in size and in categories, each part sorted by id.

    The test parts of the k folds hold every video exactly once. Sizes of two folds differ by at most one video, as do
    their numbers of videos per category. Membership depends on the ids and the categories ("" for none) only. Of the
    videos outside the test part the share `val_fraction`, in (0, 1), validates; at least one video.
    """
    count = len(categories)
    if not 2 <= folds <= count:
        raise KeyframeError(f"data.folds={folds} must be at least 2 and at most the number of videos, {count}")
    _check_fold(fold, folds)
    test = _stratified_order(categories, categories, "fold/0")[fold::folds]
    train, val = _carve_validation(set(categories).difference(test), categories, val_fraction, fold)
    return Split(train=train, val=val, test=tuple(sorted(test)))


def read_split_file(
    path: str | Path,
    fold: int,
    categories: Mapping[str, str],
    val_fraction: float = 0.2,
    addresses: Mapping[str, str] | None = None,
) -> Split:
    """Take one fold, from 0, of a published split file, each part sorted by id; see `read_folds` for its forms.

    A key is a video's id, or `video_N`, the N-th video of TVSum's official order; both may follow the path of an h5
    file, as in `../datasets/eccv16_dataset_tvsum_google_pool5.h5/video_35`. If the fold names `val_keys`, they
    validate; else the share `val_fraction` of train does, never of test.

    `categories` has the id of each video of the data set. For videos from h5 files `addresses` are `<file
    name>/video_N` -> id: of a key such as `FILE.h5/video_29`, or `FILE/video_29`, the file's name chooses the file, or
    else the data set in the name.
    """
    path = Path(path)
    entries = read_folds(path)
    _check_fold(fold, len(entries))
    groups: dict[str, dict[str, str]] = {}
    for address, id_ in (addresses or {}).items():
        file, _, group = address.rpartition("/")
        groups.setdefault(group, {})[file] = id_
    train, val, test = (
        tuple(sorted(_resolve(key, categories, groups, path) for key in entries[fold][part]))
        for part in ("train_keys", "val_keys", "test_keys")
    )
    try:
        if not val:
            train, val = _carve_validation(train, categories, val_fraction, fold)
        split = Split(train=train, val=val, test=test)
    except KeyframeError as error:
        raise KeyframeError(f"{path}, fold {fold}: {error}") from error
    unused = len(categories) - len(train) - len(val) - len(test)
    if unused:
        log.warning("fold %d of %s leaves %d of the data set's videos unused", fold, path, unused)
    return split


def read_folds(path: str | Path) -> list[dict[str, list[str]]]:
    """Read every fold of a split file: `train_keys`, `val_keys` (empty if the file names none) and `test_keys`.

    The suffix names the form:
      - JSON, a list of `{"train_keys": [...], "test_keys": [...]}`: DR-DSN, VASNet, PGL-SUM, CA-SUM; or one of these
        by itself: Mr.HiSum.
      - YAML, the same list: DSNet.
      - text, one line per fold, `TVSum/split0/video_1,video_2.../video_7,video_12...`, train first: CSTA. Its keys get
        the data set in front, `TVSum/video_1`.
    """
    path = Path(path)
    if not path.exists():
        raise KeyframeError(f"there is no split file {path}: give the path of a {_FORMS} file")
    with reading(path, "a split file", "correct or copy it again"):
        text = read_small(path)
        match path.suffix.lower():
            case ".json":
                entries = json.loads(text)
            case ".yml" | ".yaml":
                entries = yaml.load(text, _NoAliases)
            case ".txt":
                entries = [_text_fold(line, path) for line in text.splitlines() if line.strip()]
            case _:
                raise KeyframeError(f"{path} is not a split file: it must be {_FORMS}")
    if isinstance(entries, dict) and "test_keys" in entries:
        entries = [entries]
    if not isinstance(entries, list) or not entries:
        raise KeyframeError(f"{path} must hold a list of folds, each with train_keys and test_keys")
    return [
        {part: _keys(entry, part, fold, path) for part in ("train_keys", "val_keys", "test_keys")}
        for fold, entry in enumerate(entries)
    ]


def write_folds(path: Path, categories: Mapping[str, str], folds: int, groups: Mapping[str, str], file: str) -> None:
    """Write folds of a feature file's videos as published systems read them; the suffix names the form (`read_folds`).

    The test parts are those of `stratified_folds`; all other videos train, as these systems carve no validation.
    `groups` are video id -> `video_7`, which .json has; .yml and .yaml have `../datasets/FILE/video_7`, .txt the data
    set, the stem of `file`.
    """
    prefix = f"../datasets/{file}/" if path.suffix.lower() in (".yml", ".yaml") else ""
    order, entries = _stratified_order(categories, categories, "fold/0"), []
    for fold in range(folds):
        test = set(order[fold::folds])
        parts = {"train_keys": [id_ for id_ in order if id_ not in test], "test_keys": test}
        keys = {part: sorted((groups[id_] for id_ in ids), key=natural_key) for part, ids in parts.items()}
        entries.append({part: [prefix + key for key in listed] for part, listed in keys.items()})
    if prefix:
        text = yaml.safe_dump(entries, sort_keys=False)
    elif path.suffix.lower() == ".txt":
        rows = ("/".join(",".join(keys) for keys in entry.values()) for entry in entries)
        text = "".join(f"{Path(file).stem}/split{number}/{row}\n" for number, row in enumerate(rows))
    else:
        text = json.dumps(entries, indent=1) + "\n"
    write_text(path, text)


class _NoAliases(yaml.SafeLoader):
    """Plain values of which none stands for another: a few aliases of aliases make a small file endless."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def _text_fold(line: str, path: Path) -> dict[str, list[str]]:
    """Parse a line of CSTA's form: dataset/split/train,train/test,test."""
    parts = [part.strip() for part in line.split("/")]
    if len(parts) != 4:
        raise KeyframeError(f"{path}: the line {line[:40]!r} is not of the form dataset/split/train keys/test keys")
    dataset, _, *keys = parts
    train, test = ([f"{dataset}/{key.strip()}" for key in text.split(",") if key.strip()] for text in keys)
    return {"train_keys": train, "test_keys": test}


def _keys(entry: Any, part: str, fold: int, path: Path) -> list[str]:
    keys = entry.get(part, [] if part == "val_keys" else None) if isinstance(entry, Mapping) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise KeyframeError(f"{path}, fold {fold}: {part} must be a list of video names")
    return keys


def _resolve(key: str, known: Mapping[str, str], groups: Mapping[str, Mapping[str, str]], path: Path) -> str:
    """Turn a key of a split file into an id of the data set; `groups` are those of h5 files: group -> file -> id."""
    prefix, _, last = key.rpartition("/")
    # `video_7` of SumMe, OVP or YouTube is another video.
    place = prefix.rpartition("/")[2]
    named = data_set_named(place or path.name)
    of_tvsum = named == "tvsum" or (named is None and not place)
    # The name of a group in an h5 file is an id only there.
    ids = _in_files(groups[last], place, named) if last in groups else (key, last)
    if last in groups and len(ids) > 1:
        raise KeyframeError(f"{path} names the video {key}, which may be {' or '.join(ids)}: name its file as well")
    for name in (*ids, official_id(last) if of_tvsum else None):
        if name is not None and name in known:
            return name
    raise KeyframeError(f"{path} names the video {key}, which the data set lacks: add it or use another split file")


def _in_files(files: Mapping[str, str], place: str, named: str | None) -> tuple[str, ...]:
    """The ids of an h5 group, file -> id, in the file that a split names, else in those of the data set it names."""
    if exact := tuple(id_ for file, id_ in files.items() if place in (file, Path(file).stem)):
        return exact
    own = {id_: "tvsum" if id_ in TVSUM_CATEGORIES else data_set_named(file) for file, id_ in files.items()}
    same = tuple(id_ for id_ in own if own[id_] is not None and own[id_] == named)
    return same or tuple(id_ for id_ in own if named is None or own[id_] is None)


def _check_fold(fold: int, folds: int) -> None:
    if not 0 <= fold < folds:
        raise KeyframeError(f"data.fold={fold} is out of range: there are {folds} folds, 0 to {folds - 1}")


def _carve_validation(
    ids: Iterable[str], category: Mapping[str, str], val_fraction: float, fold: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide videos into train and validation, alike in categories, each sorted."""
    if not 0 < val_fraction < 1:
        raise KeyframeError(f"data.val_fraction={val_fraction} must lie between 0 and 1")
    order = _stratified_order(ids, category, f"val/0/{fold}")
    if len(order) < 2:
        raise KeyframeError(f"{len(order)} video is left to train and validate on: give 3 or more, or fewer data.folds")
    count = min(max(1, round(val_fraction * len(order))), len(order) - 1)
    # Evenly spaced places in an order that is grouped by category take from each category in proportion.
    places = {(2 * i + 1) * len(order) // (2 * count) for i in range(count)}
    train = tuple(sorted(name for i, name in enumerate(order) if i not in places))
    return train, tuple(sorted(order[i] for i in places))


def _stratified_order(ids: Iterable[str], category: Mapping[str, str], salt: str) -> list[str]:
    """Order ids so that a category's videos stand together, categories and videos shuffled by the salt."""

    def draw(name: str) -> str:
        # A hash, because Python promises no stable shuffle across its versions.
        return hashlib.sha256(f"{salt}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(ids, key=lambda name: (draw(category.get(name, "")), draw(name)))
