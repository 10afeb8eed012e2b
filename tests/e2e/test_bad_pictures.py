"""Pictures that are none, places outside them, indexes of others: one clear line, the promised code, nothing lost."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from labtui_artifacts.store import Store
from tests.e2e.lab import labtui, one_line


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side: int) -> bytes:
    """A PNG of few bytes that says it is of ``side`` pixels squared."""
    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Place:
    """A folder of pictures, and the folders of a kernel that sees, with a finished job and an index."""

    root: Path
    env: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return labtui(*arguments, env=self.env, cwd=self.root)

    def kept(self) -> tuple[list[str], int]:
        """The artifacts by name, and how many rows the session has."""
        names = [entry["name"] for entry in json.loads(self.run("artifact", "ls", "--json").stdout)]
        return names, json.loads(self.run("session", "ls", "--json").stdout)[0]["rows"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root, runtime = tmp_path_factory.mktemp("pictures"), Path(tempfile.mkdtemp(prefix="lt-"))
    made = Place(root, {"LABTUI_HOME": str(root / "home"), "LABTUI_RUNTIME": str(runtime)})
    done = made.run("kernel", "start", "k", "--model", "toy-qwen2-vl", "--dtype", "float32", "--wait")
    assert done.returncode == 0, done.stderr
    Image.new("RGB", (112, 56), "red").save(root / "ok.png")
    whole = (root / "ok.png").read_bytes()
    (root / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.png").write_text("a text")
    (root / "bomb.png").write_bytes(bomb(60_000))
    Image.new("RGB", (5, 5)).save(root / "tiny.png")
    for finished in (
        made.run("run", "index", "--set", "name=captions", "--set", 'captions=["A red cat.", "Two."]'),
        made.run("run", "generate", "--set", "prompt=@ok.png What?", "--set", "max_new_tokens=2"),
    ):
        assert finished.returncode == 0, finished.stderr
    other(root / "home" / "artifacts")
    yield made
    made.run("kernel", "stop", "k", "--force")
    shutil.rmtree(runtime, ignore_errors=True)


def other(root: Path) -> None:
    """A copy of the index that says that it is of another model."""
    store = Store(root)
    file = store.get("captions")
    model = {**file.meta["model"], "name": "Elsewhere", "weight_hash": "e" * 64, "revision": ""}
    store.put("foreign", "index", file.tensors(), {**file.meta, "name": "foreign", "model": model})


def asked(prompt: str, edits: str = "") -> list[str]:
    return ["generate", "--set", f"prompt={prompt}", "--set", f"edits={edits}", "--set", "max_new_tokens=2"]


def seen(**fields: str) -> list[str]:
    settings = {"images": '["ok.png"]', "index": "", "table": "t", **fields}
    return [
        "vision-tokens",
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


CASES: list[tuple[str, list[str], int, str]] = [
    ("not an image", asked("@text.png What?"), 4, r"text\.png: is no image .*expected PNG, JPEG"),
    ("truncated", asked("@truncated.png What?"), 4, r"truncated\.png: is a damaged or truncated image"),
    ("a bomb", asked("@bomb.png What?"), 4, r"bomb\.png: has more pixels than the 80 million"),
    ("gone", asked("@gone.png What?"), 2, r"gone\.png: no such file"),
    (
        "smaller than a patch",
        asked("@tiny.png What?"),
        2,
        r"tiny\.png: is 5 x 5 pixels.*expected at least 15 a side",
    ),
    (
        "a rectangle outside",
        asked("@ok.png What?", "20%*random:1@vision.2@image[0:9,0:1]"),
        2,
        r"image0 has 2 rows and 4 columns of merged patches; expected a rectangle within \[0:2,0:4\]",
    ),
    ("no picture there", asked("What?", "20%*random:1@vision.2"), 2, r"needs a picture, and prompt has none"),
    (
        "no second picture",
        asked("@ok.png What?", "8%*random:1@llm.2@image1"),
        2,
        r"prompt has 1 picture, counted from 0",
    ),
    (
        "a token in the tower",
        asked("@ok.png What?", "8%*random:1@vision.2@last"),
        2,
        r"has patches, not tokens; expected",
    ),
    (
        "an index of another model",
        seen(index="foreign"),
        2,
        r"is of Elsewhere, not .*; build one of this model",
    ),
    (
        "a layer that it lacks",
        seen(index="captions", layers="llm.4"),
        2,
        r"has no vectors of llm\.4\.out: it has llm\.0",
    ),
    ("no such index", seen(index="caption"), 2, r"did you mean 'captions'\?.*labtui run index"),
    ("a file of another kind", seen(index="stranger"), 2, r"no index 'stranger' here"),
    ("a site of the tower", seen(sites="vision.2"), 2, r"'vision\.2' is not the decoder's residual stream"),
    (
        "a box outside",
        seen(labels='[[{box=[0,0,200,9],words=["red"]}]]'),
        2,
        r"labels\[0\]: the box .* leaves the picture",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "pattern"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_pictures_are_one_line(arguments: list[str], code: int, pattern: str, place: Place) -> None:
    done = place.run("run", *arguments)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert re.search(pattern, one_line(done)), done.stderr
    assert done.stdout == ""


def test_nothing_was_lost_to_any_of_it(place: Place) -> None:
    names, rows = place.kept()
    assert {"captions", "foreign"} <= set(names) and rows == 4, "the four sites of the index"
    done = place.run("run", *asked("@ok.png What?"))
    assert done.returncode == 0 and "plain" in done.stdout
