"""The prompt as the model gets it, token by token, with the positions that are read and edited marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content
from textual.widgets import Static

from labtui.widgets.reader import Reader
from labtui_kernels.lang.positions import ImageSpan, Where

_SHOWN = {"\n": "⏎", "\t": "⇥", " ": "·"}


@dataclass(frozen=True)
class Templated:
    """A rendered prompt: its pieces, which are content, which are read and which are edited (indices)."""

    pieces: tuple[str, ...] = ()
    content: tuple[bool, ...] = ()
    read: frozenset[int] = field(default_factory=frozenset)
    edited: frozenset[int] = field(default_factory=frozenset)
    images: tuple[ImageSpan, ...] = ()
    """Where the prompt's pictures lie."""
    generated: str = ""
    """Which generated tokens are edited, in words; empty for none."""


def visible(piece: str) -> str:
    """A token as one can see it: line breaks and lone spaces get a symbol."""
    shown = "".join(_SHOWN.get(c, c) if c != " " else c for c in piece)
    return shown if shown.strip() else "".join(_SHOWN.get(c, c) for c in piece)


def draw(tokens: Templated) -> Content:
    """Template tokens dim, edited ones underlined, read ones in ⟦brackets⟧; a line break after each ⏎."""
    parts: list[str | tuple[str, str]] = []
    inside = {place: n for n, span in enumerate(tokens.images) for place in span.positions}
    for index, piece in enumerate(tokens.pieces):
        if index in inside:
            number = inside[index]
            for frame, (first, stop) in enumerate(tokens.images[number].pieces):
                if index == first:
                    parts.append(_block(tokens, number, frame, range(first, stop)))
            continue
        template = index < len(tokens.content) and not tokens.content[index]
        style = "$lab-dim" if template else "$foreground"
        if index in tokens.edited:
            style = "underline $accent"
        text = visible(piece)
        if index in tokens.read:
            text, style = f"⟦{text}⟧", f"{style} bold"
        parts.append((text, style))
        if piece.endswith("\n"):
            parts.append("\n")
    if tokens.generated:
        parts.append((f" + generated {tokens.generated}", "underline $accent"))
    return Content.assemble(*parts)


def _block(tokens: Templated, number: int, frame: int, piece: range) -> tuple[str, str]:
    """All tokens of a picture as one: its number, its merged patches, and how many of them are edited or read.

    A video whose frames stand apart has such a block for each.
    """
    span = tokens.images[number]
    places = frozenset(piece)
    edited, read = len(places & tokens.edited), len(places & tokens.read)
    count = len(places)
    many = f"{span.frames}x" if span.frames > 1 and not span.starts else ""
    text = f"image{number}{f' frame {frame}' if span.starts else ''} {many}{span.rows}x{span.cols}"
    if edited:
        text += " edited" if edited == count else f" {edited} edited"
    style = "bold underline $accent" if edited else "bold $lab-second"
    return (f"⟦{text}⟧" if read else f"[{text}]"), style


class Tokens(Reader):
    """The panel's body."""

    def __init__(self, *, id: str) -> None:
        self._body = Static("", markup=False)
        super().__init__(self._body, id=id)
        self._now: Templated | str | None = None
        self.text = ""

    def show(self, tokens: Templated | str) -> None:
        """Show a rendered prompt, or a line that says why there is none."""
        if tokens == self._now:
            return
        self._now = tokens
        if isinstance(tokens, str):
            self.text = ""
            self._body.update(Content.styled(tokens, "$lab-dim"))
        else:
            self.text = "".join(tokens.pieces)
            drawn, size = draw(tokens), self._body.size
            taller = (
                not size.width or drawn.get_height(self._body.styles.get_rules(), size.width) != size.height
            )
            self._body.update(drawn, layout=taller)  # with each key typed: seldom another height


def legend(tokens: Templated) -> str:
    """Counts for the panel's lower border."""
    return f"{len(tokens.pieces)} · {len(tokens.edited)} edited, underlined · {len(tokens.read)} read ⟦⟧"


def indices(mask: Sequence[bool]) -> frozenset[int]:
    """The positions that a mask selects."""
    return frozenset(i for i, on in enumerate(mask) if on)


def generated_tokens(where: Where) -> str:
    """Which generated tokens a place covers, in words; empty for none."""
    if where.kind in ("all", "content", "text"):
        return "(all)"
    if where.kind == "generated":
        return str(where).removeprefix("generated") or "(all)"
    return ""


MOST = 1 << 20
"""Tokens of a picture that are believed: what is recorded may come from any file."""


def spans(images: Iterable[Mapping[str, Any]]) -> tuple[ImageSpan, ...]:
    """Where pictures lie, from what a kernel or a recorded row says of them; what does not fit is left out."""
    found: list[ImageSpan] = []
    for image in images:
        numbers = [image.get(name) for name in ("start", "rows", "cols")]
        grid, starts = image.get("grid"), image.get("starts") or ()
        frames = image.get("frames", grid[0] if isinstance(grid, list) and len(grid) == 3 else 1)
        known = [*numbers, frames, *starts] if isinstance(starts, list | tuple) else []
        if not known or any(type(one) is not int or not 0 <= one <= MOST for one in known):
            continue
        start, rows, cols = numbers
        if start is None or rows is None or cols is None or rows * cols * frames > MOST:
            continue
        if not starts or (len(starts) == frames and list(starts) == sorted(starts)):
            found.append(ImageSpan(start, rows, cols, (), frames, tuple(starts)))
    return tuple(found)
