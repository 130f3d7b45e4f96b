"""Stand-ins for TVSum's videos, which are not available: the true ids and frame counts, small generated frames."""

from pathlib import Path

from tests.videos import write_video

# Frames of three of TVSum's videos: the lengths of their columns in the official ydata-tvsum50.mat.
FRAME_COUNTS = {"iVt07TCkFM0": 2500, "EE-bNr36nyA": 2941, "91IHQYk1IQM": 3312}


def write_stand_in(folder: Path, name: str, frames: int | None = None) -> Path:
    """Write `<name>.mp4` with that video's true number of frames, or another."""
    options = {"preset": "ultrafast", "g": "250"}
    seed = sorted(FRAME_COUNTS).index(name)
    # the bar codes count to 1023 and then start again
    return write_video(
        folder / f"{name}.mp4", frames=frames or FRAME_COUNTS[name], size=(40, 32), options=options, seed=seed
    )
