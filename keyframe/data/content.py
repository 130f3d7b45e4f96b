"""A video file known by what is in it, wherever it lies and whatever it is called."""

import hashlib
from pathlib import Path

from keyframe.errors import VideoError

# A whole file of a gigabyte takes seconds to hash, these pieces milliseconds. A file that was edited, cut, converted or
# downloaded only in part differs in its size or in some of them.
_PIECES, _PIECE_BYTES = 16, 1 << 16


def content_id(path: Path) -> str:
    """SHA-256 of a file's size and of 16 pieces of 64 KiB spread evenly over it (of all of it, where it is smaller).

    Raises:
        VideoError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        # A pipe would keep whoever opens it waiting.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise VideoError(f"{path} is a pipe or a device, not a file: save what it gives as a video file.")
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(str(size).encode())
            for piece in range(_PIECES):
                # Overlapping where the file is small, so that nothing of it is left out.
                file.seek(max(0, size - _PIECE_BYTES) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist: check the path.") from error
    except IsADirectoryError as error:
        raise VideoError(f"{path} is a folder: name a video file in it.") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: give yourself read permission on it.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({error}): check the path and the disk.") from error
    return digest.hexdigest()
