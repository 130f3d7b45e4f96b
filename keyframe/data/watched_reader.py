"""A reader that says how far it has come."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.readers import VideoReader, checked_indices
from keyframe.types import Frames, IntArray

# The file, the seconds of it that are behind, and how many there are to the last wanted frame.
Tell = Callable[[Path, float, float], None]


class WatchedReader(VideoReader):
    """Reads as another reader does, and tells at the start of a stream, after each piece and at the end how far it is.

    Pickled it is that other reader: in another process nobody looks on.

    Args:
        reader: decodes frames.
        tell: is told; seconds run from 0 to the time of the last wanted frame.
    """

    def __init__(self, reader: VideoReader, tell: Tell) -> None:
        self.reader = reader
        self.exact = reader.exact
        self._tell = tell

    def __reduce__(self) -> tuple[Callable[[VideoReader], VideoReader], tuple[Any, ...]]:
        return _itself, (self.reader,)

    def stream(
        self,
        path: Path,
        indices: IntArray,
        size: tuple[int, int] | None,
        index: PacketIndex | None = None,
        chunk: int = 64,
    ) -> Iterator[Frames]:
        """Read frames by their number, piece by piece; arguments, pieces and errors as `VideoReader.stream` says."""
        index = index or index_packets(path)
        wanted = checked_indices(indices, size or index.upright_size, index, chunk)
        if not len(wanted):
            return
        first = index.timestamps[0]
        whole = float(index.timestamps[wanted[-1]] - first)
        self._tell(path, 0.0, whole)
        for piece in self.reader.stream(path, wanted, size, index, chunk):
            yield piece
            # Asked for more: what was made of the piece is done.
            self._tell(path, float(piece.timestamps[-1] - first), whole)
        self._tell(path, whole, whole)


def _itself(reader: VideoReader) -> VideoReader:
    return reader


def described_reader(reader: VideoReader) -> dict[str, Any]:
    """A reader by what its pictures depend on, so without the number of threads."""
    if isinstance(reader, WatchedReader):
        reader = reader.reader
    settings = {name: value for name, value in vars(reader).items() if name != "threads"}
    return {"kind": type(reader).__name__, **settings}
