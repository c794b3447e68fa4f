"""Recipes x seeds -> trials: the study, its step cache and its executor. Importing this room imports no torch."""

from lessen.study.execute import run
from lessen.study.plan import Study, names
from lessen.study.watch import Now, Watch

__all__ = ["Now", "Study", "Watch", "names", "run"]
