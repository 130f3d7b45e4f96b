"""Metrics, and what is drawn from them."""
