"""Fewer bits: every technique that changes how numbers are stored and computed."""
