"""Specs: strict reading with one-line errors, templates, overrides, round trips through TOML and a shell."""

from __future__ import annotations

import io
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs

SWEEP: dict[str, Any] = {"kind": "sweep", "prompts": ["Explain a mutex."], "directions": ["terse"]}
DIRECTION: dict[str, Any] = {"kind": "direction", "name": "terse", "style": "terse"}
DIAGNOSE: dict[str, Any] = {"kind": "diagnose", "style": "terse"}
GENERATE: dict[str, Any] = {"kind": "generate", "prompt": "Explain a mutex."}
CHAT = [
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Explain a mutex."},
]


def refusal(data: Any) -> str:
    with pytest.raises(UsageError) as failure:
        specs.load(data)
    line = str(failure.value)
    assert "\n" not in line and len(line) < 400
    return line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strenghts": [1]}, "spec sweep: unknown key 'strenghts'; did you mean 'strengths'?"),
        ({"controls": {"randm": 1}}, "unknown key 'randm' in controls; did you mean 'random'?"),
        ({"controls": "aut"}, "controls: expected one of auto, none, found 'aut'; did you mean 'auto'?"),
        ({"prompts": {"fle": "p.txt"}}, "unknown key 'fle' in prompts; did you mean 'file'?"),
        ({"prompts": [3]}, "prompts[0]: expected text or a list, found 3"),
        ({"prompts": []}, "prompts: the list is empty"),
        ({"prompts": ["  "]}, "prompts[0]: the prompt is empty"),
        ({"prompts": {"file": "a", "set": "b"}}, "prompts: expected { file"),
        (
            {"prompts": [[{"role": "usr", "content": "x"}]]},
            "prompts[0][0].role: expected one of system, user",
        ),
        ({"prompts": [[{"role": "user"}]]}, "prompts[0][0].content is missing"),
        ({"prompts": [[{"role": "user", "txt": "x"}]]}, "unknown key 'txt' in prompts[0][0]"),
        ({"prompts": [[{"role": "assistant", "content": "x"}]]}, "user and assistant by turns"),
        ({"prompts": [CHAT[:2]]}, "the last turn is the assistant's"),
        ({"directions": "terse"}, "directions: expected a list, found 'terse'"),
        ({"directions": ["terse", "1*terse"]}, "directions: terse is there twice"),
        ({"directions": ["0.5*terse-0.2*formal"]}, "put spaces around a minus"),
        ({"directions": ["random:7"]}, "random:7~terse"),
        ({"sites": "llm.14.mpl"}, "did you mean 'mlp'"),
        ({"where": "lst"}, "did you mean 'last'"),
        ({"strengths": []}, "strengths: the list is empty"),
        ({"strengths": [1, "1.0"]}, "strengths: 1.0 is there twice"),
        ({"strengths": [float("nan")]}, "strengths: strength: nan is not a strength"),
        ({"strengths": ["8 percent"]}, "strengths: strength '8 percent'"),
        ({"strengths": [True]}, "strengths[0]: expected"),
        ({"metrics": ["perplexty"]}, "did you mean 'perplexity'"),
        ({"metrics": ["words", "words"]}, "'words' is named twice"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number >= 1, found 0"),
        ({"max_new_tokens": "256"}, "max_new_tokens: expected a whole number, found '256'"),
        ({"max_new_tokens": True}, "max_new_tokens: expected a whole number, found true"),
        ({"temperature": float("nan")}, "temperature: expected a number >= 0.0, found nan"),
        ({"seeds": [0, 1]}, "expected one seed"),
        ({"seeds": [-1]}, "seeds[0]: expected a whole number >= 0, found -1"),
        ({"system": "x" * 300_000}, "system: 300,000 characters; expected <= 200000"),
        ({"table": "My Table"}, "table: 'My Table' is no name"),
        ({"stop": [""]}, "stop[0]"),
    ],
)
def test_a_bad_sweep_is_one_line_that_names_the_field(change: dict[str, Any], said: str) -> None:
    assert said in refusal(SWEEP | change)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "kind is missing"),
        ({"kind": "swep"}, "did you mean 'sweep'"),
        ({"kind": 3}, "expected one of"),
        ({"kind": "sweep"}, "is missing; `labtui spec sweep` shows every field"),
        ([], "expected a table of keys"),
        ({"kind": "sweep", 3: 4}, "every key must be text"),
        ({"kind": "direction", "name": "Terse", "style": "terse"}, "'Terse' is no name"),
        ({"kind": "direction", "name": "t"}, "expected a style, or both"),
        ({"kind": "direction", "name": "t", "method": "mean"}, "did you mean 'mean-difference'"),
        ({"kind": "direction", "name": "t", "positive": ["a", "b"], "negative": ["c"]}, "expected pairs"),
        ({"kind": "direction", "name": "t", "positive": ["a"], "negative": ["c"]}, "use pair for one"),
        ({"kind": "direction", "name": "t", "method": "random"}, "a random direction needs one"),
        ({"kind": "direction", "name": "t", "method": "random", "norm": "2"}, 'expected "8%" or "|39|"'),
        (DIRECTION | {"norm": "8%"}, "only random directions"),
        (DIRECTION | {"method": "pair"}, "a style has many pairs"),
        (DIRECTION | {"read": "first"}, "expected last, mean or max"),
        (DIRECTION | {"read": "mean@generated"}, "nothing is generated"),
        (GENERATE | {"edits": "-!terse@llm.3"}, "spec generate: edits, column 2: '-' before '!'"),
        (GENERATE | {"n": 0}, "n: expected a whole number >= 1"),
        (GENERATE | {"thinking": "yes"}, "thinking: expected true or false or nothing, found 'yes'"),
        ({"kind": "patch", "prompt": "a", "site": "llm.3"}, "both arms are the same"),
        ({"kind": "compose", "name": "a", "expr": "random:3"}, "no norm of its own"),
        ({"kind": "diagnose"}, "style: expected one of a style, positive and negative, or a direction"),
        (DIAGNOSE | {"direction": "terse"}, "expected one of a style"),
        (DIAGNOSE | {"sites": "llm.x"}, "spec diagnose: site 'llm.x'"),
        (DIAGNOSE | {"landscape": "lm.3"}, "unknown site"),
        (DIAGNOSE | {"read": "mean@generated"}, "nothing is generated"),
        (DIAGNOSE | {"directions": ["a", "a"]}, "directions: a is there twice"),
        (DIAGNOSE | {"directions": ["a"]}, "a map of cosines needs two"),
        (DIAGNOSE | {"directions": ["2*a", "b"]}, "directions[0]: '2*a' is no name"),
        (DIAGNOSE | {"directions": ["*", "b"]}, "directions[0]: '*' is no name"),
        (DIAGNOSE | {"name": "../x"}, "name: '../x' is no name"),
        (DIAGNOSE | {"method": "random"}, "expected one of mean-difference, pca, logistic"),
        ({"kind": "diagnose", "direction": "a", "read": "mean"}, "read: a brings its own"),
        ({"kind": "diagnose", "positive": ["a", "b"], "negative": ["c"]}, "expected pairs"),
        ({"kind": "diagnose", "positive": ["a"], "negative": [" "]}, "negative[0]: the prompt is empty"),
        ({"kind": "diagnose", "positive": ["a"] * 2001, "negative": ["c"]}, "expected <= 2000"),
        ({"kind": "rerun", "tolerance": 0.1, "rows": []}, "expected recorded rows"),
        (
            {
                "kind": "rerun",
                "tolerance": 0.1,
                "rows": [{"key": "a", "ids": [1], "forced": [2], "logprobs": []}],
            },
            "a log-probability and a gap for each of 1 tokens",
        ),
    ],
)
def test_other_bad_specs(data: Any, said: str) -> None:
    assert said in refusal(data)


