"""Which option every layer gets: the smallest summed loss within a budget, solved exactly (HiGHS branch and bound).

What the choices keep is a sum of tables: of one layer, or of two whose choices multiply, as a weight loses rows with
its own layer and columns with the layer before. A product of two choices becomes linear by one variable for every pair
of options (Sherali & Adams 1990), so nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Term(NamedTuple):
    """What is kept under the choices of one layer, table (options,), or of two, table (options, options)."""

    layers: tuple[int, ...]
    table: np.ndarray


def kept(terms: Sequence[Term], choice: Sequence[int]) -> float:
    """The sum of the tables at a choice, one option a layer."""
    return float(sum(term.table[tuple(choice[i] for i in term.layers)] for term in terms))


def least(options: Sequence[int], terms: Sequence[Term]) -> list[int]:
    """The choice that keeps least of all; `options` counts them, layer by layer."""
    problem = _Problem(options, terms)
    return problem.solve(problem.keeps)


def allocate(
    losses: Sequence[Sequence[float]], terms: Sequence[Term], most: float,
    second: Sequence[Sequence[float]] | None = None,
) -> list[int] | None:  # fmt: skip
    """The choice with the smallest summed loss that keeps at most `most`; of those, one with the smallest `second`.

    losses, second: one row a layer, one number of at least 0 an option. None when no choice keeps so little.

    >>> import numpy as np
    >>> tables = [Term((i,), np.array([10.0, 2.0])) for i in range(2)]
    >>> allocate([[0.0, 0.5], [0.0, 0.1]], tables, most=12)
    [0, 1]
    """
    import numpy as np

    problem = _Problem([len(row) for row in losses], terms)
    cost = problem.spread(losses)
    within = (problem.keeps, most + 1e-9 * abs(most))
    best = problem.solve(cost, within)
    while best is not None and cost.max() > 4 * _sum(losses, best) > 0:  # the solver stops 1e-6 of the largest cost
        cost = np.minimum(cost, 2 * _sum(losses, best))  # above the best: none that costs more can be in it
        closer = problem.solve(cost, within)
        if closer is None or _sum(losses, closer) >= _sum(losses, best):
            break
        best = closer
    if best is None or second is None:
        return best
    limit = _sum(losses, best) * (1 + 1e-9) + 1e-9 * float(cost.max())
    return problem.solve(problem.spread(second), within, (cost, limit)) or best


def _sum(table: Sequence[Sequence[float]], choice: Sequence[int]) -> float:
    return sum(row[option] for row, option in zip(table, choice, strict=True))


class _Problem:
    """Variables: one for every option of every layer, then one for every pair of options of a two-layer term."""

    def __init__(self, options: Sequence[int], terms: Sequence[Term]) -> None:
        import numpy as np

        self.options = list(options)
        self.starts = np.concatenate([[0], np.cumsum(self.options)]).astype(int)
        ones = np.zeros(self.starts[-1])
        pairs: dict[tuple[int, int], Any] = {}
        for layers, table in terms:
            if len(layers) == 1:
                ones[self._span(layers[0])] += table
            elif layers[0] == layers[1]:
                ones[self._span(layers[0])] += np.diagonal(table)
            else:
                first, second = sorted(layers)
                turned = table if layers[0] == first else table.T
                pairs[first, second] = pairs.get((first, second), 0) + turned
        self.pairs = list(pairs)
        self.keeps = np.concatenate([ones, *(table.ravel() for table in pairs.values())])
        self.size = len(self.keeps)

    def spread(self, table: Sequence[Sequence[float]]) -> Any:
        """Numbers of options as coefficients of the variables."""
        import numpy as np

        return np.concatenate([*(np.asarray(row, float) for row in table), np.zeros(self.size - self.starts[-1])])

    def solve(self, cost: Any, *limits: tuple[Any, float]) -> Any:
        """Options with the smallest cost under rows @ x <= limit; None when there are none."""
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp

        equal, right = self._equalities()
        constraints = [LinearConstraint(equal, right, right)]
        for row, limit in limits:
            scale = np.abs(row).max() or 1.0  # the solver's tolerances are absolute
            constraints.append(LinearConstraint(row / scale, -np.inf, limit / scale))
        whole = np.zeros(self.size)
        whole[: self.starts[-1]] = 1
        found = milp(
            cost / (np.abs(cost).max() or 1.0), integrality=whole, bounds=Bounds(0, 1), constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )  # fmt: skip
        if found.x is None:
            return None
        return [int(found.x[self._span(i)].argmax()) for i in range(len(self.options))]

    def _equalities(self) -> tuple[Any, Any]:
        """One option a layer; and the pair variables of a row, or column, sum to that option's variable."""
        import numpy as np
        from scipy.sparse import lil_array

        n = len(self.options)
        rows = n + sum(self.options[i] + self.options[j] for i, j in self.pairs)
        matrix, right = lil_array((rows, self.size)), np.zeros(rows)
        for i in range(n):
            matrix[i, self._span(i)] = 1
        right[:n] = 1
        row, start = n, int(self.starts[-1])
        for i, j in self.pairs:
            a, b = self.options[i], self.options[j]
            for layer, groups in (
                (i, np.arange(a * b).reshape(a, b)),
                (j, np.arange(a * b).reshape(a, b).T),
            ):
                for option, members in enumerate(groups):
                    matrix[row, start + members] = 1
                    matrix[row, self.starts[layer] + option] = -1
                    row += 1
            start += a * b
        return matrix.tocsr(), right

    def _span(self, layer: int) -> slice:
        return slice(int(self.starts[layer]), int(self.starts[layer + 1]))
