"""Shelf: the artifacts of the kernel's store, what is in them, and how directions relate."""

from __future__ import annotations

from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.actions import bindings
from labtui.diagnoses import spec_for
from labtui.projection import Kernel, Source
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Confirm, Field, Form, Values
from labtui.widgets.lists import Grid, right
from labtui.widgets.numbers import by_site, numbers
from labtui.widgets.panel import Panel
from labtui.widgets.reader import Reader
from labtui.wording import when
from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels.lang.algebra import parse_algebra
from labtui_kernels.specs.diagnose import EVERY


class Shelf(BaseScreen):
    """Directions and other artifacts."""

    SCOPE = "shelf"
    BINDINGS = bindings("shelf")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.marked: tuple[str, ...] = ()
        self._cosine: object = None
        self._cosine_for: tuple[str, ...] = ()

    def body(self) -> ComposeResult:
        with Horizontal(id="shelf"):
            yield Panel(Grid(id="artifact-grid"), title="Artifacts", id="artifacts")
            with Vertical(id="shelf-right"):
                yield Panel(
                    Reader(Static("", id="about-text", markup=False), id="about-scroll"),
                    title="Inspect",
                    id="about",
                )
                yield Panel(Static("", id="cosine-text", markup=False), title="Cosines", id="cosines")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_focus(self.query_one("#artifact-grid", Grid))

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        grid = self.query_one("#artifact-grid", Grid)
        artifacts = source.state.artifacts if source is not None else {}
        self.marked = tuple(name for name in self.marked if name in artifacts)
        grid.show(
            ("", "name", "kind", "method", "made"),
            [
                (
                    a.name,
                    (
                        "◆" if a.name in self.marked else " ",
                        a.name,
                        a.kind,
                        str(a.meta.get("method") or ""),
                        when(a.t),
                    ),
                )
                for a in artifacts.values()
            ],
        )
        count = len(artifacts)
        said = f"{count} · m marks for comparing" if count else ""
        if not count:
            said = (
                "attach to a kernel first (1)"
                if source is None
                else "empty: D makes one from a bundled style"
            )
        self.query_one("#artifacts", Panel).note(said)
        name = grid.current if artifacts else None
        self._project_about(name, artifacts[name].meta if name in artifacts else {})
        self._project_cosines()

    def _project_about(self, name: str | None, meta: dict[str, Any]) -> None:
        body = self.query_one("#about-text", Static)
        if name is None:
            body.update(
                Content.styled(
                    "A direction is a vector at one or more sites. D makes one from a bundled "
                    "style, a by algebra from those that are here.",
                    "$lab-dim",
                )
            )
            self.query_one("#about", Panel).note("")
            return
        self.app.want_detail(name)
        detail = self.app.details.get(name) or meta
        body.update(describe(name, detail, loading=self.app.live and name not in self.app.details))
        self.query_one("#about", Panel).note(name)

    def _project_cosines(self) -> None:
        panel = self.query_one("#cosines", Panel)
        panel.display = len(self.marked) > 1
        if len(self.marked) < 2:
            return
        if self.marked != self._cosine_for and self.app.live:
            self._cosine_for, names = self.marked, list(self.marked)

            async def work(kernel: Kernel) -> Any:
                return await kernel.request("cosine", names=names)

            def then(answer: Any) -> None:
                self._cosine = answer
                self.app.pump.changed()

            self.ask(work, then, group="cosine", exclusive=True)
        self.query_one("#cosine-text", Static).update(cosine_table(self._cosine, self.marked))

    @on(Grid.Moved, "#artifact-grid")
    def _moved(self) -> None:
        self.app.pump.changed()

    @on(Grid.Picked, "#artifact-grid")
    def _picked(self, message: Grid.Picked) -> None:
        self.action_use()

    # -- actions --------------------------------------------------------------------------------------

    def current(self) -> str | None:
        """The artifact under the cursor."""
        source = self.app.source
        name = self.query_one("#artifact-grid", Grid).current
        return name if source is not None and name in source.state.artifacts else None

    def action_mark(self) -> None:
        name, source = self.current(), self.app.source
        if name is None or source is None:
            return
        if name in self.marked:
            self.marked = tuple(n for n in self.marked if n != name)
        elif source.state.artifacts[name].kind != "direction":
            self.app.say(f"{name} is no direction: only directions are compared")
            return
        else:
            self.marked = (*self.marked, name)
        self.app.pump.now()

    def action_use(self) -> None:
        name, source = self.current(), self.app.source
        if name is None or source is None:
            return
        if source.state.artifacts[name].kind != "direction":
            self.app.say(f"{name} is no direction, so it cannot steer")
            return
        self.app.use_direction(name)

    def action_diagnose(self) -> None:
        name, source = self.current(), self.app.source
        if name is None or source is None:
            return
        artifact = source.state.artifacts[name]
        if artifact.kind != "direction":
            self.app.say(f"{name} is no direction, so it has no poles")
            return
        if artifact.meta.get("method") in ("compose", "random", "activation"):
            self.app.say(
                f"{name} was not read from poles ({artifact.meta['method']}), so there is nothing to read again"
            )
            return
        spec = spec_for(name, source.state.artifacts, self.marked or (EVERY,))
        self.ask(lambda kernel: kernel.request("submit", spec=spec, priority="interactive"))
        self.app.action_show_screen("diagnose")

    def action_make_direction(self) -> None:
        self.app.make_direction(self.app.make_from_style)

    def action_algebra(self) -> None:
        source = self.app.source
        if source is None:
            return
        known = {n for n, a in source.state.artifacts.items() if a.kind == "direction"}

        def check(values: Values) -> str:
            try:
                names = [name for _, name in parse_algebra(values["expr"]).terms]
            except LabError as error:
                return str(error)
            missing = [str(n) for n in names if str(n) not in known and ":" not in str(n)]
            return (
                f"there is no {missing[0]}; here are {', '.join(sorted(known)) or 'none'}" if missing else ""
            )

        def named(values: Values) -> str:
            return (
                f"{values['name']} is there already"
                if values["name"] in source.state.artifacts
                else ("" if values["name"] else "a name is needed")
            )

        arts = source.state.artifacts
        whole = [n for n in sorted(known) if arts[n].meta.get("method") != "activation"]  # that is a patch's
        first = " - ".join(f"0.5*{n}" for n in (self.marked or whole)[:2])
        fields = [
            Field("expr", "expression", first, check=check, hint="0.5*terse - 0.2*formal"),
            Field("name", "name", check=named),
        ]

        def make(values: Values | None) -> None:
            if values is not None:
                spec = {"kind": "compose", "name": values["name"], "expr": values["expr"]}
                self.ask(
                    lambda kernel: kernel.request("submit", spec=spec, priority="interactive"),
                    lambda _: self.app.say(f"making {values['name']}"),
                )

        self.app.push_screen(Form("A direction by algebra", fields, accept="Make"), make)

    def action_rename(self) -> None:
        name = self.current()
        if name is None:
            return

        def rename(values: Values | None) -> None:
            if values is not None and values["name"] != name:
                self.ask(
                    lambda kernel: kernel.request("artifact.rename", old=name, new=values["name"]),
                    lambda _: self.app.say(f"{name} is now {values['name']}"),
                )

        self.app.push_screen(
            Form(f"Rename {name}", [Field("name", "new name", name)], accept="Rename"), rename
        )

    def action_delete(self) -> None:
        name = self.current()
        if name is None:
            return

        def sure(yes: bool | None) -> None:
            if yes:
                self.ask(
                    lambda kernel: kernel.request("artifact.delete", name=name),
                    lambda _: self.app.say(f"{name} is deleted"),
                )

        self.app.push_screen(
            Confirm(f"Delete {name}?", "Sessions that were saved with it keep their copy.", yes="Delete"),
            sure,
        )

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        name = self.current()
        return describe(name, self.app.details.get(name, {})).plain if name else ""

    def copy_command(self) -> str:
        name = self.current()
        if name is None:
            raise UsageError("no artifact is under the cursor")
        return f"labtui artifact show {name}"

    def copy_spec(self) -> dict[str, Any]:
        """The spec that a direction was made by, as its header keeps it."""
        name = self.current()
        spec = self.app.details.get(name or "", {}).get("spec")
        if not isinstance(spec, dict):
            raise UsageError(f"{name or 'this'} does not say by which spec it was made")
        return spec


