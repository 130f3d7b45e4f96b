"""What a run leaves behind: metrics as one flat JSON object, tables as CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keyframe.files import write_text


def write_metrics(path: Path, metrics: Mapping[str, float | str]) -> None:
    """Write one flat JSON object of numbers, or words; what is not a number (NaN, infinity) is null."""
    defined = {
        name: value if isinstance(value, str) or math.isfinite(value) else None
        for name, value in sorted(metrics.items())
    }
    write_text(path, json.dumps(defined, indent=2) + "\n")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one CSV row a mapping, columns in the order of the first one's keys; there must be a first one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
