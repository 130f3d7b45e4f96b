"""A report with everything in it: long and hostile texts, a wide table, plots, a gallery."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

from keyframe.report import Document, Gallery, ImageFile, Notes, Section, Table, Text

HOSTILE = '<script>alert("1")</script> | `rm -rf` [x](http://e.org) **b**\n# h\x1b[31m\u202e.mp4'


def one(*blocks, **fields):
    """A document with these blocks in its one section."""
    return Document("Title", "Lead.", [Section("Section", blocks)], **fields)


def rich_document(folder: Path) -> Document:
    """Write its pictures into the folder and return the document."""
    plot, stills = _plot(folder / "curves.png"), _stills(folder)
    metrics = [
        {
            "model": name,
            "parameters": parameters,
            "Spearman": spearman,
            "95 % interval": interval,
            "Kendall": kendall,
            "MSE": "0.032",
            "precision@15 %": "0.41",
            "F1, mean of users": "0.55",
            "F1, best user": "0.77",
            "seconds a video": seconds,
            "decided on": "validation videos of each fold",
        }
        for name, parameters, spearman, interval, kendall, seconds in (
            ("ResNet50", "26.4 M", "0.41", "0.36 to 0.46", "0.29", "2.5"),
            ("EfficientNet-B0, dual attention", "6.5 M", "0.39", "0.33 to 0.44", "0.27", "1.8"),
            ("one annotator", "–", "0.20", "0.18 to 0.23", "0.18", "–"),
            ("chance", "–", "-0.00", "-0.02 to 0.02", "-0.00", "–"),
        )
    ]
    files = [
        {"file": f"{name}.mp4", "length": length, "what happened": what}
        for name, length, what in (
            (
                "holiday_2026-07-14_beach_and_the_long_walk_home_afterwards_final_v2_" + "x" * 80,
                "1:23:45",
                "read whole",
            ),
            ("märz 映画", "4:02", "sound only: left out"),
            (HOSTILE, "0:09", "ends early; 31 of 60 frames were read"),
        )
    ]
    return Document(
        "EfficientNet-B0 against ResNet50",
        "The small model keeps 95 % of the large one's rank correlation at a quarter of its parameters; the "
        "difference, 0.02, is smaller than its interval, so these 50 videos cannot tell the two apart.",
        [
            Section(
                "Results",
                [
                    Text(
                        "Each number is the mean over 50 videos, each tested in the fold that never trained on it. "
                        "Intervals come from 10,000 bootstrap draws of videos.\n\nPeople agree with each other less "
                        "than one expects: a single annotator reaches 0.20 against another."
                    ),
                    Table(metrics, "Test metrics, best model first"),
                ],
            ),
            Section(
                "Curves", [ImageFile(plot, "Importance over time", "Model and annotators, as ranks, over four minutes")]
            ),
            Section(
                "Keyframes",
                [
                    Text("Eight frames of the first video, in order of time."),
                    Gallery(
                        [
                            ImageFile(path, f"A frame at {at}", f"{at}, score 0.{97 - 3 * i}")
                            for i, (path, at) in enumerate(stills)
                        ]
                    ),
                ],
            ),
            Section("Files", [Table(files, "What was read"), Table([], "What was refused")]),
            Section(
                "What to keep in mind",
                [
                    Notes(
                        [
                            "Labels stay the same for about two seconds, so ties are many and Kendall's tau-b matters.",
                            "F1 rewards any summary of short shots; random ones score 0.54 on it.",
                            f"One name was odd: {HOSTILE}",
                        ]
                    )
                ],
            ),
        ],
        "Made by keyframe-compare from 2 runs, seed 0, on 2026-07-14.",
    )


def _plot(path: Path) -> Path:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axis = figure.subplots()
    seconds = np.linspace(0, 240, 200)
    axis.plot(seconds, np.sin(seconds / 20) ** 2, color="0.4", label="annotators")
    axis.plot(seconds, np.sin(seconds / 20 + 0.3) ** 2 * 0.9, color="#d1495b", label="model")
    axis.set_xlabel("seconds")
    axis.set_ylabel("importance (rank)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, transparent=True, dpi=100)
    return path


def _stills(folder: Path) -> list[tuple[Path, str]]:
    """Smooth random pictures, 320 x 180, JPEG."""
    rng = np.random.default_rng(0)
    stills = []
    for number in range(8):
        y, x = np.mgrid[0:180, 0:320] / 180
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-4, 4, (3, 3))]
        path = folder / f"frame {number}.jpg"
        imsave(path, np.uint8(127.5 + 127 * np.stack(waves, axis=-1)))
        stills.append((path, f"0:{7 * number:02d}"))
    return stills
