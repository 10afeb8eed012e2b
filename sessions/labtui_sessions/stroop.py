"""The tables of a Stroop recipe, read: what edits in the vision tower do to answers about ink and word.

A row is one generation. ``flip``: the answer was right without the edit and is the target with it; ``stays``: it is
still right; ``other``: it names another colour; ``breaks``: it names none, or several. All four are absent where the
answer without the edit was wrong. Shares are of the rows that have them, with Wilson's interval.

A table is known by its columns. Rows come from files: one that lacks what it needs is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .stats.intervals import wilson
from .stats.null import percentile
from .tables import Table

Kind = Literal["answers", "cosines", "choice", "chunks"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "answers": ("delta", "question", "target", "subset", "site", "control", "flip", "stays", "right"),
    "cosines": ("delta", "site", "to", "net", "null_95", "strength_abs"),
    "choice": ("delta", "site", "strength_abs", "feasible", "split"),
    "chunks": ("sort", "label", "site", "sizes", "norms", "images"),
}
"""What each table has at least."""
OUTCOMES = ("flip", "stays", "other", "breaks")
QUESTIONS = ("ink", "word")
AIMS: dict[str, tuple[str, ...]] = {"color": ("ink",), "text": ("word",), "combined": ("ink", "word")}
"""The questions whose answers a delta is to flip; the other's are to stay."""
CHOSEN = "judge"
DRAWS = 1_000
LEAST_SITES = 4
"""Sites under which resampling them says nothing of others."""
NEAR = 1e-4

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rate:
    """A share of ``n`` rows with Wilson's 95% interval; all None where there are none."""

    share: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[bool]) -> Rate:
        found = list(values)
        if not found:
            return cls(None, None, None, 0)
        share = sum(found) / len(found)
        low, high = wilson(np.array([share]), np.array([len(found)]))
        return cls(share, float(low[0]), float(high[0]), len(found))

    def __str__(self) -> str:
        if self.share is None or self.low is None or self.high is None:
            return "–"
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}] of {self.n}"


@dataclass(frozen=True)
class Cell:
    """One delta at one site and strength: what became of the answers to each question."""

    delta: str
    site: str
    where: str
    norm: float
    percent: float | None
    text: str
    outcomes: Mapping[str, Mapping[str, Rate]]
    """By question, by outcome (and ``right``: of all rows, those that are right)."""

    def rate(self, question: str, outcome: str) -> Rate:
        return self.outcomes.get(question, {}).get(outcome, Rate(None, None, None, 0))

    @property
    def flips(self) -> float | None:
        """The share of flips that the delta aims at; of several aims the smallest."""
        return _least(self.rate(question, "flip").share for question in AIMS[self.delta])

    @property
    def spared(self) -> float | None:
        """The share of the other question's answers that stay; None where every question is aimed at."""
        rest = [question for question in QUESTIONS if question not in AIMS[self.delta]]
        return _least(self.rate(question, "stays").share for question in rest) if rest else None


@dataclass(frozen=True)
class Choice:
    """The cell that was chosen for a delta; ``feasible`` says that enough of the other answers stay in it."""

    cell: Cell
    feasible: bool


@dataclass(frozen=True)
class Null:
    """Shares of flips under directions that mean nothing: their 95th percentile and mean over directions."""

    percentile: float | None
    mean: float | None
    directions: int
    rows: int


@dataclass(frozen=True)
class Interference:
    """Accuracy without edits on congruent and incongruent pictures, and the difference with its 95% interval."""

    question: str
    congruent: Rate
    incongruent: Rate
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Prediction:
    """Spearman's rank correlation of cosine gain and flip share over cells, with a bootstrap interval over sites
    (from `LEAST_SITES` on).

    ``within``: the mean of the correlations over sites at equal delta and strength, which a mere effect of strength
    does not raise.
    """

    to: str
    rho: float | None
    low: float | None
    high: float | None
    within: float | None
    within_low: float | None
    within_high: float | None
    cells: int
    sites: int


def kind_of(columns: Iterable[str]) -> Kind | None:
    """What a table with these columns is; None for one that is no Stroop recipe's."""
    there = set(columns)
    return next((kind for kind, needed in COLUMNS.items() if there.issuperset(needed)), None)


def rows_of(table: Table) -> list[dict[str, Any]]:
    """The rows of the last job that wrote to a table, as maps."""
    last = table.owners[-1] if table.owners else ""
    return [table.row(index) for index in range(table.rows) if table.owners[index] == last]


