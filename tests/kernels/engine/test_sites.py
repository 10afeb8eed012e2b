"""Every kind of site is where its name says: an edit there changes what lies downstream, and nothing
before.
"""

from __future__ import annotations

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Prompt
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.lang.sites import Site, all_sites
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, vector
from .reference import site

KINDS = [
    "llm.embed",
    "llm.0.in",
    "llm.2.in",
    "llm.1.attn",
    "llm.2.attn",
    "llm.1.mlp",
    "llm.1.out",
    "llm.norm",
]


def order(sites: list[Site]) -> list[Site]:
    """The order in which a pass reaches the sites, written out by hand: embed, then in, attn, mlp, out of
    each block.
    """
    points = ["in", "attn", "mlp", "out"]
    return sorted(
        sites,
        key=lambda s: (
            (-1, 0)
            if s.point == "embed"
            else (99, 0)
            if s.block is None
            else (s.block, points.index(s.point))
        ),
    )


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_edits_change_only_what_is_downstream(family: str) -> None:
    loaded = tiny(family)
    engine = Engine(loaded)
    sites = order(all_sites(loaded.info.shape))
    text = [Prompt(prompt(12, 1))]
    before = engine.capture(text, sites, pooling="none")
    for name in KINDS:
        where = site(name)
        edit = Edit(where, "add", vector(48, 1), 1.5, parse_where("[4,7]"))
        after = engine.capture(text, sites, pooling="none", edits=[edit])
        at = sites.index(where)
        for each in sites[:at]:
            assert torch.equal(after[each], before[each]), f"{name} changed {each}, which comes before it"
        moved = after[where] - before[where]
        torch.testing.assert_close(moved[[4, 7]], (1.5 * edit.vectors).expand(2, -1), atol=1e-4, rtol=1e-4)
        untouched = [n for n in range(12) if n not in (4, 7)]
        assert torch.equal(after[where][untouched], before[where][untouched])
        # The residual stream after the edited block moves there, and nothing before position 4 ever does.
        for each in sites[at:]:
            # Experts take their tokens in groups, so there the last bits hang on the other positions.
            torch.testing.assert_close(after[each][:4], before[each][:4], atol=1e-5, rtol=1e-5)
        if where.point != "norm":
            last = sites[-1]
            assert (after[last][4] - before[last][4]).norm() > 1e-3


def test_the_block_after_reads_the_edited_stream() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    edit = Edit(site("llm.1.out"), "add", vector(48, 1), 1.0)
    sites = [site("llm.1.out"), site("llm.2.in")]
    read = engine.capture([Prompt(prompt(6, 1))], sites, pooling="none", edits=[edit])
    assert torch.equal(read[sites[0]], read[sites[1]])


def test_operations() -> None:
    """What each operation leaves behind, by its defining property."""
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    where = site("llm.1.out")
    text = [Prompt(prompt(8, 1))]
    basis = torch.stack([vector(48, 1), vector(48, 2), vector(48, 1) + vector(48, 2)])  # of rank 2
    plain = engine.capture(text, [where], pooling="none")[where]

    def after(*edits: Edit) -> torch.Tensor:
        return engine.capture(text, [where], pooling="none", edits=edits)[where]

    projected = after(Edit(where, "project", basis))
    assert float((projected @ basis.T).abs().max()) < 1e-3
    torch.testing.assert_close(after(Edit(where, "project", basis, 0.5)), (plain + projected) / 2)
    whole = after(Edit(where, "replace", basis))
    torch.testing.assert_close(whole, basis.sum(0).expand(8, -1))
    torch.testing.assert_close(after(Edit(where, "add", basis, 2.0)), plain + 2 * basis.sum(0))
    put, gone = Edit(where, "add", basis[0], 3.0), Edit(where, "project", basis[:1])
    assert float((after(put, gone) @ basis[0]).abs().max()) < 1e-3  # the order is the row's
    torch.testing.assert_close(after(gone, put) @ basis[0], (3 * basis[0] @ basis[0]).expand(8))
    plain_dtype = torch.get_default_dtype()
    assert plain.dtype == plain_dtype == torch.float32


def test_sites_that_do_not_exist() -> None:
    engine = Engine(tiny("qwen2"))
    for bad in (Site("llm", 4, "out"), Site("vision", 0, "out"), Site("vision", None, "merged")):
        with pytest.raises(UsageError, match=r"expected llm\.embed, llm\.norm, or a block llm\.0 to llm\.3"):
            engine.capture([Prompt((1, 2))], [bad])


def test_half_precision_edits_are_computed_in_float32() -> None:
    loaded = tiny("qwen3")
    loaded.model.to(torch.bfloat16)
    engine = Engine(loaded)
    where = site("llm.1.out")
    text = [Prompt(prompt(8, 1))]
    plain = engine.capture(text, [where], pooling="none")[where]
    zero = engine.capture(text, [where], pooling="none", edits=[Edit(where, "replace", vector(48, 1), 0.0)])[
        where
    ]
    assert torch.equal(plain, zero)
    added = engine.capture(text, [where], pooling="none", edits=[Edit(where, "add", vector(48, 1), 1.0)])[
        where
    ]
    assert torch.equal(added, (plain + vector(48, 1)).to(torch.bfloat16).float())
