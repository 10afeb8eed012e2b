"""The form that asks which picture is looked at, and what is read of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.suggester import Suggester

from labtui.completing import complete_picture
from labtui.looking import question_of
from labtui.projection import shape_of
from labtui.widgets.dialog import Field, Form, Values
from labtui_artifacts.errors import LabError
from labtui_artifacts.images import is_digest
from labtui_kernels import specs
from labtui_kernels.specs.diagnose import EVERY
from labtui_kernels.specs.look import count_look

if TYPE_CHECKING:
    from labtui_sessions.state import SessionState


def look_form(state: SessionState, before: Mapping[str, Any], digest: str) -> Form:
    """The form, filled with the settings of the look ``before`` and the picture ``digest`` where there were such."""
    shape = shape_of(state)
    stored = [name for name, one in state.artifacts.items() if one.kind == "direction"]
    indexes = ("", *(name for name, one in state.artifacts.items() if one.kind == "index"))

    def problem(values: Values) -> str:
        path = values["picture"].strip()
        if not path:
            return "expected the path of a picture on this machine"
        if not is_digest(path) and not Path(path).expanduser().is_file():
            return "there is no such file on this machine; → takes what is offered"
        return ""

    def trouble(values: Values) -> str:
        try:
            checked = specs.load(look_spec(values))
            if isinstance(checked, specs.Look) and shape is not None:
                count_look(checked, shape)
        except LabError as error:
            return str(error)
        return ""

    def sites_trouble(values: Values) -> str:
        return trouble({**values, "directions": ""})

    def directions_trouble(values: Values) -> str:
        return trouble({**values, "sites": ""})

    def cost(values: Values) -> str:
        checked = specs.load(look_spec(values))
        if shape is None or not isinstance(checked, specs.Look):
            return ""
        counts = count_look(checked, shape)
        return f"{counts['sites']} sites · {', '.join(counts['parts'])}"

    fields = [
        Field("picture", "picture", digest, hint="a file: PNG, JPEG, WebP, ...; → takes what is offered", check=problem,
              suggester=Files()),
        Field("question", "question", question_of(before), hint="asked by r; the patches are the same whatever it is"),
        Field("sites", "sites", str(before.get("sites") or "vision.merged,llm.*"), check=sites_trouble,
              hint="vision.*, vision.merged, llm.*"),
        Field("directions", "scores along", ", ".join(before.get("directions") or ([EVERY] if stored else [])),
              check=directions_trouble,
              hint="directions with commas between; * is the first 12 of this model; empty: no scores"),
        Field("index", "neighbours in", str(before.get("index") or (indexes[1] if len(indexes) > 1 else "")),
              options=indexes, hint="an index of captions; labtui run index --set name=captions makes one"),
    ]  # fmt: skip
    return Form("Look at a picture", fields, accept="Read", preview=cost)


class Files(Suggester):
    """Offers how the path of a picture goes on."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        rest = await asyncio.to_thread(complete_picture, f'@"{value}', Path.cwd()) if value else []
        return value + rest[0].removesuffix('"') if rest else None


def look_spec(values: Values) -> dict[str, Any]:
    """The spec of a form."""
    path = values["picture"].strip()
    image = path if is_digest(path) else str(Path(path).expanduser().absolute())
    spec: dict[str, Any] = {
        "kind": "look",
        "prompt": [{"role": "user", "content": values["question"].strip(), "images": [image]}],
        "sites": values["sites"].strip() or "vision.merged,llm.*",
    }
    along = [text.strip() for text in values["directions"].split(",") if text.strip()]
    if along:
        spec["directions"] = along
    return spec | ({"index": values["index"].strip()} if values["index"].strip() else {})
