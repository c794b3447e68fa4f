"""Pages for people, drawn from a study's rows alone."""

from lessen.report.brief import brief
from lessen.report.html import render, write

__all__ = ["brief", "render", "write"]
