"""Pictures of scores: curves, bars, scatter, one sheet style for all of them."""
