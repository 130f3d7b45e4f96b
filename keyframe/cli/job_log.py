"""Hydra's log file of a job, written by the first of its processes alone."""

import logging
import os

from keyframe.cli.status import is_first_process


class JobLog(logging.FileHandler):
    """A log file; what further ranks say goes nowhere.

    Args:
        filename: the file.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename if is_first_process() else os.devnull, encoding="utf-8")
