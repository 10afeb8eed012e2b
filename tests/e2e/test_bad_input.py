"""Bad input of every kind: one clear line, the promised exit code, nothing lost, and the kernel still answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts import library
from labtui_artifacts.kinds import direction
from labtui_artifacts.store import Store
from labtui_sessions.journal import read_events
from tests.e2e.lab import labtui, one_line

Maker = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Case:
    name: str
    make: Maker
    code: int
    pattern: str


@dataclass(frozen=True)
class Running:
    env: dict[str, str]
    socket: Path
    info: dict[str, Any]
    kept: list[dict[str, object]]
    """The rows of a sweep that was finished before anything else."""

    def hello(self) -> None:
        """The kernel still answers a HELLO and tells its state."""
        done = labtui("kernel", "info", "good", "--json", env=self.env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] in {"ready", "busy"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    runtime = Path(tempfile.mkdtemp(prefix="lt-"))
    env = {"LABTUI_HOME": str(tmp_path_factory.mktemp("home")), "LABTUI_RUNTIME": str(runtime)}
    done = labtui("kernel", "start", "good", "--model", "toy-qwen3", "--wait", env=env)
    assert done.returncode == 0, done.stderr
    (path,) = runtime.rglob("*.sock")
    info = json.loads(labtui("kernel", "info", "good", "--json", env=env).stdout)
    store_directions(Path(env["LABTUI_HOME"]) / "artifacts", info["info"])
    first = labtui(*sweep("--json", table="kept")(tmp_path_factory.mktemp("spec")), env=env)
    yield Running(env, path, info, table_of(first))
    labtui("kernel", "stop", "good", env=env)
    shutil.rmtree(runtime, ignore_errors=True)


def start(model: object) -> list[str]:
    return ["kernel", "start", "bad", "--model", str(model), "--wait"]


def toy_copy(folder: Path) -> Path:
    return Path(shutil.copytree(library.model_path("toy-qwen3"), folder / "model"))


def empty_folder(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return start(folder / "empty")


def truncated(folder: Path) -> list[str]:
    model = toy_copy(folder)
    with (model / "model.safetensors").open("r+b") as file:
        file.truncate(200_000)
    return start(model)


def corrupt(folder: Path) -> list[str]:
    model = toy_copy(folder)
    with (model / "model.safetensors").open("r+b") as file:
        file.write(b"\xff" * 64)
    return start(model)


def unknown_architecture(folder: Path) -> list[str]:
    model = toy_copy(folder)
    config = json.loads((model / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (model / "config.json").write_text(json.dumps(config))
    return start(model)


def gguf(content: bytes) -> Maker:
    def make(folder: Path) -> list[str]:
        (folder / "model.gguf").write_bytes(content)
        return start(folder / "model.gguf")

    return make


def spec(text: str) -> Maker:
    def make(folder: Path) -> list[str]:
        path = folder / "spec.toml"
        path.write_text(text, encoding="utf-8")
        return ["run", str(path), "--kernel", "good"]

    return make


def generate(**fields: object) -> Maker:
    lines = {"kind": "generate", "prompt": "Explain what a mutex is.", "max_new_tokens": 8} | fields
    return spec(
        "\n".join(f"{key} = {value if key == 'RAW' else json.dumps(value)}" for key, value in lines.items())
    )


def store_directions(folder: Path, info: dict[str, Any]) -> None:
    """Directions of other models, and one of this model in another precision."""
    models = {
        "foreign": info | {"name": "Elsewhere", "weight_hash": "e" * 64},
        "namesake": info | {"weight_hash": "f" * 64},
        "narrow": info | {"name": "Narrow", "weight_hash": "d" * 64, "width": 7},
        "halved": info | {"dtype": "bfloat16"},
    }
    store = Store(folder)
    draw = np.random.default_rng(1)
    for name, model in models.items():
        vectors = {"llm.2.out": draw.standard_normal(model["width"])}
        store.put(name, "direction", *direction.build(vectors, meta={"name": name, "model": model}))


SWEEP = {
    "kind": "sweep",
    "prompts": ["What is a fox?", "Define a fraction."],
    "directions": ["random:7"],
    "sites": "llm.2",
    "strengths": ["8%"],
    "metrics": ["words"],
    "controls": "none",
    "max_new_tokens": 4,
}


def sweep(*flags: str, **fields: object) -> Maker:
    """``labtui run`` of a small sweep with some fields changed."""
    made = spec("\n".join(f"{key} = {json.dumps(value)}" for key, value in {**SWEEP, **fields}.items()))
    return lambda folder: [*made(folder), *flags]


def lens(pattern: str) -> Maker:
    """A sweep that asks for a lens file with that pattern."""

    def make(folder: Path) -> list[str]:
        path = folder / "boats.toml"
        path.write_text(f'description = "Boats"\npatterns = [{json.dumps(pattern)}]\n', encoding="utf-8")
        return sweep(metrics=[f"lens:{path}"])(folder)

    return make


def damaged_session(folder: Path) -> list[str]:
    (folder / "s.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json}      ")
    return ["replay", str(folder / "s.safetensors"), "--at", "1"]


def wrong_kind(folder: Path) -> list[str]:
    return ["replay", "--at", "1", str(library.model_path("toy-qwen3") / "model.safetensors")]


def pictured(folder: Path) -> list[str]:
    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    return generate(prompt=f"@{folder / 'red.png'} What is this?")(folder)


CASES = [
    Case("no such model", lambda folder: start(folder / "nowhere"), 2, r"nowhere"),
    Case("a folder that is no model", empty_folder, 2, r"config\.json"),
    Case("truncated safetensors", truncated, 4, r"model\.safetensors.*(truncated|bytes)"),
    Case("corrupt safetensors", corrupt, 4, r"model\.safetensors"),
    Case("unknown architecture", unknown_architecture, 2, r"(?i)llama.*qwen3"),
    Case("not a GGUF", gguf(b"nonsense" * 100), 4, r"(?i)gguf"),
    Case("truncated GGUF", gguf(b"GGUF" + struct.pack("<IQQ", 3, 10, 10)), 4, r"(?i)gguf"),
    Case("unknown site", generate(edits="2%*random:7@llm.99"), 2, r"llm\.99|99"),
    Case("unknown position", generate(edits="2.0*terse@llm.2@sometimes"), 2, r"sometimes"),
    Case("unknown direction", generate(edits="2.0*nosuchthing@llm.2"), 2, r"nosuchthing"),
    Case("a prompt longer than the context", generate(prompt="word " * 30_000), 2, r"(?i)context"),
    Case("an empty prompt", generate(prompt=""), 2, r"(?i)prompt.*empty|empty.*prompt"),
    Case("a misspelt key", spec('kind = "generate"\npromt = "x"\n'), 2, r"promt.*prompt"),
    Case("an unknown kind", spec('kind = "swep"\n'), 2, r"swep.*sweep"),
    Case("not TOML", spec("kind = = generate"), 2, r"(?i)toml|line 1"),
    Case(
        "NaN strength",
        spec('kind = "sweep"\nprompts = ["x"]\ndirections = ["terse"]\nsites = "llm.2"\nstrengths = [nan]\n'),
        2,
        r"(?i)nan|finite",
    ),
    Case("a grid without prompts", sweep(prompts=[]), 2, r"prompts: the list is empty"),
    Case("a grid without strengths", sweep(strengths=[]), 2, r"strengths: the list is empty"),
    Case(
        "a sweep at a site the model lacks",
        sweep(sites="llm.2,99"),
        2,
        r"block 99 does not exist.*llm\.0 to llm\.7",
    ),
    Case("a prompt twice", sweep(prompts=["What is a fox?"] * 2), 2, r"prompt 2 is there twice"),
    Case("a strength twice", sweep(strengths=["8%", "8.0%"]), 2, r"strengths: 8.*is there twice"),
    Case(
        "rows by the ten thousand",
        sweep(prompts=[f"p{i}" for i in range(10_001)], sites="llm.2,3"),
        2,
        r"20,002 rows, at most 80,008 tokens \(about .*, at the speed of the last sweep\): --yes",
    ),
    Case(
        "a million rows",
        sweep(
            prompts=[f"p{i}" for i in range(1300)],
            sites="llm.*",
            strengths=list(range(1, 101)),
            directions=["halved"],
        ),
        2,
        r"1,040,000 rows.*at most 200,000",
    ),
    Case(
        "a direction of another model",
        sweep(directions=["foreign"]),
        2,
        r"fitted on Elsewhere, not on toy-qwen3.*--force",
    ),
    Case(
        "a direction of other weights of that name",
        sweep(directions=["namesake"]),
        2,
        r"other weights that are called toy-qwen3 too \(f{12}; here [0-9a-f]{12}\).*--force",
    ),
    Case(
        "a direction of another width",
        sweep(directions=["narrow"]),
        2,
        r"Narrow of width 7; toy-qwen3 has width 192; make it again on this model$",
    ),
    Case(
        "another width by force",
        sweep("--force", directions=["narrow"]),
        2,
        r"narrow has width 7 at llm\.2.*width 192",
    ),
    Case(
        "a picture for a model that reads none", pictured, 2, r"this model reads none: it has no vision tower"
    ),
    Case(
        "an edit in a tower that is not there", generate(edits="2%*random:7@vision.2"), 2, r"no vision tower"
    ),
    Case("no such metric", sweep(metrics=["wrods"]), 2, r"wrods.*words"),
    Case("a metric at a site the model lacks", sweep(metrics=["cosine:halved@llm.99"]), 2, r"llm\.99"),
    Case("a metric of a direction that is not there", sweep(metrics=["cosine:none@llm.2"]), 2, r"none"),
    Case("a lens with a broken pattern", lens("(boat"), 4, r"boats\.toml.*expected '\)'"),
    Case("a lens that could run away", lens("(a+)+b"), 4, r"boats\.toml.*could run away"),
    Case("no such spec file", lambda folder: ["run", str(folder / "none.toml")], 2, r"none\.toml"),
    Case("no such kernel", lambda _: ["kernel", "info", "ghost"], 3, r"ghost"),
    Case("a damaged session", damaged_session, 4, r"s\.safetensors"),
    Case("a file of another kind", wrong_kind, 4, r"model\.safetensors"),
    Case("an unknown command", lambda _: ["frobnicate"], 2, r"frobnicate"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_the_kernel_lives(case: Case, kernel: Running, tmp_path: Path) -> None:
    done = labtui(*case.make(tmp_path), env=kernel.env)
    assert done.returncode == case.code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert re.search(case.pattern, one_line(done)), done.stderr
    assert done.stdout == ""
    kernel.hello()


def table_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    ((_, rows),) = json.loads(done.stdout)["tables"].items()
    return rows


def test_a_direction_of_another_model_by_force_is_said_in_the_table(kernel: Running, tmp_path: Path) -> None:
    rows = table_of(labtui(*sweep("--force", "--json", directions=["foreign"])(tmp_path), env=kernel.env))
    assert len(rows) == 2 and all("fitted on Elsewhere, not on toy-qwen3" in str(row["note"]) for row in rows)


def test_another_precision_is_a_warning_and_is_said_in_the_table(kernel: Running, tmp_path: Path) -> None:
    words = sweep(directions=["halved"])(tmp_path)
    said = "halved: fitted on the same model in another precision (bfloat16; here float32)"
    assert said in labtui(*words, env=kernel.env).stderr
    assert {row["note"] for row in table_of(labtui(*words, "--json", env=kernel.env))} == {said}


def test_a_metric_that_cannot_apply_to_a_row_is_absent_with_its_reason(
    kernel: Running, tmp_path: Path
) -> None:
    words = sweep("--json", metrics=["words", "coherent", "latex-valid"])(tmp_path)
    for row in table_of(labtui(*words, env=kernel.env)):
        assert isinstance(row["words"], int) and row["coherent"] is row["latex-valid"] is None
        assert isinstance(row["reasons"], dict) and row["reasons"].keys() == {"coherent", "latex-valid"}


HELLO = {"m": "hello", "min_version": 1, "version": 1, "client": "test", "build": "test"}


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def old_version() -> bytes:
    import msgspec

    return frame(msgspec.msgpack.encode(HELLO | {"min_version": 90, "version": 99}))


FRAMES = {
    "too long": (struct.pack("<I", 2**31) + b"x", "limit"),
    "not msgpack": (frame(b"\xc1\xc1\xc1"), "msgpack"),
    "not a message": (frame(b"\x93\x01\x02\x03"), "frame|message"),
    "another version": (old_version(), "protocol 1"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_bad_frame_ends_that_connection_with_a_reason(name: str, kernel: Running) -> None:
    content, pattern = FRAMES[name]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(kernel.socket))
        client.sendall(content)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert re.search(pattern, answer.decode("utf-8", "replace")), answer
    kernel.hello()


def test_a_socket_folder_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    done = labtui("kernel", "ps", env={"LABTUI_RUNTIME": str(tmp_path / "link")})
    assert done.returncode == 3
    assert "symlink" in one_line(done) or "symbolic link" in one_line(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_socket_folder_of_someone_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    done = labtui("kernel", "ps", env={"LABTUI_RUNTIME": str(folder)})
    assert done.returncode == 3
    assert "theirs" in one_line(done)


def test_nothing_committed_was_lost_to_any_of_it(kernel: Running) -> None:
    """The worker of the beginning is still there, and so are the rows of the first sweep."""
    info = json.loads(labtui("kernel", "info", "good", "--json", env=kernel.env).stdout)
    assert info["worker_pid"] == kernel.info["worker_pid"] and info["session"] == kernel.info["session"]
    assert info["open_jobs"] == []
    events = read_events(Path(kernel.env["LABTUI_HOME"]) / "sessions" / info["session"])
    told = [event.data for event in events if event.kind == "cell.committed"]
    assert [row for data in told if data["table"] == "kept" for row in data["rows"]] == kernel.kept
