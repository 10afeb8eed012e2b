"""Edit lines and direction algebra: what they mean, exact round trips, and errors that point at a column."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.algebra import DirectionExpr, Ref, parse_algebra, parse_ref
from labtui_kernels.lang.edits import EditTerm, complete_edits, format_edits, parse_edits
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import Site, all_sites, parse_site
from labtui_kernels.lang.strength import Strength

SHAPE = ModelShape("qwen3", blocks=24, width=64)
L12, L14 = parse_site("llm.12"), parse_site("llm.14")


def test_the_lines_of_the_contract() -> None:
    assert parse_edits("2.0*terse@llm.12") == (EditTerm("add", Strength(2.0), "terse", (L12,)),)
    assert parse_edits("8%*terse@llm.12@generated") == (
        EditTerm("add", Strength(8.0, "pct"), "terse", (L12,), Where("generated")),
    )
    assert parse_edits("!terse@llm.12") == (EditTerm("project", Strength(1.0), "terse", (L12,)),)
    assert parse_edits("  ") == ()


def test_terms_keep_their_order_and_their_signs() -> None:
    terms = parse_edits("terse@llm.12 - |39|*formal@llm.14@last + 0.5*!terse@llm.12+14")
    assert [(t.op, str(t.strength), t.direction) for t in terms] == [
        ("add", "1.0", "terse"),
        ("add", "-|39|", "formal"),
        ("project", "0.5", "terse"),
    ]
    assert terms[2].sites == (L12, L14)
    assert parse_edits("-terse@llm.12")[0].strength.value == -1.0


@pytest.mark.parametrize(
    ("line", "groups"),
    [
        ("2*a@llm.12+14+16", [["llm.12", "llm.14", "llm.16"]]),
        ("2*a@llm.12 + 14", [["llm.12", "llm.14"]]),
        ("2*a@llm.12+14*b@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+14%*b@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+1.5*b@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+1e1*b@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+14-0.5*b@llm.3", [["llm.12", "llm.14"], ["llm.3"]]),
        ("2*a@llm.12.mlp+llm.14.attn@last", [["llm.12.mlp", "llm.14.attn"]]),
        ("2*a@llm.12+b@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+(14)@llm.3", [["llm.12"], ["llm.3"]]),
        ("2*a@llm.12+E8@last+b@E8n", [["llm.12", "llm.23"], ["llm.norm"]]),
        ("=kept@llm.3@[4]+2*a@llm.12@generated[0:20]", [["llm.3"], ["llm.12"]]),
    ],
)
def test_plus_joins_sites_or_terms(line: str, groups: list[list[str]]) -> None:
    assert [[site.short for site in term.sites] for term in parse_edits(line, SHAPE)] == groups


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-!terse@llm.12", "'-' before '!' has no meaning: a direction is projected out whatever its sign"),
        ("2*a@llm.1 - =b@llm.2", "'-' before '=' has no meaning"),
        ("2.0*terse", "column 10: expected '@' and a site after 'terse', the text ends"),
        ("2.0 terse@llm.12", "expected"),
        ("terse*2@llm.12", "a strength is joined by '*'"),
        ("2*terse@llm.99", "llm.0 to llm.23"),
        ("2*terse@llm.12-14", "joined by '+', as in llm.12+13+14"),
        ("2*terse@llm.12,14", "joined by '+'"),
        ("2*terse@llm.*", "single sites"),
        ("2*terse@llm.12@lst", "did you mean 'last'"),
        ("2*terse@llm.12@", "expected a place"),
        ("2*terse@llm.12 foo", "expected '+', '-' or the end"),
        ("2*Terse@llm.12", "lower case"),
        ("nan*terse@llm.12", "expected '@'"),
        ("1e999*terse@llm.12", "finite"),
        ("2*random:7@llm.12", "random:7~terse"),
        ("8%*!terse@llm.12", "takes a share"),
        ("2*(terse@llm.12", "')'"),
        ("2*terse@llm.12+12", "names a site twice"),
        ("x" * 3000, "at most 2000"),
        ("+".join(["a@llm.1"] * 40), "more than 32"),
        ("2**terse@llm.1", "expected a direction's name"),
    ],
)
def test_errors_say_what_and_where(line: str, said: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_edits(line, SHAPE)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("0.5*terse - 0.2*formal", [(0.5, "terse"), (-0.2, "formal")]),
        ("-terse", [(-1.0, "terse")]),
        ("terse-formal", [(1.0, "terse-formal")]),
        ("random:7", [(1.0, "random:7")]),
        ("-2*shuffled:7~terse", [(-2.0, "shuffled:7~terse")]),
        ("shuffled:0~(a - b)", [(1.0, "shuffled:0~(a - b)")]),
        ("-(a + 2*(b - 0.5*c))", [(-1.0, "a"), (-2.0, "b"), (1.0, "c")]),
        ("2*3*a", [(6.0, "a")]),
        (
            "terse[llm.6.mlp] + random:7~terse[llm.6]",
            [(1.0, "terse[llm.6.mlp]"), (1.0, "random:7~terse[llm.6]")],
        ),
    ],
)
def test_algebra(text: str, terms: list[tuple[float, str]]) -> None:
    assert list(parse_algebra(text).terms) == terms


def test_what_an_expression_names() -> None:
    expr = parse_algebra("terse[llm.6] - 0.5*formal + random:3~dry")
    assert expr.names == ("terse", "formal", "dry")
    assert expr.refs[0] == Ref("terse", Site("llm", 6, "out"))
    assert expr.plain is None
    assert parse_algebra("terse").plain == "terse"
    assert parse_algebra("random:3").unscaled
    assert not parse_algebra("random:3~dry").unscaled
    assert parse_ref("random:3~dry") == Ref(None, None, 3, "dry")
    assert parse_algebra("random:3~(a[llm.2] - 0.5*b)").names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a direction's name"),
        ("0.5*terse-0.2*formal", "put spaces around a minus"),
        ("terse +", "the text ends"),
        ("(" * 20 + "a" + ")" * 20, "nested"),
        ("random", "a seed"),
        ("random:7 + terse", "give it one"),
        ("shuffled:7", "as in shuffled:0~terse"),
        ("shuffled + terse", "as in shuffled:0~terse"),
        ("shuffled:1~random:2", "stored directions after '~'"),
        ("random:1~(" * 100, "nested"),
        ("random:7~random:8", "stored directions after '~'"),
        ("terse[llm.6", "expected '+', '-' or the end"),
        ("terse[llm.x]", "llm.BLOCK"),
        (" + ".join(["a"] * 70), "more than 64"),
        ("a" * 101, "at most 100"),
        ("1e300*1e300*a", "finite"),
    ],
)
def test_algebra_errors(text: str, said: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_algebra(text)
    assert said in str(failure.value)


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True).filter(lambda name: name != "random")
sites = st.sampled_from(all_sites(SHAPE))
stored = st.builds(Ref, names, st.none() | sites)
coefficients = finite.filter(lambda x: str(x) != "-0.0")
sums = st.lists(st.tuples(coefficients, stored.map(str)), min_size=1, max_size=3).map(
    lambda t: str(DirectionExpr(tuple(t)))
)
refs = stored | st.builds(lambda seed, like: Ref(None, None, seed, like), st.integers(0, 10**18 - 1), sums)
terms = st.tuples(coefficients, refs.map(str))
expressions = st.lists(terms, min_size=1, max_size=6).map(lambda t: DirectionExpr(tuple(t)))


@given(expressions)
def test_algebra_round_trips(expr: DirectionExpr) -> None:
    assert parse_algebra(str(expr)) == expr


places = st.one_of(
    st.sampled_from([Where(), Where("prompt"), Where("last"), Where("generated"), Where("content")]),
    st.builds(lambda a, n: Where("generated", start=a, stop=a + n), st.integers(0, 50), st.integers(1, 50)),
    st.lists(st.integers(-50, 500), min_size=1, max_size=5, unique=True).map(
        lambda i: Where("indices", indices=tuple(i))
    ),
)
groups = st.lists(sites, min_size=1, max_size=4, unique=True).map(tuple)
added = st.builds(
    EditTerm,
    st.just("add"),
    st.builds(Strength, finite, st.sampled_from(["alpha", "abs", "pct"])),
    expressions.map(str),
    groups,
    places,
)
others = st.builds(
    EditTerm,
    st.sampled_from(["project", "replace"]),
    st.builds(Strength, finite.map(abs)),
    expressions.map(str),
    groups,
    places,
)


@settings(max_examples=300)
@given(st.lists(added | others, max_size=4))
def test_edit_lines_round_trip(edits: list[EditTerm]) -> None:
    line = format_edits(edits)
    if len(line) <= 2000:
        assert parse_edits(line, SHAPE) == tuple(edits)


@settings(max_examples=400)
@given(st.text(alphabet=string.ascii_lowercase[:6] + "0123456789.*+-!=@()[]|%~: lm,", max_size=40))
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        edits = parse_edits(line, SHAPE)
    except UsageError as refused:
        assert "\n" not in str(refused)
    else:
        assert parse_edits(format_edits(edits), SHAPE) == edits


def test_completion_of_a_line() -> None:
    known = ["terse", "formal", "terse-2"]
    assert complete_edits("2.0*te", SHAPE, known) == ["2.0*terse", "2.0*terse-2"]
    assert complete_edits("2.0*terse@llm.2", SHAPE, known)[:2] == ["2.0*terse@llm.2", "2.0*terse@llm.20"]
    assert complete_edits("2.0*terse@llm.2@gen", SHAPE, known)[0] == "2.0*terse@llm.2@generated"
    assert complete_edits("2*terse@llm.2 + 0.5*fo", SHAPE, known) == ["2*terse@llm.2 + 0.5*formal"]
    assert complete_edits("2*terse@llm.2+llm.23", SHAPE, known)[0] == "2*terse@llm.2+llm.23"
