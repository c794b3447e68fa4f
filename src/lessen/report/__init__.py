"""Pages for people, drawn from a study's rows and predictions alone."""

from lessen.report.brief import brief
from lessen.report.html import render, write
from lessen.report.questions import Question, plain, read

__all__ = ["Question", "brief", "plain", "read", "render", "write"]
