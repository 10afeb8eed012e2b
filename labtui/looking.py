"""What the Look screen makes of a session: pictures, what was read of them, and how it is said. No torch.

All numbers are those of the tables (:mod:`labtui_sessions.looks` reads them); nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from statistics import median
from typing import TYPE_CHECKING, Any

from textual.content import Content

from labtui.widgets.chart import Plot, Series
from labtui.widgets.picture import Overlay, overlay, short
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.images import is_digest
from labtui_kernels.lang.edits import EditTerm, format_edits, parse_edits
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import Site, parse_site
from labtui_kernels.lang.strength import Strength
from labtui_sessions.diagnosis import steps
from labtui_sessions.looks import READINGS, Depth, Hit

if TYPE_CHECKING:
    from PIL.Image import Image

    from labtui.widgets.raster import Rect
    from labtui_sessions.fields import JobView, RowView
    from labtui_sessions.state import SessionState

OVERLAYS = {
    "none": "picture",
    "norm": "norm",
    "similarity": "cosine to here",
    "effect": "moved by edit",
    "attention": "attention",
}
"""What is laid over the picture, in the order of its key."""
ASK = "What is in this picture?"
MODERATE = Strength(8.0, "pct")
"""The strength of an edit that nobody has given one yet."""
KEPT = ("system", "thinking", "min_pixels", "max_pixels", "fps", "max_frames")
"""What other specs about the same picture take from a look, so that they see the same patches."""
MOST_PIXELS = 1 << 20
"""Pixels of a thumbnail that are decoded: far more than one has."""


@dataclass(frozen=True)
class Sight:
    """One picture of a session, as a job read it."""

    job: str
    digest: str
    number: int = 0
    rows: int = 0
    cols: int = 0
    start: int = 0
    size: tuple[int, int] = (0, 0)
    sites: tuple[str, ...] = ()
    table: str = ""
    index: str = ""
    parts: tuple[str, ...] = ()
    frame: int = 0
    frames: int = 1
    when: float = 0.0

    @property
    def patches(self) -> int:
        return self.rows * self.cols

    def pixels(self, patch: int) -> tuple[int, int, int, int]:
        """The rectangle x0, y0, x1, y1 of a patch in pixels of the original picture, rounded."""
        row, col = divmod(patch, self.cols)
        across, down = self.size[0] / self.cols, self.size[1] / self.rows
        return round(col * across), round(row * down), round((col + 1) * across), round((row + 1) * down)

    def of(self, what: str) -> str:
        """The name of one of its tables."""
        return f"{self.table}-{what}"


def sight_of(job: JobView) -> Sight | None:
    """What a look's plan says; None before it was planned, and for a plan that makes no sense."""
    plan, digest = job.plan, str(job.plan.get("digest") or "")
    grid, size = _pair(plan.get("grid")), _pair(plan.get("size"))
    if grid is None or size is None or not is_digest(digest):
        return None
    rows, cols = grid
    if not 0 < rows * cols <= 1 << 16 or min(rows, cols, *size) < 1:
        return None
    start, number = plan.get("start"), plan.get("number")
    return Sight(
        job.job,
        digest,
        number if isinstance(number, int) else 0,
        rows,
        cols,
        start if isinstance(start, int) else 0,
        size,
        tuple(str(site) for site in plan.get("at") or ()),
        str(plan.get("table") or job.job),
        str(job.spec.get("index") or ""),
        tuple(str(part) for part in plan.get("parts") or ()),
        *_frame(plan),
    )


def _frame(plan: Mapping[str, Any]) -> tuple[int, int, float]:
    """Which frame of a video a look read, how many there are, and the second that it shows."""
    frame, frames, when = (plan.get(name) for name in ("frame", "frames", "when"))
    if type(frame) is not int or type(frames) is not int or not 0 <= frame < frames:
        return 0, 1, 0.0
    return frame, frames, float(when) if isinstance(when, float | int) else 0.0


def _pair(value: Any) -> tuple[int, int] | None:
    """Two whole numbers; None for what is something else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    one, other = value
    return (one, other) if type(one) is int and type(other) is int else None


# -- jobs ---------------------------------------------------------------------------------------------


def looks_of(state: SessionState) -> list[JobView]:
    """The looks of a session that read a picture as it is, oldest first."""
    return [job for job in state.jobs.values() if job.kind == "look" and not only_effect(job)]


def only_effect(job: JobView) -> bool:
    """Whether a look was run for what an edit does alone."""
    return list(job.spec.get("read") or ()) == ["effect"]


def effect_of(state: SessionState, sight: Sight) -> tuple[JobView, Sight] | None:
    """The last look at the same picture that says what an edit did to its patches."""
    for job in reversed(list(state.jobs.values())):
        if job.kind != "look" or not job.spec.get("edits"):
            continue
        found = sight_of(job)
        same = found is not None and (found.digest, found.number, found.frame, found.rows, found.cols) == (
            sight.digest, sight.number, sight.frame, sight.rows, sight.cols,
        )  # fmt: skip
        if found is not None and same and found.of("effect") in state.tables:
            return job, found
    return None


def pictures_of(spec: Mapping[str, Any]) -> list[str]:
    """The pictures of a spec's prompt, in order: paths, or digests where they were sent."""
    prompt = spec.get("prompt")
    turns = prompt if isinstance(prompt, list) else []
    return [str(one) for turn in turns if isinstance(turn, Mapping) for one in turn.get("images") or ()]


