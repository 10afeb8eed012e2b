"""Token sets: which tokens of a model's vocabulary stand for a list of texts.

``maths`` is bundled; ``$LABTUI_HOME/tokens/NAME.toml``, or a path to a TOML file, adds others:

    name = "colours"
    description = "Names of colours"
    tokens = ["red", "green", "blue"]

Each text is tried as it is and with a space before it; it belongs to the set in the forms that are one token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, UsageError

from ..lang.text import did_you_mean, shown

MAX_ENTRIES = 5_000
MAX_TEXT = 100


@dataclass(frozen=True)
class TokenSet:
    """Texts that a set of tokens stands for."""

    name: str
    description: str
    texts: tuple[str, ...]

    def ids(self, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
        """Their tokens, ascending; UsageError when the tokenizer has none of them as one token."""
        found: set[int] = set()
        for text in self.texts:
            for form in (text, f" {text}"):
                tokens = encode(form)
                if len(tokens) == 1:
                    found.add(int(tokens[0]))
        if not found:
            raise UsageError(
                f"token set {self.name!r}: none of its {len(self.texts)} texts is one token of this model"
            )
        return tuple(sorted(found))


def token_set(name: str) -> TokenSet:
    """A token set by name or path; UsageError for an unknown one, BadFile for a file that is none."""
    found = library.find("tokens", name, "token set")
    keys = ("name", "description", "tokens")
    unknown = [key for key in found.said if key not in keys]
    if unknown:
        raise BadFile(f"{found.path}: unknown key {shown(unknown[0])}{did_you_mean(unknown[0], keys)}")
    texts = found.said.get("tokens")
    if not isinstance(texts, list) or not texts or len(texts) > MAX_ENTRIES:
        raise BadFile(f"{found.path}: tokens must be a list of 1 to {MAX_ENTRIES} texts")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            raise BadFile(
                f"{found.path}: tokens must be texts of 1 to {MAX_TEXT} characters, found {text!r:.60}"
            )
    return TokenSet(found.name, found.description, tuple(dict.fromkeys(texts)))
