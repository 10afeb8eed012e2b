"""Settings: the order flag, environment, file, default; strict keys; profiles."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from labtui import config
from labtui.config import Profile, settings
from labtui_artifacts.errors import UsageError

VARIABLES = ("KERNEL", "VIA", "THEME", "LOW_BANDWIDTH", "REMOTE")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(f"LABTUI_{name}", raising=False)
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


def write(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text, encoding="utf-8")


def test_without_anything_the_defaults_hold() -> None:
    found = settings()
    assert (found.kernel, found.via, found.theme, found.low_bandwidth, found.remote_command) == (
        None,
        None,
        None,
        False,
        "labtui",
    )
    assert set(found.sources.values()) == {"default"} and found.profiles == {}


def test_flag_beats_environment_beats_file_beats_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'kernel = "file"\n[app]\ntheme = "file"\nlow_bandwidth = true\n[remote]\ncommand = "file"\n')
    assert {settings().kernel, settings().theme, settings().remote_command} == {"file"}
    assert settings().low_bandwidth is True and settings().sources["low_bandwidth"] == "file"
    for name in VARIABLES:
        monkeypatch.setenv(f"LABTUI_{name}", "off" if name == "LOW_BANDWIDTH" else "environment")
    found = settings()
    assert {found.kernel, found.via, found.theme, found.remote_command} == {"environment"}
    assert found.low_bandwidth is False and found.sources["via"] == "environment"
    flagged = settings({"kernel": "flag", "via": None, "low_bandwidth": True})
    assert (flagged.kernel, flagged.via, flagged.low_bandwidth) == ("flag", "environment", True)
    assert flagged.sources["kernel"] == "flag" and flagged.sources["theme"] == "environment"
    monkeypatch.setenv("LABTUI_THEME", "")
    assert settings().theme == "file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kernal = 'x'", r"unknown key kernal: did you mean 'kernel'\?"),
        ("[app]\nteme = 'x'", r"unknown key app.teme: did you mean 'theme'\?"),
        ("[remote]\nzzz = 1", "unknown key remote.zzz: there are: command"),
        ("[profiles.a]\nmodel = 'm'\nquantise = '4bit'", r"profiles.a.quantise: did you mean 'quantize'\?"),
        ("app = 1", r"app must be a table, as \[app\]"),
        ("profiles = []", "profiles must be tables"),
        ("profiles.a = 1", r"profiles.a must be a table"),
        ("[profiles.a]\ndtype = 'auto'", "profiles.a: model is missing"),
        ("[profiles.a]\nmodel = 3", "profiles.a.model: expected a text, found 3"),
        ("[profiles.A]\nmodel = 'm'", "a profile's name has"),
        ("[profiles.a]\nmodel = 'm'\ndtype = 'int3'", "dtype: expected one of auto, float32"),
        ("[profiles.a]\nmodel = 'm'\ndevice = 'tpu'", "device: expected auto, cpu, cuda"),
        ("[profiles.a]\nmodel = 'm'\nquantize = '2bit'", "quantize: expected one of 4bit, 8bit"),
        ("[profiles.a]\nmodel = 'm'\nidle_ttl = 'soon'", "idle_ttl: expected 30s, 10m, 8h"),
        ("[app]\nlow_bandwidth = 'perhaps'", "app.low_bandwidth: expected true or false, found 'perhaps'"),
        ("[app]\nkeys = { quit = 1 }", "app.keys: expected a table of action ids to keys"),
        ("kernel = ''", "kernel: expected a text of one line"),
        ('via = "a\\nb"', "via: expected a text of one line"),
        ("kernel = ", "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_in_one_line(home: Path, text: str, says: str) -> None:
    write(home, text)
    with pytest.raises(UsageError, match=says) as caught:
        settings()
    assert "\n" not in str(caught.value) and str(home / "config.toml") in str(caught.value)


def test_a_file_that_is_no_text_or_too_long(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        settings()
    (home / "config.toml").write_bytes(b"#" * (config.MAX_FILE + 1))
    with pytest.raises(UsageError, match="longer than"):
        settings()


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_LOW_BANDWIDTH", "maybe")
    with pytest.raises(UsageError, match="LABTUI_LOW_BANDWIDTH: expected true or false, found 'maybe'"):
        settings()


def test_profiles(home: Path) -> None:
    write(home, '[profiles.big]\nmodel = "Qwen/Qwen3-8B"\nquantize = "4bit"\nidle_ttl = "8h"\n')
    found = settings()
    assert found.profile("big") == Profile("big", "Qwen/Qwen3-8B", quantize="4bit", idle_ttl="8h")
    with pytest.raises(UsageError, match=r"no profile 'bgi' .* did you mean 'big'"):
        found.profile("bgi")


def test_a_profile_is_added_and_the_rest_of_the_file_stays(home: Path) -> None:
    write(home, "# mine\nkernel = 'toy'   # keep\n")
    config.save_profile(Profile("small", "toy-qwen3", device="cpu"))
    text = (home / "config.toml").read_text()
    assert text.startswith("# mine\nkernel = 'toy'   # keep\n")
    assert settings().kernel == "toy" and settings().profile("small").device == "cpu"
    with pytest.raises(UsageError, match="'small' exists already"):
        config.save_profile(Profile("small", "other"))
    with pytest.raises(UsageError, match="dtype"):
        config.save_profile(Profile("bad", "m", dtype="int3"))
    assert set(settings().profiles) == {"small"}


def test_a_first_profile_makes_the_file_and_its_private_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path / "fresh"))
    config.save_profile(Profile("a", "toy-qwen3"))
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "fresh" / "config.toml").stat().st_mode) == 0o600


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_printable_model_name_survives_the_file(tmp_path: Path, model: str) -> None:
    file = tmp_path / "c.toml"
    file.unlink(missing_ok=True)
    if not model.isprintable():
        with pytest.raises(UsageError, match="expected a text"):
            config.save_profile(Profile("a", model), file=file)
        return
    config.save_profile(Profile("a", model), file=file)
    assert settings(file=file).profile("a").model == model
