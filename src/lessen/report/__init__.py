"""Pages for people, drawn from a study's rows alone."""

from lessen.report.html import render, write

__all__ = ["render", "write"]
