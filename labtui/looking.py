"""What the Look screen makes of a session: pictures, what was read of them, and which edits act where. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labtui.widgets.scene import Overlay, overlay
from labtui_artifacts.images import is_digest
from labtui_kernels.lang.edits import EditTerm, format_edits, parse_edits
from labtui_kernels.lang.positions import ImageSpan, Where
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import Site, parse_site
from labtui_kernels.lang.strength import Strength

if TYPE_CHECKING:
    from labtui.widgets.raster import Rect
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

OVERLAYS = {
    "none": "picture",
    "norm": "norm",
    "similarity": "cosine to here",
    "scores": "projection",
    "effect": "moved by edit",
    "attention": "attention",
}
"""What is laid over the picture, in the order of its key."""
ASK = "What is in this picture?"
MODERATE = Strength(8.0, "pct")
"""The strength of an edit that nobody has given one yet."""
KEPT = ("system", "thinking", "min_pixels", "max_pixels", "fps", "max_frames")
"""What other specs about the same picture take from a look, so that they see the same patches."""


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
    """An expression whose edits of pictures act in a rectangle of picture ``number`` alone (None: in all of it).

    Frames of a video that an edit names stay named in a rectangle. Terms that act on the text keep their place where
    others act on pictures. An empty expression becomes the first edit worth trying: ``direction`` at ``site``. UsageError
    for text that is no edit.
    """
    where = Where("image", rect=rect, number=number)
    terms = parse_edits(text) if text.strip() else ()
    if not terms:
        terms = (EditTerm("add", MODERATE, direction, (parse_site(site or "llm.0"),), where),)
    seen = [term for term in terms if term.where.kind in ("image", "ink")] or list(terms)

    def there(term: EditTerm) -> EditTerm:
        return replace(term, where=replace(where, frames=term.where.frames if rect is not None else None))

    return format_edits(tuple(there(term) if term in seen else term for term in terms))


def site_for_edits(sites: Sequence[str], site: str | None, shape: ModelShape | None) -> str:
    """Where a first edit goes: the site in view if it is in the decoder, else its middle block."""
    if site and site.startswith("llm."):
        return site
    blocks = shape.blocks if shape is not None else sum(one.startswith("llm.") for one in sites)
    return str(Site("llm", max(0, blocks // 2), "out"))


def rects_in(terms: Sequence[EditTerm], sight: Sight) -> list[Rect]:
    """The rectangles that edits name in the picture of a look and that lie in it, each once."""
    named = [term.where.rect for term in terms if term.where.number in (None, sight.number)]
    return list(dict.fromkeys(
        rect for rect in named if rect is not None and rect[1] <= sight.rows and rect[3] <= sight.cols
    ))  # fmt: skip


def check_rects(terms: Sequence[EditTerm], sight: Sight) -> None:
    """UsageError for a rectangle that leaves the picture of a look, as the kernel would say it."""
    spans = [ImageSpan(sight.start, sight.rows, sight.cols, frames=sight.frames)] * (sight.number + 1)
    for term in terms:
        if term.where.kind == "image" and term.where.number in (None, sight.number):
            term.where.patch_mask(spans)


def place_text(text: str, sight: Sight) -> str:
    """Where in the picture the edits of an expression act, where that is not all of it."""
    terms = parse_edits(text) if text.strip() else ()
    alone = "only " if all(term.where.rect is not None for term in terms) else ""
    rects = rects_in(terms, sight)
    return f"{alone}in {', '.join(map(rect_text, rects))}" if rects else ""


def rect_text(rect: Rect) -> str:
    """A rectangle as edits name it."""
    return f"[{rect[0]}:{rect[1]},{rect[2]}:{rect[3]}]"


# -- the picture --------------------------------------------------------------------------------------


def overlay_of(kind: str, site: str, values: Sequence[float | None], of: str = "") -> Overlay | None:
    """An overlay; None where no patch has a number. ``of``: the word whose attention it is, or the direction."""
    if kind == "none" or all(value is None for value in values):
        return None
    title = f"{OVERLAYS[kind]} {site}"
    if kind == "attention":
        title += f" from {shown_token(of)}" if of else ""
    elif kind == "scores":
        title = f"{OVERLAYS[kind]} {of} {site}"
    if kind == "similarity":
        return overlay(title, tuple(values), high=1.0, places=2)
    return overlay(title, tuple(values), low=0.0 if kind in ("effect", "attention") else None)


def shown_token(token: str) -> str:
    """A token as it is read: a leading space as a dot, line breaks as signs."""
    plain = token.replace("\n", "⏎").replace("\t", "⇥")
    return "·" + plain[1:] if plain.startswith(" ") else plain or "(empty)"
