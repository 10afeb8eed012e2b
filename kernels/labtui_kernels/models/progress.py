"""Progress of loading: named phases, each with a fraction that only grows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float], None]
"""Called with a phase (``downloading, reading, hashing, weights, moving``) and a fraction from 0 to 1."""

_STEP = 1 / 256  # a listener is told no more often than this


def silent(phase: str, fraction: float) -> None:
    """The callback of a caller who does not watch."""


class Steps:
    """Phases in order; each starts at 0, ends at 1, and never runs backwards."""

    def __init__(self, progress: Progress = silent) -> None:
        self._progress = progress
        self._phase = ""
        self._told = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[float], None]]:
        """Enter a phase; the value takes fractions. A phase that fails does not claim to have ended."""
        self._phase, self._told = name, 0.0
        self._progress(name, 0.0)
        yield self.at
        self._tell(1.0)

    def downloading(self, fraction: float) -> None:
        """A download, which is a phase only when something has to be fetched, has come this far."""
        if self._phase != "downloading":
            self._phase, self._told = "downloading", 0.0
            self._progress("downloading", 0.0)
        self.at(fraction)

    def at(self, fraction: float) -> None:
        """The running phase has come this far."""
        if fraction >= self._told + _STEP:
            self._tell(min(fraction, 1.0))

    def _tell(self, fraction: float) -> None:
        if fraction > self._told:
            self._told = fraction
            self._progress(self._phase, fraction)


class _Counted:
    """Stands in for a progress bar around an iterable, and reports its share."""

    def __init__(self, items: Iterable[Any], total: int, report: Callable[[float], None]) -> None:
        self._items, self._total, self._report = items, total, report

    def __iter__(self) -> Iterator[Any]:
        for number, item in enumerate(self._items, 1):
            yield item
            self._report(number / self._total)


@contextmanager
def watch_tensors(report: Callable[[float], None]) -> Iterator[None]:
    """While transformers loads weights, report the share of tensors done, in place of its own bars.

    GGUF files are counted while they are unpacked (the long part), safetensors while they are copied.
    """
    import transformers.modeling_gguf_pytorch_utils as module
    from transformers.utils import logging

    def counted(items: Any = None, *args: Any, **kwargs: Any) -> Any:
        items = () if items is None else items
        return _Counted(items, max(1, len(items)), report)

    def instead(bar: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return counted(*args) if kwargs.get("desc") == "Loading weights" else bar(*args, **kwargs)

    unpacking: Any = module
    active = logging.is_progress_bar_enabled()
    own = unpacking.tqdm
    # Transformers before the hook existed load just as well, only without fractions.
    set_hook = getattr(logging, "set_tqdm_hook", lambda hook: None)
    logging.disable_progress_bar()
    previous = set_hook(instead)
    unpacking.tqdm = counted
    try:
        yield
    finally:
        unpacking.tqdm = own
        set_hook(previous)
        if active:
            logging.enable_progress_bar()
