"""A generated data set whose importance depends on what is seen, its neighbourhood, and the whole video."""
