"""The one exception a user can mend."""


class KeyframeError(Exception):
    """Bad input, bad configuration or a missing file.

    The message is one sentence that names the file or key and the remedy. Commands print it without a
    traceback and exit with status 1; anything else that is raised is a bug of ours.
    """


class VideoError(KeyframeError):
    """One video cannot be opened or decoded; the others are not affected."""
