"""The app's style sheet: rules are parsed once for each set of colours.

Textual reads every rule anew whenever an app refreshes its styles, which it does several times while it starts. What a text
becomes depends on the text, on where it stands and on the variables alone, and rules are only read once they are made, as
Textual's own cache within a sheet relies on: so the sheets of a process share theirs.
"""

from __future__ import annotations

from textual.cache import LRUCache
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

Parsed = LRUCache[tuple, list[RuleSet]]

_parsed: dict[frozenset[tuple[str, str]], Parsed] = {}
"""What was parsed with each set of variables. A theme has one set, or two when the terminal's colours are asked for."""


class LabStylesheet(Stylesheet):
    """A style sheet that takes parsed rules from those before it."""

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._parse_cache = _rules_with(variables)

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables == self._variables:
            return
        self._parse_cache = LRUCache(1)  # the next line empties it
        super().set_variables(variables)
        self._parse_cache = _rules_with(variables)

    def reparse(self) -> None:
        """Put the rules together again, with the variables of now; a sheet with an error in it stays as it was."""
        fresh = LabStylesheet(variables=self._variables)
        fresh.source = dict(self.source)
        try:
            fresh.parse()
        except Exception:
            self._invalid_css.update(fresh._invalid_css)
            raise
        self._rules, self._rules_map, self._require_parse = fresh.rules, None, False


def _rules_with(variables: dict[str, str]) -> Parsed:
    return _parsed.setdefault(frozenset(variables.items()), LRUCache(1024))
