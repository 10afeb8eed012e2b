"""Bad input of every kind: one clear line, the promised exit code, nothing lost, and the kernel still answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labtui_artifacts import library
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
    yield Running(env, path)
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


def damaged_session(folder: Path) -> list[str]:
    (folder / "s.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json}      ")
    return ["replay", str(folder / "s.safetensors"), "--at", "1"]


def wrong_kind(folder: Path) -> list[str]:
    return ["replay", "--at", "1", str(library.model_path("toy-qwen3") / "model.safetensors")]


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
