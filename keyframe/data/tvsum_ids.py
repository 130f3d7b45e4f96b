"""The 50 videos of TVSum in the official order, a constant of the benchmark.

The eccv16-style h5 files and every published split name a video `video_N`: the N-th block, counted from 1, of
the official `ydata-tvsum50-anno.tsv`, which is the order of `ydata-tvsum50.mat` too.

Source: Song, Vallmitjana, Stent, Jaimes: TVSum: Summarizing web videos using titles. CVPR 2015, release 1.1.
"""

import re

TVSUM_VIDEOS: tuple[tuple[str, str], ...] = (
    ("AwmHb44_ouw", "VT"),
    ("98MoyGZKHXc", "VT"),
    ("J0nA4VgnoCo", "VT"),
    ("gzDbaEs1Rlg", "VT"),
    ("XzYM3PfTM4w", "VT"),
    ("HT5vyqe0Xaw", "VU"),
    ("sTEELN-vY30", "VU"),
    ("vdmoEJ5YbrQ", "VU"),
    ("xwqBXPGE9pQ", "VU"),
    ("akI8YFjEmUw", "VU"),
    ("i3wAGJaaktw", "GA"),
    ("Bhxk-O1Y7Ho", "GA"),
    ("0tmA_C6XwfM", "GA"),
    ("3eYKfiOEJNs", "GA"),
    ("xxdtq8mxegs", "GA"),
    ("WG0MBPpPC6I", "MS"),
    ("Hl-__g2gn_A", "MS"),
    ("Yi4Ij2NM7U4", "MS"),
    ("37rzWOQsNIw", "MS"),
    ("LRw_obCPUt0", "MS"),
    ("cjibtmSLxQ4", "PK"),
    ("b626MiF1ew4", "PK"),
    ("XkqCExn6_Us", "PK"),
    ("GsAD1KT1xo8", "PK"),
    ("PJrm840pAUI", "PK"),
    ("91IHQYk1IQM", "PR"),
    ("RBCABdttQmI", "PR"),
    ("z_6gVvQb2d0", "PR"),
    ("fWutDQy1nnY", "PR"),
    ("4wU_LUjG5Ic", "PR"),
    ("VuWGsYPqAX8", "FM"),
    ("JKpqYvAdIsw", "FM"),
    ("xmEERLqJ2kU", "FM"),
    ("byxOvuiIJV0", "FM"),
    ("_xMr-HKMfVA", "FM"),
    ("WxtbjNsCQ8A", "BK"),
    ("uGu_10sucQo", "BK"),
    ("EE-bNr36nyA", "BK"),
    ("Se3oxnaPsz0", "BK"),
    ("oDXZc0tZe04", "BK"),
    ("qqR6AEXwxoQ", "BT"),
    ("EYqVtI9YWJA", "BT"),
    ("eQu1rNs0an0", "BT"),
    ("JgHubY5Vw3Y", "BT"),
    ("iVt07TCkFM0", "BT"),
    ("E11zDS9XGzg", "DS"),
    ("NyBmCxDoHJU", "DS"),
    ("kLxoNp-UchI", "DS"),
    ("jcoYJXDG9sw", "DS"),
    ("-esJrBWj2d8", "DS"),
)
"""YouTube id and category of each video; entry N - 1 is `video_N`."""

TVSUM_CATEGORIES: dict[str, str] = dict(TVSUM_VIDEOS)
"""YouTube id -> category, one of VT VU GA MS PK PR FM BK BT DS."""

_KEY = re.compile(r"video_([1-9][0-9]?)")


def official_id(key: str) -> str | None:
    """Return the YouTube id that the benchmark's key `video_N` stands for.

    Args:
        key: `video_1` ... `video_50`.

    Returns:
        The id, or None where `key` is no such key.
    """
    match = _KEY.fullmatch(key)
    if match is None or int(match[1]) > len(TVSUM_VIDEOS):
        return None
    return TVSUM_VIDEOS[int(match[1]) - 1][0]


def data_set_named(text: str) -> str | None:
    """Return which of the field's data sets a file name speaks of: each of them has its own `video_1`, `video_2` ....

    Args:
        text: e.g. `eccv16_dataset_summe_google_pool5.h5`.

    Returns:
        `tvsum`, `summe`, `ovp` or `youtube`, or None where it names none of them.
    """
    return next((name for name in ("tvsum", "summe", "ovp", "youtube") if name in text.lower()), None)