@pytest.mark.parametrize("kind", list(specs.KINDS))
def test_a_template_shows_every_field_with_its_default(kind: str) -> None:
    data = tomllib.loads(specs.template(kind))
    fields = set(specs.KINDS[kind].__struct_fields__)
    commented = {
        line.split()[1] for line in specs.template(kind).splitlines() if " = " in line and line[0] == "#"
    }
    assert set(data) - {"kind"} | (commented & fields) == fields
    if kind == "direction":
        for pole in ("positive", "negative"):
            del data[pole]
    if kind != "rerun":
        for line in specs.template(kind).splitlines():
            if line[0] == "#" and line.split()[1] in fields:  # what is left out can be put in as it stands
                specs.load(data | tomllib.loads(line[1:].strip()))
        spec = specs.load(data)
        assert specs.load(tomllib.loads(specs.to_toml(spec))) == spec


def test_a_template_of_no_kind() -> None:
    with pytest.raises(UsageError, match="did you mean 'sweep'"):
        specs.template("swep")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda t: bool(t.strip())
)
PROMPTS = st.one_of(TEXT, st.just(CHAT))
SWEEPS = st.fixed_dictionaries(
    {
        "kind": st.just("sweep"),
        "prompts": st.lists(PROMPTS, min_size=1, max_size=3),
        "directions": st.sampled_from([["terse"], ["0.5*terse - 0.2*formal", "-terse"], ["random:7~terse"]]),
    },
    optional={
        "strengths": st.lists(
            st.floats(-9, 9) | st.sampled_from(["8%", "|39|"]), min_size=1, max_size=4, unique=True
        ),
        "system": TEXT,
        "prefill": TEXT,
        "temperature": st.floats(0, 2),
        "thinking": st.booleans(),
        "controls": st.sampled_from(["auto", "none", {"random": 20, "negated": True}]),
        "stop": st.lists(TEXT, max_size=2),
        "sites": st.sampled_from(["llm.*", "llm.12+14", "llm.0,4,8"]),
    },
)


