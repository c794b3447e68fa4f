"""The rows of a study in one SQLite file, written once and never changed. Knows SQLite, not torch."""

from lessen.store.store import Store

__all__ = ["Store"]
