"""The model as a tree of sites, with the reference norm beside each."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from labtui.actions import bindings
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import Site

_POINTS = {"in": "enters the block", "attn": "attention adds", "mlp": "MLP adds", "out": "leaves the block"}

_PLAIN = {
    "embed": "enters block 0",
    "norm": "after the final norm",
    "premerge": "what the merger gets",
    "merged": "what the merger gives the decoder",
}


class SiteTree(Tree[Site]):
    """Blocks, and in each its four points. Enter on a block takes its output, the usual site.

    ``has`` marks the sites where the chosen direction has a vector.
    """

    BINDINGS = bindings("list")

    class Chosen(Message):
        """A site was chosen."""

        def __init__(self, site: Site) -> None:
            super().__init__()
            self.site = site

    def __init__(self, *, id: str) -> None:
        super().__init__("model", id=id)
        self.show_root, self.guide_depth, self.auto_expand = False, 2, False
        self._shape: ModelShape | None = None
        self._norms: dict[str, float] = {}
        self._has: frozenset[str] = frozenset()
        self._picked: frozenset[Site] = frozenset()
        self._sites: dict[Site, TreeNode[Site]] = {}
        self._wide = 11

    def show(
        self,
        shape: ModelShape | None,
        chosen: frozenset[Site],
        norms: Mapping[str, float],
        has: frozenset[str],
    ) -> None:
        """Bring the tree up to date; only labels that changed are painted."""
        if shape != self._shape:
            self._shape = shape
            self._plant()
        if (chosen, dict(norms), has) == (self._picked, self._norms, self._has) and self._sites:
            return
        moved = chosen != self._picked
        self._picked, self._norms, self._has = chosen, dict(norms), has
        for site, node in self._sites.items():
            label = self._line_of(site, node)
            if label != node.label:
                node.set_label(label)
        if moved and len(chosen) == 1 and not self.has_focus:
            self._reveal(next(iter(chosen)))

    def _plant(self) -> None:
        self.clear()
        self._sites = {}
        if self._shape is None:
            return
        self._wide = 15 if self._shape.vision_blocks else 11
        if self._shape.vision_blocks:
            self._plant_tower(self._shape.vision_blocks)
        self._leaf(self.root, Site("llm", None, "embed"))
        for block in range(self._shape.blocks):
            branch = self.root.add("", data=Site("llm", block, "out"), expand=False)
            self._sites[Site("llm", block, "out")] = branch
            for point in ("in", "attn", "mlp"):
                self._leaf(branch, Site("llm", block, point))  # type: ignore[arg-type]
        self._leaf(self.root, Site("llm", None, "norm"))
        for site, node in self._sites.items():
            node.set_label(self._line_of(site, node))
        self.cursor_line = 0

    def _plant_tower(self, blocks: int) -> None:
        self._leaf(self.root, Site("vision", None, "embed"))
        for block in range(blocks):
            branch = self.root.add("", data=Site("vision", block, "out"), expand=False)
            self._sites[Site("vision", block, "out")] = branch
            self._leaf(branch, Site("vision", block, "in"))
        self._leaf(self.root, Site("vision", None, "premerge"))
        self._leaf(self.root, Site("vision", None, "merged"))

    def _leaf(self, parent: TreeNode[Site], site: Site) -> None:
        self._sites[site] = parent.add_leaf("", data=site)

    def _line_of(self, site: Site, node: TreeNode[Site]) -> Text:
        on = site in self._picked
        text = Text()
        text.append("◆ " if on else "  ", "bold")
        text.append(f"{site.short:<{self._wide}}", "bold" if on else "")
        norm = self._norms.get(str(site))
        text.append(f"{norm:>8.1f}" if norm is not None else " " * 8, "dim" if not on else "")
        text.append(" ∙" if str(site) in self._has else "  ")
        return text

    def _reveal(self, site: Site) -> None:
        node = self._sites.get(site)
        if node is not None:
            if node.parent is not None and node.parent is not self.root:
                node.parent.expand()
            self.call_after_refresh(self.move_cursor, node)

    def on_tree_node_selected(self, event: Tree.NodeSelected[Site]) -> None:
        event.stop()
        if event.node.data is not None:
            self.post_message(self.Chosen(event.node.data))

    @property
    def pointed(self) -> Site | None:
        """The site the user moved the cursor to; None while it is where it was at the start."""
        node = self.cursor_node
        return node.data if node is not None and self.cursor_line > 0 else None

    def describe(self) -> str:
        """What the point under the cursor is, in words."""
        node = self.cursor_node
        if node is None or node.data is None:
            return ""
        site = node.data
        if site.block is None:
            return _PLAIN.get(site.point, site.point)
        return _POINTS[site.point]

    def action_first(self) -> None:
        self.cursor_line = 0

    def action_last(self) -> None:
        self.cursor_line = self.last_line

    def action_search(self) -> None:
        """In a tree, ``/`` goes to a block by its number."""
        from labtui.widgets.dialog import Field, Form

        def go(values: dict[str, str] | None) -> None:
            if values is None:
                return
            wanted = values["site"].strip()
            for site in self._sites:
                if wanted in (str(site), site.short, str(site.block)):
                    self.screen.set_focus(self)
                    self._reveal(site)
                    return

        self.app.push_screen(
            Form("Go to a site", [Field("site", "site", hint="12, llm.12 or llm.12.attn")]), go
        )
