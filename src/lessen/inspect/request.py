"""What a user asks `lessen inspect` for, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.core.errors import BadField


def asked(
    sensitivity: str, goals: Sequence[str], layers: Sequence[str], quick: bool, others: Sequence[str], at: str,
    images: int | None,
) -> list[str]:  # fmt: skip
    """The scans that are asked for. Errors: BadField, UnknownName; also for an option without what it belongs to."""
    from lessen.inspect import side_by_side, survey

    if not (sensitivity or others):
        raise BadField(
            "nothing is asked for; give --sensitivity prune to scan the layers, or --beside ARTIFACT to compare models"
        )
    alone = {"--goal": goals, "--layer": layers, "--quick": quick} if not sensitivity else {}
    alone |= {"--at": at, "--images": images is not None} if not others else {}
    for option, given in alone.items():
        if given:
            needs = "--sensitivity" if others else "--beside"
            raise BadField(f"{option} belongs to {needs}, which is not given; add it or leave {option} out")
    if others:
        side_by_side.check(len(others), side_by_side.IMAGES if images is None else images)
    kinds = [kind.strip() for kind in sensitivity.split(",")] if sensitivity else []
    survey.check(kinds, goals)
    return kinds
