"""A kernel without a model: real events through the real reducer, and a record of what was asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labtui.projection import Kernel, KernelCard, Link, SessionCard, Source, Start
from labtui_artifacts import files
from labtui_artifacts.errors import LabError, Unreachable
from labtui_artifacts.kinds.direction import build
from labtui_kernels.lang.edits import parse_edits
from labtui_sessions.events import Event
from labtui_sessions.log import result_in
from labtui_sessions.source import RowText, collect_row
from labtui_sessions.state import SessionState, reduce
from labtui_sessions.tables import Page, Tables, parse_conditions

T0 = 1_760_000_000.0
"""Time of the first event: fixed, so that screens are the same on every run."""

INFO = {
    "source": "toy-qwen3",
    "name": "toy-qwen3",
    "family": "qwen3",
    "architecture": "Qwen3ForCausalLM",
    "blocks": 8,
    "width": 192,
    "vocab": 4096,
    "parameters": 3_200_000,
    "dtype": "float32",
    "quantisation": "",
    "device": "cpu",
    "context_length": 1024,
    "memory_bytes": 12_800_000,
    "default_thinking": False,
}

PLAIN = (
    "A mutex is a lock that only one thread can hold at a time. A thread takes it before it touches what is "
    "shared, and gives it back when it is done, so that no two threads change the same thing at once."
)
STEERED = "A mutex is a lock: one thread at a time."
PIECES = [
    "<|im_start|>",
    "system",
    "\n",
    "You",
    " are",
    " a",
    " helpful",
    " assistant",
    ".",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "user",
    "\n",
    "Explain",
    " what",
    " a",
    " mutex",
    " is",
    ".",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "assistant",
    "\n",
]
CONTENT = [3 <= i <= 8 or 14 <= i <= 19 for i in range(len(PIECES))]
NORMS = {
    f"llm.{b}.{p}": round(2.0 + b * 1.7 + i * 0.3, 2)
    for b in range(8)
    for i, p in enumerate(("in", "attn", "mlp", "out"))
}
REFERENCES = {site: round(norm * 6.3 * 4) / 4 for site, norm in NORMS.items()}
SPEC = {
    "kind": "generate",
    "prompt": "Explain what a mutex is.",
    "system": "You are a helpful assistant.",
    "edits": "2.0*terse@llm.4",
    "max_new_tokens": 128,
    "temperature": 0.0,
    "seed": 0,
    "n": 1,
}


META: dict[str, Any] = {
    "method": "mean-difference",
    "pairs": 12,
    "read": "last",
    "sites": list(NORMS),
    "norms": NORMS,
    "split_half": dict.fromkeys(NORMS, 0.91),
}
"""Header of every direction of the fake kernel."""


def direction_file(path: Path) -> Path:
    """A real direction file with that header and those reference norms."""
    vectors = {site: np.array([norm, 0.0], dtype=np.float32) for site, norm in NORMS.items()}
    references = {site: (norm, norm * 1.5) for site, norm in REFERENCES.items()}
    tensors, meta = build(vectors, references=references, meta=META)
    files.write(path, "direction", tensors, meta | {"norms": NORMS})
    return path


def pieces_of(text: str) -> list[str]:
    """A text as tokens: a word with the space before it."""
    words = text.split(" ")
    return [words[0], *(" " + word for word in words[1:])]


class FakeKernel:
    """What the app needs of a kernel. Tests emit events and set answers; requests are kept in ``asked``."""

    def __init__(self, name: str = "toy") -> None:
        self.name = name
        self.state = SessionState()
        self.live = True
        self.link = Link()
        self.telemetry: dict[str, Any] = {}
        self.events: list[Event] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {
            "tokens": {"pieces": PIECES, "content": CONTENT, "ids": [], "text": ""},
            "claim.board": {"claims": [], "problems": {}, "at": T0},
        }
        self.retried = 0
        self.closed = False
        self._tables = Tables()
        self._changed: list[Callable[[], None]] = []

    def emit(self, kind: str, /, **data: Any) -> Event:
        """One event: reduced as a real kernel's client does, then the app is told."""
        event = Event(len(self.events) + 1, T0 + len(self.events) * 0.05, kind, data)
        self.events.append(event)
        reduce(self.state, event)
        self._tables.apply(event)
        self.tell()
        return event

    def tell(self) -> None:
        for changed in self._changed:
            changed()

    def set_link(self, link: Link) -> None:
        self.link = link
        self.tell()

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed.append(changed)

    async def request(self, method: str, **params: Any) -> Any:
        self.asked.append((method, params))
        answer = self.answers.get(method)
        if isinstance(answer, LabError):
            raise answer
        if method == "artifact.show" and answer is None:
            references = {site: {"median": norm, "mean": norm * 1.5} for site, norm in REFERENCES.items()}
            return {"name": params["name"], "kind": "direction", "meta": META, "references": references}
        return answer(**params) if callable(answer) else (answer if answer is not None else {})

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    def params(self, method: str) -> dict[str, Any]:
        """The parameters of the last request of that method."""
        return next(p for m, p in reversed(self.asked) if m == method)

    def retry_now(self) -> None:
        self.retried += 1

    async def close(self) -> None:
        self.closed = True

    async def page(
        self,
        table: str,
        start: int,
        stop: int,
        *,
        sort: str | None = None,
        descending: bool = False,
        filter: str = "",
    ) -> Page:
        return self._tables.page(
            table, start, stop, sort=sort, descending=descending, conditions=parse_conditions(filter)
        )

    async def thumbnail(self, digest: str) -> bytes:
        found = [e for e in self.events if e.kind == "image.added" and e.data.get("digest") == digest]
        if not found:
            raise LabError(f"no picture {digest}")
        return found[-1].data["thumbnail"]

    async def row_text(self, key: str) -> RowText:
        job, _, row = key.partition("/")
        found = collect_row([e for e in self.events if e.data.get("job") == job and e.data.get("row") == row])
        if found is None:
            raise LabError(f"no row {key}")
        return found

    async def result(self, job: str) -> dict[str, Any]:
        ends = [e for e in self.events if e.kind == "job.finished" and e.data.get("job") == job]
        return result_in(ends[-1]) if ends else {}

    # -- stories --------------------------------------------------------------------------------------

    def opened(self) -> FakeKernel:
        """A session that was just opened, the model still loading."""
        self.emit(
            "session.opened", id="20260101-toy", title="mutex", kernel=self.name, versions={}, created=T0
        )
        self.emit("kernel.state", state="loading", detail="reading weights", progress=0.45)
        return self

    def ready(self, *directions: str) -> FakeKernel:
        """The model is there, and some directions."""
        self.opened()
        self.emit("model.ready", info=INFO)
        self.emit("kernel.state", state="ready")
        for name in directions:
            self.emit(
                "artifact.saved",
                name=name,
                kind="direction",
                meta=META | {"style": name},
            )
        return self

    def generate(self, job: str = "j1", spec: dict[str, Any] | None = None) -> None:
        """A generation is queued and starts; both rows have their prompts."""
        spec = {**SPEC, **(spec or {})}
        self.emit("job.queued", job=job, kind="generate", spec=spec, priority="interactive", client="app")
        self.emit("kernel.state", state="busy")
        self.emit("job.started", job=job, plan={"rows": 2})
        terms = parse_edits(spec["edits"])
        alpha, absolute, percent = terms[0].strength.all_units(NORMS["llm.4.out"], REFERENCES["llm.4.out"])
        strength = {
            "text": str(terms[0].strength),
            "alpha": alpha,
            "abs": absolute,
            "pct": percent,
            "direction": terms[0].direction,
            "sites": "llm.4.out",
            "where": str(terms[0].where),
        }
        for arm in ("plain", "steered"):
            steered = arm == "steered"
            self.emit(
                "row.started",
                job=job,
                row=arm,
                arm=arm,
                prompt_tokens=len(PIECES),
                pieces=PIECES,
                read=[len(PIECES) - 1] if steered else [],
                edited=list(range(len(PIECES))) if steered else [],
                messages=[],
                edits=spec["edits"] if steered else "",
                strengths=[strength] if steered else [],
                max_new_tokens=spec["max_new_tokens"],
                content=CONTENT,
                directions=["terse"] if steered else [],
            )

    def tokens(self, job: str, row: str, text: str, start: int = 0, plain: list[float] | None = None) -> int:
        """A chunk of tokens of a row; the index after it."""
        pieces = pieces_of(text) if start == 0 else [" " + word for word in text.split()]
        count = len(pieces)
        self.emit(
            "row.tokens",
            job=job,
            row=row,
            start=start,
            ids=list(range(count)),
            pieces=pieces,
            logprobs=[-0.2] * count,
            plain_logprobs=plain,
            gaps=[1.0] * count,
        )
        return start + count

    def finish(self, job: str, row: str, text: str, finish: str = "stop", perplexity: float = 1.4) -> None:
        self.emit(
            "row.finished",
            job=job,
            row=row,
            finish=finish,
            text=text,
            words=len(text.split()),
            tokens=len(pieces_of(text)),
            metrics={"perplexity": perplexity},
            reasons={},
        )

    def done(self, job: str = "j1", status: str = "done", error: str | None = None) -> None:
        self.emit(
            "job.finished",
            job=job,
            status=status,
            error=error,
            seconds=1.6,
            audit={"ok": True, "handles": 0, "expected": 0, "changed_parameters": []},
        )
        self.emit("kernel.state", state="ready")

    def answered(self, job: str = "j1", spec: dict[str, Any] | None = None) -> FakeKernel:
        """A whole generation."""
        self.generate(job, spec)
        for arm, text, perplexity in (("plain", PLAIN, 1.2), ("steered", STEERED, 1.6)):
            self.tokens(job, arm, text)
            self.finish(job, arm, text, perplexity=perplexity)
        self.done(job)
        return self


