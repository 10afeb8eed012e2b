"""What a metric is: a small class that says what it needs of a row and gives one number, or why there is none.

No torch. A metric is made from its name when a spec is checked, again when a job starts, where ``prepare`` looks
at the model, and gives a value a row. Packages add their own by an entry point of the group
``labtui.metrics`` that names a subclass of :class:`Metric`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from labtui_artifacts.errors import UsageError

from ..lang.shape import ModelShape
from ..lang.sites import Site
from ..lang.text import shown

if TYPE_CHECKING:
    import numpy as np

    from labtui_artifacts.kinds.probe import ProbeFile

Value: TypeAlias = float | int | bool
Result: TypeAlias = tuple[Value | None, str]
"""A value and ``""``, or None and why there is none."""


@dataclass
class Values:
    """Metrics by name. A value of None has its reason in ``reasons``."""

    values: dict[str, float | int | bool | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float | int | bool | None, reason: str = "") -> None:
        """Record a metric, or why it is absent."""
        self.values[name] = value
        if value is None:
            self.reasons[name] = reason or "not computed"


@dataclass(frozen=True)
class Needs:
    """What a metric wants from the model's passes. All rows of all metrics share them.

    ``perplexity`` comes from the unsteered model. ``kl`` is taken at the first step that the edits can affect,
    ``kl_mean`` along the unsteered answer. The others come from the row as it ran, edits in place: ``logits``
    at the last prompt token, ``means`` the mean hidden state over the answer's tokens at these sites,
    ``moved`` how far the edits move the hidden state at every edited site.
    """

    perplexity: bool = False
    kl: bool = False
    kl_mean: bool = False
    logits: bool = False
    moved: bool = False
    means: frozenset[Site] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.perplexity or other.perplexity,
            self.kl or other.kl,
            self.kl_mean or other.kl_mean,
            self.logits or other.logits,
            self.moved or other.moved,
            self.means | other.means,
        )


NOTHING = Needs()


@dataclass
class Facts:
    """What is known of a finished row.

    ``prompt`` is the last turn of the user's. ``tokens`` counts what was generated, without the token that
    ended the turn; ``cut`` says that the length limit ended the answer. ``zero`` is the unsteered row of the
    same prompt and seed: its text, its counts and its perplexity. The rest is there when a metric needs it
    (:class:`Needs`): ``means`` float32 [d] by site, ``logits`` float32 [vocabulary], ``moved`` in percent by
    edited site, None where no edit was in force.
    """

    text: str
    prompt: str = ""
    tokens: int = 0
    cut: bool = False
    ended: bool = True
    steered: bool = False
    perplexity: float | None = None
    kl: float | None = None
    kl_mean: float | None = None
    logits: np.ndarray | None = None
    means: Mapping[Site, np.ndarray] = field(default_factory=dict)
    moved: Mapping[Site, float | None] = field(default_factory=dict)
    zero: Facts | None = None


class Target(Protocol):
    """The model that a job runs on, as far as a metric may ask. All but ``shape`` raise UsageError."""

    @property
    def shape(self) -> ModelShape: ...

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer has; logits beyond are padding."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without template."""
        ...

    def direction(self, expression: str, site: Site) -> np.ndarray:
        """The value of a direction expression at a site, float32 [d]."""
        ...

    def probe(self, name: str) -> ProbeFile:
        """A stored probe, checked to be usable on this model."""
        ...


class Metric(ABC):
    """One number about a row.

    ``head`` is the name up to a colon; ``takes`` how the part after it looks, empty for none; ``example`` a
    name that may be asked for. ``judged`` metrics compare with the unsteered row of the same prompt and seed.
    ``sign`` says where more of the thing measured lies: +1 upwards, -1 downwards, 0 where that says nothing.
    """

    head: ClassVar[str]
    about: ClassVar[str]
    takes: ClassVar[str] = ""
    example: ClassVar[str] = ""
    judged: ClassVar[bool] = False
    sign: int = 0

    def __init__(self, name: str, argument: str) -> None:
        """``argument`` is what follows the colon; UsageError when it cannot mean anything on any model."""
        self.name, self.argument = name, argument
        if argument and not self.takes:
            raise UsageError(f"metric {shown(name)}: {self.head!r} takes nothing after it")
        if self.takes and not argument:
            raise UsageError(f"metric {shown(name)}: expected {self.form()}, such as {self.example}")

    @classmethod
    def form(cls) -> str:
        """How its names look: ``lens:NAME``."""
        return f"{cls.head}:{cls.takes}" if cls.takes else cls.head

    @classmethod
    def read(cls, name: str) -> str | None:
        """The argument in ``name`` when it is a name of this metric, else None."""
        head, colon, argument = name.partition(":")
        return argument if head == cls.head and (argument or not colon) else None

    def prepare(self, target: Target) -> None:  # noqa: B027 - most metrics ask nothing of the model
        """Look at the model, once, before the first row; UsageError when the metric cannot apply to it."""

    def needs(self) -> Needs:
        """What it wants of each row's passes, known after ``prepare``."""
        return NOTHING

    @abstractmethod
    def value(self, row: Facts) -> Result:
        """The number for a row: ``(value, "")``, or ``(None, reason)``; never zero for what is not known."""