# -- cells ----------------------------------------------------------------------------------------------


def cells(rows: Iterable[Row], control: str = "") -> list[Cell]:
    """The cells of the grid (or of the ``negated`` rows), in the order of their first rows."""
    members: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in rows:
        norm = _number(row.get("strength_abs"))
        if (row.get("control") or "") != control or norm is None or row.get("delta") not in AIMS:
            continue
        key = (str(row["delta"]), str(row.get("site")), str(row.get("where")), abs(norm))
        near = next((k for k in members if k[:3] == key[:3] and _near(k[3], key[3])), key)
        members.setdefault(near, []).append(row)
    return [_cell(key, found) for key, found in members.items()]


def _cell(key: tuple[str, str, str, float], rows: Sequence[Row]) -> Cell:
    delta, site, where, norm = key
    by_question = {q: [row for row in rows if row.get("question") == q] for q in QUESTIONS}
    outcomes = {
        question: {
            outcome: Rate.of(bool(row[outcome]) for row in found if isinstance(row.get(outcome), bool))
            for outcome in (*OUTCOMES, "right")
        }
        for question, found in by_question.items()
        if found
    }
    first = rows[0]
    return Cell(
        delta,
        site,
        where,
        norm,
        _number(first.get("strength_pct")),
        str(first.get("strength_text") or ""),
        outcomes,
    )


def null_of(rows: Iterable[Row], cell: Cell, question: str, control: str = "random") -> Null:
    """What null directions at a cell's site and norm do to a question's answers.

    A direction's share of flips is over the pictures that it was run on; the percentile has rank 0.95 (K + 1) of K
    directions. Permuted-label deltas (``shuffled``) count for their own delta only.
    """
    by_direction: dict[str, list[bool]] = {}
    for row in rows:
        norm = _number(row.get("strength_abs"))
        if row.get("control") != control or row.get("question") != question or norm is None:
            continue
        if row.get("site") != cell.site or row.get("where") != cell.where or not _near(abs(norm), cell.norm):
            continue
        if control == "shuffled" and row.get("delta") != cell.delta:
            continue
        if isinstance(row.get("flip"), bool):
            by_direction.setdefault(str(row.get("direction")), []).append(bool(row["flip"]))
    shares = np.array([[sum(found) / len(found) for found in by_direction.values()]], float)
    count = sum(map(len, by_direction.values()))
    if shares.size == 0:
        return Null(None, None, 0, 0)
    return Null(float(percentile(shares)[0]), float(shares.mean()), shares.size, count)


def choose(found: Sequence[Cell], keep: float) -> list[Choice]:
    """For each delta the weakest edit that flips about as many answers as any, where at least ``keep`` of the others stay.

    About as many: within one standard error of the most (Breiman's rule; by Agresti and Coull's estimate, which is not
    zero at 100%), so that more is not pushed than it takes. Weakness goes by % of the reference norm, ties to the cell
    with more flips, then to the one that spares more. Where no cell spares enough, flips and spared answers count
    alike, and the choice is not ``feasible``.
    """
    chosen: list[Choice] = []
    for delta in dict.fromkeys(cell.delta for cell in found):
        mine = [cell for cell in found if cell.delta == delta and cell.flips is not None]
        fit = [cell for cell in mine if cell.spared is None or cell.spared >= keep]
        if fit:
            most = max(fit, key=lambda cell: cell.flips or 0.0)
            enough = (most.flips or 0.0) - _error(most)
            near = [cell for cell in fit if (cell.flips or 0.0) >= enough]
            best = min(near, key=lambda cell: (_size(cell), -(cell.flips or 0.0), -(cell.spared or 0.0)))
            chosen.append(Choice(best, True))
        elif mine:
            best = max(mine, key=lambda cell: ((cell.flips or 0.0) + (cell.spared or 0.0), -_size(cell)))
            chosen.append(Choice(best, False))
    return chosen


def _error(cell: Cell) -> float:
    """The standard error of a cell's flips: two flips and two others are added to those seen."""
    n = min(cell.rate(question, "flip").n for question in AIMS[cell.delta])
    share = ((cell.flips or 0.0) * n + 2) / (n + 4)
    return float(np.sqrt(share * (1 - share) / (n + 4)))


def _size(cell: Cell) -> float:
    return cell.norm if cell.percent is None else abs(cell.percent)


