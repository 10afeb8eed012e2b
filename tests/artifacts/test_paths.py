"""The home and runtime folders: private, ours, and refused with one line otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labtui_artifacts import paths
from labtui_artifacts.errors import Unreachable, UsageError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another uid")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABTUI_RUNTIME", str(tmp_path / "run"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = [paths.home(), paths.runtime(), paths.sessions(), paths.artifacts(), paths.logs()]
    finally:
        os.umask(old)
    assert [mode(path) for path in made] == [0o700] * 5
    assert paths.sessions() == tmp_path / "home" / "sessions"


def test_the_default_runtime_folder_is_named_by_uid_and_ignores_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABTUI_RUNTIME")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert paths.runtime_location() == Path("/tmp") / f"labtui-{os.geteuid()}"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_RUNTIME", "")
    assert paths.runtime_location().name == f"labtui-{os.geteuid()}"


def test_a_symlink_is_refused_as_runtime_even_to_a_good_folder(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "good")
    with pytest.raises(Unreachable, match=r"is a symlink.*LABTUI_RUNTIME") as caught:
        paths.runtime()
    assert "\n" not in str(caught.value)


def test_a_dangling_symlink_is_refused_and_not_filled(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Unreachable, match="is a symlink"):
        paths.runtime()
    assert not (tmp_path / "nowhere").exists()


@needs_root
def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 12345, -1)
    with pytest.raises(Unreachable, match="belongs to uid 12345"):
        paths.runtime()


@needs_root
def test_a_foreign_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    os.chown(tmp_path / "home", 12345, -1)
    with pytest.raises(UsageError, match=r"belongs to uid 12345.*LABTUI_HOME"):
        paths.sessions()


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(Unreachable, match="is not a folder"):
        paths.runtime()


def test_a_folder_others_could_write_is_refused_one_they_could_read_is_tightened(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    assert mode(paths.runtime()) == 0o700
    (tmp_path / "run").chmod(0o770)
    with pytest.raises(Unreachable, match="mode 0770"):
        paths.runtime()


def test_a_symlinked_home_is_followed_and_its_mode_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch").chmod(0o750)
    (tmp_path / "home").symlink_to(tmp_path / "scratch")
    assert paths.home() == tmp_path / "scratch"
    assert mode(tmp_path / "scratch") == 0o750
    assert mode(paths.artifacts()) == 0o700


def test_socket_paths_are_limited_to_107_bytes(tmp_path: Path) -> None:
    room = paths.SOCKET_PATH_MAX - len(os.fsencode(paths.runtime())) - len("/.sock")
    assert len(os.fsencode(paths.socket_path("k" * room))) == 107
    with pytest.raises(Unreachable, match=r"has 108 bytes.*LABTUI_RUNTIME"):
        paths.socket_path("k" * (room + 1))
