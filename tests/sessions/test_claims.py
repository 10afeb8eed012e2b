"""Claims: the rule by which sessions decide them, the ledger on disk, and the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts import paths
from labtui_artifacts.errors import BadFile, UsageError
from labtui_sessions import ledger
from labtui_sessions.bundle import save
from labtui_sessions.claims import Claim, Query, Studied, check, validate
from labtui_sessions.journal import Journal
from labtui_sessions.tables import Table
from tests.sessions.test_findings import labtui, write_sweep

NOW = 1_750_000_000.0


def claim(name: str = "shorter", **fields: Any) -> Claim:
    given_fields: dict[str, Any] = {
        "text": "terse makes answers shorter", "metric": "words", "of": "effect", "comparison": "less",
        "threshold": 0.0, "created": NOW, "query": Query(direction="terse", site="llm.4", strength="2.0"),
    }  # fmt: skip
    return Claim(name=name, **{**given_fields, **fields})


def studied(
    name: str, effect: float, *, prompts: int = 20, t: float = NOW + 10, spread: float = 1.0, **more: Any
) -> Studied:
    """A session whose sweep has one cell with that effect on words, and half of its answers coherent."""
    table = Table("sweep")
    finish = more.pop("finish", "stop")
    for p in range(prompts):
        zero = {"prompt": f"p{p}", "direction": "", "site": "", "where": "all", "strength": 0.0,
                "strength_abs": 0.0, "strength_pct": 0.0, "seed": 0, "control": "zero", "finish": "stop",
                "words": 30 + p, "coherent": True}  # fmt: skip
        steered = {**zero, "direction": "terse", "site": "llm.4", "strength": 2.0, "strength_abs": 39.2,
                   "strength_pct": 8.0, "control": "", "finish": finish, "coherent": p % 2 == 0,
                   "words": 30 + p + effect + spread * (p % 3 - 1)}  # fmt: skip
        table.add("j", f"z{p}", [zero])
        table.add("j", f"s{p}", [steered])
    made_by = {"sweep": [("toy-qwen3", "w1")] * table.rows}
    return Studied(id=name, created=t, tables={"sweep": table}, **{"made_by": made_by, **more})


def test_confirmed_refuted_and_open() -> None:
    assert check(claim(), [studied("a", -5)]).status == "confirmed"
    assert check(claim(), [studied("a", 5)]).status == "refuted"
    assert check(claim(comparison="greater"), [studied("a", 5)]).status == "confirmed"
    held = check(claim(), [studied("a", -0.1, spread=9.0)])
    assert held.status == "open" and held.evidence[0].found[0].reason == "the interval holds the threshold"
    assert held.sentence == "open: none of 1 session since it was made decides it"
    nothing = check(claim(), [])
    assert (nothing.status, nothing.evidence) == ("open", [])


def test_older_sessions_are_shown_and_do_not_decide() -> None:
    only_old = check(claim(), [studied("old", -5, t=NOW - 1), studied("same", -5, t=NOW)])
    assert only_old.status == "open" and [e.role for e in only_old.evidence] == ["exploratory"] * 2
    assert "2 older sessions exploratory" in only_old.sentence
    both = check(claim(), [studied("new", -5), studied("old", 5, t=NOW - 1)])
    assert both.status == "confirmed"
    assert [(e.session, e.role, e.status) for e in both.evidence] == [
        ("old", "exploratory", "refuted"), ("new", "deciding", "confirmed"),
    ]  # fmt: skip


def test_prompts_that_an_older_session_has_are_counted_and_decide_as_others() -> None:
    old, again, more = studied("old", -5, t=NOW - 1), studied("again", -5), studied("more", -5, prompts=23)
    found = check(claim(), [again, old, more])
    assert found.status == "confirmed"
    assert {e.session: e.fresh for e in found.evidence} == {"old": None, "again": 0, "more": 3}
    assert [e.fresh for e in check(claim(), [again]).evidence] == [20]


def test_sessions_that_disagree_leave_it_open() -> None:
    found = check(claim(), [studied("a", -5), studied("b", 5)])
    assert found.status == "open" and "2 sessions disagree" in found.sentence


def test_what_decides_nothing() -> None:
    few = check(claim(), [studied("a", -5, prompts=19)])
    assert few.status == "open" and "under 20" in few.evidence[0].found[0].reason
    running = check(claim(), [studied("a", -5, running=frozenset({"sweep"}))])
    assert running.status == "open" and "still running" in running.evidence[0].found[0].reason
    cut = check(claim(), [studied("a", -5, finish="length")])  # the true words may be more
    assert cut.status == "open" and "cut answers" in cut.evidence[0].found[0].reason
    assert check(claim(comparison="greater"), [studied("a", 5, finish="length")]).status == "confirmed"


def test_values_and_rates() -> None:
    one = [studied("a", -5)]
    assert check(claim(of="value", threshold=40.0), one).status == "confirmed"  # 34.5 words
    assert check(claim(of="value", threshold=30.0), one).status == "refuted"
    half = claim(of="rate", metric="coherent", comparison="less", threshold=0.8)
    found = check(half, one)
    assert found.status == "confirmed" and found.evidence[0].found[0].estimate == 0.5
    assert (
        check(claim(of="rate", threshold=40.0), one)
        .evidence[0]
        .found[0]
        .reason.startswith("words is not yes")
    )


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        (Query(), True), (Query(strength="2"), True), (Query(strength="8%"), True), (Query(strength="|39.2|"), True),
        (Query(strength="2.1"), False), (Query(strength="-2"), False), (Query(strength="-|39.2|"), False),
        (Query(site="llm.5"), False), (Query(direction="formal"), False), (Query(where="last"), False),
        (Query(where="all", table="sweep"), True), (Query(table="other"), False),
        (Query(model="toy-qwen3", title="MUTEX", tag="x"), True), (Query(model="toy"), False),
        (Query(title="semaphore"), False), (Query(tag="y"), False),
    ],
)  # fmt: skip
def test_queries(query: Query, finds: bool) -> None:
    session = studied("a", -5, title="the mutex sweep", tags=["x"])
    assert bool(check(claim(query=query), [session]).evidence) == finds


def test_every_cell_that_a_query_finds_must_hold() -> None:
    session = studied("a", -5)
    table = session.tables["sweep"]
    for row in [table.row(i) for i in range(table.rows)]:
        if not row["control"]:
            table.add("j", f"more{row['prompt']}", [{**row, "site": "llm.5", "words": row["words"] + 5}])
    assert check(claim(), [session]).status == "confirmed"
    wide = check(claim(query=Query(direction="terse")), [session])
    assert wide.status == "open" and wide.evidence[0].cells == 2


def test_rows_are_judged_by_the_model_that_made_them() -> None:
    """Half of a table is another model's: each model's rows are held against the claim apart."""
    both = studied("a", -5)
    table = both.tables["sweep"]
    for row in [table.row(i) for i in range(table.rows)]:
        words = row["words"] + (10 if not row["control"] else 0)
        table.add("k", f"more{row['prompt']}{row['control']}", [{**row, "words": words}])
    both.made_by = {"sweep": [("toy-qwen3", "w1")] * 40 + [("other", "w2")] * 40}
    for model, status in (("toy-qwen3", "confirmed"), ("other", "refuted"), ("", "open"), ("third", "open")):
        found = check(claim(query=Query(model=model)), [both])
        assert found.status == status, model
    assert [f.model for f in check(claim(query=Query()), [both]).evidence[0].found] == ["toy-qwen3", "other"]


def test_models_of_one_name_and_other_weights_are_not_pooled() -> None:
    session = studied("a", -5)
    session.made_by = {"sweep": [("toy-qwen3", "w1")] * 20 + [("toy-qwen3", "w2")] * 20}
    found = check(claim(), [session])
    assert found.status == "open" and found.evidence[0].cells == 2
    assert {f.reason for f in found.evidence[0].found} == {"10 prompts, under 20 it is descriptive"}


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_claim_and_its_opposite(effect: float, threshold: float) -> None:
    session = [studied("a", effect)]
    less = check(claim(threshold=threshold), session).status
    greater = check(claim(comparison="greater", threshold=threshold), session).status
    assert {"confirmed": "refuted", "refuted": "confirmed", "open": "open"}[less] == greater


# -- the ledger ---------------------------------------------------------------------------------------


def test_a_claim_survives_its_file() -> None:
    place = ledger.add(claim())
    assert ledger.get("shorter") == claim() and place.stat().st_mode & 0o777 == 0o600
    child = claim("shorter-at-4", parent="shorter")
    ledger.add(child)
    assert ledger.everything() == ([claim(), child], {})
    with pytest.raises(UsageError, match="refined by shorter-at-4"):
        ledger.remove("shorter")
    ledger.remove("shorter-at-4")
    ledger.remove("shorter")
    assert ledger.everything() == ([], {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "No Name"}, "lower-case"), ({"name": "../x"}, "expected a name"), ({"text": " "}, "text"),
        ({"threshold": float("nan")}, "finite"), ({"metric": ""}, "metric"), ({"metric": "a\x1b"}, "printable"),
        ({"parent": "A B"}, "parent"), ({"query": Query(strength="many")}, "strength 'many'"),
    ],
)  # fmt: skip
def test_claims_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validate(claim(**fields))


def test_names_are_taken_once_and_parents_must_be_there() -> None:
    ledger.add(claim())
    with pytest.raises(UsageError, match="is there already"):
        ledger.add(claim(threshold=3.0))
    with pytest.raises(UsageError, match="no claim 'nobody'"):
        ledger.add(claim("other", parent="nobody"))
    for name in ("", "..", "a/b", ".x", "x" * 200):
        with pytest.raises(UsageError):
            ledger.get(name)


def damage(stored: dict[str, Any]) -> dict[str, bytes]:
    whole = json.dumps(stored).encode()
    body = stored["claim"]
    return {
        "cut": whole[:-9],
        "empty": b"",
        "huge": b" " * ledger.MAX_BYTES + whole,
        "deep": b"[" * 30_000,
        "latin": whole.replace(b"terse", b"t\xe9rse"),
        "key": json.dumps({**stored, "more": 1}).encode(),
        "inner": json.dumps({**stored, "claim": {**body, "status": "confirmed"}}).encode(),
        "text": json.dumps({**stored, "claim": {**body, "threshold": "0"}}).encode(),
        "nan": whole.replace(b'"threshold": 0.0', b'"threshold": NaN'),
        "choice": json.dumps({**stored, "claim": {**body, "comparison": "equal"}}).encode(),
        "name": json.dumps({**stored, "claim": {**body, "name": "other"}}).encode(),
        "newer": json.dumps({"schema": 9, "claims": []}).encode(),
        "list": b"[1]",
    }


def test_damaged_files_are_one_line_each_and_hide_no_other() -> None:
    stored = json.loads(ledger.add(claim()).read_bytes())
    kinds = damage(stored)
    for kind, raw in kinds.items():
        (paths.claims() / f"{kind}.json").write_bytes(raw)
        with pytest.raises(BadFile) as caught:
            ledger.get(kind)
        assert "\n" not in str(caught.value) and f"{kind}.json" in str(caught.value)
    with pytest.raises(BadFile, match="use a newer one"):
        ledger.get("newer")
    (paths.claims() / "folder.json").mkdir()
    (paths.claims() / "notes.txt").write_text("not a claim")
    claims, problems = ledger.everything()
    assert claims == [claim()] and set(problems) == {f"{kind}.json" for kind in [*kinds, "folder"]}
    ledger.remove("cut")


# -- the board ----------------------------------------------------------------------------------------


def two_models(folder: Path) -> None:
    """The sweep of a session, and its first half again after another model was loaded."""
    write_sweep(folder, t=NOW + 60)
    with Journal.open(folder) as journal:
        rows = [row for event in journal.read(1) for row in event.data.get("rows", ())]
        journal.append("model.ready", {"info": {"name": "other", "weight_hash": "w9"}})
        for number, row in enumerate(rows[: len(rows) // 2]):
            cell = {"job": "j2", "cell": f"c{number}", "table": "sweep", "rows": [row]}
            journal.append("cell.committed", cell)


def test_a_session_is_studied_with_the_model_that_was_loaded_at_each_row() -> None:
    two_models(paths.sessions() / "s")
    ledger.add(claim(metric="tokens", query=Query(model="other")))
    ledger.add(claim("all", metric="tokens", query=Query()))
    found = ledger.board()
    assert found.problems == {}
    assert {f.model for f in found.claims[1].evidence[0].found} == {"other"}
    assert {f.model for f in found.claims[0].evidence[0].found} == {"other", "toy-qwen3"}


def test_a_board_is_bounded_and_keeps_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_EVIDENCE", 2)
    monkeypatch.setattr(ledger, "MAX_FOUND", 2)
    for number in range(3):
        write_sweep(paths.sessions() / f"s{number}", t=NOW + (60 if number == 0 else -60 - number))
    ledger.add(claim(query=Query(direction="terse", site="llm.2")))
    (one,) = ledger.board().claims
    assert [e.session for e in one.evidence] == [
        "s1",
        "s0",
    ]  # the one that counts, and the newest of the others
    assert all(len(e.found) == 1 < e.cells for e in one.evidence)


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    (tmp_path / "sessions").mkdir(mode=0o700)
    return tmp_path


ADD = ("claim", "add", "Terse shortens answers at block 2", "--metric", "words", "--less", "-5",
       "--direction", "terse", "--site", "llm.2", "--strength", "12%")  # fmt: skip


def as_json(home: Path, *words: str, code: int = 0) -> Any:
    return json.loads(labtui(home, *words, "--json", code=code).stdout)


def test_a_claim_from_conjecture_to_status(home: Path) -> None:
    write_sweep(home / "sessions" / "s-old")
    made = as_json(home, *ADD)
    assert made["name"] == "terse-shortens-answers-at-block-2" and made["comparison"] == "less"
    (before,) = as_json(home, "claim", "check")["claims"]
    assert before["status"] == "open" and [e["role"] for e in before["evidence"]] == ["exploratory"]
    write_sweep(home / "sessions" / "s-new", t=time.time() + 60)
    (after,) = as_json(home, "claim", "check", made["name"])["claims"]
    assert after["status"] == "confirmed"
    assert [(e["session"], e["role"]) for e in after["evidence"]] == [
        ("s-old", "exploratory"), ("s-new", "deciding"),
    ]  # fmt: skip
    assert after["evidence"][1]["found"][0]["high"] < -5
    text = labtui(home, "claim", "check").stdout
    assert "confirmed by 1 of 1 session since it was made; 1 older session exploratory" in text
    assert "nothing is corrected for how many claims" in labtui(home, "claim", "check").stderr
    assert "confirmed, on prompts that an older session has" in text
    assert "s-new" in text and "effect on words < -5 where direction terse, site llm.2, strength 12%" in text
    only = as_json(home, "claim", "check", "--session", "s-old")["claims"][0]
    assert only["status"] == "open"


def test_a_saved_file_can_be_held_against_a_claim(home: Path) -> None:
    labtui(home, *ADD)
    place = write_sweep(home / "elsewhere", t=time.time() + 60)
    save(place, home / "far.safetensors")
    (found,) = as_json(home, "claim", "check", "--session", "far.safetensors")["claims"]
    assert found["status"] == "confirmed" and found["evidence"][0]["session"] == "elsewhere"
    assert "no such file" in labtui(home, "claim", "check", "--session", "x.safetensors", code=2).stderr


def test_a_running_sweep_decides_nothing_yet(home: Path) -> None:
    labtui(home, *ADD)
    folder = write_sweep(home / "sessions" / "s-new", t=time.time() + 60)
    (found,) = as_json(home, "claim", "check")["claims"]
    assert found["status"] == "confirmed"
    with Journal.open(folder) as journal:
        journal.append("job.queued", {"job": "j1", "kind": "sweep"})
    (found,) = as_json(home, "claim", "check")["claims"]
    assert found["status"] == "open" and "running" in found["evidence"][0]["found"][0]["reason"]


def test_ls_rm_and_refining(home: Path) -> None:
    assert as_json(home, "claim", "ls") == {"claims": [], "problems": {}}
    labtui(home, *ADD, "--name", "one")
    labtui(home, *ADD[:5], "--less", "-9", "--name", "two", "--refines", "one")
    listed = as_json(home, "claim", "ls")["claims"]
    assert [(c["name"], c["parent"]) for c in listed] == [("one", None), ("two", "one")]
    assert set(listed[0]) == {
        "name", "text", "metric", "of", "comparison", "threshold", "created", "query", "parent", "says",
    }  # fmt: skip
    assert set(listed[0]["query"]) == {
        "direction", "site", "where", "strength", "model", "table", "title", "tag",
    }  # fmt: skip
    assert "two" in labtui(home, "claim", "ls").stdout
    assert "refined by two" in labtui(home, "claim", "rm", "one", code=2).stderr
    labtui(home, "claim", "rm", "two")
    labtui(home, "claim", "rm", "one")
    assert "the ledger is empty" in labtui(home, "claim", "ls").stderr


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (ADD[:5], "say --greater X or --less X"),
        ((*ADD, "--greater", "1"), "say --greater X or --less X"),
        ((*ADD, "--less", "nan"), "finite"),
        ((*ADD, "--strength", "lots"), "as 2.0, 8% or |39|"),
        ((*ADD, "--refines", "nobody"), "no claim 'nobody'"),
        ((*ADD, "--name", "A B"), "lower-case"),
        (("claim", "check", "nobody"), "no claim 'nobody'"),
        (("claim", "rm", "nobody"), "no claim 'nobody'"),
        (("claim", "add", "x"), "Missing option '--metric'"),
    ],
)
def test_wrong_usage_is_one_line(home: Path, words: tuple[str, ...], pattern: str) -> None:
    error = labtui(home, *words, code=2).stderr
    assert pattern in error and error.count("\n") == 1


def test_a_damaged_claim_is_told_with_exit_code_4(home: Path) -> None:
    labtui(home, *ADD, "--name", "one")
    (home / "claims" / "two.json").write_text("{")
    assert "two.json" in as_json(home, "claim", "ls")["problems"]
    found = as_json(home, "claim", "check", code=4)
    assert [c["name"] for c in found["claims"]] == ["one"] and "two.json" in found["problems"]
