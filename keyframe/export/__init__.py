"""A trained model as a file that other software runs: frames in, scores out, a card beside it."""
