"""Backbone, temporal head and the detector that joins them."""
