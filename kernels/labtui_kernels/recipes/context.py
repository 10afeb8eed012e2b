"""What a recipe is given, and what a recipe is.

A recipe is a generator. It yields at every step boundary (a decode step, a prefill chunk, a capture batch, a
scored batch); between two yields the worker may run another job, pause this one, turn a knob, or close it
(GeneratorExit), so a recipe frees its batch in a ``finally``. What it returns is the job's result.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from labtui_artifacts.images import ImageStore
    from labtui_artifacts.store import Store
    from labtui_kernels.engine import Engine
    from labtui_kernels.models.load import LoadedModel

Steps: TypeAlias = Generator[None, None, dict[str, Any]]
"""The steps of a job; the value it returns is plain (numbers, text, lists, maps)."""


@dataclass(frozen=True)
class KnobTurn:
    """A user turned the strength of one edit of one running row: a number is α, text any unit."""

    row: str
    edit: int
    strength: float | str


class JobContext(Protocol):
    """What the worker gives a recipe. Everything is called on the worker's main thread."""

    @property
    def job(self) -> str:
        """The job's id."""
        ...

    @property
    def loaded(self) -> LoadedModel: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def store(self) -> Store:
        """The kernel's artifacts, for reading."""
        ...

    @property
    def images(self) -> ImageStore:
        """The pictures that the kernel was sent."""
        ...

    @property
    def picture_names(self) -> Mapping[str, str]:
        """What the user calls the spec's pictures, by digest."""
        ...

    @property
    def committed(self) -> Collection[str]:
        """Keys of the cells that are in the journal already: their rows are not run again."""
        ...

    @property
    def known(self) -> Mapping[str, Mapping[str, Any]]:
        """What the committed rows measured, by cell, for the recipes that go on from it (``calibrate``)."""
        ...

    @property
    def own(self) -> Collection[str]:
        """Those of ``committed`` that this job committed itself, before its worker was lost."""
        ...

    @property
    def first_row(self) -> int:
        """The number of the job's first row in its table: more than 0 where it extends one."""
        ...

    @property
    def made_with(self) -> Mapping[str, str]:
        """Digests, by name, of the directions that the job's committed cells were made with."""
        ...

    @property
    def halvings(self) -> int:
        """How often the worker ran out of memory: batches are halved that many times."""
        ...

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event of the session; ``job`` is put into its data."""
        ...

    def save_artifact(
        self, name: str, kind: str, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]
    ) -> None:
        """Leave a new artifact for the broker to adopt, which then announces it as ``artifact.saved``."""
        ...

    def knobs(self) -> Sequence[KnobTurn]:
        """The turns of knobs that have arrived for this job's rows since the last call."""
        ...

    def progress(self, done: float, total: float, text: str) -> None:
        """How far the job is, in the units that ``text`` names. Cheap: may be called at every step."""
        ...

    def budget(self, phase: str, seconds: float) -> None:
        """The next step belongs to ``phase`` and honest work ends within ``seconds``."""
        ...


class Recipe(Protocol):
    """One kind of experiment, made from its spec. ``plan`` may be called before ``run``, and is cheap."""

    kind: ClassVar[str]

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        """Counts for ``job.started``: ``rows``, ``cells`` and what else is known. Raises UsageError."""
        ...

    def run(self, ctx: JobContext) -> Steps:
        """Do the job. Raises a LabError whose line the user sees."""
        ...
