"""The Stroop recipe on tiny random models, its numbers against plain transformers with hooks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import cluster
from transformers import Qwen2VLImageProcessorPil

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.chunks import ChunksFile
from labtui_artifacts.kinds.direction import DirectionFile
from labtui_artifacts.store import Store
from labtui_kernels import specs
from labtui_kernels.recipes.stroop_pictures import Sets, gather
from labtui_kernels.recipes.stroop_rows import answer_of, outcomes
from labtui_kernels.specs.stroop import COLORS, INK_QUESTION, WORD_QUESTION
from labtui_kernels.vision import stimuli
from labtui_sessions import stroop as reading
from tests.kernels.recipes.lab import Context, Lab
from tests.support.tiny_vision import tiny_vision

KMeans: Any = cluster.KMeans  # its stubs know n_init as text only
LABELS = ["red", "green", "blue", "yellow"]
SPEC: dict[str, Any] = {
    **{"kind": "stroop", "colors": LABELS, "sites": "vision.1,vision.merged", "strengths": ["60%", "|9|"]},
    **{
        "build": 5,
        "references": 3,
        "choose": 3,
        "judge": 3,
        "null_pictures": 1,
        "max_new_tokens": 3,
        "seed": 9,
    },
    **{"table": "s"},
}
BLOCK, MERGED = "vision.1.out", "vision.merged"


class VisionLab(Lab):
    """A lab whose model reads pictures."""

    def __init__(self, root: Path, family: str = "qwen2_vl") -> None:
        super().__init__(root)
        from labtui_kernels.engine import Engine

        self.loaded = tiny_vision(family)
        self.engine = Engine(self.loaded)
        self.shape = self.loaded.info.shape


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[VisionLab, Context, dict[str, Any], Sets]:
    lab = VisionLab(tmp_path_factory.mktemp("stroop"))
    ctx, result = lab.run(SPEC)
    spec = specs.load(SPEC)
    assert isinstance(spec, specs.Stroop)
    return lab, ctx, result, gather(spec)


def rows_in(ctx: Context, table: str) -> list[dict[str, Any]]:
    return [row for cell in ctx.of("cell.committed") if cell["table"] == table for row in cell["rows"]]


# -- by hand: transformers, hooks, NumPy and scikit-learn ------------------------------------------------


def seen_by(model: Any, image: Image.Image) -> dict[str, torch.Tensor]:
    """Pixels and grid of a picture by transformers' processor."""
    made: Any = Qwen2VLImageProcessorPil()(images=[image], return_tensors="pt")
    return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}


def embedded(model: Any, image: Image.Image) -> dict[str, np.ndarray]:
    """Mean over patches of block 1's output, and of what the merger gives."""
    found: dict[str, np.ndarray] = {}
    tower = model.model.visual

    def keep(name: str) -> Any:
        return lambda module, args, out: found.__setitem__(name, out.double().mean(0).numpy())

    handles = [
        tower.blocks[1].register_forward_hook(keep(BLOCK)),
        tower.merger.register_forward_hook(keep(MERGED)),
    ]
    made = seen_by(model, image)
    with torch.no_grad():
        tower(made["pixel_values"], grid_thw=made["image_grid_thw"])
    for handle in handles:
        handle.remove()
    return found


