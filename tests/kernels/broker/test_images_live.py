"""Pictures sent to a real kernel: by pieces, once, checked, and journalled once a session."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui import pictures
from labtui.client import AsyncLab
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.images import ImageStore, digest_of
from labtui_sessions.bundle import open_bundle
from labtui_sessions.replay import Replay
from labtui_sessions.verify import verify
from tests.support import kernels
from tests.support.films import film, plain
from tests.support.tiny_vision import noise

GENERATE: dict[str, Any] = {"kind": "generate", "max_new_tokens": 2}


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture of some hundred kilobytes in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "photo.png"
    noise(300, 200).save(path)
    return path


async def seeing() -> AsyncLab:
    kernels.start(model="echo-vl")
    return await kernels.ready()


def added(lab: AsyncLab) -> list[dict[str, Any]]:
    return [event.data for event in kernels.journal(lab.session) if event.kind == "image.added"]


async def test_a_picture_is_sent_once_and_told_once_a_session(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PIECE", 10_000)
    lab = await seeing()
    asked: list[str] = []
    ask = lab.request

    async def request(method: str, **params: Any) -> Any:
        asked.append(method)
        return await ask(method, **params)

    monkeypatch.setattr(lab, "request", request)
    spec = GENERATE | {"prompt": "@photo.png What is this?"}
    job = (await pictures.submit(lab, spec))["job"]
    assert asked.count("image.put") == -(-photo.stat().st_size // 10_000)
    digest = digest_of(photo.read_bytes())
    assert ImageStore().read(digest) == photo.read_bytes()
    assert not [path for path in ImageStore().folder.iterdir() if path.name.startswith(".")]
    (event,) = added(lab)
    assert (event["digest"], event["name"], event["width"], event["height"]) == (
        digest,
        "photo.png",
        300,
        200,
    )
    assert len(event["thumbnail"]) <= 24 * 1024
    assert max(Image.open(io.BytesIO(event["thumbnail"])).size) <= 256
    queued = next(e for e in kernels.journal(lab.session) if e.kind == "job.queued" and e.data["job"] == job)
    assert queued.data["spec"]["prompt"] == [{"role": "user", "content": "What is this?", "images": [digest]}]
    asked.clear()
    await pictures.submit(lab, spec)
    assert "image.put" not in asked and len(added(lab)) == 1
    photo.unlink()  # the session has a picture of that name
    await pictures.submit(lab, spec)
    await kernels.until(lab, lambda: digest in lab.state.images, "the picture in the state")
    assert lab.state.images[digest].name == "photo.png"
    assert await lab.thumbnail(digest) == event["thumbnail"]
    first = lab.session
    await lab.switch((await lab.request("session.new"))["session"])
    again = GENERATE | {"prompt": [{"role": "user", "content": "x", "images": [digest]}]}
    await pictures.submit(lab, again)
    assert lab.session != first and [one["digest"] for one in added(lab)] == [digest]
    await lab.close()


async def test_a_saved_session_shows_its_pictures_without_files(photo: Path, tmp_path: Path) -> None:
    lab = await seeing()
    await pictures.submit(lab, GENERATE | {"prompt": "@photo.png What?"})
    (event,) = added(lab)
    out = tmp_path / "s.safetensors"
    await lab.request("session.save", path=str(out))
    await lab.close()
    kernels.stop_all()
    photo.unlink()
    ImageStore().path(event["digest"]).unlink()
    assert verify(out).ok
    replay = Replay(open_bundle(out))
    replay.seek(replay.last_seq)
    assert replay.state.images[event["digest"]].name == "photo.png"
    assert await replay.thumbnail(event["digest"]) == event["thumbnail"]
    with pytest.raises(UsageError, match="no picture"):
        await replay.thumbnail(digest_of(b"other"))


async def test_what_comes_damaged_or_is_no_picture_leaves_nothing(photo: Path) -> None:
    lab = await seeing()
    data = photo.read_bytes()
    digest = digest_of(data)

    async def put(data: bytes, named: str = digest, offset: int = 0, last: bool = True) -> None:
        await lab.request("image.put", digest=named, offset=offset, data=data, last=last)

    cut, text = data[:2000], b"not a picture at all"
    for sent, named, error, said in (
        (cut, digest, UsageError, "the bytes that came are those of"),
        (cut, digest_of(cut), BadFile, "damaged or truncated"),
        (text, digest_of(text), BadFile, "no image that can be read"),
        (b"", digest_of(b""), UsageError, "no bytes came"),
        (data, "sha256:../../x", UsageError, "expected sha256: and 64 hexadecimal digits"),
    ):
        with pytest.raises(error, match=said) as refused:
            await put(sent, named)
        assert "\n" not in str(refused.value)
    await put(data[:1000], last=False)
    with pytest.raises(UsageError, match="in order"):
        await put(data[2000:], offset=2000)
    with pytest.raises(LabError):
        await put(bytes(5 * 1024 * 1024))
    assert not list(ImageStore().folder.iterdir()) and not added(lab)
    await lab.close()


async def test_jobs_about_a_picture_that_is_not_there_are_refused_before_they_begin(photo: Path) -> None:
    lab = await seeing()
    spec = GENERATE | {"prompt": "@photo.png What?"}
    await pictures.submit(lab, spec)
    (event,) = added(lab)
    ImageStore().path(event["digest"]).unlink()
    there = GENERATE | {"prompt": [{"role": "user", "content": "x", "images": [event["digest"]]}]}
    with pytest.raises(UsageError, match=r"picture photo.png \(\w+\) is not in this kernel's store"):
        await lab.request("submit", spec=there)
    jobs = len(lab.state.jobs)
    with pytest.raises(UsageError, match=r"the picture '/x\.png' was not sent to this kernel"):
        await lab.request(
            "submit", spec=GENERATE | {"prompt": [{"role": "user", "content": "x", "images": ["/x.png"]}]}
        )
    with pytest.raises(UsageError, match=r"edits: the edit .* needs a picture"):
        await lab.request("submit", spec=GENERATE | {"prompt": "x", "edits": "8%*terse@vision.1"})
    with pytest.raises(UsageError, match=r"gone\.png: no such file"):
        await pictures.submit(lab, GENERATE | {"prompt": "@gone.png x"})
    assert len(lab.state.jobs) == jobs
    await pictures.submit(lab, spec)  # sends the file again
    assert event["digest"] in ImageStore() and len(added(lab)) == 1
    await lab.close()


async def test_a_text_model_takes_no_picture(photo: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    with pytest.raises(UsageError, match="this model reads none: it has no vision tower"):
        await pictures.submit(lab, GENERATE | {"prompt": "@photo.png What?"})
    assert not added(lab)
    await lab.close()


async def test_a_video_is_sent_kept_and_shown_by_its_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(film([plain((250, 20, 20))] + [plain((20, 20, 250))] * 11))
    data = (tmp_path / "clip.mp4").read_bytes()
    lab = await seeing()
    spec = GENERATE | {"prompt": "@clip.mp4 What moves?"}
    found = pictures.look(tmp_path / "clip.mp4")
    assert (found.size, found.note) == ((96, 64), "video of 12 frames, 1.2 s") and found.view is not None
    await pictures.submit(lab, spec)
    (event,) = added(lab)
    assert ImageStore().read(event["digest"]) == data
    assert (event["name"], event["width"], event["height"]) == ("clip.mp4", 96, 64)
    assert (event["frames"], event["seconds"]) == (12, 1.2)
    red, _, blue = np.asarray(Image.open(io.BytesIO(event["thumbnail"])).convert("RGB"))[5, 5].tolist()
    assert red > 200 > 60 > blue
    # A client without PyAV sends the file unseen; the kernel opens it.
    monkeypatch.setattr(pictures, "_files", OrderedDict())
    monkeypatch.setattr("labtui_kernels.models.videos.readable", lambda: False)
    unseen = pictures.look(tmp_path / "clip.mp4")
    assert (unseen.digest, unseen.size, unseen.view) == (event["digest"], (0, 0), None)
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadFile, match=r"damaged or truncated video") as refused:
        await pictures.submit(lab, GENERATE | {"prompt": "@cut.mp4 What?"})
    assert "\n" not in str(refused.value) and len(list(ImageStore())) == 1
    await lab.close()
