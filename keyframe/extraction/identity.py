"""What makes two extractions the same: the video's content, and the settings."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any



def file_hash(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(part: Any) -> dict[str, Any]:
    """A part of the extraction, a selection say, as its class's name and its attributes."""
    return {"kind": type(part).__name__, **dataclasses.asdict(part)}


def fingerprint(scorer: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides, beside the video and the versions of libraries, what an extraction gives."""
    return hashlib.sha256(json.dumps([scorer, settings], sort_keys=True).encode()).hexdigest()