# -- what the answers are without edits ----------------------------------------------------------------


def interference(rows: Iterable[Row]) -> list[Interference]:
    """Stroop interference by question, from the unsteered rows of one table: accuracy on congruent minus accuracy on
    incongruent pictures, with Newcombe's interval of two independent rates (1998, method 10)."""
    right: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        if row.get("control") == "zero" and isinstance(row.get("right"), bool):
            right.setdefault((str(row.get("question")), str(row.get("subset"))), []).append(
                bool(row["right"])
            )
    return [
        _interference(
            question, *(Rate.of(right.get((question, subset), ())) for subset in ("congruent", "incongruent"))
        )
        for question in QUESTIONS
        if any((question, subset) in right for subset in ("congruent", "incongruent"))
    ]


def _interference(question: str, one: Rate, other: Rate) -> Interference:
    if None in (one.share, one.low, one.high, other.share, other.low, other.high):
        return Interference(question, one, other, None, None, None)
    first = np.array([one.share, one.low, one.high], float)
    second = np.array([other.share, other.low, other.high], float)
    gap = float(first[0] - second[0])
    low = gap - float(np.hypot(first[0] - first[1], second[2] - second[0]))
    high = gap + float(np.hypot(first[2] - first[0], second[0] - second[1]))
    return Interference(question, one, other, gap, low, high)


# -- does cosine predict behaviour --------------------------------------------------------------------


def predictions(found: Sequence[Cell], cosines: Iterable[Row], seed: int = 0) -> list[Prediction]:
    """Whether the net cosine gain of a cell ranks cells as their flips do, for each reference of the cosines."""
    gains: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
    for row in cosines:
        net, norm = _number(row.get("net")), _number(row.get("strength_abs"))
        if net is not None and norm is not None:
            here = gains.setdefault(str(row.get("to")), {})
            here.setdefault((str(row.get("delta")), str(row.get("site"))), []).append((norm, net))
    made: list[Prediction] = []
    for to, known in gains.items():
        points: list[tuple[str, str, float, float]] = []
        for cell in found:
            near = [net for norm, net in known.get((cell.delta, cell.site), ()) if _near(norm, cell.norm)]
            if near and cell.flips is not None:
                points.append((cell.site, f"{cell.delta} {cell.text}", near[0], cell.flips))
        made.append(_prediction(to, points, seed))
    return made


def _prediction(to: str, points: Sequence[tuple[str, str, float, float]], seed: int) -> Prediction:
    sites = list(dict.fromkeys(point[0] for point in points))
    whole, within = _correlations(points)
    generator = np.random.default_rng(seed)
    by_site = {site: [point for point in points if point[0] == site] for site in sites}
    drawn: list[tuple[float, float]] = []
    for _ in range(DRAWS if len(sites) >= LEAST_SITES else 0):
        taken = generator.integers(0, len(sites), len(sites))
        drawn.append(_correlations([point for index in taken for point in by_site[sites[index]]]))
    limits = [_limits([draw[i] for draw in drawn]) for i in (0, 1)]
    return Prediction(to, _finite(whole), *limits[0], _finite(within), *limits[1], len(points), len(sites))


def _correlations(points: Sequence[tuple[str, str, float, float]]) -> tuple[float, float]:
    whole = spearman([point[2] for point in points], [point[3] for point in points])
    groups: dict[str, list[tuple[float, float]]] = {}
    for _, group, gain, flips in points:
        groups.setdefault(group, []).append((gain, flips))
    each = [spearman([a for a, _ in found], [b for _, b in found]) for found in groups.values()]
    known = [value for value in each if np.isfinite(value)]
    return whole, float(np.mean(known)) if known else float("nan")


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN under three points, or where a side does not vary."""
    if len(one) < 3:
        return float("nan")
    a, b = (_ranks(np.asarray(values, float)) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, back, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[back]


def _limits(draws: Sequence[float]) -> tuple[float | None, float | None]:
    """The percentile interval of bootstrap draws; None where fewer than half of them are defined."""
    known = [draw for draw in draws if np.isfinite(draw)]
    if not draws or len(known) < len(draws) / 2:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


# -- small things -------------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= NEAR * max(abs(one), abs(other))


def _least(shares: Iterable[float | None]) -> float | None:
    found = list(shares)
    known = [share for share in found if share is not None]
    return min(known) if found and len(known) == len(found) else None
