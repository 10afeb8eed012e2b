"""Fenced code and LaTeX blocks in an answer: whether there are any, and whether they are sound.

A fence is a line of at least three backticks or tildes, as in CommonMark 0.31, section 4.5. A LaTeX block is
``$$...$$``, ``\\[...\\]`` or ``\\begin{equation}...\\end{equation}`` and its like, outside fences. What the
length limit cut off in the middle is neither sound nor unsound.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from .base import Facts, Metric, Result

LONGEST_CODE = 20_000
"""Longest block that is parsed, in characters."""

ENVIRONMENTS = ("equation", "align", "gather", "multline", "eqnarray", "displaymath")

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)\Z")
_NAMES = "|".join(ENVIRONMENTS)
_OPEN = re.compile(rf"\$\$|(?<!\\)\\\[|\\begin\{{(?P<name>(?:{_NAMES})\*?)\}}")
_COMMAND = re.compile(r"\\(begin|end)\{([^{}\n]{0,40})\}")
_SIDE = re.compile(r"\\(left|right)(?![a-zA-Z])")


@dataclass(frozen=True)
class Block:
    """One block: its language (or ``latex``), what it holds, and whether it was closed."""

    language: str
    body: str
    closed: bool


def fences(text: str) -> tuple[list[Block], str]:
    """The fenced blocks of a text, and the text without them."""
    found: list[Block] = []
    outside: list[str] = []
    mark, language, body = "", "", []
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not mark:
            if match and not (match["mark"][0] == "`" and "`" in match["info"]):
                info = match["info"].split()
                mark, language, body = match["mark"], (info[0].lower() if info else ""), []
            else:
                outside.append(line)
        elif match and _closes(match, mark):
            found.append(Block(language, "\n".join(body), True))
            mark = ""
        else:
            body.append(line)
    if mark:
        found.append(Block(language, "\n".join(body), False))
    return found, "\n".join(outside)


def _closes(match: re.Match[str], mark: str) -> bool:
    return match["mark"][0] == mark[0] and len(match["mark"]) >= len(mark) and not match["info"].strip()


def formulas(text: str) -> list[Block]:
    """The LaTeX blocks of a text outside its fences."""
    _, text = fences(text)
    found: list[Block] = []
    at = 0
    while match := _OPEN.search(text, at):
        close = {"$$": "$$", "\\[": "\\]"}.get(match[0]) or f"\\end{{{match['name']}}}"
        end = text.find(close, match.end())
        body = text[match.end() : end if end >= 0 else len(text)]
        found.append(Block("latex", body, end >= 0))
        if end < 0:
            break
        at = end + len(close)
    return found


def sound_code(block: Block) -> bool | None:
    """Whether a closed block holds code: not blank, and parsed where its language is known here.

    Python, JSON and TOML are parsed; of others it is only known that they are not blank. None for a block too
    long to parse.
    """
    if not block.body.strip():
        return False
    parse = _PARSERS.get(block.language)
    if parse is None:
        return True
    if len(block.body) > LONGEST_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parse(block.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _python(text: str) -> None:
    if text.lstrip().startswith(">>>"):  # a transcript of the interpreter: its prompts are no syntax
        lines = [line.lstrip() for line in text.splitlines()]
        text = "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
    ast.parse(text)


_PARSERS: dict[str, Callable[[str], object]] = {
    "python": _python,
    "py": _python,
    "python3": _python,
    "json": json.loads,
    "toml": tomllib.loads,
}


def sound_latex(block: Block) -> bool:
    """Whether a closed block is not blank, with its braces, environments and left/right in pairs."""
    if not block.body.strip() or "$$" in block.body:
        return False
    bare = re.sub(r"(?<!\\)%[^\n]*", "", block.body).replace("\\\\", "")
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", bare):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    sides = _SIDE.findall(bare)
    if depth or sides.count("left") != sides.count("right"):
        return False
    nested: list[str] = []
    for command, name in _COMMAND.findall(bare):
        if command == "begin":
            nested.append(name)
        elif not nested or nested.pop() != name:
            return False
    return not nested


def soundness(blocks: list[Block], sound: Callable[[Block], bool | None], cut: bool, what: str) -> Result:
    """Whether every block is sound; None without blocks, or where the limit cut the last one."""
    if not blocks:
        return None, f"there is no {what}"
    verdicts = [sound(block) for block in blocks if block.closed]
    if False in verdicts:
        return False, ""
    if not blocks[-1].closed:
        return (None, f"the limit cut the {what}, so it is undetermined") if cut else (False, "")
    if None in verdicts:
        return None, f"the {what} is longer than {LONGEST_CODE:,} characters and is not parsed"
    return True, ""


class Fence(Metric):
    head = "fence"
    about = "whether the answer has a block of fenced code"
    sign = 1

    def value(self, row: Facts) -> Result:
        return bool(fences(row.text)[0]), ""


class FenceValid(Metric):
    head = "fence-valid"
    about = (
        "whether its fenced code is closed, not blank and, as Python, JSON or TOML, can be parsed; absent "
        "without any, and where the limit cut it"
    )
    sign = 1

    def value(self, row: Facts) -> Result:
        return soundness(fences(row.text)[0], sound_code, row.cut, "fenced code")


class Latex(Metric):
    head = "latex"
    about = "whether the answer has a LaTeX block"
    sign = 1

    def value(self, row: Facts) -> Result:
        return bool(formulas(row.text)), ""


class LatexValid(Metric):
    head = "latex-valid"
    about = (
        "whether its LaTeX blocks are closed, not blank and balanced; absent without any, and where the limit "
        "cut one"
    )
    sign = 1

    def value(self, row: Facts) -> Result:
        return soundness(formulas(row.text), sound_latex, row.cut, "LaTeX block")


class LatexFirst(Metric):
    head = "latex-first"
    about = "whether the answer begins with $$"
    sign = 1

    def value(self, row: Facts) -> Result:
        text = row.text.lstrip()
        if not text:
            return None, "the answer is empty"
        if text == "$" and row.cut:
            return None, "the limit cut the answer after one dollar sign"
        return text.startswith("$$"), ""
