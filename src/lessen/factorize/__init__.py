"""Thinner layers: every technique that writes a weight as a product."""
