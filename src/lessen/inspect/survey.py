"""The verb: scan a model's layers, rank them, and propose ratios for a goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lessen.analyze.ranks import Correlation, spearman
from lessen.core.errors import BadField, UnknownName
from lessen.core.record import TOP1
from lessen.core.run import silent
from lessen.inspect import bits, findings, proposal
from lessen.inspect.findings import Scan
from lessen.inspect.goals import Goal
from lessen.inspect.proposal import Proposal
from lessen.inspect.subjects import positions, private, samples
from lessen.report.offline import finite

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.core.task import Task
    from lessen.inspect.amounts import Amount
    from lessen.inspect.sites import Site

TENTHS = tuple(i / 10 for i in range(1, 10))
GRID = {
    "prune": TENTHS[3:],
    "channels": TENTHS,
    "rank": TENTHS,
    "bits": tuple(map(bits.ratio, bits.LEVELS)),
    **dict.fromkeys(findings.CLIPPING, (0.001, 0.005, 0.01, 0.02, 0.05)),
}  # prune: the MIT 6.5940 lab's, 0.4 to below 1.0
COARSE = {
    "prune": (0.5, 0.7, 0.9), "channels": (0.2, 0.4, 0.6, 0.8), "rank": (0.2, 0.4, 0.6, 0.8),
    "bits": tuple(map(bits.ratio, bits.COARSE)), **dict.fromkeys(findings.CLIPPING, (0.001, 0.01, 0.05)),
}  # fmt: skip
QUICK = 5  # a fifth of the images, on the coarse grid: a tenth of the passes


@dataclass(frozen=True)
class Sensitivity:
    """Scans of one model, how they agree, and what they propose."""

    model: str
    task: str
    quick: bool
    scans: tuple[Scan, ...]
    agreements: tuple[tuple[str, str, Correlation], ...]
    proposals: tuple[Proposal, ...]

    def sentences(self) -> list[str]:
        """All findings in words."""
        said = [f"{scan.kind}: {text}" for scan in self.scans for text in findings.sentences(scan)]
        said += [f"{a} and {b} rank the layers alike at {c}." for a, b, c in self.agreements]
        if self.quick:
            said.append(
                "Quick: a fifth of the images and a coarser grid. The spread of the ranking above counts the images, "
                "not the grid."
            )
        return said

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        found = asdict(self)
        found["agreements"] = [{"scans": [a, b], **c._asdict()} for a, b, c in self.agreements]
        for scan, shown in zip(self.scans, found["scans"], strict=True):
            shown |= {"depth": scan.depth._asdict(), "size": scan.size._asdict()}
        for shown, made in zip(found["proposals"], self.proposals, strict=True):
            shown["layers"] = made.layers
        return finite(found | {"sentences": self.sentences()})


def sensitivity(
    model: nn.Module, task: Task, kinds: Sequence[str] = ("prune",), *, goals: Sequence[str] = (),
    layers: Sequence[str] = (), quick: bool = False, progress: Callable[[float, str], None] = silent,
) -> Sensitivity:  # fmt: skip
    """Scan every layer, or those in `layers`, on the validation images; the model stays as it is.

    kinds: "prune", "channels", "rank", "bits", "clipping" (which is "clip_weights" and "clip_outputs"). goals: texts
    such as "weights_removed=0.7", each solved for every kind that can reach it.
    Errors: UnknownName, BadField, BadData for a task without validation images, Refused.
    """
    kinds, wanted = spelled(kinds), check(kinds, goals)
    x, y = _images(task, quick)
    own = private(model, task)
    plans = [_plan(own, task, kind, layers, quick, x) for kind in kinds]
    jobs = _jobs(wanted, plans)
    scans = [_scan(own, task, plan, x, y, _part(progress, i, len(plans))) for i, plan in enumerate(plans)]
    proposals = [
        proposal.propose(goal, scans[i], plans[i].amounts[goal.unit], _together(own, task, plans[i], x, y))
        for goal, i in jobs
    ]
    agreements = [(a.kind, b.kind, findings.between(a, b)) for a, b in combinations(scans, 2)]
    agreements += [a for plan, scan in zip(plans, scans, strict=True) for a in _foretold(own, task, plan, scan)]
    name = str(getattr(model, "builder", type(model).__name__))
    return Sensitivity(name, task.text, quick, tuple(scans), tuple(agreements), tuple(proposals))


def spelled(kinds: Sequence[str]) -> list[str]:
    """Each scan once; "clipping" is two.

    >>> spelled(["prune", "clipping"])
    ['prune', 'clip_weights', 'clip_outputs']
    """
    return list(dict.fromkeys(one for kind in kinds for one in (findings.CLIPPING if kind == "clipping" else (kind,))))


def check(kinds: Sequence[str], goals: Sequence[str]) -> list[Goal]:
    """Read what a user asks for, before anything is computed. Errors: UnknownName, BadField."""
    for kind in kinds:
        if kind not in (*GRID, "clipping"):
            raise UnknownName("sensitivity", kind, (*GRID, "clipping"))
    wanted = [Goal.read(text) for text in goals]
    for goal in wanted:
        if not set(spelled(kinds)) - set(findings.CLIPPING):
            raise BadField(f"goal {goal} needs a scan of what can go, and clipping removes nothing; add prune or bits")
        if goal.unit == "channels" and "channels" not in kinds:
            raise BadField(
                f"goal {goal} needs the scan of channels; add it: --sensitivity {','.join([*kinds, 'channels'])}"
            )
    return wanted


@dataclass(frozen=True)
class _Plan:
    """One scan before it runs."""

    kind: str
    sites: list[Site]
    ratios: tuple[float, ...]
    amounts: dict[str, Amount]
    notes: list[str]


def _images(task: Task, quick: bool) -> tuple[Tensor, Tensor]:
    """Validation samples; of a quick scan a fifth, every class with its share."""
    most = max(1, round(len(task.split("validation")) / QUICK)) if quick else None
    return samples(task, positions(task, most, 0, "sensitivity"))


def _plan(model: nn.Module, task: Task, kind: str, only: Sequence[str], quick: bool, x: Tensor) -> _Plan:
    from lessen.inspect.amounts import amounts
    from lessen.inspect.sites import sites
    from lessen.ops import calibration

    device = next((p.device for p in model.parameters()), x.device)
    sample = calibration.samples(task) if kind == "clip_outputs" else task.inputs(x[:2].to(device))
    found, notes = sites(model, kind, sample)
    known = [path for site in found for path in site.paths]
    for path in only:
        if path not in known:
            raise UnknownName(f"layer of the scan '{kind}'", path, known)
    chosen = [site for site in found if not only or set(site.paths) & set(only)]
    ratios = COARSE[kind] if quick else GRID[kind]
    return _Plan(kind, chosen, ratios, amounts(model, kind, chosen, ratios), notes)


def _jobs(goals: Sequence[Goal], plans: Sequence[_Plan]) -> list[tuple[Goal, int]]:
    """Every goal with the scans that know its unit, and can reach it: said before hours of scanning, not after."""
    found = []
    for goal in goals:
        for i in (i for i, plan in enumerate(plans) if goal.unit in plan.amounts):
            proposal.check(goal, plans[i].kind, plans[i].amounts[goal.unit], plans[i].ratios)
            found.append((goal, i))
    return found


def _scan(
    model: nn.Module, task: Task, plan: _Plan, x: Tensor, y: Tensor, progress: Callable[[float, str], None]
) -> Scan:
    from lessen.inspect.scan import scan
    from lessen.ops.layers import weighted

    answers = scan(model, task.inputs, x, y, plan.sites, plan.ratios, progress=progress)
    notes = list(plan.notes)
    if answers.problem:
        notes.append(f"every pass was run whole, because this model cannot be replayed: {answers.problem}")
    if task.scored_by != TOP1:
        notes.append(f"scores are shares of right answers here, not the task's {task.scored_by}")
    sizes = {path: layer.weight.numel() for path, layer in weighted(model).items()}
    weights = [sum(sizes[path] for path in site.paths) for site in plan.sites]
    paths = [site.paths for site in plan.sites]
    return findings.build(
        plan.kind, plan.ratios, paths, weights, sum(sizes.values()), answers.dense, answers.changed, notes
    )


def _foretold(model: nn.Module, task: Task, plan: _Plan, scan: Scan) -> Iterator[tuple[str, str, Correlation]]:
    """How the measured ranking of bits agrees with what is foretold without a pass for each."""
    if plan.kind == "bits":
        for name, values in bits.proxies(model, task, plan.sites, plan.ratios).items():
            yield plan.kind, name, spearman(values, [row.drop for row in scan.rows])


def _together(model: nn.Module, task: Task, plan: _Plan, x: Tensor, y: Tensor) -> Callable[[Sequence[float]], float]:
    """The score when every place has its own ratio at once."""
    from lessen.inspect.scan import together

    def score(ratios: Sequence[float]) -> float:
        edits = [edit for site, r in zip(plan.sites, ratios, strict=True) if r for edit in site.edits(r)]
        return together(model, task.inputs, x, y, edits)

    return score


def _part(progress: Callable[[float, str], None], i: int, n: int) -> Callable[[float, str], None]:
    return lambda share, text: progress((i + share) / n, text)
