"""What a user asks `lessen inspect` for, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lessen.core.errors import BadField


def asked(
    sensitivity: str, goals: Sequence[str], layers: Sequence[str], quick: bool, others: Sequence[str], at: str,
    images: int | None, errors: bool = False, distributions: bool = False, close: bool = False,
) -> list[str]:  # fmt: skip
    """The scans that are asked for. Errors: BadField, UnknownName; also for an option without what it belongs to."""
    from lessen.inspect import side_by_side, survey

    if errors and not others:
        raise BadField("--errors belongs to --beside, which names the quantized form; add it or leave --errors out")
    if close:
        _close(others, images)
    if not (sensitivity or others or distributions):
        raise BadField(
            "nothing is asked for; give --sensitivity prune to scan the layers, --beside ARTIFACT to compare models, "
            "or --distributions to see outliers"
        )
    alone = {"--goal": goals, "--layer": layers, "--quick": quick} if not sensitivity else {}
    alone |= {"--at": at} if not others else {}
    alone |= {"--images": images is not None} if not (others or distributions) else {}
    for option, given in alone.items():
        if given:
            needs = "--beside" if option in ("--at", "--images") else "--sensitivity"
            raise BadField(f"{option} belongs to {needs}, which is not given; add it or leave {option} out")
    if others:
        side_by_side.check(len(others), side_by_side.IMAGES if images is None else images)
    if distributions and images is not None and images < 2:
        raise BadField(f"images = {images} must be at least 2: percentiles of one image say nothing of others")
    kinds = [kind.strip() for kind in sensitivity.split(",")] if sensitivity else []
    survey.check(kinds, goals)
    return kinds


def asked_of_run(
    run: str, others: Sequence[str], images: int | None, close: bool, options: Mapping[str, object]
) -> None:
    """Of a study's run only closeness over seeds can be asked. options: what else was given. Errors: BadField."""
    from lessen.inspect import side_by_side
    from lessen.inspect.closeness import found

    given = next((option for option, value in options.items() if value), "")
    if given:
        raise BadField(f"{given} looks into one model and {run} is a study's run; name an artifact in {run}/artifacts")
    if not (others and close):
        raise BadField(f"{run} is a study's run; ask for closeness over its seeds by: --beside 'RECIPE OR ARM' --close")
    side_by_side.check(len(others), side_by_side.IMAGES if images is None else images)
    found.check(images)


def _close(others: Sequence[str], images: int | None) -> None:
    from lessen.inspect.closeness import found

    if not others:
        raise BadField("--close belongs to --beside, which names the student; add it or leave --close out")
    found.check(images)
