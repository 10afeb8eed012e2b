"""Diagnose: what the poles of a direction look like at every site, before anything is steered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.actions import Action, bindings
from labtui.diagnoses import (
    CURVES,
    HEADS,
    columns_of,
    curve_of,
    label_of,
    landscape_note,
    landscape_of,
    layer_text,
    map_of,
    pair_curve,
    shown,
    table_of,
)
from labtui.parts import NOTHING
from labtui.projection import Source
from labtui.screens.diagnose_actions import DiagnoseActions
from labtui.widgets.chart import Chart
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui_sessions.diagnosis import Cosines, Layer, Plane, anatomies, cosine_maps, planes
from labtui_sessions.fields import JobView
from labtui_sessions.state import SessionState

T = TypeVar("T")

EMPTY = {
    "norms": "the norm of the residual stream, and how far apart the poles are",
    "snr": "how far apart the poles are, against how much prompts of one pole differ",
    "stability": "whether halves of the pairs agree",
    "landscape": "the prompts of both poles and neutral ones, in two dimensions",
    "cosines": "cosines between stored directions, site by site",
}


class Diagnose(DiagnoseActions):
    """A diagnosis of the session: its tables as a list of layers, curves, a landscape and a map."""

    SCOPE = "diagnose"
    BINDINGS = bindings("diagnose")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._listed: object = None
        self._read: dict[str, tuple[object, Any]] = {}

    def body(self) -> ComposeResult:
        yield Static("", id="diagnose-head", markup=False)
        yield Static("", id="diagnose-progress", markup=False)
        with Container(id="diagnose", classes="-curves"):
            with Vertical(id="diagnose-left"):
                with Panel(title="Anatomy", key="t", id="anatomy", classes="part"):
                    yield Grid(id="anatomy-grid")
                    yield Static("", id="anatomy-why", markup=False)
                yield Panel(
                    Heatmap(id="cosine-map", empty=EMPTY["cosines"]),
                    title="Cosines",
                    key="m",
                    id="cosines",
                    classes="part",
                )
            with Vertical(id="diagnose-right"):
                with Panel(title="Curves", key="v", id="curves", classes="part"):
                    for which in CURVES:
                        yield Chart(id=f"curve-{which}", empty=EMPTY[which], classes="curve")
                    yield Chart(id="curve-pair", empty="", classes="curve")
                yield Panel(
                    Chart(id="landscape-chart", empty=EMPTY["landscape"]),
                    title="Landscape",
                    key="s",
                    id="landscape",
                    classes="part",
                )

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        self.choose(source)
        self._project_head(source, source.state if source is not None else None)
        self._follow()
        self._project_layers()
        self._project_site()

    def _project_head(self, source: Source | None, state: SessionState | None) -> None:
        head, line = self.query_one("#diagnose-head", Static), self.query_one("#diagnose-progress", Static)
        line.update("")
        if source is None:
            text = "no kernel is attached: 1 goes Home, b there starts the bundled toy"
            head.update(Content.styled(text, "$warning"))
            return
        if self.job is None:
            loading = state is None or state.model is None
            text = "the model is still loading" if loading else "nothing was diagnosed in this session yet"
            hint = "" if loading or not self.app.live else ": r reads the poles of a style, or of a direction"
            head.update(Content.styled(text + hint, "$lab-dim"))
            return
        head.update(_described(self.job, self.number, self.count))
        line.update(self.progress(self.job))

    def _follow(self) -> None:
        """Fetch what is in view and not here yet."""
        job, site, pair = self.job, self.site, self.pair
        if job is None:
            return
        wanted = [(table_of(job, "anatomy"), "")]
        if site is not None:
            wanted += [(table_of(job, name), f"site={site}") for name in ("landscape", "cosines")]
        if pair is not None:
            wanted.append((table_of(job, "cosines"), f"a={pair[0]} b={pair[1]}"))
        for table, filter in wanted:
            self.fetch(table, filter)

    @property
    def depth(self) -> list[Layer]:
        """The anatomy of the diagnosis in view."""
        if self.parts is None or self.job is None:
            return []
        rows = self.parts.get(table_of(self.job, "anatomy"))
        return self._parsed("anatomy", rows, anatomies).get(label_of(self.job), [])

    def _parsed(self, what: str, rows: list[dict[str, Any]], parse: Callable[[Any], T]) -> T:
        """What rows say, read once for each list of them."""
        known = self._read.get(what)
        if known is None or known[0] is not rows:
            known = self._read[what] = (rows, parse(rows))
        return known[1]

    def _here(self, what: str) -> list[dict[str, Any]]:
        """The rows of a table at the site under the cursor."""
        if self.parts is None or self.job is None or self.site is None:
            return NOTHING
        return self.parts.get(table_of(self.job, what), f"site={self.site}")

    @property
    def plane(self) -> Plane | None:
        """The landscape at the site under the cursor."""
        if self.job is None:
            return None
        found = self._parsed("landscape", self._here("landscape"), planes).get(label_of(self.job), [])
        return found[0] if found else None

    @property
    def map(self) -> Cosines | None:
        """The cosines at the site under the cursor."""
        found = self._parsed("cosines", self._here("cosines"), cosine_maps)
        return found[0] if found else None

    def _project_layers(self) -> None:
        layers = self.depth
        if layers == self._listed:
            return
        self._listed = layers
        columns = columns_of(layers) or ["reference", "separation", "snr", "split_half"]
        grid = self.query_one("#anatomy-grid", Grid)
        grid.show(
            ["site", *(HEADS[name] for name in columns)],
            [
                (layer.site, (layer.site, *(right(shown(name, layer.get(name))) for name in columns)))
                for layer in layers
            ],
        )
        best = max(
            (layer for layer in layers if layer.get("snr") is not None),
            key=lambda layer: layer.numbers["snr"],
            default=None,
        )
        note = "empty" if not layers else f"{len(layers)} site{'' if len(layers) == 1 else 's'}"
        if best is not None:
            note += f" · largest SNR {best.numbers['snr']:.3g} at {best.site}"
        self.query_one("#anatomy", Panel).note(note)
        self._follow()

    # -- the site under the cursor --------------------------------------------------------------------

    def _project_site(self) -> None:
        layers, site = self.depth, self.site
        here = next((layer for layer in layers if layer.site == site), None)
        why = self.query_one("#anatomy-why", Static)
        why.update(layer_text(here) if here is not None else "")
        why.display = bool(here is not None and here.reasons)
        for which in CURVES:
            self.query_one(f"#curve-{which}", Chart).show(curve_of(layers, which, site))
        self._project_curves()
        plane = self.plane
        self.query_one("#landscape-chart", Chart).show(landscape_of(plane))
        panel = self.query_one("#landscape", Panel)
        panel.note(landscape_note(plane), site or "")
        found = self.map
        self.query_one(Heatmap).show(map_of(found))
        note = f"{len(found.names)} directions · enter draws a pair over the depth" if found else "none"
        self.query_one("#cosines", Panel).note(note, site if found and site else "")

    def _project_curves(self) -> None:
        """Which curves stand in the panel: all where there is room, else one kind at a time."""
        pair = self.pair if self.parts is not None and self.job is not None else None
        rows = (
            self.parts.get(table_of(self.job, "cosines"), f"a={pair[0]} b={pair[1]}")
            if pair and self.parts is not None and self.job is not None
            else []
        )
        plot = pair_curve(rows, *pair, self.site) if pair else None
        chart = self.query_one("#curve-pair", Chart)
        chart.show(plot)
        one = not (self.has_class("-tall") and self.has_class("-wide"))
        for which in CURVES:
            self.query_one(f"#curve-{which}", Chart).display = not one or which == self.which
        chart.display = plot is not None and (not one or self.which == "pair")
        title = "cosine" if self.which == "pair" else CURVES[self.which][0]
        self.query_one("#curves", Panel).note(self.site or "", title if one else "")

    # -- what the widgets say -------------------------------------------------------------------------

    @on(Grid.Moved, "#anatomy-grid")
    def _site_moved(self) -> None:
        self.moved()

    @on(Grid.Picked, "#anatomy-grid")
    def _site_picked(self) -> None:
        self.action_focus_panel("landscape")

    @on(Heatmap.Picked)
    def _pair_picked(self) -> None:
        self.pick_pair(self.query_one(Heatmap).current)

    @on(Heatmap.Pinned)
    def _pinned(self) -> None:
        self.app.say("only the cells of a sweep are pinned")

    def moved(self) -> None:
        """Another site is under the cursor."""
        if self.app.frozen:
            self._follow()
            self._project_site()
        else:
            self.app.pump.changed()

    def on_resize(self) -> None:
        self._project_curves()

    def actions_here(self) -> list[Action]:
        return [action for action in super().actions_here() if action.id != "heatmap.pin"]


def _described(job: JobView, number: int, count: int) -> Content:
    """What is in view: whose poles, how they were read, and which diagnosis of the session it is."""
    result = job.result or {}
    facts = [
        f"{result.get('pairs') or job.plan.get('pairs')} pairs" if job.plan.get("pairs") else "",
        f"read {result['read']}" if result.get("read") else "",
        str(result.get("method") or ""),
        f"{job.plan['sites']} sites" if job.plan.get("sites") else "",
        f"{job.job}, {number} of {count}" if count > 1 else job.job,
    ]
    return Content.assemble((label_of(job), "bold $accent"), "".join(f" · {fact}" for fact in facts if fact))