class FakeLobby:
    """A machine with the kernels and sessions that a test puts there."""

    via: str | None = None

    def __init__(
        self, kernels: list[KernelCard] | None = None, sessions: list[SessionCard] | None = None
    ) -> None:
        self.cards, self.saved = kernels or [], sessions or []
        self.started: list[Start] = []
        self.stopped: list[str] = []
        self.there: dict[str, FakeKernel] = {}
        self.replays: dict[str, Source] = {}
        self.files: list[Path] = []

    async def kernels(self) -> list[KernelCard]:
        return self.cards

    async def sessions(self) -> list[SessionCard]:
        return self.saved

    async def models(self) -> list[str]:
        return ["toy-qwen3"]

    async def profiles(self) -> dict[str, Start]:
        return {"small": Start("small", "toy-qwen3", dtype="float32", device="cpu")}

    async def start(self, start: Start) -> None:
        self.started.append(start)
        self.there.setdefault(start.name, FakeKernel(start.name).opened())
        self.cards = [*self.cards, KernelCard(start.name, state="starting", model=start.model)]

    async def stop(self, name: str) -> None:
        self.stopped.append(name)
        self.cards = [card for card in self.cards if card.name != name]

    async def connect(self, name: str) -> FakeKernel:
        if name not in self.there:
            raise Unreachable(f"no kernel named {name!r} answers")
        return self.there[name]

    async def save(self, kernel: Kernel, path: Path) -> None:
        self.files.append(path)

    async def open(self, card: SessionCard) -> Source:
        return self.replays[card.id]


def now() -> float:
    """Seconds of the clock that links count in."""
    return time.monotonic()