def larger_centroid(points: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Direction, norm and size of the larger of two clusters."""
    found = KMeans(2, n_init=60, random_state=1).fit(points)
    sizes = np.bincount(found.labels_, minlength=2)
    centre = found.cluster_centers_[sizes.argmax()]
    return centre / np.linalg.norm(centre), float(np.linalg.norm(centre)), int(sizes.max())


def centroids(model: Any, sets: Sets, place: str) -> dict[tuple[str, str], np.ndarray]:
    """By sort and label, the unit centroid of the larger cluster of its build pictures."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for sort in ("ink", "word"):
        for label in LABELS:
            mine = [s for s in sets.build[sort] if (s.ink if sort == "ink" else s.word) == label]
            points = np.stack([embedded(model, s.stimulus.image)[place] for s in mine])
            found[sort, label] = larger_centroid(points)[0]
    return found


def delta_of(
    c: dict[tuple[str, str], np.ndarray], delta: str, ink: str, word: str, target: str
) -> np.ndarray:
    color = c["ink", target] - c["ink", ink]
    text = c["word", target] - c["word", word]
    return {
        "color": color,
        "text": text,
        "combined": -c["ink", ink] - c["word", word] + c["ink", target] + c["word", target],
    }[delta]


@contextmanager
def steered(model: Any, place: str, vector: np.ndarray) -> Iterator[None]:
    """The vector is added to every patch at the place."""
    tower = model.model.visual
    module = tower.blocks[1] if place == BLOCK else tower.merger
    added = torch.from_numpy(vector).float()
    handle = module.register_forward_hook(lambda module, args, out: out + added)
    try:
        yield
    finally:
        handle.remove()


def answered(lab: VisionLab, image: Image.Image, question: str, count: int) -> list[int]:
    """Greedy tokens by transformers' ``generate``."""
    tokenizer, model = lab.loaded.tokenizer, lab.loaded.model
    made = seen_by(model, image)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    pads = int(made["image_grid_thw"][0].prod()) // 4
    ids = torch.tensor(
        [tokenizer.encode(text.replace("<|image_pad|>", "<|image_pad|>" * pads), add_special_tokens=False)]
    )
    mark = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    model.model.rope_deltas = None
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=mark,
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=sorted(lab.loaded.info.stop_ids) or None,
            pad_token_id=0,
            **made,
        )
    return out[0, ids.shape[1] :].tolist()


# -- tests ----------------------------------------------------------------------------------------------


def test_chunks_are_those_of_an_independent_script(seen: Any) -> None:
    lab, _, _, sets = seen
    opened = ChunksFile.view(lab.store.get("stroop", kind="chunks"))
    assert opened.labels == tuple(LABELS) and opened.sites == (BLOCK, MERGED)
    for place in (BLOCK, MERGED):
        for sort in ("ink", "word"):
            held = opened.at(sort, place)
            for number, label in enumerate(LABELS):
                mine = [s for s in sets.build[sort] if (s.ink if sort == "ink" else s.word) == label]
                points = np.stack([embedded(lab.loaded.model, s.stimulus.image)[place] for s in mine])
                direction, norm, size = larger_centroid(points)
                np.testing.assert_allclose(held.centroids[number, 0], direction, atol=2e-5)
                assert held.norms[number, 0] == pytest.approx(norm, rel=1e-4)
                assert held.sizes[number].tolist() == [size, 5 - size]
                np.testing.assert_allclose(held.means[number], points.mean(0), rtol=1e-3, atol=1e-4)


def test_each_chunk_is_a_direction_that_every_screen_can_steer_with(seen: Any) -> None:
    lab, _, _, _ = seen
    opened = ChunksFile.view(lab.store.get("stroop", kind="chunks"))
    kept = DirectionFile.view(lab.store.get("stroop-word-blue", kind="direction"))
    assert np.array_equal(kept.vector(BLOCK), opened.at("word", BLOCK).representatives[2])
    assert kept.reference(BLOCK) == pytest.approx(opened.reference(BLOCK)) and kept.shuffles == 20
    ctx, _ = lab.run({**SPEC, "name": "means", "method": "mean-difference", "table": "m"})
    means = ChunksFile.view(lab.store.get("means", kind="chunks")).at("ink", MERGED).means
    one, other = (DirectionFile.view(lab.store.get(f"means-ink-{c}")).vector(MERGED) for c in ("blue", "red"))
    np.testing.assert_allclose(one - other, means[2] - means[0], rtol=1e-4, atol=1e-5)
    assert rows_in(ctx, "m")


