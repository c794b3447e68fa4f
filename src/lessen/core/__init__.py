"""Technique, recipe, target, task, measurement and trial as types, and the errors. Knows pydantic, not torch."""
