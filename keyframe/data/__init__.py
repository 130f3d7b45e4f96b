"""From video files and label files to batches."""