def test_cosines_are_those_of_an_independent_script(seen: Any) -> None:
    lab, ctx, _, sets = seen
    opened = ChunksFile.view(lab.store.get("stroop", kind="chunks"))
    rows = rows_in(ctx, "s-cosines")
    assert len(rows) == 2 * 3 * 2 * 2
    for place in (BLOCK, MERGED):
        c = centroids(lab.loaded.model, sets, place)
        reference = opened.reference(place)
        assert reference is not None
        aims = {}
        for to, sort in (("text_only", "word"), ("color_only", "ink")):
            means = [
                np.mean(
                    [
                        embedded(lab.loaded.model, s.stimulus.image)[place]
                        for s in sets.references[sort]
                        if (s.ink if sort == "ink" else s.word) == label
                    ],
                    axis=0,
                )
                for label in LABELS
            ]
            aims[to] = np.stack([m / np.linalg.norm(m) for m in means])
        for row in (row for row in rows if row["site"] == ("vision.1" if place == BLOCK else MERGED)):
            norm = 0.6 * reference if row["strength_text"] == "60%" else 9.0
            assert row["strength_abs"] == pytest.approx(norm)
            nets, gains = [], []
            for shown in sets.choose:
                start = embedded(lab.loaded.model, shown.stimulus.image)[place]
                for target in range(4):
                    if LABELS[target] in (shown.ink, shown.word):
                        continue
                    edit = delta_of(c, row["delta"], shown.ink, shown.word, LABELS[target])
                    after = start + norm * edit / np.linalg.norm(edit)
                    gain = aims[row["to"]] @ (after / np.linalg.norm(after) - start / np.linalg.norm(start))
                    gains.append(gain[target])
                    nets.append(gain[target] - np.delete(gain, target).mean())
            assert row["pairs"] == len(nets) and row["pictures"] == 3
            assert row["gain"] == pytest.approx(np.mean(gains), abs=2e-4)
            assert row["net"] == pytest.approx(np.mean(nets), abs=2e-4)
            assert row["beyond"] == (row["net"] > row["null_95"])


def test_answers_are_those_of_transformers_with_hooks(seen: Any) -> None:
    """Every row of the grid: the same tokens as by hand, though not in the same passes.

    How long a chunk of a prompt is and when rows are committed hangs on how fast the machine is. Chunks move the distance
    between the two best tokens by up to 5e-6; with this seed it is never so small that one could take the other's place.
    """
    lab, ctx, _, sets = seen
    opened = ChunksFile.view(lab.store.get("stroop", kind="chunks"))
    by_place = {place: centroids(lab.loaded.model, sets, place) for place in (BLOCK, MERGED)}
    rows = rows_in(ctx, "s")
    texts: dict[str, set[tuple[int, ...]]] = {}
    checked = 0
    for row in rows:
        if row["control"] not in ("", "zero"):
            continue
        shown = next(s for s in sets.choose if s.picture.digest == row["picture"])
        place = {"vision.1": BLOCK, MERGED: MERGED, "": BLOCK}[row["site"]]
        vector = np.zeros(1)
        if not row["control"]:
            edit = delta_of(by_place[place], row["delta"], shown.ink, shown.word, shown.target)
            reference = opened.reference(place)
            assert reference is not None
            norm = 0.6 * reference if row["strength_text"] == "60%" else 9.0
            assert row["strength_abs"] == pytest.approx(norm, rel=1e-5)
            vector = norm * edit / np.linalg.norm(edit)
        question = INK_QUESTION if row["question"] == "ink" else WORD_QUESTION
        with steered(lab.loaded.model, place, vector):
            expected = answered(lab, shown.stimulus.image, question, 3)
        ran = ctx.row(f"r{row['row']}")
        assert ran["ids"] == expected, (ran["gaps"], row)
        assert min(ran["gaps"]) > 1e-3, "too close to a tie to be told by float32"
        texts.setdefault(row["picture"] + row["question"], set()).add(tuple(expected))
        checked += 1
    assert checked == 72 + 6
    assert any(len(found) > 1 for found in texts.values()), "edits change answers, so the test could fail"


