"""Pictures on the Steer and Sweep screens: offered, sent, named, and recalled without their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labtui.completing import complete_picture
from labtui.screens.draft import Draft
from labtui.screens.steer import Steer
from labtui.widgets.answers import CellAnswers
from labtui.widgets.prompt import Prompt
from labtui.widgets.sweepform import SweepForm
from labtui.widgets.thumbnail import PictureLines, Thumbnail
from labtui.widgets.tokens import Templated, Tokens, draw, spans
from labtui_artifacts.images import digest_of
from labtui_kernels.lang.positions import ImageSpan
from labtui_kernels.models.pictures import open_picture, thumbnail
from tests.support.fake_kernel import INFO, FakeKernel
from tests.support.films import film, plain
from tests.support.settling import workers_done

WIDE = (200, 60)
TOKENS = {
    "pieces": ["<|im_start|>", "user", "\n", "<|image_pad|>", *[""] * 7, "What", "?", "<|im_end|>", "\n"],
    "content": [False] * 11 + [True, True, False, False],
    "images": [{"start": 3, "rows": 2, "cols": 4, "ink": []}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with pictures in it."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (112, 56), "red").save(tmp_path / "red.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "my photo.jpg")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (30, 30), "green").save(tmp_path / "pics" / "green.webp")
    return tmp_path


def seeing() -> FakeKernel:
    made = FakeKernel().ready("terse")
    made.emit("model.ready", info=INFO | {"vision_blocks": 2, "vision_width": 64, "merge": 2})
    made.answers["image.missing"] = lambda digests: digests
    made.answers["tokens"] = TOKENS
    return made


async def settled(pilot: Any) -> None:
    await workers_done(pilot.app)
    pilot.app.pump.now()
    await pilot.pause()


def steer(app: Any) -> Steer:
    assert isinstance(app.lab_screen, Steer)
    return app.lab_screen


def lines(app: Any) -> str:
    return str(app.lab_screen.query_one(PictureLines).query("Static").first().content)


def test_files_are_offered_behind_an_at(folder: Path) -> None:
    assert complete_picture("What is @r", folder) == ["ed.png"]
    assert complete_picture("@", folder) == ["red.png", "pics/"]
    assert complete_picture('@"my', folder) == [' photo.jpg"']
    assert complete_picture("@pics/", folder) == ["green.webp"]
    assert complete_picture(f"@{folder}/pics/g", Path("/")) == ["reen.webp"]
    for text in ("me@r", "@none/", "@red.png ", "r", "@notes", "@red.png"):
        assert complete_picture(text, folder) == []


async def test_tab_takes_the_offered_picture_and_enter_sends_it(make_app, folder: Path) -> None:
    made = seeing()
    app = make_app(made)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"@r")
        prompt = steer(app).query_one("#prompt-text", Prompt)
        assert prompt.suggestion == "ed.png"
        await pilot.press("tab", *" What?")
        assert prompt.text == "@red.png What?" and app.focused is prompt
        await settled(pilot)
        assert "image0 red.png  112×56 · 2×4 = 8 tokens" in lines(app)
        data = (folder / "red.png").read_bytes()
        put = made.params("image.put")
        assert put == {"digest": digest_of(data), "offset": 0, "data": data, "last": True}
        await pilot.press("enter")
        await settled(pilot)
        sent = made.params("submit")
        assert sent["spec"]["prompt"] == [{"role": "user", "content": "What?", "images": [digest_of(data)]}]
        assert sent["names"] == {digest_of(data): "red.png"} and sent["priority"] == "interactive"
        await pilot.press("tab")
        assert app.focused is not prompt  # nothing is offered: tab goes on as it always did


async def test_a_picture_that_is_not_there_is_said_below_the_prompt(make_app, folder: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:60])
    made = seeing()
    app = make_app(made)
    async with app.run_test(size=WIDE) as pilot:
        for name, said in (("gone.png", "gone.png: no such file"), ("cut.png", "damaged or truncated")):
            steer(app).change(Draft(prompt=f"@{name} What?"))
            await settled(pilot)
            assert said in lines(app) and lines(app).startswith("! ")
            steer(app).action_run()
            await settled(pilot)
            assert "submit" not in made.methods() and said in app.said
        steer(app).change(Draft(prompt="What?"))
        await settled(pilot)
        assert not steer(app).query_one(PictureLines).display


async def test_an_edit_at_a_patch_that_is_not_there_is_said_once(make_app, folder: Path) -> None:
    made = seeing()
    app = make_app(made)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        draft = Draft(prompt="@red.png What?").with_edits(
            "8%*terse@vision.1@image[0:1,0:2]", steer(app).shape
        )
        steer(app).change(draft)
        await settled(pilot)
        shown = steer(app).tokens
        assert isinstance(shown, Templated) and shown.edited == {3, 4}
        steer(app).change(draft.with_where("image[0:9,0:1]"))
        await settled(pilot)
        assert "expected a rectangle within [0:2,0:4]" in app.said


async def test_a_run_is_shown_and_done_again_without_its_file(make_app, folder: Path) -> None:
    made = seeing()
    picture = open_picture(folder / "red.png")
    size = {"width": picture.size[0], "height": picture.size[1]}
    made.emit("image.added", digest=picture.digest, name="red.png", thumbnail=thumbnail(picture), **size)
    spec = {"kind": "generate", "prompt": [{"role": "user", "content": "What?", "images": [picture.digest]}]}
    made.emit("job.queued", job="g1", kind="generate", spec=spec)
    made.emit("job.started", job="g1", plan={"rows": 1})
    where = {"digest": picture.digest, "start": 3, "rows": 2, "cols": 4, "grid": [1, 4, 8]}
    made.emit(
        "row.started",
        job="g1",
        row="plain",
        arm="plain",
        pieces=TOKENS["pieces"],
        edited=[3, 4],
        images=[where],
    )
    (folder / "red.png").unlink()
    app = make_app(made)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert steer(app).draft.prompt == "@red.png What?"
        assert "image0 red.png  112×56 · 2×4 = 8 tokens" in lines(app)
        view = steer(app).query_one(PictureLines).query_one(Thumbnail)
        assert view.display and view.size.height >= 2
        assert "[image0 2x4 2 edited]" in str(steer(app).query_one(Tokens)._body.content)
        await pilot.press("r")
        await settled(pilot)
        assert made.params("submit")["spec"]["prompt"] == spec["prompt"]
        assert "image.put" not in made.methods()


def test_a_picture_is_one_block_of_the_tokens() -> None:
    tokens = Templated(
        ("a", "<|image_pad|>", "", "", "", "b"), (True, *[False] * 4, True), images=(ImageSpan(1, 2, 2),)
    )
    assert str(draw(tokens)) == "a[image0 2x2]b"
    whole = Templated(tokens.pieces, tokens.content, edited=frozenset({1, 2, 3, 4}), images=tokens.images)
    assert str(draw(whole)) == "a[image0 2x2 edited]b"


async def test_a_cells_texts_name_and_show_the_picture(make_app, folder: Path) -> None:
    made = seeing()
    picture = open_picture(folder / "red.png")
    size = {"width": picture.size[0], "height": picture.size[1]}
    made.emit("image.added", digest=picture.digest, name="red.png", thumbnail=thumbnail(picture), **size)
    made.emit("job.queued", job="s1", kind="sweep", spec={"kind": "sweep"})
    made.emit("job.started", job="s1", plan={"rows": 2, "table": "s1"})
    about = {"prompt": "Which?", "prompt_id": "p1", "picture": "red.png", "prompt_images": picture.digest}
    place = {
        "direction": "terse",
        "site": "vision.1",
        "where": "image",
        "seed": 0,
        "text": "red",
        "tokens": 1,
    }
    for number, (strength, control) in enumerate(((0.0, "zero"), (1.0, ""))):
        row = {
            **place,
            **about,
            "row": number,
            "strength": strength,
            "control": control,
            "words": 1,
            "finish": "stop",
        }
        if control:
            row |= {"direction": "", "site": ""}
        made.emit("cell.committed", job="s1", cell=f"c{number}", table="s1", rows=[row])
    made.emit("job.finished", job="s1", status="done", result={"table": "s1"})
    app = make_app(made, first="sweep")
    async with app.run_test(size=WIDE) as pilot:
        for _ in range(3):
            await settled(pilot)
        shown = app.lab_screen.query_one(CellAnswers)
        assert str(shown.query_one("#sweep-asked").content) == "red.png  Which?"
        assert shown.query_one(Thumbnail).display


async def test_a_sweep_over_pictures_is_written_sent_and_shown_again(make_app, folder: Path) -> None:
    made = seeing()
    made.answers["plan"] = {}
    app = make_app(made, first="sweep")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        form = app.lab_screen.query_one(SweepForm)
        form.query_one("#sweep-prompts", Prompt).text = '@red.png Which?\n@"my photo.jpg" Which?'
        form.query_one("#sweep-sites").value = "vision.*"
        form.query_one("#sweep-where").value = "image, image[0:1,0:2]"
        await settled(pilot)
        assert not app.lab_screen.counted.error
        app.lab_screen.action_run()
        await settled(pilot)
        spec = made.params("submit")["spec"]
        digests = [digest_of((folder / name).read_bytes()) for name in ("red.png", "my photo.jpg")]
        assert [prompt[0]["images"] for prompt in spec["prompts"]] == [[digest] for digest in digests]
        assert spec["where"] == ["image", "image[0:1,0:2]"]
        assert made.params("plan")["spec"]["prompts"] == spec["prompts"]
        form.query_one("#sweep-prompts", Prompt).text = form.query_one("#sweep-prompts", Prompt).known = ""
        form.show(spec, app.views.names(made.state))
        assert form.query_one("#sweep-prompts", Prompt).text == '@red.png Which?\n@"my photo.jpg" Which?'


async def test_a_video_is_offered_sent_and_named(make_app, folder: Path) -> None:
    (folder / "clip.webm").write_bytes(film([plain((250, 20, 20))] * 8, "webm"))
    made = seeing()
    made.answers["tokens"] = {
        "pieces": ["<|im_start|>", "<0.3 seconds>", "<|video_pad|>", *[""] * 5, "<1.3 seconds>", "<|video_pad|>",
                   *[""] * 5, "What", "\n"],
        "content": [False] * 15 + [True, False],
        "images": [{"start": 2, "rows": 2, "cols": 3, "ink": [], "frames": 2, "starts": [2, 9]}],
    }  # fmt: skip
    app = make_app(made)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("i", *"@cl", "tab", *" What")
        await settled(pilot)
        assert "image0 clip.webm  96×64 · 2×2×3 = 12 tokens · video of 8 frames, 0.8 s" in lines(app)
        put = made.params("image.put")
        assert put["digest"] == digest_of((folder / "clip.webm").read_bytes())


def test_frames_that_stand_apart_are_blocks_of_their_own() -> None:
    images = spans([{"start": 1, "rows": 1, "cols": 2, "grid": [2, 2, 4], "starts": [1, 5]}])
    pieces = ("a", "<|video_pad|>", "", "b", "c", "<|video_pad|>", "", "d")
    shown = draw(Templated(pieces, (False,) * 8, edited=frozenset({5, 6}), images=images)).plain
    assert shown == "a[image0 frame 0 1x2]bc[image0 frame 1 1x2 edited]d"
    together = spans([{"start": 1, "rows": 1, "cols": 2, "grid": [2, 2, 4]}])
    pieces = ("a", "<|video_pad|>", "", "", "", "d")
    assert draw(Templated(pieces, (False,) * 6, images=together)).plain == "a[image0 2x1x2]d"


@pytest.mark.parametrize(
    "image",
    [
        {"start": 1, "rows": 2, "cols": 2, "frames": 10**9},
        {"start": 1, "rows": 2, "cols": 2, "frames": -1},
        {"start": 1, "rows": 2, "cols": 2, "frames": 2, "starts": [1]},
        {"start": 1, "rows": 2, "cols": 2, "frames": 2, "starts": [9, 1]},
        {"start": 1, "rows": 2, "cols": 2, "starts": "x"},
        {"start": 1, "rows": 2, "cols": 2, "starts": ["x"]},
        {"start": 1, "rows": 10**5, "cols": 10**5},
        {"start": True, "rows": 2, "cols": 2},
        {"rows": 2, "cols": 2},
    ],
)
def test_spans_that_cannot_be_are_left_out(image: dict[str, Any]) -> None:
    assert spans([image]) == ()
