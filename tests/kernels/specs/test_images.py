"""Pictures in prompts: words, paths, digests, and what a model can do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.specs.images import expand, joined, named, pictures_in, split, with_images, word
from labtui_kernels.specs.plan import plan_sweep

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
TEXT = ModelShape("qwen3", 4, 48)
SEES = ModelShape("qwen2_vl", 4, 48, vision_blocks=3, vision_width=32, merge=2)
SWEEP: dict[str, Any] = {"kind": "sweep", "directions": ["terse"], "sites": "llm.1", "strengths": ["8%"]}


@pytest.mark.parametrize(
    ("text", "content", "paths"),
    [
        ("@a.png What is this?", "What is this?", ["a.png"]),
        ("What is this? @a.png", "What is this?", ["a.png"]),
        ("@a.png", "", ["a.png"]),
        ("@a.png\nWhat\n\nnow", "What\n\nnow", ["a.png"]),
        ("Compare @a.png and @b/C.JPG?", "Compare and?", ["a.png", "b/C.JPG"]),
        ('x @"my photo.png" y', "x y", ["my photo.png"]),
        ("see (@a.webp) there", "see () there", ["a.webp"]),
        ("two @a.png @a.png same", "two same", ["a.png", "a.png"]),
        ("@~/x/y.tiff a  b", "a  b", ["~/x/y.tiff"]),
        ("@v1.2.png!", "!", ["v1.2.png"]),
        (f"@{DIGEST} again", "again", [DIGEST]),
        (r"\@a.png is text", "@a.png is text", []),
        (r'\@"a b.png" is @c.png text', '@"a b.png" is text', ["c.png"]),
        ("write to me@a.png or @home", "write to me@a.png or @home", []),
        (r"my \@array and C:\@a.png", r"my \@array and C:\@a.png", []),
        ('@a.pngx @"b" @@c.png @', '@a.pngx @"b" @@c.png @', []),
    ],
)
def test_words_are_pictures_and_the_rest_is_text(text: str, content: str, paths: list[str]) -> None:
    assert split(text) == (content, paths)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='@\\"a. \npng/é', max_size=30))
def test_what_was_read_once_is_read_no_second_time(text: str) -> None:
    once = expand({"kind": "generate", "prompt": text}, Path("/base"))
    assert expand(once, Path("/elsewhere")) == once


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet='@\\"a. png/é', max_size=24), st.lists(st.sampled_from(["a.png", "b c.jpg"]), max_size=3)
)
def test_a_message_is_written_so_that_it_reads_back(content: str, paths: list[str]) -> None:
    content = " ".join(content.split())
    assert split(joined(content, [word(path) for path in paths])) == (content, paths)


def test_paths_are_found_from_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cwd = tmp_path / "specs", tmp_path / "here"
    folder.mkdir()
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    (folder / "p.txt").write_text("@in_list.png One?\nno picture\n\\@plain.png\n")
    (folder / "g.toml").write_text('kind = "generate"\nprompt = "@a.png What?"\n')
    (folder / "s.toml").write_text(
        'kind = "sweep"\nprompts = { file = "p.txt" }\ndirections = ["terse"]\nstrengths = ["8%"]\n'
    )
    (folder / "m.toml").write_text(
        'kind = "generate"\nprompt = [{ role = "user", content = "@x.png stays", images = ["b.png"] }]\n'
    )
    spec = specs.to_dict(specs.load_toml(folder / "g.toml"))
    assert spec["prompt"] == [{"role": "user", "content": "What?", "images": (str(folder / "a.png"),)}]
    changed = specs.load_toml(folder / "g.toml", ["prompt=@c.png Other?"])
    assert pictures_in(specs.to_dict(changed)) == [str(cwd / "c.png")]
    sweep = specs.load_toml(folder / "s.toml")
    assert isinstance(sweep, specs.Sweep) and isinstance(sweep.prompts, list)
    assert sweep.prompts == [
        [specs.Message(role="user", content="One?", images=[str(folder / "in_list.png")])],
        "no picture",
        [specs.Message(role="user", content="@plain.png")],
    ]
    message = specs.to_dict(specs.load_toml(folder / "m.toml"))["prompt"][0]
    assert message["content"] == "@x.png stays" and message["images"] == (str(folder / "b.png"),)


def test_pictures_are_named_and_added_in_any_prompt() -> None:
    spec = {
        "kind": "direction",
        "name": "blue",
        "positive": [[{"role": "user", "content": "a", "images": ["p.png"]}], "text"],
        "negative": [[{"role": "user", "content": "b", "images": ["n.png", DIGEST]}], "text"],
    }
    assert pictures_in(spec) == ["p.png", "n.png", DIGEST]
    done = named(spec, {"p.png": OTHER, "n.png": DIGEST})
    assert pictures_in(done) == [OTHER, DIGEST]
    assert pictures_in(spec) == ["p.png", "n.png", DIGEST]  # the one that was given is left alone
    assert with_images("@a.png Why?", ["b.png"]) == [
        {"role": "user", "content": "Why?", "images": ["a.png", "b.png"]}
    ]
    chat = [{"role": "user", "content": "x"}]
    assert with_images(chat, ["b.png"])[0]["images"] == ["b.png"] and "images" not in chat[0]


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (
            {"role": "user", "content": "x", "images": ["a.png"] * 17},
            r"prompt\[0\].images: 17 pictures; at most 16",
        ),
        ({"role": "user", "content": "x", "images": [" "]}, "an empty name"),
        ({"role": "user", "content": "x", "images": ["sha256:zz"]}, "64 hexadecimal digits"),
        ({"role": "user", "content": "x", "images": "a.png"}, "images: expected a list"),
        ({"role": "user", "content": "x", "image": "a.png"}, "did you mean 'images'"),
        ({"role": "system", "content": "x", "images": ["a.png"]}, "in the system's turn"),
    ],
)
def test_bad_pictures_are_one_line(turn: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        specs.load({"kind": "generate", "prompt": [turn]})
    assert "\n" not in str(refused.value)


def test_a_picture_alone_is_a_prompt_and_text_alone_is_unchanged() -> None:
    specs.load({"kind": "generate", "prompt": [{"role": "user", "content": "", "images": [DIGEST]}]})
    assert specs.to_dict(specs.Generate(prompt=[specs.Message(role="user", content="x")]))["prompt"] == [
        {"role": "user", "content": "x"}
    ]
    hash(specs.Message(role="user", content="x", images=["a.png"]))


def test_prompts_are_told_apart_by_their_pictures() -> None:
    def prompt(*images: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "What?", **({"images": list(images)} if images else {})}]

    spec = specs.load(SWEEP | {"prompts": [prompt(DIGEST), prompt(OTHER), prompt(DIGEST, OTHER), prompt()]})
    assert isinstance(spec, specs.Sweep)
    plan = plan_sweep(spec, SEES)
    assert len(set(plan.ids)) == 4 and len({row.cell for row in plan.rows}) == len(plan.rows)
    assert plan.pictured
    bare = specs.load(SWEEP | {"prompts": ["What?"]})
    assert isinstance(bare, specs.Sweep)
    assert plan_sweep(bare, SEES).ids == (plan.ids[3],) and not plan_sweep(bare, SEES).pictured
    small = specs.load(SWEEP | {"prompts": [prompt(DIGEST)], "max_pixels": 50_000})
    assert isinstance(small, specs.Sweep)
    assert not {row.cell for row in plan_sweep(small, SEES).rows} & {row.cell for row in plan.rows}


def check(shape: ModelShape, **fields: Any) -> None:
    specs.check_pictures(specs.load(fields), shape)


PICTURED = [{"role": "user", "content": "x", "images": [DIGEST]}]
GENERATE = {"kind": "generate", "prompt": PICTURED}


def test_what_needs_a_picture_is_refused_without_one() -> None:
    check(SEES, **GENERATE, edits="8%*a@vision.1@image[0:1,0:2] + 1*b@llm.1@image0")
    check(SEES, kind="generate", prompt="x", edits="1*b@llm.1@text")
    for edits in ("8%*a@vision.1", "1*b@llm.1@image", "1*b@llm.1@ink"):
        with pytest.raises(
            UsageError, match=r"spec generate: edits: .* needs a picture, and prompt has none"
        ):
            check(SEES, kind="generate", prompt="x", edits=edits)
    with pytest.raises(UsageError, match="prompt has 1 picture, counted from 0"):
        check(SEES, **GENERATE, edits="8%*a@vision.1@image1")
    with pytest.raises(
        UsageError, match=r"sites: the site vision.0 needs a picture, and prompts\[1\] has none"
    ):
        check(SEES, **(SWEEP | {"prompts": [PICTURED, "y"], "sites": "vision.*"}))
    with pytest.raises(
        UsageError, match="where: where 'image0' needs a picture, and the set neutral has none"
    ):
        check(SEES, **(SWEEP | {"prompts": {"set": "neutral"}, "where": ["all", "image0"]}))
    with pytest.raises(UsageError, match="the style terse has none"):
        check(SEES, kind="direction", name="t", style="terse", sites="vision.1")
    check(SEES, kind="direction", name="r", method="random", norm="8%", sites="vision.*")


def test_a_picture_for_a_text_model_or_one_that_was_not_sent_is_refused() -> None:
    with pytest.raises(UsageError, match="it has no vision tower"):
        check(TEXT, **GENERATE)
    with pytest.raises(UsageError, match=r"the picture '/x/a.png' was not sent"):
        check(SEES, kind="generate", prompt=[{"role": "user", "content": "x", "images": ["/x/a.png"]}])
    with pytest.raises(UsageError, match=r"the picture 'a.png' was not sent"):
        check(SEES, kind="generate", prompt="@a.png x")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.MOV", "a/b.webm", "x.mkv", "phone.m4v", "moves.gif"])
def test_videos_are_words_as_pictures_are(name: str) -> None:
    assert split(f"@{name} What moves?") == ("What moves?", [name])
    assert split(f"mail me@{name} and \\@{name}") == (f"mail me@{name} and @{name}", [])


def test_frames_of_videos_are_told_apart_in_plans() -> None:
    base = SWEEP | {"prompts": [[{"role": "user", "content": "x", "images": [DIGEST]}]]}
    cells = []
    for more in ({}, {"fps": 4.0}, {"max_frames": 8}):
        spec = specs.load(base | more)
        assert isinstance(spec, specs.Sweep)
        cells.append(plan_sweep(spec, SEES).rows[-1].cell)
    assert len(set(cells)) == 3
    for wrong, said in (({"fps": 0}, "fps"), ({"fps": "fast"}, "fps"), ({"max_frames": 1}, "max_frames")):
        with pytest.raises(UsageError, match=said):
            specs.load(base | wrong)