def test_tables_and_their_rows(seen: Any) -> None:
    _, ctx, result, sets = seen
    kinds = {}
    for cell in ctx.of("cell.committed"):
        kinds.setdefault(cell["table"], reading.kind_of({key for row in cell["rows"] for key in row}))
    assert kinds == {"s-chunks": "chunks", "s-cosines": "cosines", "s": "answers", "s-judged": "answers"}
    assert result["committed"] == len(rows_in(ctx, "s")) + len(rows_in(ctx, "s-judged"))
    # The random model names no colour, so nothing is chosen, and the chosen cells' rows are not run.
    judged = 2 * 3 * (2 * 3 + 2 * 20)
    assert ctx.counts["rows"] == result["committed"] + judged and not result["choice"]
    rows = rows_in(ctx, "s")
    by_control = {c: sum(row["control"] == c for row in rows) for c in ("", "zero", "random", "shuffled")}
    # 2 sites x 2 strengths x 3 deltas x 3 pictures x 2 questions; ten of each null on two pictures.
    assert by_control == {"": 72, "zero": 6, "random": 160, "shuffled": 160}
    for row in rows:
        assert {row["word"], row["ink"]}.isdisjoint({row["target"]}) and row["prompt_class"] == row[
            "question"
        ]
        assert row["split"] == row["prompt_set"] == "choose"
        assert (row["flip"] is None) == (row["plain"] != row[row["question"]])
        if row["flip"] is None:
            assert set(row["reasons"]) == set(reading.OUTCOMES)
    told = {event["digest"] for event in ctx.of("image.added")}
    assert told == {s.picture.digest for s in (*sets.choose, *sets.judge, *sets.congruent)}
    pairs = [{(s.word, s.ink) for s in part} for part in (sets.choose, sets.judge)]
    assert not pairs[0] & pairs[1], "the pairs that are judged are others"
    fonts = [
        {s.stimulus.font for s in part}
        for part in ((*sets.choose, *sets.build["ink"]), (*sets.judge, *sets.references["word"]))
    ]
    assert not fonts[0] & fonts[1], "and so are their fonts"


def test_norms_of_nulls_are_those_of_the_deltas(seen: Any) -> None:
    _, ctx, _, _ = seen
    norms: dict[tuple[str, str], set[float]] = {}
    for row in rows_in(ctx, "s"):
        if row["control"] != "zero":
            norms.setdefault((row["site"], row["strength_text"]), set()).add(row["strength_abs"])
    assert len(norms) == 4
    for found in norms.values():
        assert max(found) == pytest.approx(min(found), rel=1e-5)


