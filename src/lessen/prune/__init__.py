"""Fewer weights: every technique that takes weights or whole channels away."""
