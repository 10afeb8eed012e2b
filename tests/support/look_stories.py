"""A look at a small scene on a toy that sees: a red square, a blue disc, a green bar, in 4 x 5 merged patches.

Norms grow with the depth, and are larger where a shape is; neighbours name the shape that a patch shows.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

from labtui_artifacts.images import digest_of
from labtui_sessions.looks import ANSWER, pack, pack_half
from tests.support.fake_kernel import INFO, FakeKernel

ROWS, COLS, SIDE = 4, 5, 28
SIZE = (COLS * SIDE, ROWS * SIDE)
START = 14
BLOCKS = 6
SITES = ("vision.merged", *(f"llm.{block}" for block in range(BLOCKS)))
SHAPES = {(0, 0): "red", (0, 1): "red", (1, 0): "red", (1, 1): "red", (1, 3): "blue", (2, 3): "blue", (1, 4): "blue",
          (2, 4): "blue", (3, 1): "green", (3, 2): "green", (3, 3): "green"}  # fmt: skip
WHAT = {"red": "square", "blue": "disc", "green": "bar"}
CAPTIONS = {
    "red": "a red square on a white ground",
    "blue": "there is a blue disc to the right of it",
    "green": "below them lies a long green bar",
    "": "an empty white wall, and nothing on it at all",
}
SEES = INFO | {
    "source": "toy-qwen2-vl", "name": "toy-qwen2-vl", "family": "qwen2_vl",
    "architecture": "Qwen2VLForConditionalGeneration", "blocks": BLOCKS, "width": 128, "vision_blocks": 6,
    "vision_width": 96, "merge": 2,
}  # fmt: skip
QUESTION = "Which shape is at the left?"
EDITS = "8%*terse@llm.3@image0[0:2,0:2]"


def scene() -> bytes:
    """The picture's file."""
    image = Image.new("RGB", SIZE, (246, 244, 238))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, 50, 50), fill=(214, 40, 40))
    draw.ellipse((90, 36, 134, 80), fill=(40, 90, 214))
    draw.rectangle((34, 90, 106, 104), fill=(40, 160, 70))
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


PICTURE = scene()
DIGEST = digest_of(PICTURE)
PROMPT = [{"role": "user", "content": QUESTION, "images": [DIGEST]}]
SPEC: dict[str, Any] = {"kind": "look", "prompt": PROMPT, "index": "captions"}
STEERED: dict[str, Any] = {"kind": "look", "prompt": PROMPT, "edits": EDITS, "read": ["effect"]}
ASKED: dict[str, Any] = {"kind": "generate", "prompt": PROMPT, "edits": EDITS, "max_new_tokens": 64}


def plan(table: str, parts: tuple[str, ...]) -> dict[str, Any]:
    return {
        "rows": 0, "cells": 40, "sites": len(SITES), "at": list(SITES), "parts": list(parts), "digest": DIGEST, "number": 0,
        "grid": [ROWS, COLS], "size": list(SIZE), "start": START, "tokens": 52, "table": table,
    }  # fmt: skip


def shape(patch: int) -> str:
    return SHAPES.get(divmod(patch, COLS), "")


def norm(site: int, patch: int) -> float:
    return (4.0 + 3.0 * site) * (1.0 + 0.35 * bool(shape(patch)) + 0.01 * patch)


def cosine(site: int, one: int, other: int) -> float:
    if one == other:
        return 1.0
    alike = 0.75 if shape(one) == shape(other) else 0.2
    return alike - 0.04 * site + 0.01 * math.cos(one * other)


