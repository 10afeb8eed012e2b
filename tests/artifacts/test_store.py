"""The store: names, listing, changes, adoption, and two real processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.store import Store, check_name, is_name, name_from


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, name: str, value: float = 1.0, **options: bool) -> None:
    store.put(name, "probe", {"w": np.full(3, value)}, {"value": value}, **options)


def test_put_get_list_rename_delete(store: Store) -> None:
    put(store, "b", 2.0)
    put(store, "a", 1.0)
    store.put("c", "sae", {}, {})
    assert store.names() == ["a", "b", "c"]
    assert [(e.name, e.kind, e.meta.get("value")) for e in store.list("probe")] == [
        ("a", "probe", 1.0),
        ("b", "probe", 2.0),
    ]
    assert store.get("b").tensor("w").tolist() == [2.0] * 3
    store.rename("a", "z-1")
    assert "a" not in store and "z-1" in store
    store.delete("z-1")
    assert store.names() == ["b", "c"]


def test_existing_names_are_kept_unless_replaced(store: Store) -> None:
    put(store, "a", 1.0)
    with pytest.raises(UsageError, match=r"'a' exists already .*free: a-2"):
        put(store, "a", 2.0)
    put(store, "b", 3.0)
    with pytest.raises(UsageError, match="'b' exists already"):
        store.rename("a", "b")
    assert store.get("a").meta == {"value": 1.0} and store.get("b").meta == {"value": 3.0}
    put(store, "a", 4.0, replace=True)
    assert store.get("a").meta == {"value": 4.0}


def test_a_missing_name_is_answered_with_the_nearest(store: Store) -> None:
    with pytest.raises(UsageError, match="is empty"):
        store.get("terse")
    put(store, "terse")
    with pytest.raises(UsageError, match="did you mean 'terse'"):
        store.get("tersse")
    with pytest.raises(UsageError, match="there are: terse"):
        store.delete("qqq")


@pytest.mark.parametrize(
    "name", ["", "A", ".x", "-x", "_x", "a/b", "../x", "a b", "ä", "a\n", "a" * 101, "a\0", "²"]
)
def test_bad_names_are_refused_everywhere(store: Store, name: str) -> None:
    put(store, "good")
    for act in (
        lambda: put(store, name),
        lambda: store.get(name),
        lambda: store.delete(name),
        lambda: store.rename("good", name),
        lambda: store.rename(name, "new"),
        lambda: store.adopt(name),
        lambda: store.save_incoming(name, "probe", {}, {}),
    ):
        with pytest.raises(UsageError, match="cannot name an artifact"):
            act()
    assert name not in store
    assert store.names() == ["good"]


@given(text=st.text(max_size=120))
def test_a_name_made_from_any_text_is_valid(text: str) -> None:
    try:
        name = name_from(text)
    except BadFile:
        return
    assert is_name(name) and check_name(name) == name


def test_a_damaged_file_is_listed_with_its_problem(store: Store) -> None:
    put(store, "good")
    (store.root / "bad.safetensors").write_bytes(b"nonsense, more than ten bytes")
    (store.root / "Other File.safetensors").write_bytes(b"")
    (store.root / "notes.txt").write_text("x")
    bad, good = store.list()
    assert (bad.name, bad.kind, good.problem) == ("bad", "", "")
    assert "not a safetensors file" in bad.problem
    with pytest.raises(BadFile):
        store.get("bad")
    store.delete("bad")
    assert store.names() == ["good"]


def test_kinds_are_checked(store: Store) -> None:
    put(store, "p")
    with pytest.raises(BadFile, match="holds a probe, expected a direction"):
        store.get("p", kind="direction")


def test_what_a_worker_leaves_is_adopted(store: Store) -> None:
    store.save_incoming("new", "probe", {"w": np.ones(2)}, {"n": 1})
    assert store.names() == [] and store.waiting() == ["new"]
    assert store.adopt("new").meta == {"n": 1}
    assert store.names() == ["new"] and store.waiting() == []
    store.save_incoming("new", "probe", {}, {"n": 2})
    with pytest.raises(UsageError, match="exists already"):
        store.adopt("new")
    assert store.adopt("new", replace=True).meta == {"n": 2}


def test_damaged_incoming_files_are_not_adopted(store: Store) -> None:
    (store.incoming() / "x.safetensors").write_bytes(b"broken file")
    with pytest.raises(BadFile):
        store.adopt("x")
    assert store.names() == []


def test_a_file_is_copied_in_after_a_check(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "from.safetensors"
    files.write(source, "probe", {"w": np.arange(4.0)}, {"n": 1})
    store.put_file("copy", source)
    assert store.path("copy").read_bytes() == source.read_bytes()
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(BadFile, match="truncated"):
        store.put_file("again", source)
    assert store.names() == ["copy"]


def test_leftovers_of_a_killed_writer_are_invisible_and_swept(store: Store) -> None:
    put(store, "a")
    (store.root / ".a.safetensors.0123.part").write_bytes(b"half")
    assert store.names() == ["a"]
    assert store.sweep() == [".a.safetensors.0123.part"]
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", "a.safetensors"]


CONTEND = """
import sys
import numpy as np
from pathlib import Path
from labtui_artifacts.errors import UsageError
from labtui_artifacts.store import Store
store, me = Store(Path(sys.argv[1])), sys.argv[2]
won = []
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    try:
        store.put(f"n{number}", "probe", {"w": np.full(500, number, np.int64)}, {"by": me, "number": number})
        won.append(number)
    except UsageError:
        pass
    store.put("shared", "probe", {"w": np.full(500, number, np.int64)}, {"by": me}, replace=True)
print(len(won))
"""


def test_two_processes_share_a_store(store: Store) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CONTEND, str(store.root), me],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for me in ("left", "right")
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    seen = 0
    while any(child.poll() is None for child in children):
        if "shared" in store:
            values = set(store.get("shared").header.tensors)
            assert values == {"w"}
            seen += 1
    outcomes = [child.communicate() for child in children]
    assert [error for _, error in outcomes] == ["", ""]
    assert sum(int(out) for out, _ in outcomes) == 40 and seen > 0
    for number in range(40):
        artifact = store.get(f"n{number}")
        assert artifact.tensor("w").tolist() == [number] * 500 and artifact.meta["number"] == number
    assert all(not entry.problem for entry in store.list())
    assert not list(store.root.glob(".*.part"))
