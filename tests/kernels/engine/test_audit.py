"""The audit sees what it must: a leaked hook, a write to a parameter, a hook of ours that is gone."""

from __future__ import annotations

import pytest
import torch

from labtui_kernels.engine import Edit, Engine, Prompt, Row
from labtui_kernels.lang.sites import all_sites
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, vector
from .reference import site


def worked(family: str = "qwen3", **options: bool) -> Engine:
    """An engine that has decoded, captured and asked transformers for its own hidden states."""
    loaded = tiny(family)
    engine = Engine(loaded, **options)
    edits = (Edit(site("llm.1.out"), "add", vector(48, 1)), Edit(site("llm.0.in"), "project", vector(48, 1)))
    rows = [
        Row(key=str(n), ids=prompt(5 + n, n), edits=edits, max_new_tokens=4, surprise=True) for n in range(3)
    ]
    run(engine.batch(slots=4), rows)
    engine.capture([Prompt(prompt(5, 1))], all_sites(loaded.info.shape))
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([[1, 2, 3]]), output_hidden_states=True)
    return engine


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_an_untouched_model_passes(family: str) -> None:
    engine = worked(family, deep_baseline=True)
    for deep in (False, True):
        audit = engine.audit(deep=deep)
        assert audit.ok and audit.deep is deep, audit.detail
        assert audit.changed_parameters == ()
        # One hook a place: four a block, and the norm; the embeddings share the first block's.
        assert audit.handles == audit.expected == 4 * 4 + 1


def test_a_leaked_hook_is_caught() -> None:
    engine = worked()

    def leaked(*_: object) -> None:
        return None

    model = engine.loaded.model
    for module, register in (
        (model.model.layers[1], "register_forward_hook"),
        (model.model.layers[2].mlp, "register_forward_pre_hook"),
        (model.lm_head, "register_full_backward_hook"),
    ):
        handle = getattr(module, register)(leaked)
        audit = engine.audit()
        assert not audit.ok and audit.handles == audit.expected + 1
        assert "test_audit" in audit.detail and "leaked" in audit.detail
        handle.remove()
        assert engine.audit().ok
    handle = torch.nn.modules.module.register_module_forward_hook(leaked)
    assert not engine.audit().ok
    handle.remove()
    assert engine.audit().ok


def test_a_hook_that_was_there_before_is_no_leak() -> None:
    loaded = tiny("qwen2")
    loaded.model.lm_head.register_forward_hook(lambda *_: None)
    engine = Engine(loaded)
    run(engine.batch(), [Row(key="a", ids=(1, 2), max_new_tokens=2)])
    assert engine.audit().ok


def test_a_hook_of_ours_that_is_gone_is_caught() -> None:
    engine = worked()
    engine.forward.hooks.placed[site("llm.1.out")].remove()
    audit = engine.audit()
    assert not audit.ok and "gone at llm.1.out" in audit.detail
    engine = worked()
    engine.loaded.model.model.layers[1]._forward_hooks.clear()
    assert not engine.audit().ok


@pytest.mark.parametrize("deep", [False, True])
def test_writes_to_parameters_are_caught(deep: bool) -> None:
    engine = worked(deep_baseline=True)
    weight = engine.loaded.model.model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        weight.mul_(1.0)  # leaves the values: seen by the version counter
    audit = engine.audit(deep=deep)
    assert not audit.ok and audit.changed_parameters == ("model.layers.1.mlp.up_proj.weight",)


def test_writes_through_data_are_caught() -> None:
    engine = worked(deep_baseline=True)
    weight = engine.loaded.model.model.layers[2].mlp.down_proj.weight
    version = weight._version
    weight.data.view(-1)[1] += 0.25  # one value, not among those that the quick audit reads
    assert weight._version == version
    assert engine.audit().ok
    audit = engine.audit(deep=True)
    assert not audit.ok and audit.changed_parameters == ("model.layers.2.mlp.down_proj.weight",)
    assert "model.layers.2.mlp.down_proj.weight" in audit.detail


def test_a_whole_tensor_written_through_data_is_caught_without_depth() -> None:
    engine = worked()
    engine.loaded.model.lm_head.weight.data.add_(0.01)
    audit = engine.audit(deep=True)
    assert not audit.ok and audit.changed_parameters == ("lm_head.weight",)
    assert not audit.deep and "baseline was not deep" in audit.detail


def test_a_swapped_parameter_is_caught_and_a_new_baseline_forgives() -> None:
    engine = worked()
    layer = engine.loaded.model.model.layers[0].mlp.gate_proj
    layer.weight = torch.nn.Parameter(layer.weight.clone(), requires_grad=False)
    assert engine.audit().changed_parameters == ("model.layers.0.mlp.gate_proj.weight",)
    engine.take_baseline()
    assert engine.audit().ok


def test_without_a_pass_there_is_no_baseline() -> None:
    audit = Engine(tiny("qwen2")).audit()
    assert audit.ok and "no baseline" in audit.detail


def test_a_closed_engine_leaves_no_hooks() -> None:
    engine = worked()
    engine.close()
    again = Engine(engine.loaded)
    run(again.batch(), [Row(key="a", ids=(1, 2), max_new_tokens=2)])
    audit = again.audit()
    assert audit.ok and audit.handles == audit.expected == 0
