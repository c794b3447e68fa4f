"""What stands side by side, in words; every sentence follows from numbers by a rule that is written here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lessen.inspect.findings import percent

if TYPE_CHECKING:
    from lessen.inspect.side_by_side import Beside
    from lessen.inspect.weights import Held
    from lessen.ops.bootstrap import Estimate

Pairs = list[tuple[str, "Held", "Held"]]  # path, original, other

GONE, CROWDED = 0.5, 1.25  # the share near zero falls below, or rises above, this times the original's
STEADY = 1.1  # spreads within this factor are called kept
UNKNOWN = (
    " How far two trainings of the original from other seeds lie apart is not known here; put one of another seed "
    "beside it to see."
)
ALIKE, PARTLY = 0.75, 0.4  # of the way from the control to identical maps


def weights(found: Beside) -> list[str]:
    """What the histograms, the zeros and the channels show, model by model."""
    return [sentence for i in range(1, len(found.names)) for sentence in _weights(found, i)]


def _weights(found: Beside, i: int) -> Iterator[str]:
    name = found.names[i]
    pairs = [(row.path, row.held[0], row.held[i]) for row in found.weights.rows]
    both: Pairs = [(path, a, b) for path, a, b in pairs if a and b]
    if not both:
        yield f"{name} shares no layer with the original by path; its weights are not compared."
        return
    yield f"{name}: {', '.join(filter(None, (_zeros(both), _channels(both), _bits(both))))}."
    yield f"{name}: {_middle(both)}; {_spread(both)}."


def _zeros(both: Pairs) -> str:
    from lessen.inspect.weights import share_of_zeros

    before, after = share_of_zeros([a for _, a, _ in both]), share_of_zeros([b for *_, b in both])
    if after <= before:
        return f"zeros {exact(before)} of the weights, no more than before" if before else "no zeros"
    rising = sorted(both, key=lambda p: p[2].sparsity)
    (low, _, least), (high, _, most) = rising[0], rising[-1]
    return (
        f"zeros {exact(before)} -> {exact(after)} of the weights (most in {high}, {exact(most.sparsity)}; "
        f"least in {low}, {exact(least.sparsity)})"
    )


def _channels(both: Pairs) -> str:
    before, after = sum(a.channels for _, a, _ in both), sum(b.channels for *_, b in both)
    return f"channels {before:,} -> {after:,}" if before != after else ""


def _bits(both: Pairs) -> str:
    bits = {b.bits for _, _, b in both if b.bits}
    said = " and ".join(f"{n} ({2**n - 1} levels a channel)" for n in sorted(bits))
    return f"weights of {said} bits" if bits else ""


def near(held: Iterable[Held]) -> float:
    """Share of the non-zero weights that are near zero, over all layers."""
    known = [(h.near, h.living) for h in held if h.living]
    living = sum(n for _, n in known)
    return sum(part * n for part, n in known) / living if living else math.nan


def _middle(both: Pairs) -> str:
    before, after = near(a for _, a, _ in both), near(b for *_, b in both)
    if math.isnan(after):
        return "no weight that is not zero is left"
    word = (
        "the middle of the histograms is gone" if after < GONE * before
        else "the weights crowd closer around zero" if after > CROWDED * before
        else "the histograms keep their middle"
    )  # fmt: skip
    return (
        f"{word} (within half the original's standard deviation of zero lie {percent(before)} of the original's "
        f"non-zero weights and {percent(after)} of its own)"
    )


def _spread(both: Pairs) -> str:
    ratios = [(abs(math.log(b.sd / a.sd)), path, a.sd, b.sd) for path, a, b in both if a.sd > 0 and b.sd > 0]
    if not ratios:
        return "of the standard deviations nothing can be said"
    change, path, before, after = max(ratios)
    if change < math.log(STEADY):
        return f"every layer's standard deviation stays within {percent(STEADY - 1)}"
    return f"the standard deviation changes most in {path}, {before:.3g} -> {after:.3g} ({after / before:.2g}x)"


def attention(found: Beside) -> list[str]:
    """Where the models look, and what they answer."""
    views = found.views
    if views is None:
        return [f"No Grad-CAM: {found.unseen}."]
    from lessen.inspect.attention import blanks

    said = [
        f"{name} {_verdict(like.cosine, views.control['cosine'])}: Grad-CAM at {like.layer} of the original's class "
        f"has cosine {interval(like.cosine)} and SSIM {interval(like.ssim)} with the original's map."
        for name, like in zip(found.names[1:], views.likeness[1:], strict=True)
    ]
    control = views.control
    said.append(
        f"For scale: the original's maps of two different images have cosine {interval(control['cosine'])} and SSIM "
        f"{interval(control['ssim'])}." + ("" if found.about[0] in found.about[1:] else UNKNOWN)
    )
    said += [
        f"{name} answers as the original on {share(like.agreement)} of {views.images} images, right on "
        f"{percent(like.right)} (original {percent(views.likeness[0].right)}); KL "
        f"{small(like.kl)} nats, JS {small(like.js)}."
        for name, like in zip(found.names[1:], views.likeness[1:], strict=True)
    ]
    return [*said, *blanks(found.names, views), *views.notes]


def _verdict(cosine: Estimate, control: Estimate) -> str:
    if math.isnan(cosine.low) or math.isnan(control.mean) or control.mean >= 1:
        return "cannot be judged by its maps"
    if cosine.low <= control.high:
        return "looks no more where the original looks than at another image"
    way = (cosine.mean - control.mean) / (1 - control.mean)
    where = "where" if way >= ALIKE else "partly where" if way >= PARTLY else "mostly elsewhere than where"
    return f"looks {where} the original looks"


def interval(e: Estimate) -> str:
    """A mean with its 95 % interval.

    >>> interval(Estimate(0.912, 0.9, 0.923, 200))
    '0.91 (0.90 to 0.92)'
    """
    return f"{e.mean:.2f} ({e.low:.2f} to {e.high:.2f})" if not math.isnan(e.mean) else "unknown"


def small(e: Estimate) -> str:
    """As `interval`, for numbers that may be tiny.

    >>> small(Estimate(0.000412, 0.0003, 0.0005, 200))
    '0.00041 (0.0003 to 0.0005)'
    """
    return f"{e.mean:.2g} ({e.low:.2g} to {e.high:.2g})"


def share(e: Estimate) -> str:
    return f"{100 * e.mean:.1f} % ({100 * e.low:.1f} to {100 * e.high:.1f})"


def exact(part: float) -> str:
    """A share to a tenth of a percent."""
    return f"{100 * part:.1f} %"