def question_of(spec: Mapping[str, Any]) -> str:
    """The text of a prompt's last turn."""
    prompt = spec.get("prompt")
    if isinstance(prompt, str):
        return prompt
    turns = [turn for turn in prompt or () if isinstance(turn, Mapping)] if isinstance(prompt, list) else []
    return str(turns[-1].get("content") or "") if turns else ""


def asked_of(state: SessionState, digest: str) -> JobView | None:
    """The last generation about a picture."""
    found = [job for job in state.jobs.values() if job.kind == "generate" and digest in pictures_of(job.spec)]
    return found[-1] if found else None


def prompt_with(spec: Mapping[str, Any], question: str) -> list[dict[str, Any]]:
    """A look's own prompt with another question: the same pictures in the same places."""
    turns = [dict(turn) for turn in spec.get("prompt") or () if isinstance(turn, Mapping)]
    turns = turns or [{"role": "user", "images": pictures_of(spec)}]
    turns[-1]["content"] = question
    return turns


def ask_spec(spec: Mapping[str, Any], question: str, edits: str) -> dict[str, Any]:
    """The generation that asks about the picture of a look, plain and steered."""
    kept = {name: spec[name] for name in KEPT if spec.get(name) is not None}
    prompt = prompt_with(spec, question or question_of(spec) or ASK)
    return {"kind": "generate", "prompt": prompt, "edits": edits, "max_new_tokens": 64, **kept}


def effect_spec(spec: Mapping[str, Any], edits: str) -> dict[str, Any]:
    """The look that says what an edit does to each patch."""
    kept = {
        name: spec[name]
        for name in ("prompt", "number", "frame", "sites", *KEPT)
        if spec.get(name) is not None
    }
    return {"kind": "look", **kept, "edits": edits, "read": ["effect"]}


# -- edits --------------------------------------------------------------------------------------------


def only_there(text: str, rect: Rect | None, number: int, direction: str, site: str) -> str:
    """An expression whose edits act in a rectangle of picture ``number`` alone (None: in all of it).

    An empty one becomes the first edit worth trying: ``direction`` at ``site``. UsageError for text that is no edit.
    """
    where = Where("image", rect=rect, number=number)
    terms = parse_edits(text) if text.strip() else ()
    if not terms:
        if not direction:
            raise UsageError("no direction is stored yet: D on the Shelf (4) makes one")
        terms = (EditTerm("add", MODERATE, direction, (parse_site(site or "llm.0"),)),)
    return format_edits(tuple(replace(term, where=where) for term in terms))


def site_for_edits(sites: Sequence[str], site: str | None, shape: ModelShape | None) -> str:
    """Where a first edit goes: the site in view if it is in the decoder, else its middle block."""
    if site and site.startswith("llm."):
        return site
    blocks = shape.blocks if shape is not None else sum(one.startswith("llm.") for one in sites)
    return str(Site("llm", max(0, blocks // 2), "out"))


def rect_in(text: str) -> Rect | None:
    """The rectangle of the first edit that has one; None for text that is no edit, too."""
    try:
        return next((term.where.rect for term in parse_edits(text) if term.where.rect is not None), None)
    except UsageError:
        return None


def rect_text(rect: Rect) -> str:
    """A rectangle as edits name it."""
    return f"[{rect[0]}:{rect[1]},{rect[2]}:{rect[3]}]"


# -- the picture --------------------------------------------------------------------------------------


def decode_thumbnail(data: bytes) -> Image:
    """A thumbnail's pixels. BadFile for what is no PNG, or far larger than a thumbnail: it may come from any file."""
    from PIL import Image as pil

    try:
        opened = pil.open(BytesIO(data), formats=("PNG",))
        if opened.width * opened.height > MOST_PIXELS:
            raise BadFile(
                f"the thumbnail claims {opened.width} x {opened.height} pixels; expected at most 256 a side"
            )
        return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise BadFile(f"the thumbnail in this session is damaged: {error}") from error


def overlay_of(kind: str, site: str, values: Sequence[float | None], word: str = "") -> Overlay | None:
    """An overlay; None where no patch has a number. ``word`` is the one whose attention it is."""
    if kind == "none" or all(value is None for value in values):
        return None
    title = f"{OVERLAYS[kind]} {site}" + (f" from {shown_token(word)}" if word else "")
    if kind == "similarity":
        return overlay(title, tuple(values), high=1.0, places=2)
    return overlay(title, tuple(values), low=0.0 if kind in ("effect", "attention") else None)


# -- lines --------------------------------------------------------------------------------------------


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


def shown_token(token: str) -> str:
    """A token as it is read: a leading space as a dot, line breaks as signs."""
    plain = token.replace("\n", "⏎").replace("\t", "⇥")
    return "·" + plain[1:] if plain.startswith(" ") else plain or "(empty)"


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
