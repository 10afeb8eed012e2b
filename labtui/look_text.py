"""How the Look screen says what was read of a picture: lines about its patches, their words, neighbours and answers.

All numbers are those of the tables (:mod:`labtui_sessions.looks` reads them); nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from textual.content import Content

from labtui.looking import Sight, shown_token
from labtui.widgets.chart import Plot, Series
from labtui.widgets.scene import short
from labtui_sessions.diagnosis import steps
from labtui_sessions.looks import READINGS, Depth, Hit, Score

if TYPE_CHECKING:
    from labtui_sessions.fields import RowView


def head_text(sight: Sight, name: str, place: str) -> Content:
    """What is in view: the picture, its grid, and which look of the session it is."""
    width, height = sight.size
    facts = [
        f"{width}×{height} pixels",
        f"{sight.rows}×{sight.cols} patches",
        f"{len(sight.sites)} sites",
        place,
    ]
    if sight.frames > 1:
        which = f"frame {sight.frame} of 0-{sight.frames - 1}, at {sight.when:.1f} s"
        facts.insert(0, which if sight.frame == 0 else f"{which} (the first is shown)")
    if sight.number:
        facts.insert(0, f"image{sight.number}")
    return Content.assemble(
        (name or "picture", "bold $accent"), "".join(f" · {fact}" for fact in facts if fact)
    )


def patch_text(sight: Sight, patch: int, values: Sequence[float | None]) -> str:
    """Where a patch lies: in the picture, in pixels, among the tokens; and its norm's rank."""
    row, col = divmod(patch, sight.cols)
    x0, y0, x1, y1 = sight.pixels(patch)
    parts = [
        f"patch {patch}, row {row}, column {col}",
        f"pixels {x0},{y0} to {x1},{y1}",
        f"token {sight.start + patch}",
    ]
    norm = values[patch] if patch < len(values) else None
    there = [value for value in values if value is not None]
    if norm is not None:
        rank = 1 + sum(value > norm for value in there)
        parts.append(
            f"norm {short(norm, 6)}, {ordinal(rank)} of {len(there)}, median {short(median(there), 6)}"
        )
    return " · ".join(parts)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, ..."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def norms_plot(norms: Mapping[str, float], all_patches: Sequence[Depth], at: str | None) -> Plot | None:
    """A patch's norm over the depth, and the median, lowest and highest of all; None without two sites."""
    sites = [one.site for one in all_patches] or list(norms)
    if len(sites) < 2:
        return None
    x, axis = steps(sites)
    where = dict(zip(sites, x, strict=True))
    here = tuple((where[site], value) for site, value in norms.items() if site in where)
    series = [Series("this patch", here)] if here else []
    series += (
        [Series("median", tuple((where[one.site], one.median) for one in all_patches))] if all_patches else []
    )
    if all_patches:
        ends = [(where[one.site], end) for one in all_patches for end in (one.lowest, one.highest)]
        series.append(Series("ends", tuple(ends), "·", "$lab-dim", joined=False))
    names = () if axis else tuple(sites)
    return Plot(tuple(series), axis or "site", mark_x=where.get(at or ""), names=names) if series else None


def alike_text(all_patches: Sequence[Depth], site: str | None) -> str:
    """How alike the patches are at a site."""
    here = next((one for one in all_patches if one.site == site), None)
    return f"patches alike {here.alike:+.2f}" if here is not None and here.alike is not None else ""


def readings_text(found: Mapping[str, Sequence[tuple[str, float]]], width: int) -> Content:
    """The three readings side by side, or below each other where there is no room."""
    if not found:
        return Content("")
    each = width // len(found)
    if each < 21:
        return Content("\n").join(
            Content.assemble((f"{READINGS[name]}\n", "$lab-dim"), "   ".join(_word(*pair) for pair in pairs))
            for name, pairs in found.items()
        )
    lines = [Content.styled("".join(_cell(READINGS[name], each) for name in found), "$lab-dim")]
    for rank in range(max(len(pairs) for pairs in found.values())):
        cells = [_word(*pairs[rank]) if rank < len(pairs) else "" for pairs in found.values()]
        lines.append(Content("".join(_cell(cell, each) for cell in cells)))
    return Content("\n").join(lines)


def _word(token: str, value: float) -> str:
    return f"{short(value, 4)} {shown_token(token)}"


def _cell(text: str, width: int) -> str:
    return Content(text).truncate(max(1, width - 1), ellipsis=True, pad=True).plain + " "


