"""A small image for every rendering."""

import pytest
from PIL import Image

from keyframe.report import ImageFile


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "stills" / "a frame (1).png"
    path.parent.mkdir()
    Image.new("RGB", (3, 2), "red").save(path)
    return ImageFile(path, "red", "0:01")
