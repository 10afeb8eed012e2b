"""The answers of the plain and the steered arm, as they stream, with what differs or surprises marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import TYPE_CHECKING

from textual.content import Content

from labtui.widgets.growing import GrowingText
from labtui.widgets.panel import Panel

if TYPE_CHECKING:
    from labtui_sessions.fields import RowView

MARKS = ("words", "surprise", "none")
"""What can be marked in the answers."""

MILD, STRONG = 2.0, 5.0
"""Nats under the unsteered model from which a token is marked as a surprise, and as a strong one."""

_MOST_WORDS = 1_200
"""Longer answers are compared in their first words only: the comparison grows with the square."""


def words_of(text: str) -> list[tuple[str, str]]:
    """A text as (white space before, word), so that joining all gives it back but for its tail."""
    found: list[tuple[str, str]] = []
    at = 0
    for word in text.split():
        start = text.index(word, at)
        found.append((text[at:start], word))
        at = start + len(word)
    return found


def differing(mine: Sequence[str], other: Sequence[str]) -> list[bool]:
    """For each of my words, whether it has no counterpart in the other text (longest matching blocks)."""
    marked = [True] * len(mine)
    matcher = SequenceMatcher(None, mine[:_MOST_WORDS], other[:_MOST_WORDS], autojunk=False)
    for start, _, size in matcher.get_matching_blocks():
        marked[start : start + size] = [False] * size
    marked[_MOST_WORDS:] = [False] * len(marked[_MOST_WORDS:])
    return marked


def mark_words(text: str, other: str) -> Content:
    """``text`` with the words that ``other`` lacks underlined, neighbours in one stroke: every change of style
    is sent to the terminal."""
    mine = words_of(text)
    marks = differing([w for _, w in mine], other.split())
    parts: list[str | tuple[str, str]] = []
    for new, run in groupby(zip(mine, marks, strict=True), key=lambda item: item[1]):
        words = [word for word, _ in run]
        stroke = words[0][1] + "".join(space + word for space, word in words[1:])
        parts += [words[0][0], (stroke, "underline $lab-second") if new else stroke]
    tail = text[sum(len(s) + len(w) for s, w in mine) :]
    return Content.assemble(*parts, tail)


def mark_surprise(pieces: Sequence[str], plain: Sequence[float | None]) -> Content:
    """Tokens that the unsteered model held unlikely: italic from 2 nats on, in ‹bold› from 5 nats on."""
    parts: list[str | tuple[str, str]] = []
    for piece, logprob in zip(pieces, plain, strict=False):
        nats = -logprob if logprob is not None and math.isfinite(logprob) else 0.0
        body = piece.strip()
        if nats < MILD or not body:
            parts.append(piece)
            continue
        start = piece.index(body)
        shown = f"‹{body}›" if nats >= STRONG else body
        style = "bold $error" if nats >= STRONG else "italic $lab-second"
        parts += [piece[:start], (shown, style), piece[start + len(body) :]]
    return Content.assemble(*parts)


def numbers(row: RowView) -> str:
    """Words, tokens and perplexity of a row, as far as they are known; a cut answer is a lower bound."""
    if row.finished is None:
        return f"{row.tokens} tokens …"
    bound = "≥" if row.finish == "length" else ""
    parts = [f"{bound}{row.words} words"] if row.words is not None else []
    parts.append(f"{bound}{row.tokens} tokens")
    perplexity = row.metrics.get("perplexity")
    if isinstance(perplexity, (int, float)):
        parts.append(f"perplexity {perplexity:.3g}")
    elif row.reasons.get("perplexity"):
        parts.append(f"no perplexity: {row.reasons['perplexity']}")
    parts.append(
        {"stop": "ended", "length": "cut by the limit", "cancelled": "broken off"}.get(row.finish, row.finish)
    )
    return " · ".join(parts)


class Arm(Panel):
    """One arm: its answers (one, or a few resamples), the end in view while they grow.

    Of several that grow, the first streams and the others are a line at the end: text that changes all over
    cannot be read, and is what a slow terminal takes longest to show. Words that differ are marked when both
    answers have ended: until then the tail of the longer one would be.
    """

    def __init__(self, *, title: str, id: str, waiting: str) -> None:
        self._body = GrowingText(id=f"{id}-text")
        super().__init__(self._body, title=title, id=id, classes="arm")
        self._waiting = waiting
        self._key: object = None
        self._drawn: dict[str, tuple[object, Content]] = {}
        self.text = ""

    def show(
        self,
        rows: Sequence[RowView],
        others: Sequence[RowView],
        marks: str,
        said: str = "",
        extra: Content | str = "",
    ) -> None:
        """Show ``rows``; words are compared with those of ``others`` at the same place."""
        key = (
            said,
            marks,
            extra,
            *((r.key, r.tokens, r.finish, len(r.text), r.words, len(r.metrics)) for r in rows),
            *((r.key, len(r.text)) for r in others if marks == "words" and r.finished is not None),
        )
        if key == self._key:
            return
        self._key = key
        self.text = "\n\n".join(row.text for row in rows)
        if not rows:
            self._body.show([Content.styled(said or self._waiting, "$lab-dim")])
            self.note("", extra)
            return
        before, self._drawn = self._drawn, {}
        growing = [row for row in rows if row.finished is None]
        for index, row in enumerate(rows):
            if row.finished is None and row is not growing[0]:
                continue
            other = _counterpart(row, index, others)
            drawn = (
                marks,
                row.tokens,
                row.finish,
                len(row.text),
                other if marks == "words" else "",
                len(rows),
            )
            old = before.get(row.key)
            self._drawn[row.key] = (
                old if old and old[0] == drawn else (drawn, self._draw(row, other, marks, index, len(rows)))
            )
        parts = [content for _, content in self._drawn.values()]
        if growing[1:]:
            tokens = sum(row.tokens for row in growing[1:])
            parts.append(
                Content.styled(f"── {len(growing) - 1} more on their way · {tokens} tokens ──", "$lab-dim")
            )
        if said:
            parts.append(Content.styled(said, "$warning"))
        self._body.show(parts, growing=bool(growing))
        self.note(numbers(rows[-1]) if len(rows) == 1 else _mean(rows), extra)

    @staticmethod
    def _draw(row: RowView, other: str, marks: str, index: int, count: int) -> Content:
        """One answer, under a line that tells which one where there are several."""
        head = Content("")
        if count > 1:
            head = Content.styled(f"── {index + 1} of {count} · seed {row.seed} ──\n", "$lab-dim")
        lead = Content.styled("… ", "$lab-dim") if not row.whole else Content("")
        caret = Content.styled("▌", "$accent") if row.finished is None else Content("")
        if marks == "surprise" and row.plain_logprobs is not None and row.first == 0:
            body = mark_surprise(row.pieces, row.plain_logprobs)
        elif marks == "words" and other:
            body = mark_words(row.text, other)
        else:
            body = Content(row.text)
        return Content.assemble(head, lead, body, caret)


def _counterpart(row: RowView, index: int, others: Sequence[RowView]) -> str:
    """The text that a row's words are compared with; empty while one of the two grows."""
    if not others or row.finished is None:
        return ""
    other = others[min(index, len(others) - 1)]
    return other.text if other.finished is not None else ""


def _mean(rows: Sequence[RowView]) -> str:
    done = [row for row in rows if row.finished is not None]
    counts = [row.words for row in done if row.words is not None]
    if not counts:
        return f"{len(done)} of {len(rows)} done"
    bound = "≥" if any(row.finish == "length" for row in done) else ""
    return f"{len(done)} of {len(rows)} done · mean {bound}{sum(counts) / len(counts):.1f} words"
