"""Sites: the grammar, its errors, and the names that others use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import (
    Site,
    alias_note,
    all_sites,
    check_sites,
    complete_site,
    format_group,
    other_names,
    parse_site,
    parse_sites,
    site_width,
)

TEXT = ModelShape("qwen3", blocks=24, width=896)
PICTURES = ModelShape("qwen2_vl", blocks=28, width=3584, vision_blocks=32, vision_width=1280)


def texts(source: str, shape: ModelShape | None = TEXT) -> list[str]:
    return [format_group(group) for group in parse_sites(source, shape)]


def test_a_block_alone_means_its_output() -> None:
    assert parse_site("llm.14") == Site("llm", 14, "out")
    assert str(parse_site("llm.14")) == "llm.14.out"
    assert parse_site("llm.14").short == "llm.14"
    assert parse_site("llm.14.mlp").short == "llm.14.mlp"


def test_lists_ranges_and_groups() -> None:
    assert texts("llm.8-10") == ["llm.8", "llm.9", "llm.10"]
    assert texts("llm.0,4,8") == ["llm.0", "llm.4", "llm.8"]
    assert texts("llm.12+14") == ["llm.12+14"]
    assert texts("llm.12+14,16+18") == ["llm.12+14", "llm.16+18"]
    assert texts("llm.0.mlp,4") == ["llm.0.mlp", "llm.4.mlp"]
    assert texts("llm.embed, llm.3 , llm.norm") == ["llm.embed", "llm.3", "llm.norm"]
    assert len(texts("llm.*")) == 24
    assert texts("llm.*.mlp")[-1] == "llm.23.mlp"
    assert texts("llm.12.mlp+llm.14") == ["llm.12.mlp+llm.14"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("llm.24", "llm.0 to llm.23"),
        ("llm.20-30", "llm.0 to llm.23"),
        ("llm.14.mpl", "did you mean 'mlp'"),
        ("lm.14", "did you mean 'llm'"),
        ("llm.nrom", "did you mean 'llm.norm'"),
        ("vision.3", "no vision tower"),
        ("llm.9-3", "write 3-9"),
        ("4", "write llm.4"),
        ("llm.embed,4", "write llm.4"),
        ("llm.-1", "expected llm.BLOCK"),
        ("llm.1,,2", "empty entry"),
        ("", "empty entry"),
        ("llm.3,3", "named twice"),
        ("llm.3+3", "names a site twice"),
        ("llm.3-5+7", "cannot be joined"),
        ("llm.0,4,8.mlp", "write llm.8.mlp in full"),
        ("llm.3.out.out", "expected llm.BLOCK"),
        ("vision.3.mlp", "expected one of in, out"),
        ("llm." + "9" * 50, "expected llm.BLOCK"),
        ("llm.1," * 2000, "at most 2000"),
        ("llm.٣", "expected llm.BLOCK"),
    ],
)
def test_one_line_says_what_is_wrong(source: str, said: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_sites(source, TEXT)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)


def test_syntax_is_checked_without_a_model() -> None:
    check_sites("llm.*,E7")
    with pytest.raises(UsageError, match="needs a model"):
        parse_sites("llm.*", None)
    with pytest.raises(UsageError, match="unknown site"):
        check_sites("layer.3")


def test_aliases_at_the_study_depth_and_elsewhere() -> None:
    study = {
        name: parse_site(name, PICTURES).short for name in ("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8")
    }
    assert study == {
        "E1": "vision.embed",
        "E2": "vision.7",
        "E3": "vision.15",
        "E4": "vision.premerge",
        "E5": "vision.merged",
        "E6": "llm.0",
        "E7": "llm.13",
        "E8": "llm.27",
    }
    assert parse_site("E8n", PICTURES) == Site("llm", None, "norm")
    assert (parse_site("E7", TEXT).short, parse_site("E8", TEXT).short) == ("llm.11", "llm.23")
    assert alias_note("E7", TEXT) == "E7 = llm.11 in this model (image positions)"
    with pytest.raises(UsageError, match="depends on the model's depth"):
        parse_site("E7")


def test_widths() -> None:
    assert site_width(parse_site("vision.7"), PICTURES) == 1280
    assert site_width(parse_site("vision.premerge"), PICTURES) == 1280
    assert site_width(parse_site("vision.merged"), PICTURES) == 3584
    assert site_width(parse_site("llm.3.attn"), PICTURES) == 3584


def test_other_names_are_not_off_by_one() -> None:
    assert other_names(parse_site("llm.embed"), TEXT) == {"transformers": "hidden_states[0]"}
    assert other_names(parse_site("llm.0"), TEXT)["transformers"] == "hidden_states[1]"
    assert other_names(parse_site("llm.5.in"), TEXT)["transformers"] == "hidden_states[5]"
    assert other_names(parse_site("llm.23"), TEXT)["transformers"].startswith("none")
    assert other_names(parse_site("llm.norm"), TEXT)["transformers"] == "hidden_states[24]"
    assert other_names(parse_site("llm.23"), TEXT)["counting from 1"] == "layer 24 of 24"
    assert other_names(parse_site("llm.4"), TEXT)["control vector"] == "direction.4"


def test_sites_sort_as_a_forward_pass_reaches_them() -> None:
    sites = all_sites(PICTURES)
    assert [s.short for s in sites[:3]] == ["vision.embed", "vision.0.in", "vision.0"]
    assert [s.short for s in sites[-2:]] == ["llm.27", "llm.norm"]
    assert len(sites) == 3 + 64 + 2 + 4 * 28


def test_completion() -> None:
    assert complete_site("llm.2", TEXT)[:3] == ["llm.2", "llm.20", "llm.21"]
    assert "llm.2.mlp" in complete_site("llm.2.", TEXT)
    assert complete_site("vision", TEXT) == []
    assert all(parse_sites(name, TEXT) for name in complete_site("", TEXT))


@given(st.lists(st.sampled_from(all_sites(PICTURES)), min_size=1, max_size=6, unique=True))
def test_groups_round_trip(sites: list[Site]) -> None:
    group = tuple(sites)
    assert parse_sites(format_group(group), PICTURES) == [group]


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_sites(text, TEXT)
    except UsageError as refused:
        assert "\n" not in str(refused)
