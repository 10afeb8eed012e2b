"""Rows with pictures: what the engine gives is what plain transformers give, token for token, in any company."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from labtui_artifacts.errors import JobFailed, UsageError
from labtui_kernels.engine import Edit, Engine, ImageInput, Look, Row, Sampling
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.lang.sites import all_sites, site_width
from labtui_kernels.models.load import LoadedModel
from tests.support.tiny import tiny
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision

from .driving import drain, run, tokens, vector
from .seeing import generate, logits, logprobs, picture, pictured, shown, site, wrong

OPS = ("add", "project", "replace")


def edit(at: str, strength: float = 1.0, where: str = "all", op: str = "add", seed: int = 1) -> Edit:
    width = 32 if at.startswith("vision") and at != "vision.merged" else 48
    return Edit(site(at), op, vector(width, seed), strength, parse_where(where))  # type: ignore[arg-type]


def passes(loaded: LoadedModel) -> tuple[list[int], list[int]]:
    """The patches of each pass of the tower, and the tokens of each pass of the decoder, as they come."""
    patches: list[int] = []
    processed: list[int] = []
    loaded.model.model.visual.patch_embed.register_forward_hook(lambda _m, _a, out: patches.append(len(out)))
    loaded.model.model.language_model.layers[0].register_forward_hook(
        lambda _m, _a, out: processed.append(out.shape[0] * out.shape[1])
    )
    return patches, processed


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_rows_with_pictures_equal_generate(family: str) -> None:
    loaded = tiny_vision(family)
    rows = [
        pictured(loaded, [(3, 2)], 1, "one", max_new_tokens=16),
        pictured(loaded, [(5, 4), (2, 3)], 2, "two", max_new_tokens=16),
        pictured(loaded, [], 3, "text", max_new_tokens=16),
    ]
    results = run(Engine(loaded).batch(slots=3), rows)
    for row in rows:
        assert tokens(results[row.key]) == generate(loaded, row), row.key
    assert loaded.model.model.rope_deltas is None


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_an_edit_at_every_site_equals_a_hook(family: str) -> None:
    loaded = tiny_vision(family)
    shape = loaded.info.shape
    base = pictured(loaded, [(3, 4), (5, 3)], 4, "plain", max_new_tokens=3)
    names = ["image1[0:2,1:3]", "all", "image", "image0"]
    rows = [base]
    for number, each in enumerate(all_sites(shape)):
        # In the last block what happens at the picture is of no consequence for what comes after it.
        late = each.tower == "llm" and each.block == shape.blocks - 1 and each.point != "in"
        where = parse_where("all" if late or each.point == "norm" else names[number % 4])
        changes = Edit(each, OPS[number % 3], vector(site_width(each, shape), number), 0.9, where)
        rows.append(replace(base, key=str(each), edits=(changes,)))
    results = run(Engine(loaded).batch(slots=len(rows)), rows)
    plain = [each.logprob for each in results["plain"]]
    for row in rows:
        assert not wrong(loaded, row, results[row.key]), row.key
        found = [each.logprob for each in results[row.key]]
        assert row.key == "plain" or found != pytest.approx(plain, abs=1e-4), f"{row.key} changed nothing"


def mixed_rows(loaded: LoadedModel) -> list[Row]:
    """Pictures of several sizes, text alone, edits in tower and decoder, samplings; more rows than slots."""
    unit = torch.stack([vector(48, 90), vector(48, 91)])
    basis = Edit(site("vision.2.in"), "project", torch.stack([vector(32, 92), vector(32, 93)]))
    first = pictured(loaded, [(3, 2)], 1, "first")
    inked = pictured(loaded, [(2, 3), (4, 4)], 6, "inked")
    marks = tuple(n % 3 == 0 for n in range(6)), tuple(n % 5 == 1 for n in range(16))
    inked = replace(inked, images=tuple(replace(i, ink=m) for i, m in zip(inked.images, marks, strict=True)))
    return [
        first,
        pictured(loaded, [(4, 4)], 2, "tower", edits=(edit("vision.0.out", 2.0), basis)),
        pictured(loaded, [], 3, "text", edits=(edit("llm.1.out", 2.0),)),
        pictured(loaded, [(2, 2), (3, 5)], 4, "places", edits=(edit("llm.1.out", 1.5, "image1[1:4,0:2]"),)),
        replace(first, key="words", edits=(edit("llm.2.in", 1.5, "text"),)),
        replace(first, key="drawn", sampling=Sampling(0.9, top_p=0.9), seed=5),
        replace(
            inked,
            edits=(
                edit("vision.embed", 1.0, "ink"),
                edit("vision.0.in", 0.5, "ink1", "replace"),
                edit("vision.embed", -2.0, "image0[0:1,0:2]", seed=3),
                edit("llm.embed", 1.0, "ink0"),
                Edit(site("llm.0.in"), "project", unit),
            ),
        ),
        pictured(loaded, [(6, 1)], 7, "merged", edits=(edit("vision.merged", 1.0, "image[0:1,2:4]"),)),
        pictured(loaded, [], 8, "plain text", sampling=Sampling(1.2, top_k=30), seed=3),
        pictured(
            loaded,
            [(1, 1)],
            9,
            "surprise",
            edits=(edit("vision.premerge", 3.0), edit("llm.0.mlp", 1.0, "generated")),
        ),
    ]


@pytest.mark.parametrize("chunk", [None, 24])
@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_mixed_rows_equal_each_alone(family: str, chunk: int | None) -> None:
    loaded = tiny_vision(family)
    rows = [replace(row, surprise=row.key == "surprise") for row in mixed_rows(loaded)]
    results = run(Engine(loaded, chunk_tokens=chunk).batch(slots=4), rows)
    for row in rows:
        assert not wrong(loaded, row, results[row.key]), row.key
    surprised = next(row for row in rows if row.surprise)
    said = tokens(results["surprise"])
    plain = logprobs(loaded, replace(surprised, edits=()), said)
    assert [each.plain_logprob for each in results["surprise"]] == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl_moe", "qwen3_5_vl"])
def test_a_long_picture_in_chunks(family: str) -> None:
    """Chunks begin and end inside the pictures."""
    loaded = tiny_vision(family)
    rows = [
        pictured(loaded, [(9, 8), (12, 7)], 1, "long", edits=(edit("llm.1.out", 1.0, "image1[2:5,3:9]"),)),
        pictured(loaded, [(10, 10)], 2, "other", edits=(edit("vision.1.out", 1.0, "image[0:2,4:6]"),)),
    ]
    results = run(Engine(loaded, chunk_tokens=64).batch(slots=2), rows)
    for row in rows:
        assert not wrong(loaded, row, results[row.key]), row.key


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "qwen3_5_vl"])
def test_pictures_are_never_taken_for_each_other(family: str) -> None:
    """Prompts of the same tokens, which show different pictures, or one picture edited in different ways."""
    loaded = tiny_vision(family)
    one, other = (picture(loaded, 9, 8, seed) for seed in (1, 2))
    rows = []
    for name, each in (("one", one), ("other", other)):
        base = shown(loaded, [each], 5, name)
        rows.append(base)
        rows += [
            replace(base, key=f"{name} {s}", edits=(edit("vision.1.out", s, "image[2:4,2:4]"),))
            for s in (1.0, 2.0)
        ]
        rows.append(replace(base, key=f"{name} late", edits=(edit("llm.1.out", 2.0, "generated"),)))
    patches, processed = passes(loaded)
    results = run(Engine(loaded).batch(slots=8, fill=True), rows)
    assert sum(patches) == 2 * 3 * 288  # each picture plain and with two edits; "late" shares the plain one
    found = {row.key: results[row.key] for row in rows}
    for row in rows:
        assert not wrong(loaded, row, found[row.key]), row.key
    assert len({round(each[0].logprob, 4) for each in found.values()}) == 6
    assert processed[0] <= 6 * len(rows[0].ids)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_5_vl"])
def test_questions_about_one_picture_share_its_beginning(family: str) -> None:
    loaded = tiny_vision(family)
    base = pictured(loaded, [(9, 8)], 3)
    rows = [
        Row(f"{n}", (*base.ids, *range(10 * n, 10 * n + 4)), images=base.images, max_new_tokens=4)
        for n in range(5)
    ]
    patches, processed = passes(loaded)
    results = run(Engine(loaded).batch(slots=5, fill=True), rows)
    assert patches == [288]
    shared = processed[0]
    assert len(base.ids) - 64 < shared <= len(base.ids) and processed[1] < 5 * 40
    for row in rows:
        assert not wrong(loaded, row, results[row.key]), row.key


def test_a_sweep_computes_the_features_of_a_picture_once() -> None:
    loaded = tiny_vision("qwen3_vl")
    engine = Engine(loaded)
    patches, _ = passes(loaded)
    base = pictured(loaded, [(3, 4)], 1)
    rows = [replace(base, key=str(s), edits=(edit("llm.1.out", float(s)),)) for s in range(7)]
    run(engine.batch(slots=2), rows)
    assert patches == [48]
    again = [replace(base, key="edited", edits=(edit("vision.0.out", 1.0),))]
    run(engine.batch(slots=2), again)
    assert patches == [48, 48]
    # An equal edit with vectors of its own is the same edit; another strength is another.
    fresh = replace(base, key="fresh", edits=(edit("vision.0.out", 1.0),))
    stronger = replace(base, key="stronger", edits=(edit("vision.0.out", 1.5),))
    run(engine.batch(slots=2), [fresh, stronger])
    assert patches == [48, 48, 48]
    tower = engine.forward.tower
    assert tower is not None and 0 < tower.cache.bytes < 1 << 20 and len(tower.cache) == 3
    tower.cache.clear()
    assert tower.cache.bytes == 0
    run(engine.batch(), [base])
    assert patches == [48] * 4


def test_the_feature_cache_is_bounded() -> None:
    loaded = tiny_vision("qwen2_vl")
    engine = Engine(loaded)
    tower = engine.forward.tower
    assert tower is not None
    tower.cache.__init__(limit=3 * 12 * 48 * 4)  # three pictures of twelve tokens
    patches, _ = passes(loaded)
    rows = [pictured(loaded, [(3, 4)], n, str(n), max_new_tokens=2) for n in range(6)]
    results = run(engine.batch(slots=6), rows)
    assert len(tower.cache) == 3 and tower.cache.bytes == 3 * 12 * 48 * 4
    run(engine.batch(), [replace(rows[5], key="kept")])
    assert sum(patches) == 6 * 48
    run(engine.batch(), [replace(rows[0], key="gone")])
    assert sum(patches) == 7 * 48
    for row in rows:
        assert not wrong(loaded, row, results[row.key]), row.key


@pytest.mark.parametrize("where", ["tower", "decoder"])
def test_out_of_memory_with_pictures(where: str) -> None:
    loaded = tiny_vision("qwen3_5_vl")
    rows = [row for row in mixed_rows(loaded) if row.sampling.greedy]
    wanted = {key: tokens(each) for key, each in run(Engine(loaded).batch(slots=6), rows).items()}
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls in (1, 5):
            raise torch.OutOfMemoryError("CUDA out of memory (as if)")

    model = loaded.model.model
    part = model.visual.blocks[1] if where == "tower" else model.language_model.layers[2]
    batch = Engine(loaded, chunk_tokens=48).batch(slots=6)
    handle = part.register_forward_hook(fail)
    results = run(batch, rows)
    handle.remove()
    assert {key: tokens(each) for key, each in results.items()} == wanted
    assert batch.slots < 6 and calls > 5


def test_a_picture_that_does_not_fit_fails_the_job() -> None:
    loaded = tiny_vision("qwen2_vl")

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (as if)")

    batch = Engine(loaded).batch()
    batch.add(pictured(loaded, [(3, 3)], 1))
    loaded.model.model.visual.blocks[1].register_forward_hook(fail)
    with pytest.raises(JobFailed, match="smaller pictures"):
        drain(batch)


def test_cancelling_while_the_tower_works() -> None:
    loaded = tiny_vision("qwen2_5_vl")
    batch = Engine(loaded, chunk_tokens=16).batch(slots=4)
    rows = [pictured(loaded, [(4, 4)], n, str(n), max_new_tokens=4) for n in range(3)]
    for row in rows:
        batch.add(row)
    assert batch.step() == []
    batch.cancel("0")
    results = drain(batch)
    assert [each.finish for each in results["0"]] == ["cancelled"]
    for row in rows[1:]:
        assert not wrong(loaded, row, results[row.key]), row.key


def test_knobs_in_the_tower_turn_until_the_picture_is_read() -> None:
    loaded = tiny_vision("qwen2_vl")
    batch = Engine(loaded).batch(slots=1)
    base = pictured(loaded, [(3, 3)], 1, edits=(edit("vision.1.out", 1.0), edit("llm.1.out", 0.5)))
    first, second = replace(base, key="first"), replace(base, key="second")
    batch.add(first)
    batch.add(second)
    assert batch.set_strength("second", 0, 4.0) == 0
    begun = []
    while "first" not in batch.running:
        begun += batch.step()
    with pytest.raises(UsageError, match=r"vision\.1\.out cannot change once the picture has been read"):
        batch.set_strength("first", 0, 2.0)
    step = batch.set_strength("first", 1, 3.0)
    results = drain(batch)
    assert not wrong(loaded, replace(first, knobs=((step, 1, 3.0),)), [*begun, *results["first"]])
    assert not wrong(loaded, replace(second, knobs=((0, 0, 4.0),)), results["second"])
    replayed = run(Engine(loaded).batch(), [replace(second, knobs=((0, 0, 4.0),))])
    assert tokens(replayed["second"]) == tokens(results["second"])
    with pytest.raises(UsageError, match="give the new strength to the next row"):
        replace(base, knobs=((2, 0, 1.0),))


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_scores_and_divergence_equal_decoding(family: str) -> None:
    loaded = tiny_vision(family)
    engine = Engine(loaded, chunk_tokens=64)
    rows = [replace(row, max_new_tokens=6) for row in mixed_rows(loaded) if row.sampling.greedy]
    rows.append(
        pictured(loaded, [(9, 9)], 11, "long", edits=(edit("vision.1.in", 2.0), edit("llm.1.mlp", 1.0)))
    )
    said = run(engine.batch(slots=4), rows)
    forced = [replace(row, forced=tuple(tokens(said[row.key])), surprise=True) for row in rows]
    scored = engine.score(forced)
    for row, emitted in zip(forced, scored, strict=True):
        wanted = [each.logprob for each in said[row.key]]
        assert [each.logprob for each in emitted] == pytest.approx(wanted, abs=1e-3), row.key
        plain = logprobs(loaded, replace(row, edits=()), tokens(said[row.key]))
        assert [each.plain_logprob for each in emitted] == pytest.approx(plain, abs=1e-3), row.key
    for row, values in zip(forced, engine.divergence(forced), strict=True):
        assert row.forced is not None
        steered, plain = (
            logits(loaded, each, list(row.forced[:-1]))[len(row.ids) - 1 :].log_softmax(-1)
            for each in (row, replace(row, edits=()))
        )
        kl = (steered.exp() * (steered - plain)).sum(-1).tolist()
        assert values == pytest.approx(kl, abs=1e-3), row.key


def test_divergence_tells_pictures_of_one_prompt_apart() -> None:
    loaded = tiny_vision("qwen2_vl")
    rows = [
        replace(
            shown(loaded, [picture(loaded, 3, 3, seed)], 5, str(seed)),
            forced=(5, 6),
            edits=(edit("llm.1.out"),),
        )
        for seed in (1, 2)
    ]
    engine = Engine(loaded)
    together = engine.divergence(rows)
    for row, values in zip(rows, together, strict=True):
        assert values == pytest.approx(engine.divergence([row])[0], abs=1e-5)


def test_looks_at_rows_with_pictures() -> None:
    loaded = tiny_vision("qwen2_5_vl")
    engine = Engine(loaded)
    base = pictured(loaded, [(4, 3)], 2, forced=(4, 9, 8))
    places = "image[0:2,1:3]"
    steered = replace(
        base,
        edits=(edit("vision.1.out", 2.0, places), edit("vision.merged", 0.0), edit("llm.1.out", 1.0, places)),
    )
    look = Look(steered, answer=3, logprobs=True, logits=True, means=(site("llm.2.out"),), moved=True)
    seen = {}
    for part in engine.observe_parts([look, Look(base, answer=3, logprobs=True)]):
        seen |= part
    scored = engine.score([steered, base])
    for number in range(2):
        assert seen[number].logprobs == pytest.approx([each.logprob for each in scored[number]], abs=1e-5)
    at = site("vision.1.out")
    before = engine.capture([base], [at], pooling="none", where=parse_where(places))[at]
    wanted = 100 * 2.0 * float(vector(32, 1).norm()) / before.norm(dim=-1).numpy()
    assert seen[0].moved[at] == pytest.approx(float(sorted(wanted)[7] + sorted(wanted)[8]) / 2, rel=1e-4)
    assert seen[0].moved[site("vision.merged")] == 0.0
    assert seen[0].moved[site("llm.1.out")] is not None
    with pytest.raises(UsageError, match=r"no token of an answer passes vision\.1\.out"):
        Look(steered, answer=1, means=(at,))


def test_edits_that_leave_no_trace_change_nothing() -> None:
    """Strength 0 goes through the same motions and gives the same numbers, bit for bit."""
    loaded = tiny_vision("qwen2_5_vl")
    base = pictured(loaded, [(3, 3)], 1, "plain")
    zero = replace(
        base, key="zero", edits=(edit("vision.1.out", 0.0), edit("vision.embed", 0.0, op="replace"))
    )
    engine = Engine(loaded)
    (plain,) = run(engine.batch(slots=1), [base]).values()
    (zeroed,) = run(engine.batch(slots=1), [zero]).values()
    assert [(e.token, e.logprob) for e in plain] == [(e.token, e.logprob) for e in zeroed]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_frames_of_one_grid(family: str) -> None:
    """Two frames are one image, and a place may name one of them."""
    loaded = tiny_vision(family)
    config = loaded.model.config
    (image,) = pictured(loaded, [(4, 3)], 1).images
    pixels = torch.cat([image.pixels, image.pixels.flip(0)])
    tokens_ = [config.vision_start_token_id, *[config.image_token_id] * 24, config.vision_end_token_id]
    frames = ImageInput(pixels, (2, *image.grid[1:]), 3)
    row = Row("frames", (5, 6, *tokens_, 9), images=(frames,), max_new_tokens=5)
    assert tokens(run(Engine(loaded).batch(), [row])["frames"]) == generate(loaded, row)
    engine, at = Engine(loaded), site("vision.embed")
    second = parse_where("image[1:2,0:3,0:4]")
    whole = engine.capture([row], [at], pooling="none")[at]
    assert torch.equal(engine.capture([row], [at], pooling="none", where=second)[at], whole[48:])


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_half_precision(family: str) -> None:
    """Edits in the tower are computed in float32 there too, and one of strength 0 changes no bit."""
    loaded = tiny_vision(family)
    loaded.model.to(torch.bfloat16)
    engine, at = Engine(loaded), site("vision.1.out")
    row = pictured(loaded, [(4, 3)], 1, "plain")
    zero = replace(row, key="zero", edits=(edit("vision.1.out", 0.0, op="replace"),))
    plain, zeroed = (run(engine.batch(slots=1), [each])[each.key] for each in (row, zero))
    assert [(e.token, e.logprob) for e in plain] == [(e.token, e.logprob) for e in zeroed]
    before = engine.capture([row], [at], pooling="none")[at]
    after = engine.capture([row], [at], pooling="none", edits=[edit("vision.1.out", 1.0)])[at]
    assert torch.equal(after, (before + vector(32, 1)).to(torch.bfloat16).float())


def test_refusals() -> None:
    loaded = tiny_vision("qwen3_vl")
    engine = Engine(loaded)
    row = pictured(loaded, [(3, 2)], 1)
    (image,) = row.images
    two = pictured(loaded, [(2, 2), (2, 2)], 1)
    token = loaded.model.config.image_token_id
    narrow = ImageInput(image.pixels[:, :100], image.grid, image.start)
    odd = ImageInput(image.pixels[:12], (1, 3, 4), image.start)
    for bad, words in (
        (replace(row, images=()), "6 image tokens of the prompt belong to no image"),
        (replace(row, images=(replace(image, start=2),)), r"needs 6 image tokens from position 2"),
        (replace(row, images=(replace(image, start=900),)), r"needs 6 image tokens from position 900"),
        (replace(row, images=(narrow,)), "100 values a patch; this model takes 1536"),
        (replace(row, images=(odd,)), "rows and columns are multiples of 2"),
        (replace(row, images=(replace(image, ink=(True,)),)), "1 ink marks for 6 merged patches"),
        (replace(two, images=two.images[::-1]), "expected the prompt's images in order"),
        (replace(two, images=two.images[:1]), "4 image tokens of the prompt belong to no image"),
        (replace(row, edits=(edit("vision.1.out", where="image[0:3,0:1]"),)), "2 rows and 3 columns"),
        (replace(row, edits=(edit("vision.1.out", where="image1"),)), "1 image, counted from 0"),
        (replace(row, edits=(edit("vision.1.out", where="last"),)), "patches, not tokens"),
        (replace(row, edits=(edit("vision.1.out", where="ink"),)), "is no stimulus"),
        (replace(row, edits=(edit("vision.3.out"),)), r"blocks vision\.0 to vision\.2"),
        (
            replace(row, edits=(Edit(site("vision.0.out"), "add", vector(48, 1)),)),
            "width 48; this model's is 32",
        ),
        (
            replace(row, edits=(Edit(site("vision.merged"), "add", vector(32, 1)),)),
            "width 32; this model's is 48",
        ),
        (Row("text", (1, 2), edits=(edit("vision.1.out"),)), "this prompt has no image"),
        (Row("text", (1, token, 2)), "1 image tokens of the prompt belong to no image"),
    ):
        with pytest.raises(UsageError, match=words):
            engine.batch().add(bad)
        with pytest.raises(UsageError, match=words):
            engine.score([replace(bad, forced=(1,))])
    for make, words in (
        (lambda: ImageInput(image.pixels, (1, 2, 2), 0), "has 4 patches"),
        (lambda: ImageInput(image.pixels, (1, 24, 0), 0), "each at least 1"),
        (lambda: ImageInput(image.pixels, image.grid, -1), "start -1"),
        (lambda: ImageInput(image.pixels * float("nan"), image.grid, 0), "NaN"),
    ):
        with pytest.raises(UsageError, match=words):
            make()
    text = Engine(tiny("qwen2"))
    for bad in (
        Row("a", row.ids, images=row.images),
        Row("a", (1, 2), images=row.images, edits=(edit("llm.1.out"),)),
    ):
        with pytest.raises(UsageError, match="this model has no vision tower"):
            text.batch().add(bad)
        with pytest.raises(UsageError, match="this model has no vision tower"):
            text.score([replace(bad, forced=(1,))])
        with pytest.raises(UsageError, match="this model has no vision tower"):
            text.capture([bad], [site("llm.1.out")])
