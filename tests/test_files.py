"""Files known by their content."""

from keyframe.files import content_hash


def test_every_byte_of_a_small_file_counts_and_the_size_of_a_large_one(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(5000))
    before = content_hash(small)
    small.write_bytes(bytes(2500) + b"\x01" + bytes(2499))
    assert content_hash(small) != before
    large.write_bytes(bytes(3 << 20))
    before = content_hash(large)
    large.write_bytes(bytes((3 << 20) + 1))
    assert content_hash(large) != before
