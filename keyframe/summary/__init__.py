"""From scores to a summary: cut a video into shots, and choose what is kept."""
