"""Recipes x seeds -> trials: the study, its step cache and its executor. Importing this room imports no torch."""

from lessen.study.execute import run
from lessen.study.files import names
from lessen.study.outcome import failed, raise_failed
from lessen.study.plan import Study
from lessen.study.watch import Now, Watch

__all__ = ["Now", "Study", "Watch", "failed", "names", "raise_failed", "run"]
