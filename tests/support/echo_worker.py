"""A worker without a model, for tests of the broker: the real process, link, watch and loop, one toy recipe.

Its spec is a ``sweep`` whose directions say what to do, so that specs stay checked as they are. Every prompt is a
cell; ``max_new_tokens`` is how many chunks of tokens come before it is committed. The first prompt may command:
``die`` kills the process (by SIGKILL) before the cell named by ``prefill`` is committed, ``hang`` stays in a step,
``wait FILE`` stays between steps until the file exists, ``flood N`` emits N large chunks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_kernels import recipes
from labtui_kernels.models import load as loading
from labtui_kernels.worker import loop, main


@dataclass
class Audit:
    """As the engine's."""

    ok: bool = True
    detail: str = ""


class EchoRecipe:
    """Answers every prompt with itself."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def plan(self, ctx: Any) -> dict[str, Any]:
        return {"rows": len(self.spec.prompts), "cells": len(self.spec.prompts)}

    def run(self, ctx: Any) -> Any:
        for number, prompt in enumerate(self.spec.prompts):
            cell = f"c{number}"
            if cell in ctx.committed:
                continue
            ctx.budget("decode", 1.5 if prompt == "hang" else 60.0)
            ctx.emit("row.started", {"row": cell, "arm": "plain", "messages": [], "ids": [1]})
            yield from self._act(ctx, prompt, cell)
            for start in range(self.spec.max_new_tokens):
                piece = f"{prompt} "
                chunk = {"start": start, "ids": [start], "pieces": [piece], "logprobs": [-1.0], "gaps": [0.5]}
                ctx.emit("row.tokens", {"row": cell, **chunk})
                yield
            ctx.emit(
                "row.finished", {"row": cell, "finish": "length", "text": prompt, "words": 1, "tokens": 1}
            )
            rows = [{"row": cell, "prompt": prompt, "pid": os.getpid()}]
            ctx.emit("cell.committed", {"cell": cell, "table": "echo", "rows": rows})
            ctx.progress(number + 1, len(self.spec.prompts), "cells")
            yield
        return {"table": "echo"}

    def _act(self, ctx: Any, prompt: str, cell: str) -> Any:
        word, _, rest = prompt.partition(" ")
        if word == "die":
            marker = Path(rest)
            if not marker.exists() or marker.name == "always":
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif word == "hang":
            time.sleep(600)
        elif word == "wait":
            while not Path(rest).exists():
                time.sleep(0.002)
                yield
        elif word == "flood":
            for start in range(int(rest)):
                text = "x" * 20_000
                chunk = {"start": start, "ids": [0], "pieces": [text], "logprobs": [-1.0], "gaps": [0.0]}
                ctx.emit("row.tokens", {"row": f"{cell}-flood", **chunk})
                yield
        elif word == "fail":
            raise UsageError("the prompt asked to fail")
        elif word == "dirty":
            ENGINE.dirty = True


class EchoEngine:
    """An engine with nothing to leak unless told to."""

    dirty = False

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def audit(self) -> Audit:
        return Audit(not self.dirty, "a hook was left behind" if self.dirty else "")


ENGINE: Any = None


def load(source: str, **options: Any) -> Any:
    """A "model" after two phases, with a tower where it is called ``echo-vl``; ``LABTUI_ECHO`` asks for a bad one or for a
    slow load, and ``LABTUI_ECHO_WEIGHTS`` is the hash of its weights."""
    wish = os.environ.get("LABTUI_ECHO", "")
    options["progress"]("weights", 0.5)
    if wish == "refuse":
        raise UsageError(f"{source}: no such file or folder")
    if wish == "crash":
        os._exit(9)
    if wish.startswith("after "):
        while not Path(wish[6:]).exists():
            time.sleep(0.005)
    weights = os.environ.get("LABTUI_ECHO_WEIGHTS", "")
    info = {
        "source": source, "name": "echo", "family": "qwen3", "architecture": "Echo", "blocks": 2, "width": 8,
        "vocab": 16, "parameters": 1, "dtype": "float32", "quantisation": None, "device": "cpu",
        "context_length": 128, "weight_hash": weights, "tokenizer_hash": "", "template_hash": "", "revision": "",
        "default_thinking": None, "memory_bytes": 1,
    }  # fmt: skip
    if source == "echo-vl":
        info |= {"family": "qwen2_vl", "vision_blocks": 2, "vision_width": 8, "merge": 2}
    return SimpleNamespace(info=SimpleNamespace(to_dict=lambda: info), device=SimpleNamespace(type="cpu"))


def engine(loaded: Any) -> EchoEngine:
    """The engine that the recipe can dirty."""
    global ENGINE
    ENGINE = EchoEngine(loaded)
    return ENGINE


if __name__ == "__main__":
    loading.load = load
    recipes.recipe = EchoRecipe
    sys.modules["labtui_kernels.engine"] = SimpleNamespace(Engine=engine)  # type: ignore[assignment]
    loop.Loop._free_memory = lambda self, error: None  # type: ignore[method-assign]
    main.build_id = lambda: os.environ.get("LABTUI_ECHO_BUILD") or "echo"
    main.main(sys.argv[1:])
