"""Random sessions for property tests: plausible, malformed and hostile events of every kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from labtui_sessions.events import CATALOGUE, Event

_names = st.sampled_from(["j1", "j2", "j3", "r1", "r2", "a", "x" * 300, ""])
_jobs = st.sampled_from(["j1", "j1", "j1", "j2", "x" * 300])
_rows = st.sampled_from(["r1", "r1", "r1", "r2"])
_texts = st.one_of(st.text(max_size=20), st.sampled_from(["é", "漢字" * 3000, "x" * 70_000, "word " * 9_000]))
_numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.integers(-3, 40), st.floats(width=64), st.just(float("nan"))
)
_plain: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts, st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=6,
)
_maps = st.dictionaries(st.one_of(st.text(max_size=6), st.just("prompt")), _plain, max_size=4)
_messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": _texts}), max_size=3
)
_logprobs = st.floats(-50, 0)


@st.composite
def _tokens(draw: st.DrawFn) -> dict[str, Any]:
    many = draw(st.sampled_from([1, 2, 3, 300, 4000]))
    piece = draw(st.sampled_from(["a", " word", "漢", "z" * 200]))
    data: dict[str, Any] = {
        "job": draw(_jobs),
        "row": draw(_rows),
        "start": draw(st.sampled_from([0, 1, 2, 3, 300, 301])),
        "ids": [7] * many,
        "pieces": [piece] * many,
        "logprobs": [draw(_logprobs)] * many,
    }
    if draw(st.booleans()):
        data["plain_logprobs"] = [draw(st.one_of(st.none(), _logprobs))] * draw(
            st.sampled_from([many, many, 1])
        )
    return data


def _fields(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    by_name: dict[str, st.SearchStrategy[Any]] = {
        "job": _jobs,
        "row": _rows,
        "spec": st.one_of(_maps, st.fixed_dictionaries({"prompt": _texts})),
        "messages": _messages,
        "rows": st.lists(_maps, max_size=3),
        "pieces": st.one_of(st.lists(st.text(max_size=5), max_size=5), st.just(["tok"] * 9000)),
        "metrics": st.dictionaries(st.sampled_from(["perplexity", "kl", "words"]), _logprobs, max_size=3),
        "strengths": st.lists(
            st.fixed_dictionaries({"alpha": _numbers, "abs": st.none(), "pct": st.floats(0, 90)}), max_size=2
        ),
        "images": st.lists(_maps, max_size=3),
        "thumbnail": st.binary(max_size=8),
        "reasons": st.dictionaries(st.text(max_size=6), _texts, max_size=3),
        "versions": st.dictionaries(st.text(max_size=6), _texts, max_size=3),
        "progress": st.one_of(st.none(), st.floats(0, 1)),
        "kind": st.sampled_from(["generate", "sweep", "direction"]),
        "parent": st.one_of(st.none(), _names),
        "error": st.one_of(st.none(), _texts),
        "status": st.sampled_from(["done", "failed", "lost"]),
    }
    numbers = {"edit", "step", "position", "bytes", "at", "seed", "prompt_tokens", "max_new_tokens"}
    numbers |= {"width", "height"}
    maps = {"info", "plan", "audit", "result", "sampling", "meta"}
    lists = {"read", "edited", "ids", "stop_ids", "content", "directions"}
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for name in CATALOGUE[kind].__struct_fields__:
        if name in by_name:
            parts[name] = by_name[name]
        elif name in numbers:
            parts[name] = st.integers(-3, 2**63)
        elif name in maps:
            parts[name] = _maps
        elif name in lists:
            parts[name] = st.just([])
        elif name in ("strength", "norm", "seconds", "created"):
            parts[name] = st.floats(width=64)
        elif name in ("words", "tokens", "exit", "lost"):
            parts[name] = st.integers(0, 400)
        elif name in ("text", "title", "reason", "detail", "edits"):
            parts[name] = _texts
        else:
            parts[name] = _names
    return st.fixed_dictionaries(parts)


_kinds = st.one_of(
    *(st.tuples(st.just(kind), _fields(kind)) for kind in CATALOGUE),
    st.tuples(st.just("row.tokens"), _tokens()),
    st.tuples(st.just("row.tokens"), _tokens()),
    st.tuples(st.sampled_from(sorted(CATALOGUE)), _maps),
    st.tuples(st.text(max_size=100), _maps),
)

_times = st.floats(1e9, 2e9)


@st.composite
def sessions(draw: st.DrawFn, max_size: int = 60) -> list[Event]:
    """A list of events numbered from 1."""
    drawn = draw(st.lists(st.tuples(_times, _kinds), max_size=max_size))
    return [Event(seq, t, kind, data) for seq, (t, (kind, data)) in enumerate(drawn, 1)]
