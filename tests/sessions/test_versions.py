"""The commit that a checkout stands at, read without running git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labtui_sessions.versions import package_versions, source_commit


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *options, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "repo" / "sessions" / "labtui_sessions"
    place.mkdir(parents=True)
    (place / "x.py").write_text("")
    git(tmp_path / "repo", "init", "-q")
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-q", "-m", "one")
    return place


def test_a_branch_a_packed_one_a_detached_head_and_a_worktree(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    sha = git(root, "rev-parse", "HEAD")
    assert source_commit(checkout) == sha
    git(root, "pack-refs", "--all")
    assert source_commit(checkout) == sha
    git(root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    assert source_commit(tmp_path / "side" / "sessions" / "labtui_sessions") == sha
    git(root, "checkout", "-q", "--detach")
    assert source_commit(checkout) == sha


def test_somebody_elses_repository_does_not_count(checkout: Path, tmp_path: Path) -> None:
    inside = tmp_path / "repo" / ".venv" / "lib" / "labtui_sessions"
    inside.mkdir(parents=True)
    assert source_commit(inside) == ""
    assert source_commit(tmp_path) == ""


def test_versions_of_what_is_installed() -> None:
    found = package_versions()
    assert found["numpy"] and found["python"]
