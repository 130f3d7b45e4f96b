"""Labels and videos for evaluation, made without a video file."""

import numpy as np

from keyframe.evaluation.metrics import user_summaries
from keyframe.evaluation.video import TRAINING_FREE, EvalVideo, mean_track, picks
from keyframe.types import Labels


def labels_of(annotators, category=""):
    annotators = np.asarray(annotators, dtype=np.float32)
    return Labels(annotators.mean(0).astype(np.float32), annotators, category)


def eval_video_of(labels, video="clip", shot=30, training_free=None):
    """A video cut into shots of equal length, scored at every 15th frame."""
    entries = picks(len(labels))
    annotators = labels.annotators[:, entries].astype(np.float64)
    starts = np.arange(0, len(labels), shot)
    shots = np.stack([starts, np.append(starts[1:], len(labels)) - 1], axis=1)
    return EvalVideo(
        video=video,
        category=labels.category,
        n_frames=len(labels),
        entries=entries,
        seconds=entries / 30,
        importance=mean_track(annotators) if len(annotators) else labels.importance[entries].astype(np.float64),
        annotators=annotators,
        shots=shots,
        users=user_summaries(labels.annotators, shots),
        baselines={TRAINING_FREE: np.linspace(0, 1, len(entries)) if training_free is None else training_free},
    )
