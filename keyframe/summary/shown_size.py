"""The size of the picture that a player shows, which is not always the size of the picture in the file."""

from keyframe.data.packets import PacketIndex, open_video

# Anamorphic formats go up to 2.9 (352x576 shown as 16:9); what lies far beyond is a damaged header.
_MOST_STRETCHED = 4


def shown_size(index: PacketIndex) -> tuple[int, int]:
    """Height and width of the upright picture in square pixels.

    The short side of a pixel is stretched to the long one, so that nothing of the coded picture is lost.

    Args:
        index: of the video.

    Returns:
        (height, width) in pixels, with rotation and the sample aspect ratio applied.

    Raises:
        VideoError: the file cannot be opened.
    """
    height, width = index.upright_size
    with open_video(index.path) as (_, stream):
        ratio = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
        return height, width
    if index.upright_size != (index.height, index.width):  # The ratio is that of the picture before it is turned.
        ratio = 1 / ratio
    return round(height * max(1 / ratio, 1)), round(width * max(ratio, 1))
