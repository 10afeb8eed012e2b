"""Readings against transformers' own hidden states and plain hooks."""

from __future__ import annotations

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Prompt, Row, selected
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.lang.sites import Site
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, vector
from .reference import site


def hidden_states(model: object, ids: tuple[int, ...]) -> dict[Site, torch.Tensor]:
    """Sites that ``output_hidden_states`` gives: entry N is block N's input, the last is after the final
    norm.
    """
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states  # type: ignore[operator]
    blocks = len(states) - 1
    found = {Site("llm", n, "in"): states[n][0] for n in range(blocks)}
    found |= {Site("llm", n, "out"): states[n + 1][0] for n in range(blocks - 1)}
    return found | {Site("llm", None, "embed"): states[0][0], Site("llm", None, "norm"): states[-1][0]}


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("chunk", [None, 64])
def test_readings_equal_hidden_states(family: str, chunk: int | None) -> None:
    loaded = tiny(family)
    engine = Engine(loaded, chunk_tokens=chunk)
    texts = [Prompt(prompt(length, length)) for length in (9, 140, 3, 10, 66, 1)]
    wanted = [hidden_states(loaded.model, text.ids) for text in texts]
    sites = list(wanted[0])
    reducers = {
        "last": lambda h: h[-1:],
        "mean": lambda h: h.mean(0, keepdim=True),
        "max": lambda h: h.amax(0, keepdim=True),
        "none": lambda h: h,
    }
    for pooling, reduce in reducers.items():
        found = engine.capture(texts, sites, pooling=pooling)  # type: ignore[arg-type]
        for each in sites:
            expected = torch.cat([reduce(one[each]) for one in wanted])
            assert found[each].dtype == torch.float32 and found[each].device.type == "cpu"
            torch.testing.assert_close(
                found[each], expected, atol=2e-4, rtol=2e-4, msg=f"{family} {pooling} {each}"
            )
            assert not found[each].is_inference()  # what reads them may want gradients


def test_readings_of_attention_mlp_and_the_last_block() -> None:
    loaded = tiny("qwen3_5")
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: object, _args: object, output: object) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output)[0].clone()  # type: ignore[index]

        return hook

    layers = loaded.model.model.layers
    handles = [
        layers[0].linear_attn.register_forward_hook(keep("llm.0.attn")),
        layers[1].self_attn.register_forward_hook(keep("llm.1.attn")),
        layers[2].mlp.register_forward_hook(keep("llm.2.mlp")),
        layers[3].register_forward_hook(keep("llm.3.out")),
    ]
    ids = prompt(14, 3)
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    found = Engine(loaded).capture([Prompt(ids)], [site(name) for name in seen], pooling="none")
    for name, expected in seen.items():
        torch.testing.assert_close(found[site(name)], expected, atol=1e-5, rtol=1e-5)


def test_places() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded, chunk_tokens=64)
    where = site("llm.1.out")
    content = tuple(n % 3 == 1 for n in range(100))
    text = Prompt(prompt(100, 1), content, answer=prompt(20, 2))
    whole = engine.capture([text], [where], pooling="none")[where]
    assert whole.shape == (120, 48)
    names = {
        "content": [n for n in range(100) if content[n]] + list(range(100, 120)),
        "last": [99],
        "prompt": list(range(100)),
        "generated": list(range(100, 120)),
        "generated[2:5]": [102, 103, 104],
        "[0,-1,70,105]": [0, 70, 99, 105],
    }
    for name, places in names.items():
        assert selected(text, parse_where(name)) == places
        found = engine.capture([text], [where], pooling="none", where=parse_where(name))[where]
        torch.testing.assert_close(found, whole[places], atol=1e-5, rtol=1e-5)
        mean = engine.capture([text], [where], pooling="mean", where=parse_where(name))[where]
        torch.testing.assert_close(mean[0], whole[places].mean(0), atol=1e-5, rtol=1e-5)
        last = engine.capture([text], [where], pooling="last", where=parse_where(name))[where]
        torch.testing.assert_close(last[0], whole[places[-1]], atol=1e-5, rtol=1e-5)


def test_parts_cover_all_rows_once() -> None:
    engine = Engine(tiny("qwen2"), chunk_tokens=30)
    texts = [Prompt(prompt(length, length)) for length in (5, 80, 6, 7, 12, 5)]
    where = site("llm.2.out")
    parts = list(engine.capture_parts(texts, [where], pooling="mean"))
    assert len(parts) > 3 and any(not members for members, _ in parts)  # the long one takes three chunks
    order = [row for members, _ in parts for row in members]
    assert sorted(order) == list(range(6))
    whole = engine.capture(texts, [where], pooling="mean")[where]
    read = torch.cat([reading[where] for members, reading in parts if members])
    torch.testing.assert_close(read, whole[order])


def test_edited_readings() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    edit = Edit(site("llm.1.out"), "add", vector(48, 1), 2.0, parse_where("last"))
    texts = [Prompt(prompt(5, 1)), Prompt(prompt(9, 2))]
    where = site("llm.2.out")
    together = engine.capture(texts, [where], edits=[edit])[where]
    for n, text in enumerate(texts):
        row = Row(key="a", ids=text.ids, edits=(edit,))
        alone = engine.capture([row], [where], edits=[edit])[where]
        torch.testing.assert_close(together[n], alone[0], atol=1e-5, rtol=1e-5)
    plain = engine.capture(texts, [where])[where]
    assert float((together - plain).norm()) > 0.1


def test_reference_norms() -> None:
    loaded = tiny("qwen2")
    texts = [
        Prompt(prompt(length, length), tuple(n > 1 and n % 4 > 0 for n in range(length)))
        for length in (9, 30, 12)
    ]
    sites = [site("llm.0.out"), site("llm.embed"), site("llm.norm")]
    found = Engine(loaded, chunk_tokens=16).reference_norms(texts, sites)
    for each in sites:
        norms = [hidden_states(loaded.model, text.ids)[each].norm(dim=-1) for text in texts]
        inside = torch.cat(
            [norm[torch.tensor(text.content)] for norm, text in zip(norms, texts, strict=True)]
        )
        assert found[each].positions == len(inside)
        # numpy's median: the middle of the two middle values when they are an even number.
        assert found[each].median == pytest.approx(float(inside.quantile(0.5)), rel=1e-4)
        assert found[each].content_mean == pytest.approx(float(inside.mean()), rel=1e-4)
        assert found[each].mean == pytest.approx(float(torch.cat(norms).mean()), rel=1e-4)


def test_refusals() -> None:
    engine = Engine(tiny("qwen2", max_position_embeddings=32))
    where = [site("llm.1.out")]
    for call, words in (
        (lambda: engine.capture([], where), "no prompts"),
        (lambda: engine.capture([Prompt((1,))], []), "no prompts or no sites"),
        (lambda: engine.capture([Prompt(())], where), "selects no position"),
        (lambda: engine.capture([Prompt((1, 2))], where, pooling="sum"), "pooling 'sum'"),  # type: ignore[arg-type]
        (
            lambda: engine.capture([Prompt((1, 2))], where, where=parse_where("generated")),
            "selects no position",
        ),
        (lambda: engine.capture([Prompt((1, 99_999))], where), "prompt 0: a token id is outside"),
        (lambda: engine.capture([Prompt((1,) * 33)], where), "33 tokens; the model's context holds 32"),
        (lambda: engine.reference_norms([Prompt((1, 2))], where), "content"),
    ):
        with pytest.raises(UsageError, match=words):
            call()
