"""The house as it is shipped: four names, a torch-free app, and a wheel that works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
OURS = {"labtui", "labtui_kernels", "labtui_sessions", "labtui_artifacts"}
FORMER = {"kernels", "sessions", "artifacts", "tests"}

TORCH_FREE = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "accelerate", "bitsandbytes", "gguf"}:
            raise ModuleNotFoundError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Refuse())
roots = ["labtui", "labtui_sessions", "labtui_artifacts", "labtui_kernels.lang", "labtui_kernels.specs",
         "labtui_kernels.protocol", "labtui_kernels.broker"]
seen = []
for root in roots:
    module = importlib.import_module(root)
    seen.append(root)
    for info in pkgutil.walk_packages(getattr(module, "__path__", []), root + "."):
        if info.name.endswith("__main__") or ".bundled" in info.name:
            continue
        importlib.import_module(info.name)
        seen.append(info.name)
assert "torch" not in sys.modules
print(len(seen))
"""


def run_elsewhere(code: str, where: Path, python: str = sys.executable) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code], cwd=where, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_app_broker_specs_sessions_and_artifacts_import_without_torch(tmp_path: Path) -> None:
    assert int(run_elsewhere(TORCH_FREE, tmp_path)) > 40


def test_exactly_four_names_are_importable(tmp_path: Path) -> None:
    code = (
        "import json; from importlib.util import find_spec\n"
        f"print(json.dumps([n for n in {sorted(OURS | FORMER)!r} if find_spec(n)]))"
    )
    assert set(json.loads(run_elsewhere(code, tmp_path))) == OURS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("labtui-*.whl")
    return built


def test_wheel_holds_the_four_packages_and_the_bundled_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS
    for wanted in (
        "labtui/py.typed",
        "labtui_kernels/py.typed",
        "labtui_artifacts/bundled/models/toy-qwen3/model.safetensors",
        "labtui_artifacts/bundled/styles/terse.toml",
        "labtui_artifacts/bundled/sets/neutral.toml",
    ):
        assert wanted in names
    assert any(name.endswith(".tcss") for name in names)


@pytest.mark.timeout(900)
def test_wheel_runs_the_demo_in_a_clean_environment(wheel: Path, tmp_path: Path, lab_home: Path) -> None:
    """A new virtual environment with nothing of this one, the wheel with its model side, and the demo away from here."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    # This pip puts everything into that environment; modules are compiled when they are imported, which few are.
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python")]
    install = [*pip, "install", "--quiet", "--no-compile", f"labtui[kernel] @ {wheel.as_uri()}"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    away = tmp_path / "away"
    away.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    demo = subprocess.run(
        [str(venv / "bin/labtui"), "demo"],
        cwd=away,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "terse" in demo.stdout
    assert "labtui replay" in demo.stdout