def scores_text(
    found: Mapping[str, Mapping[str, Score]], direction: str, site: str | None, patches: int, width: int
) -> Content:
    """Where a patch stands along every direction at the site in view, then along ``direction`` at every site."""
    if not found:
        return Content("")
    room = max(5, min(max(map(len, found)), width - 24))
    head = f"{'projection':>{room + 11}} cosine rank of {patches}"
    lines = [Content.styled(head, "$lab-dim")]
    for name, at in found.items():
        own = at.get(site or "")
        said = _score(own, width - room - 2) if own is not None else f" no vector at {site}"
        mark, style = ("▸", "bold") if name == direction else (" ", "$lab-dim")
        lines.append(Content.assemble((f"{mark}{_cell(name, room + 1)}", style), said))
    at = found.get(direction, {})
    lines += [Content(""), Content.styled(f"{direction} at each site", "$lab-dim")]
    wide = max(map(len, at), default=5)
    for name, own in at.items():
        mark, style = ("▸", "bold") if name == site else (" ", "$lab-dim")
        lines.append(Content.assemble((f"{mark}{name.ljust(wide)} ", style), _score(own, width - wide - 2)))
    return Content("\n").join(lines)


def _score(own: Score, room: int) -> str:
    """A score as columns: projection, cosine, rank, and where there is room a bar of the percentile."""
    cosine = f"{own.cosine:+.2f}" if own.cosine is not None else ""
    rank = ordinal(own.rank) if own.rank is not None else ""
    shown = f"{_signed(own.projection):>9} {cosine:>6} {rank:>5}"
    if own.percentile is not None and room >= len(shown) + 14:
        full = round(own.percentile / 10)
        shown += "  " + "█" * full + "░" * (10 - full)
    return shown.rstrip()


def _signed(value: float) -> str:
    return f"+{short(value, 8)}" if value >= 0 else short(value, 9)


def neighbours_text(found: Mapping[str, Sequence[Hit]], site: str | None, width: int) -> Content:
    """The hits at the site in view, then the nearest at every site."""
    if not found:
        return Content("")
    lines: list[Content] = []
    here = found.get(site or "", ())
    if here:
        lines += [_hit(hit, width) for hit in here]
    else:
        why = f"none at {site}: the index holds the decoder's states, which are of another width"
        lines.append(Content.styled(why, "$lab-dim"))
    lines += [Content(""), Content.styled("the nearest at each site", "$lab-dim")]
    room = max(len(name) for name in found)
    for name, hits in found.items():
        mark = "▸" if name == site else " "
        line = _hit(hits[0], width - room - 2) if hits else Content.styled("none", "$lab-dim")
        style = "bold" if name == site else "$lab-dim"
        lines.append(Content.assemble((f"{mark}{name.ljust(room)} ", style), line))
    return Content("\n").join(lines)


def _hit(hit: Hit, width: int) -> Content:
    """A neighbour: how near, where it was read, and its caption with the token marked."""
    head = f"{hit.cosine:+.2f} {hit.site.removesuffix('.out').ljust(7)} "
    room = max(8, width - len(head))
    return Content.assemble(head, _caption(hit, room))


def _caption(hit: Hit, room: int) -> Content:
    """As much of a caption as there is room for, around its token in brackets."""
    text, span = " ".join(hit.caption.split("\n")), hit.span
    if span is None or not 0 <= span[0] <= span[1] <= len(text):
        return Content.assemble((shown_token(hit.token), "bold"), f"  {text}").truncate(room, ellipsis=True)
    before, token, after = text[: span[0]], text[span[0] : span[1]], text[span[1] :]
    spare = room - len(token) - 2
    if len(before) + len(after) > spare:
        keep = max(0, min(len(before), max(spare - len(after), spare // 2)))
        before = ("…" + before[len(before) - keep + 1 :]) if keep < len(before) and keep else before[:keep]
    return Content.assemble(before, ("[" + token + "]", "bold $accent"), after).truncate(room, ellipsis=True)


def answer_text(row: RowView | None, waiting: str) -> Content:
    """An answer as far as it has come."""
    if row is None:
        return Content.styled(waiting, "$lab-dim")
    more = "" if row.finished is not None else "▌"
    return (
        Content.assemble(row.text or "", more) if row.text or more else Content.styled("(empty)", "$lab-dim")
    )


def tabbed_patches(sight: Sight, site: str, columns: Mapping[str, Sequence[float | None]]) -> str:
    """Numbers of all patches at a site, tab between columns."""
    names = [name for name, values in columns.items() if any(value is not None for value in values)]
    lines = ["\t".join(["site", "patch", "row", "col", *names])]
    for patch in range(sight.patches):
        row, col = divmod(patch, sight.cols)
        numbers = ("" if (v := columns[name][patch]) is None else f"{v:.6g}" for name in names)
        lines.append("\t".join([site, str(patch), str(row), str(col), *numbers]))
    return "\n".join(lines)