def patches(site: int) -> list[dict[str, Any]]:
    return [
        {"site": SITES[site], "patch": p, "row": p // COLS, "col": p % COLS, "norm": norm(site, p)}
        for p in range(ROWS * COLS)
    ]


def depth(site: int) -> list[dict[str, Any]]:
    norms = sorted(norm(site, patch) for patch in range(ROWS * COLS))
    ends = {"median": (norms[9] + norms[10]) / 2, "lowest": norms[0], "highest": norms[-1]}
    return [{"site": SITES[site], **ends, "alike": 0.45 - 0.03 * site}]


def similar(site: int) -> list[dict[str, Any]]:
    every = range(ROWS * COLS)
    return [
        {"site": SITES[site], "patch": p, "cosines": pack([cosine(site, p, q) for q in every])} for p in every
    ]


def readings(site: int) -> list[dict[str, Any]]:
    found = []
    for patch in range(ROWS * COLS):
        colour = shape(patch) or "white"
        words = [f" {colour}", f" {WHAT.get(colour, 'wall')}", ",", "\n", " the"]
        for reading, top in (("embedding", 0.3), ("unembedding", 0.28), ("lens", 0.6)):
            values = [top / (rank + 1) for rank in range(5)]
            found.append(
                {"site": SITES[site], "patch": patch, "reading": reading, "tokens": words, "values": values}
            )
    return found


def neighbours(site: int) -> list[dict[str, Any]]:
    found = []
    for patch in range(ROWS * COLS):
        word = shape(patch)
        others = [word, *(one for one in CAPTIONS if one != word)]
        for how, lift in (("raw", 0.3), ("centred", 0.0)):
            hits = []
            for rank, name in enumerate(others):
                caption = CAPTIONS[name]
                at = caption.index(name or "white")
                hits.append({"token": f" {name or 'white'}", "caption": caption, "site": f"llm.{min(5, site + rank)}",
                             "cosine": 0.62 + lift - 0.08 * rank - 0.01 * site, "position": 1,
                             "span": [at, at + len(name or "white")]})  # fmt: skip
            found.append({"site": SITES[site], "patch": patch, "how": how, "hits": hits})
    return found


ALONG = ("terse", "random:1")


def projection(site: int, patch: int, along: int) -> float:
    """On the first direction, what is red lies far; the second means nothing."""
    far = 4.0 if shape(patch) == "red" else -1.0
    return (far if along == 0 else math.sin(9.7 * patch + site)) * (1 + site / 4) + 0.01 * patch


def scores(site: int) -> list[dict[str, Any]]:
    found = []
    for along, name in enumerate(ALONG):
        values = [projection(site, patch, along) for patch in range(ROWS * COLS)]
        for patch, value in enumerate(values):
            below = sum(other < value for other in values)
            found.append({"site": SITES[site], "patch": patch, "row": patch // COLS, "col": patch % COLS,
                          "direction": name, "projection": value, "cosine": value / norm(site, patch),
                          "rank": len(values) - below, "percentile": 100 * below / (len(values) - 1)})  # fmt: skip
    return found


WORDS = {36: "Which", 37: " shape", 38: " is", 51: ANSWER}


def weight(site: int, position: int, patch: int) -> float:
    return (0.08 if shape(patch) else 0.01) / (1 + abs(position - 37)) * (1 + site / 8)


def attention(site: int) -> list[dict[str, Any]]:
    every = range(ROWS * COLS)
    return [
        {
            "site": SITES[site],
            "position": p,
            "word": word,
            "weights": pack_half([weight(site, p, q) for q in every]),
        }
        for p, word in WORDS.items()
        if site
    ]


def effect(site: int) -> list[dict[str, Any]]:
    """Nothing before llm.3; there the marked patches; below, what came after them too."""
    found = []
    for patch in range(ROWS * COLS):
        row, col = divmod(patch, COLS)
        inside = row < 2 and col < 2
        moved = (
            0.0 if site < 4 else (1.4 if inside else 0.0) if site == 4 else 1.2 if inside else 0.02 * patch
        )
        found.append({"site": SITES[site], "patch": patch, "row": row, "col": col, "change": moved,
                      "share": moved / norm(site, patch)})  # fmt: skip
    return found


def kernel(moment: str) -> FakeKernel:
    """A kernel at that moment: ``loading``, ``empty`` (sees, nothing read), ``text`` (reads no pictures), ``shown`` (a
    picture was sent, not read), ``running``, ``done``, ``scored``, ``steered``, or ``failed``."""
    if moment == "loading":
        return FakeKernel().opened()
    if moment == "text":
        return FakeKernel().ready("terse")
    made = FakeKernel().opened()
    made.emit("model.ready", info=SEES)
    made.emit("kernel.state", state="ready")
    made.emit("artifact.saved", name="terse", kind="direction", meta={"style": "terse"})
    made.emit("artifact.saved", name="captions", kind="index", meta={})
    if moment != "empty":
        picture(made)
    if moment not in ("empty", "shown"):
        look(made, moment, spec=SPEC | {"directions": list(ALONG)} if moment == "scored" else SPEC)
    if moment == "steered":
        steer(made)
    return made


def picture(made: FakeKernel) -> None:
    """The picture is sent."""
    made.emit(
        "image.added", digest=DIGEST, name="scene.png", width=SIZE[0], height=SIZE[1], thumbnail=PICTURE
    )


def look(made: FakeKernel, moment: str = "done", job: str = "l1", spec: dict[str, Any] | None = None) -> None:
    """The events of that look."""
    parts = ("norms", "similarity", "readings", "neighbours", "attention")
    made.emit("job.queued", job=job, kind="look", spec=spec or SPEC, priority="interactive", client="app")
    if moment == "failed":
        made.emit("job.started", job=job, plan={})
        error = "index captions: it was read from another model; build it again with labtui run index"
        made.emit("job.finished", job=job, status="failed", seconds=0.4, error=error, audit={"ok": True})
        return
    parts += ("scores",) if spec is not None and "directions" in spec else ()
    made.emit("job.started", job=job, plan=plan(job, parts))
    made.emit("kernel.state", state="busy")
    tables = [("patches", patches), ("depth", depth), ("similar", similar), ("readings", readings),
              ("neighbours", neighbours), ("attention", attention)]  # fmt: skip
    tables += [("scores", scores)] if "scores" in parts else []
    for name, rows_of in tables[: 3 if moment == "running" else None]:
        for site in range(len(SITES)):
            made.emit(
                "cell.committed",
                job=job,
                cell=f"{name}:{SITES[site]}",
                table=f"{job}-{name}",
                rows=rows_of(site),
            )
    if moment == "running":
        made.telemetry["progress"] = {"job": job, "done": 3, "total": 7, "text": "sites read"}
        made.tell()
        return
    result = {"table": job, "notes": [], "patches": ROWS * COLS}
    made.emit("job.finished", job=job, status="done", seconds=2.5, audit={"ok": True}, result=result)
    made.emit("kernel.state", state="ready")


def steer(made: FakeKernel) -> None:
    """The question, asked plain and with an edit in the upper left, and what the edit moves."""
    made.emit("job.queued", job="j2", kind="generate", spec=ASKED, priority="interactive", client="app")
    made.emit("job.started", job="j2", plan={"rows": 2})
    for arm, text in (("plain", "A red square is at the left."), ("steered", "A square.")):
        steered = arm == "steered"
        made.emit("row.started", job="j2", row=arm, arm=arm, prompt_tokens=52, edits=EDITS if steered else "",
                  directions=["terse"] if steered else [],
                  images=[{"digest": DIGEST, "start": START, "rows": ROWS, "cols": COLS, "grid": [1, 8, 10]}])  # fmt: skip
        made.tokens("j2", arm, text)
        made.finish("j2", arm, text)
    made.done("j2")
    made.emit("job.queued", job="l2", kind="look", spec=STEERED, priority="interactive", client="app")
    made.emit("job.started", job="l2", plan=plan("l2", ("effect",)))
    for site in range(len(SITES)):
        made.emit(
            "cell.committed", job="l2", cell=f"effect:{SITES[site]}", table="l2-effect", rows=effect(site)
        )
    made.emit(
        "job.finished", job="l2", status="done", seconds=0.3, audit={"ok": True}, result={"table": "l2"}
    )