def test_a_job_goes_on_where_it_stopped(seen: Any, tmp_path: Path) -> None:
    """After a loss the same rows are not run again, the same vectors are used, and the tables are the same."""
    lab, whole, _, _ = seen
    cells = list(whole.of("cell.committed"))
    store = lab.store
    try:
        half = [cell for cell in cells if cell["table"] != "s-judged"][: len(cells) // 3]
        lab.store = Store(tmp_path / "again")
        for name in store.names():
            lab.store.put_file(name, store.path(name))
        ctx = lab.context(committed=[cell["cell"] for cell in half])
        ctx.known = {
            cell["cell"]: {name: cell["rows"][0].get(name) for name in (*reading.OUTCOMES, "right")}
            for cell in half
            if cell["table"] == "s"
        }
        result = ctx.run(SPEC)
    finally:
        lab.store = store
    again = ctx.of("cell.committed")
    assert {cell["cell"] for cell in again}.isdisjoint(cell["cell"] for cell in half)
    assert {cell["cell"] for cell in (*half, *again)} == {cell["cell"] for cell in cells}
    assert result["skipped"] > 0
    text = {cell["cell"]: cell["rows"][0]["text"] for cell in cells if cell["table"] == "s"}
    assert all(cell["rows"][0]["text"] == text[cell["cell"]] for cell in again if cell["table"] == "s")
    assert not ctx.of("artifact.saved"), "what this job kept is used, not made anew"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_other_families_run(family: str, tmp_path: Path) -> None:
    lab = VisionLab(tmp_path, family)
    small = {
        "sites": "vision.0,vision.merged",
        "strengths": ["100%"],
        "choose": 2,
        "judge": 2,
        "build": 3,
        "pool": "ink",
    }
    ctx, _ = lab.run({**SPEC, **small, "deltas": ["combined"], "embeddings": True})
    rows = rows_in(ctx, "s")
    assert {row["where"] for row in rows} == {"ink"}
    kept = lab.store.get("stroop-embeddings", kind="activations")
    assert kept.tensor("vision.merged").shape == (2 * 4 * (3 + 3) + 2, lab.shape.width)
    assert len(kept.meta["inks"]) == 50


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    for subset in stimuli.SUBSETS:
        (place / subset).mkdir(parents=True)
        for s in stimuli.generate(subset, {"color_only": 30, "text_only": 30}.get(subset, 60), 1):
            s.image.save(place / subset / f"{s.name}.png")
    spec = specs.load({**SPEC, "folder": str(place), "colors": []})
    assert isinstance(spec, specs.Stroop)
    sets = gather(spec)
    assert sets.labels == COLORS and sets.source == str(place)
    assert {s.subset for s in sets.choose} == {s.subset for s in sets.judge} == {"incongruent"}
    assert not {(s.word, s.ink) for s in sets.choose} & {(s.word, s.ink) for s in sets.judge}
    for sort in ("ink", "word"):
        digests = [{s.picture.digest for s in part} for part in (sets.build[sort], sets.references[sort])]
        assert not digests[0] & digests[1] and all(digests)
    for path in (place / "text_only").glob("blue*"):
        path.unlink()
    with pytest.raises(UsageError, match="color_only and text_only pictures of blue"):
        gather(specs.load({**SPEC, "folder": str(place)}))  # type: ignore[arg-type]


def test_answers_are_read_by_the_colour_that_they_name() -> None:
    assert answer_of("The ink is Blue.", LABELS) == "blue"
    assert answer_of("'red'", LABELS) == "red"
    assert answer_of("the word red in blue ink", LABELS) == ""
    assert answer_of("reddish", LABELS) == answer_of("", LABELS) == ""
    assert outcomes("blue", "red", "red", "blue") == {
        "flip": True,
        "stays": False,
        "other": False,
        "breaks": False,
    }
    assert outcomes("green", "red", "red", "blue") == {
        "flip": False,
        "stays": False,
        "other": True,
        "breaks": False,
    }
    assert outcomes("", "red", "red", "blue") == {
        "flip": False,
        "stays": False,
        "other": False,
        "breaks": True,
    }
    assert outcomes("red", "red", "red", "blue")["stays"] is True
    assert set(outcomes("blue", "green", "red", "blue").values()) == {None}
    assert set(outcomes("blue", "red", "red", "").values()) == {None}


def test_the_spec_and_the_stimuli_speak_of_the_same() -> None:
    assert tuple(stimuli.COLORS) == COLORS
    assert (INK_QUESTION, WORD_QUESTION) == (stimuli.INK_QUESTION, stimuli.WORD_QUESTION)


def test_a_rectangle_that_a_picture_lacks_is_refused_before_anything_is_kept(seen: Any) -> None:
    lab = seen[0]
    before = {entry.name for entry in lab.store.list()}
    ctx = lab.context()
    with pytest.raises(UsageError, match=r"where 'image\[0:9,0:1\]': image0 has"):
        ctx.run({**SPEC, "where": "image[0:9,0:1]", "name": "late"})
    assert {entry.name for entry in lab.store.list()} == before and not ctx.of("cell.committed")


def test_a_text_model_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="no vision tower"):
        lab.run(SPEC)
