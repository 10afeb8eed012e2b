"""Choice accuracy: which of some options an answer names first, and whether that is the right one.

The options stand in the name, right one first (``choice:yes|no``), or in a TOML file that knows the right one
of each prompt: ``$LABTUI_HOME/choices/NAME.toml``, or a path:

    options = ["yes", "no"]

    [answers]
    "Is 7 a prime number?" = "yes"
    "Is 9 a prime number?" = "no"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, LabError, UsageError

from ..lang.text import did_you_mean, shown
from .base import Facts, Metric, Result

MOST = 32
_KEYS = ("name", "description", "options", "answers")


@dataclass(frozen=True)
class Options:
    """Options, in lower case with single spaces, and the right one of each prompt; ``always`` of every other."""

    texts: tuple[str, ...]
    answers: dict[str, str]
    always: str = ""

    def named(self, text: str) -> str:
        """The option that a text names first, as whole words in any case; empty for none."""
        # The longest first: of "not sure" and "not" at one place the text names the longer.
        ordered = sorted(self.texts, key=len, reverse=True)
        body = "|".join(re.escape(option).replace(r"\ ", r"\s+") for option in ordered)
        match = re.search(rf"(?<!\w)(?:{body})(?!\w)", text.casefold())
        return plain(match[0]) if match else ""


def plain(text: str) -> str:
    """A text in lower case with single spaces."""
    return " ".join(text.casefold().split())


def checked(texts: list[str]) -> tuple[str, ...]:
    """Options that can be told apart; UsageError for too few, too many, an empty one or one twice."""
    found = tuple(plain(text) for text in texts)
    if not 2 <= len(found) <= MOST or "" in found or max(map(len, found)) > 200:
        raise UsageError(f"expected 2 to {MOST} options of 1 to 200 characters")
    if len(set(found)) < len(found):
        raise UsageError("an option is there twice")
    return found


def option_set(name: str) -> Options:
    """Options by name or path; UsageError for an unknown name, BadFile for a file that has none."""
    found = library.find("choices", name, "choice set")
    said, path = found.said, found.path
    unknown = [key for key in said if key not in _KEYS]
    if unknown:
        raise BadFile(f"{path}: unknown key {shown(unknown[0])}{did_you_mean(unknown[0], _KEYS)}")
    options, answers = said.get("options"), said.get("answers")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise BadFile(f"{path}: options must be a list of texts")
    if not isinstance(answers, dict) or not answers:
        raise BadFile(f"{path}: answers must be a table: the right option of each prompt")
    try:
        texts = checked(options)
    except LabError as problem:
        raise BadFile(f"{path}: {problem}") from None
    right: dict[str, str] = {}
    for prompt, answer in answers.items():
        if not isinstance(answer, str) or plain(answer) not in texts:
            raise BadFile(f"{path}: the answer to {shown(prompt)} is none of the options")
        right[prompt.strip()] = plain(answer)
    return Options(texts, right)


class Choice(Metric):
    """An answer that ended and names no option is wrong, so that ruined text does not raise the accuracy."""

    head = "choice"
    about = "whether the option that the answer names first is the right one (naming none is wrong)"
    takes = "RIGHT|WRONG|..., or a set"
    example = "choice:yes|no"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        try:
            if "|" in argument:
                texts = checked(argument.split("|"))
                self.options = Options(texts, {}, texts[0])
            else:
                self.options = option_set(argument)
        except UsageError as problem:
            raise UsageError(f"metric {shown(name)}: {problem}, as in {self.example}") from None

    def value(self, row: Facts) -> Result:
        right = self.options.answers.get(row.prompt.strip(), self.options.always)
        if not right:
            return None, "the set has no right answer to this prompt"
        named = self.options.named(row.text)
        if not named and row.cut:
            return None, "cut at the limit before it named an option"
        return named == right, ""
