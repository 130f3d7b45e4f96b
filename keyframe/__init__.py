"""Learn from pixels which frames of a video matter."""

__version__ = "0.1.0"
