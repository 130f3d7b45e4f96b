"""Keyframes of one video as a folder of files; `video.extract_video` is the whole of it."""
