"""How close the models are, in words; every sentence follows from numbers by a rule that is written here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lessen.inspect.findings import percent
from lessen.inspect.remarks import share, small
from lessen.report.words import listed

if TYPE_CHECKING:
    from lessen.inspect.closeness.answers import Answers
    from lessen.inspect.closeness.features import Attention
    from lessen.inspect.closeness.found import Close
    from lessen.ops.bootstrap import Estimate

LIMITS = (
    "Every model here is one training, and intervals are over images: what another seed would show is not in them. To "
    "tell teaching from a lucky training, put the original of another seed beside it, or ask a study with several "
    "seeds (close: true)."
)


def answers(found: Close) -> list[str]:
    """How far the answers lie from the original's."""
    return [
        f"{name} gives the original's answer on {share(own.agreement)} of {found.images} images{_mistakes(own)}; KL "
        f"{small(own.kl)} nats, JS {small(own.js)}."
        for name, own in zip(found.names[1:], found.answers[1:], strict=True)
    ]


def _mistakes(own: Answers) -> str:
    if not own.mistakes:
        return " (which it never gets wrong here)"
    return f" and repeats {own.repeated} of its {own.mistakes} mistakes"


def calibration(found: Close) -> list[str]:
    """Whether shares mean what they say."""
    return [f"{name} {_holds(own)}." for name, own in zip(found.names, found.answers, strict=True)]


def _holds(own: Answers) -> str:
    error = f"calibration error {_points(own.ece.mean)}"
    chance = f"a calibrated model would show {_points(own.chance[0])} by chance, and 95 % of such stay below"
    chance = f"{chance} {_points(own.chance[1])}"
    if own.ece.mean <= own.chance[1]:
        return f"cannot be told from a calibrated model by {own.ece.n} images: {error}; {chance}"
    way = "too sure" if own.sure > 0 else "not sure enough"
    return (
        f"is {way}: its confidence lies {_points(abs(own.sure))} {'above' if own.sure > 0 else 'below'} its share of "
        f"right answers, {error} ({_points(own.ece.low)} to {_points(own.ece.high)}); {chance}"
    )


def _points(part: float) -> str:
    return f"{100 * part:.1f} points"


def softness(found: Close) -> list[str]:
    """What a teacher's soft targets hold beyond the answer."""
    own = found.answers[0].entropies
    most = math.log(len(found.classes))
    return [
        f"The original's shares have an entropy of {own[0].mean:.2g} nats at T = 1 and {own[2].mean:.2g} at T = 4, of "
        f"at most {most:.2f}: near 0 they say no more than a label, near the most they tell classes apart no more."
    ]


def preferred(names: Sequence[str], rival: int, parts: Iterable[str]) -> str:
    """How often the first is nearer than this rival, measure by measure."""
    return f"{names[1]} is nearer to the original than {names[rival]} on this share of images: {'; '.join(parts)}."


def contests(found: Close) -> list[str]:
    """Which of two is nearer."""
    said = []
    for rival in range(2, len(found.names)):
        mine = [c for c in found.contests if c.rival == rival]
        parts = [f"{c.measure} {share(c.share)}{'' if c.clear else ', not clear'}" for c in mine]
        said.append(preferred(found.names, rival, parts))
    if said:
        said.append(
            "50 % is no difference; clear is p <= 0.05 of a sign test after Holm's correction over "
            f"{len(found.contests)} tests."
        )
    return said


def features(found: Close) -> list[str]:
    """Which layers see alike."""
    matches = found.aligned.matches
    said = [
        f"CKA of {name}'s layers with the original's: "
        f"{', '.join(f'{e.mean:.2f} {where(m.place)}' for m in matches if (e := m.cka[i]))}."
        for i, name in enumerate(found.names[1:], 1)
    ]
    said += [_lead(found, k, name) for k, name in enumerate(found.names[2:])]
    return [*filter(None, said), *_lacking(found)]


def where(place: str) -> str:
    """ "at 8x8", "before the classifier", "in the logits"."""
    return f"at {place}" if place[0].isdigit() else f"in the {place}" if place == "logits" else place


def _lead(found: Close, k: int, name: str) -> str:
    """Where the first model's layers are more like the original's than those of another, and where less."""
    known = [(m.place, e) for m in found.aligned.matches if (e := m.differences[k]) and not math.isnan(e.low)]
    more = [f"{where(place)} (by {e.mean:.2f})" for place, e in known if e.low > 0]
    less = [f"{where(place)} (by {-e.mean:.2f})" for place, e in known if e.high < 0]
    open_ = [where(place) for place, e in known if e.low <= 0 <= e.high]
    parts = [f"more like it {listed(more)}" if more else "", f"less like it {listed(less)}" if less else "",
             f"neither for certain {listed(open_)}" if open_ else ""]  # fmt: skip
    told = "; ".join(filter(None, parts))
    return f"Than {name}, {found.names[1]} is {told}, by intervals that lack zero." if told else ""


def _lacking(found: Close) -> Iterator[str]:
    for name, lacks in zip(found.names, found.aligned.unmatched, strict=True):
        if lacks:
            yield f"{name} has no place like the original's {', '.join(lacks)}; nothing is compared there."


def looks(found: Close) -> list[str]:
    """Grad-CAM and attention maps: how alike, and by which control that is told."""
    said = [_attention(found, one) for one in found.attention]
    views = found.looked.views
    if views is None:
        return [f"No Grad-CAM: {found.looked.unseen}.", *filter(None, said)]
    parts = [f"{name} {like.cosine.mean:.2f}" for name, like in zip(found.names[1:], views.likeness[1:], strict=True)]
    first = (
        f"Grad-CAM at {views.likeness[0].layer}, cosine with the original's map: {listed(parts)}; the original's maps "
        f"of two images have {views.control['cosine'].mean:.2f}."
    )
    return [first, *filter(None, said)]


def _attention(found: Close, one: Attention) -> str:
    raw, moved = (
        listed([f"{name} {e.mean:.2f}" for name, e in zip(found.names[1:], row[1:], strict=True) if e])
        for row in (one.cosine, one.moved)
    )
    if not raw:
        return ""
    return (
        f"Attention at {one.size[0]}x{one.size[1]}, cosine with the original's map: {raw} (two images: "
        f"{one.control.mean:.2f}); of what an image adds to the mean map: {moved} (two images: "
        f"{one.moved_control.mean:.2f})."
    )


def limits(found: Close) -> list[str]:
    """What cannot be told from this."""
    return [LIMITS]


PARTS = (answers, contests, calibration, softness, features, looks, limits)


def point_interval(e: Estimate) -> str:
    """An estimate of points with its interval."""
    return f"{100 * e.mean:.1f} ({100 * e.low:.1f} to {100 * e.high:.1f})"


def lead(found: Close) -> str:
    """The page's first sentence."""
    parts = [
        f"{name} answers like it on {percent(own.agreement.mean)} (KL {own.kl.mean:.2g} nats)"
        for name, own in zip(found.names[1:], found.answers[1:], strict=True)
    ]
    return f"How close to the original: {'; '.join(parts)}."
