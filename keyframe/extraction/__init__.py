"""Keyframes of videos as folders of files, and features of videos as one file."""
