"""The seven words as types: technique, recipe, target, task, record, errors. Knows pydantic, not torch."""
