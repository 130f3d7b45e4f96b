"""The pages that label a video by TVSum's protocol, and that show how much annotators agree."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.routing import Route

from keyframe.app.annotations import annotator_name, find_shots
from keyframe.app.library import Library, Video
from keyframe.app.video import read_scores
from keyframe.app.web import checked, get, page, post
from keyframe.data.demo import LABEL_SHARES
from keyframe.data.hdf5 import checked_id
from keyframe.evaluation.metrics import defined_mean, mean_metrics
from keyframe.evaluation.reference import against_others
from keyframe.evaluation.video import annotators_at_picks
from keyframe.types import FloatArray, KeyframeError, Labels

_ORDERS = ("random", "chronological")
_KINDS = ("even", "own")


def order_of(video: str, annotator: str, order: str, shots: int) -> list[int]:
    """The order in which an annotator scores shots: the same each time, another one for each annotator and video."""
    numbers = list(range(shots))
    if order == "random":
        random.Random(f"{annotator}\n{video}").shuffle(numbers)
    return numbers


def _own_shots(video: Video) -> list[float] | None:
    """Starts of the shots that a model has found."""
    for directory in list(video.folders.values()):
        return [shot["start"] for shot in read_scores(directory)["shots"]]
    return None


def routes(library: Library) -> list[Route]:
    """The page to label a video, and that of agreement."""
    annotations = library.annotations

    def name_of(video: Video) -> str:
        name = checked_id(video.path.stem, str(video.path))
        if name != name.strip():
            raise KeyframeError(f"{video.path} has spaces around its name: rename it to label it.")
        return name

    def state(video: Video, annotator: str) -> dict[str, Any]:
        """What one annotator may see: own scores, and those of no one else."""
        annotations.open()
        name = name_of(video)
        shots, one = annotations.shots.get(name), annotations.found.get(name, {}).get(annotator)
        if shots is None or one is None:
            kinds = [kind for kind in _KINDS if kind == "even" or video.folders] if shots is None else [shots.kind]
            return {"begun": False, "kinds": kinds, "shot_seconds": library.shot_seconds}
        ends = [*shots.starts[1:], shots.seconds]
        return {
            "begun": True,
            "annotator": annotator,
            "watched": one.watched,
            "given_up": one.given_up,
            "shots": [{"start": start, "end": end} for start, end in zip(shots.starts, ends, strict=True)],
            "order": order_of(name, annotator, one.order, len(shots.starts)),
            "scores": one.scores,
            "wanted": LABEL_SHARES,
            "file": annotations.path.name,
        }

    def shown(request: Request) -> Any:
        asked = request.query_params.get("annotator", "")
        return state(library.video(request), annotator_name(asked) if asked else "")

    def begin(video: Video, annotator: str, order: str, kind: str) -> None:
        annotations.open()
        own = _own_shots(video) if kind == "own" else None
        before = annotations.before.get(name_of(video))
        entries = None if before is None else len(before)
        shots = library.decoder.call(video.path, find_shots, video.path, library.shot_seconds, own, entries)
        annotations.begin(name_of(video), annotator, order, shots)

    def change(request: Request, body: Mapping[str, Any]) -> Any:
        video, annotator = library.video(request), annotator_name(body.get("annotator"))
        name = name_of(video)
        if "order" in body:
            order = checked(body, "order", str, _ORDERS)
            begin(video, annotator, order, checked(body, "kind", str, _KINDS, default="even"))
            return state(video, annotator)
        if body.get("watched") is True:
            annotations.watched(name, annotator)
        elif body.get("given_up") is True:
            annotations.give_up(name, annotator)
        else:
            annotations.rate(name, annotator, checked(body, "shot", int), checked(body, "score", int))
        done = len(annotations.annotation(name, annotator).scores)
        return {"done": done, "of": len(annotations.shots[name].starts)}

    def agreement(request: Request) -> Any:
        annotations.open()
        names = list({**annotations.before, **annotations.shots})
        withheld = [name for name in names if annotations.hidden(name)]
        labels = {name: annotations.rows(name) for name in names if name not in withheld}
        return {**agreement_of(labels), "withheld": withheld}

    return [
        page("/videos/{id}/label", "label", "Label"),
        page("/agreement", "agreement", "Agreement of annotators"),
        get("/api/videos/{id}/shots", shown),
        post("/api/videos/{id}/shots", change),
        get("/api/agreement", agreement),
    ]


def agreement_of(labels: dict[str, tuple[list[str], FloatArray]]) -> dict[str, Any]:
    """Each annotator against the mean of all others, as the line `other_annotators` of `keyframe-evaluate labels=`.

    `labels` are names and scores (A, L) by video. A mean is over videos, with its interval; null if it is not defined.
    """
    of_each: dict[str, list[tuple[float, float]]] = {}
    of_all: list[tuple[float, float]] = []
    for names, scores in labels.values():
        if len(names) < 2:
            continue
        pairs = against_others(annotators_at_picks(Labels(scores.mean(axis=0), scores)))
        for name, pair in zip(names, pairs, strict=True):
            of_each.setdefault(name, []).append(pair)
        of_all.append((defined_mean([pair[0] for pair in pairs]), defined_mean([pair[1] for pair in pairs])))

    def row(name: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
        found: dict[str, float] = {}
        for place, metric in enumerate(("kendall", "spearman")):
            found |= mean_metrics(metric, [pair[place] for pair in pairs])
        defined = {key: round(value, 4) if np.isfinite(value) else None for key, value in found.items()}
        return {"name": name, "videos": len(pairs), **defined}

    return {
        "annotators": [row(name, pairs) for name, pairs in of_each.items()],
        "all": row("all", of_all) if of_all else None,
    }