@given(SWEEPS)
def test_toml_and_command_lines_say_the_same_spec(data: dict[str, Any]) -> None:
    spec = specs.load(data)
    assert specs.load(specs.to_dict(spec)) == spec
    assert specs.load(tomllib.loads(specs.to_toml(spec))) == spec
    words = shlex.split(specs.to_command(spec, kernel="toy"))
    assert words[:5] == ["labtui", "run", "sweep", "--kernel", "toy"]
    assert specs.read("sweep", words[6::2]) == spec


def test_overrides() -> None:
    data: dict[str, Any] = dict(SWEEP)
    for setting in (
        "strengths=[0, 1]",
        "controls.random=20",
        "sites=llm.6,9",
        'where="last"',
        "directions=['terse', 'formal']",
        "temperature=1",
        "system=42",
        "table=true",
    ):
        data = specs.override(data, setting)
    spec = specs.load(data)
    assert isinstance(spec, specs.Sweep)
    assert (spec.strengths, spec.sites, spec.where) == ([0.0, 1.0], "llm.6,9", "last")
    assert spec.controls_for(3) == specs.Controls(random=20)
    assert (spec.system, spec.table) == ("42", "true")
    assert SWEEP == {"kind": "sweep", "prompts": ["Explain a mutex."], "directions": ["terse"]}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("strengths", "expected key=value"),
        ("=3", "expected key=value"),
        ("a..b=3", "expected key=value"),
        ("strenghts=[0]", "did you mean 'strengths'"),
        ("prompts=" + "x" * 1_100_000, "at most"),
    ],
)
def test_bad_overrides(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        specs.override(SWEEP, setting)


def test_an_override_cannot_smuggle_in_a_second_key() -> None:
    assert specs.override(SWEEP, 'where="all"\nforce = true')["where"] == '"all"\nforce = true'


def test_files_are_read_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Explain a mutex.\n\n  Was ist ein Fluß? \n", encoding="utf-8")
    path = tmp_path / "s.toml"
    path.write_text(
        'kind = "sweep"\nprompts = { file = "p.txt" }\ndirections = ["terse"]\n', encoding="utf-8"
    )
    spec = specs.load_toml(path, ["max_new_tokens=9"])
    assert isinstance(spec, specs.Sweep)
    assert spec.prompts == ["Explain a mutex.", "Was ist ein Fluß?"]
    assert spec.max_new_tokens == 9


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"

    def said(raw: bytes) -> str:
        path.write_bytes(raw)
        with pytest.raises(UsageError) as failure:
            specs.load_toml(path)
        assert "\n" not in str(failure.value)
        return str(failure.value)

    sweep = b'kind = "sweep"\ndirections = ["terse"]\nprompts = { file = "%s" }\n'
    (tmp_path / "binary").write_bytes(b"ok\n\xff\xfe")
    (tmp_path / "blank").write_bytes(b"\n \n")
    assert "not TOML" in said(b"kind = ")
    assert "not UTF-8" in said(b"\xff\xfe\x00")
    assert "cannot read" in said(sweep % b"missing.txt")
    assert "not UTF-8 text (byte 3)" in said(sweep % b"binary")
    assert "holds no prompt" in said(sweep % b"blank")
    assert "nested too deep" in said(b"a = " + b"[" * 100_000) or "not TOML" in said(b"a = " + b"[" * 100_000)
    with pytest.raises(UsageError, match="cannot read"):
        specs.load_toml(tmp_path / "none.toml")


def test_a_spec_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(specs.to_toml(specs.load(SWEEP)).encode())))
    assert specs.read("-", ["batch=4"]) == specs.load(SWEEP | {"batch": 4})


def test_a_chat_keeps_its_own_system_prompt() -> None:
    own = [specs.Message(role="system", content="Be brief."), specs.Message(role="user", content="Hello.")]
    assert specs.as_messages(own, "You are a helpful assistant.") == own
    assert [m.role for m in specs.as_messages("Hello.", "Be kind.")] == ["system", "user"]
    assert [m.role for m in specs.as_messages("Hello.", "")] == ["user"]
    assert specs.shown_prompt(own) == "Hello."
