"""Findings from a study's rows and stored predictions: statistics, comparisons, laws, choices. Knows no torch."""
