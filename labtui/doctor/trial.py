"""Steers the bundled model once and says as one JSON line what came out: ``python -m labtui.doctor.trial``.

A module of its own, for a process of its own: the model side is looked up by name, so that nothing of the app
depends on torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from typing import Any

from labtui_artifacts import library

MODEL = "toy-qwen3"
PROMPT = "Explain what a mutex is."
STYLE, CONTRASTS = "terse", 6
STRENGTH = 1.5
TOKENS = 64


def trial() -> dict[str, Any]:
    """Three rows in one batch (plain, α = 0, steered) and a full audit; plain values."""
    engine_side: Any = importlib.import_module("labtui_kernels.engine")
    chat: Any = importlib.import_module("labtui_kernels.models.chat")
    sites: Any = importlib.import_module("labtui_kernels.lang.sites")
    loaded = importlib.import_module("labtui_kernels.models.load").load(MODEL, dtype="float32")
    engine = engine_side.Engine(loaded, deep_baseline=True)
    site = sites.parse_site(f"llm.{loaded.info.blocks // 2}", loaded.info.shape)

    def prompt(messages: list[dict[str, str]]) -> Any:
        return chat.render(loaded.tokenizer, messages)

    contrasts = library.style(STYLE).contrasts()[:CONTRASTS]
    read = [
        engine.capture([engine_side.Prompt(tuple(prompt(pair[pole]).ids)) for pair in contrasts], [site])[
            site
        ]
        for pole in (0, 1)
    ]
    direction = (read[0] - read[1]).mean(dim=0)
    ids = tuple(prompt([{"role": "user", "content": PROMPT}]).ids)
    tokens = _generate(engine_side, engine, loaded, ids, site, direction)
    audit = engine.audit(deep=True)
    return {
        "model": loaded.info.name,
        "device": str(loaded.device),
        "dtype": loaded.info.dtype,
        "edit": f"{STRENGTH:g}*{STYLE}@{site.short}",
        "plain_words": _words(loaded, tokens["plain"]),
        "steered_words": _words(loaded, tokens["steered"]),
        "zero_equals_plain": tokens["zero"] == tokens["plain"],
        "steered_differs": tokens["steered"] != tokens["plain"],
        "audit_ok": audit.ok,
        "audit": f"{audit.handles} of {audit.expected} hooks, every parameter compared: {audit.detail}",
    }


def _generate(
    engine_side: Any, engine: Any, loaded: Any, ids: tuple[int, ...], site: Any, direction: Any
) -> dict[str, list[int]]:
    batch = engine.batch()
    stop = frozenset(loaded.info.stop_ids)
    for key, strength in (("plain", None), ("zero", 0.0), ("steered", STRENGTH)):
        edits = () if strength is None else (engine_side.Edit(site, "add", direction, strength),)
        batch.add(engine_side.Row(key, ids, edits=edits, max_new_tokens=TOKENS, stop_ids=stop))
    tokens: dict[str, list[int]] = {"plain": [], "zero": [], "steered": []}
    try:
        while not batch.done:
            for emitted in batch.step():
                tokens[emitted.key].append(emitted.token)
    finally:
        batch.close()
    return tokens


def _words(loaded: Any, ids: list[int]) -> int:
    return len(loaded.tokenizer.decode(ids, skip_special_tokens=True).split())


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        result = trial()
    print(json.dumps(result))
