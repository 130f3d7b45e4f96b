"""Losses and callbacks of training."""
