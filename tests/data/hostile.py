"""HDF5 files that ask for more than to be read: each is a small file of one video with one thing wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

from tests.data.feature_files import video


def _replace(name: str, value: object, **options: object) -> Callable[[h5py.Group, Path], None]:
    def change(group: h5py.Group, place: Path) -> None:
        del group[name]
        group.create_dataset(name, data=value, **options)

    return change


def _declare(name: str, shape: tuple[int, ...], dtype: object, **options: object) -> Callable[[h5py.Group, Path], None]:
    """An array that is declared and never written."""

    def change(group: h5py.Group, place: Path) -> None:
        del group[name]
        group.create_dataset(name, shape, dtype, **options)

    return change


def _external_text(group: h5py.Group, place: Path) -> None:
    del group["gtscore"]
    (place / "secret.txt").write_text("a text that no report may show, not even as numbers\n" * 4)
    group.create_dataset("gtscore", (8,), np.float64, external=[(str(place / "secret.txt"), 0, 64)])


def _external_pipe(group: h5py.Group, place: Path) -> None:
    del group["gtscore"]
    os.mkfifo(place / "pipe")
    group.create_dataset("gtscore", (8,), np.float64, external=[(str(place / "pipe"), 0, 64)])


def _other(place: Path) -> Path:
    with h5py.File(place / "other.h5", "w") as file:
        for name, value in video(8, 1).items():
            file[f"video_1/{name}"] = value
    return place / "other.h5"


def _external_link(group: h5py.Group, place: Path) -> None:
    del group["gtscore"]
    group["gtscore"] = h5py.ExternalLink(str(_other(place)), "/video_1/gtscore")


def _soft_link_to_an_external_one(group: h5py.Group, place: Path) -> None:
    del group["gtscore"]
    group.file["away"] = h5py.ExternalLink(str(_other(place)), "/")
    group["gtscore"] = h5py.SoftLink("/away/video_1/gtscore")


def _video_elsewhere(group: h5py.Group, place: Path) -> None:
    group.file["video_2"] = h5py.ExternalLink(str(_other(place)), "/video_1")


def _virtual(source: str) -> Callable[[h5py.Group, Path], None]:
    def change(group: h5py.Group, place: Path) -> None:
        del group["gtscore"]
        layout = h5py.VirtualLayout((8,), np.float64)
        path = source or str(_other(place))
        layout[:] = h5py.VirtualSource(path, "/video_1/gtscore", (8,))
        group.create_virtual_dataset("gtscore", layout)

    return change


def _virtual_without_end(group: h5py.Group, place: Path) -> None:
    """Its extent is looked up in its source each time that its shape is asked for."""
    del group["picks"]
    layout = h5py.VirtualLayout((8,), np.int64, maxshape=(None,))
    source = h5py.VirtualSource(str(_other(place)), "/video_1/picks", (8,), maxshape=(None,))
    layout[: h5s.UNLIMITED] = source[: h5s.UNLIMITED]
    group.create_virtual_dataset("picks", layout)


def _plugin(group: h5py.Group, place: Path) -> None:
    del group["gtscore"]
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_chunk((8,))
    made.set_filter(32004, h5z.FLAG_OPTIONAL)  # LZ4's number
    h5d.create(group.id, b"gtscore", h5t.NATIVE_DOUBLE, h5s.create_simple((8,)), made)


def _one_array_many_times(group: h5py.Group, place: Path) -> None:
    """2 MB that compress to nothing, under 200 names."""
    del group["features"], group["video_name"]
    group.create_dataset("features", data=np.zeros((8, 2**16), np.float32), compression="gzip", compression_opts=9)
    for number in range(2, 200):
        group.file[f"video_{number}"] = group


def _circle(group: h5py.Group, place: Path) -> None:
    del group["features"]
    group["features"] = group.file["/"]


HOSTILE: dict[str, tuple[str, Callable[[h5py.Group, Path], None]]] = {
    "external-text": ("takes its values from other files", _external_text),
    "external-pipe": ("takes its values from other files", _external_pipe),
    "external-link": ("is a link to another place", _external_link),
    "soft-link": ("is a link to another place", _soft_link_to_an_external_one),
    "video-link": ("is a link to another place", _video_elsewhere),
    "virtual": ("takes its values from other files", _virtual("")),
    "virtual-of-itself": ("takes its values from other files", _virtual(".")),
    "virtual-without-end": ("takes its values from other files", _virtual_without_end),
    "plugin": ("compressed by a plugin", _plugin),
    "circle": ("lacks the dataset /video_1/features", _circle),
    "one-array-many-times": ("more than is left for a file of this size", _one_array_many_times),
    "huge-scores": ("1000000000000 gtscores and 8 picks", _declare("gtscore", (10**12,), np.float64)),
    "huge-features": ("more than is left for a file of this size", _declare("features", (8, 10**12), np.float32)),
    "huge-summary": (
        "more than is left for a file of this size",
        _declare("user_summary", (10**9, 113), np.uint8, chunks=(10**5, 113)),
    ),
    "huge-chunk": (
        "more than is left for a file of this size",
        _declare("change_points", (2, 2), np.int64, chunks=(2**26, 2), maxshape=(None, 2)),
    ),
    "huge-text": ("more than is left for a file of this size", _declare("video_name", (), "S2000000000")),
    "many-names": ("/video_1/video_name is not text", _replace("video_name", ["a"] * 1000)),
    "long-name": ("longer than 1000 characters", _replace("video_name", "a" * 2000)),
    "surrogate": ("/video_1/video_name is not text", _replace("video_name", np.bytes_(b"\xed\xa0\x80"))),
    "escape": ("holds control characters", _replace("video_name", "\x1b[2J")),
    "huge-n_frames": ("more than is left for a file of this size", _replace("n_frames", 10**12)),
    "n_frames-nan": ("/video_1/n_frames holds no whole numbers", _replace("n_frames", np.nan)),
    "n_frames-infinite": ("/video_1/n_frames holds no whole numbers", _replace("n_frames", np.inf)),
    "n_frames-two": ("can only convert an array of size 1", _replace("n_frames", [113, 113])),
    "n_frames-empty": ("/video_1/n_frames is empty", _replace("n_frames", h5py.Empty("f8"))),
    "text-as-scores": ("/video_1/gtscore holds no numbers", _replace("gtscore", [b"1"] * 8)),
    "records-as-scores": (
        "/video_1/gtscore holds no numbers",
        _replace("gtscore", np.zeros(8, [("a", np.float64), ("b", np.float64)])),
    ),
    "lists-as-scores": (
        "/video_1/gtscore holds no numbers",
        _declare("gtscore", (8,), h5py.vlen_dtype(np.float64)),
    ),
    "numbers-as-group": (
        "lacks the dataset /video_2/features",
        lambda group, _: group.file.create_dataset("video_2", data=1),
    ),
}
"""Name -> what the refusal says, and the change to a file that is right."""


def write_hostile(place: Path, name: str) -> Path:
    """The file, in a folder of its own."""
    place = place / name
    place.mkdir()
    with h5py.File(place / "a.h5", "w") as file:
        for key, value in video(8, 0).items():
            file[f"video_1/{key}"] = value
        file["video_1/video_name"] = "a video"
        HOSTILE[name][1](file["video_1"], place)
    return place / "a.h5"