def describe(name: str, detail: dict[str, Any], *, loading: bool = False) -> Content:
    """An artifact in words and a table of its sites."""
    model = detail.get("model") if isinstance(detail.get("model"), dict) else {}
    facts = {
        "method": detail.get("method"),
        "style": detail.get("style"),
        "pairs": detail.get("pairs"),
        "read at": detail.get("read"),
        "model": (model or {}).get("name") or (model or {}).get("source"),
        "dtype": (model or {}).get("dtype"),
        "expression": detail.get("expr"),
        "seed": detail.get("seed"),
    }
    lines = [Content.styled(name, "bold")]
    lines += [
        Content.assemble((f"{key:<11}", "$lab-dim"), str(value))
        for key, value in facts.items()
        if value not in (None, "")
    ]
    if loading:
        lines.append(Content.styled("reading its header…", "$lab-dim"))
    norms, references = numbers(detail.get("norms")), numbers(detail.get("references"))
    half, gaps = numbers(detail.get("split_half")), numbers(detail.get("gaps"))
    if norms:
        lines += [
            Content(""),
            Content.styled(
                f"{'site':<12}{'norm':>8}{'reference':>11}{'1.0 is':>8}{'split-half':>12}{'gap':>8}",
                "$lab-dim",
            ),
        ]
        for site in by_site(norms):
            reference = references.get(site)
            share = f"{norms[site] / reference:.0%}" if reference else ""
            lines.append(
                Content(
                    f"{site:<12}{norms[site]:>8.3g}{_n(reference):>11}{share:>8}{_n(half.get(site)):>12}"
                    f"{_n(gaps.get(site)):>8}"
                )
            )
    return Content("\n").join(lines)


def cosine_table(answer: object, marked: tuple[str, ...]) -> Content:
    """The cosines between marked directions, the mean over the sites that both have."""
    matrix = answer.get("matrix") if isinstance(answer, dict) else None
    names = list(answer.get("names") or marked) if isinstance(answer, dict) else list(marked)
    if not isinstance(matrix, list):
        return Content.styled("cosines between " + ", ".join(marked) + " …", "$lab-dim")
    wide = max(8, *(len(n) + 1 for n in names))
    site = answer.get("site") if isinstance(answer, dict) else None
    head = Content.styled(f"{site or ''!s:<{wide}}" + "".join(f"{n:>{wide}}" for n in names), "$lab-dim")
    rows = [
        Content(f"{name:<{wide}}" + "".join(f"{_n(value):>{wide}}" for value in row))
        for name, row in zip(names, matrix, strict=False)
    ]
    return Content("\n").join([head, *rows])


def _n(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


__all__ = ["Shelf", "cosine_table", "describe", "right"]
