"""What the engine must equal, worked out the slow way: the row alone, no cache, one forward pass a token.

Nothing here comes from the engine but the uniforms of a seed: edits are written out again, as hooks on the modules
by their transformers paths.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from labtui_kernels.engine import Edit, Row, Sampling
from labtui_kernels.engine.sampling import uniforms
from labtui_kernels.lang.sites import Site


def site(text: str) -> Site:
    """``llm.1.mlp``, ``llm.embed``: split by hand, apart from the grammar."""
    words = text.split(".")
    if len(words) == 2:
        return Site("llm", None, words[1])  # type: ignore[arg-type]
    return Site("llm", int(words[1]), words[2])  # type: ignore[arg-type]


def places(edit: Edit, prompt: int, total: int) -> list[int]:
    """The absolute positions at which an edit applies, by its name."""
    where = edit.where
    if where.kind == "all":
        return list(range(total))
    if where.kind == "prompt":
        return list(range(prompt))
    if where.kind == "last":
        return [prompt - 1]
    if where.kind == "generated":
        stop = total if where.stop is None else min(total, prompt + where.stop)
        return list(range(prompt + where.start, stop))
    if where.kind == "indices":
        absolute = [index if index >= 0 else prompt + index for index in where.indices]
        return [index for index in absolute if index < total]
    raise AssertionError(f"no reference for {where}")


def edited(hidden: torch.Tensor, edit: Edit, strength: float) -> torch.Tensor:
    """The edit's formula on hidden states [n, d]."""
    vector = edit.vectors.sum(0)
    if edit.op == "add":
        return hidden + strength * vector
    if edit.op == "replace":
        return (1 - strength) * hidden + strength * vector
    basis = torch.linalg.qr(edit.vectors.T).Q.T
    return hidden - strength * (hidden @ basis.T) @ basis


def strengths(row: Row, index: int, prompt: int, position: int) -> float:
    """The strength of an edit at a position: the last knob at or before the token that the position
    produces.
    """
    step = max(0, position - prompt + 1)
    value = row.edits[index].strength
    for start, edit, changed in row.knobs:
        if edit == index and start <= step:
            value = changed
    return value


def attach(stack: ExitStack, model: Any, row: Row, prompt: int, total: int) -> None:
    """Hooks for all edits of a row; edits at one site apply in the row's order."""
    base = model.model

    def change(hidden: torch.Tensor, index: int) -> torch.Tensor:
        edit = row.edits[index]
        result = hidden.clone()
        for position in places(edit, prompt, total):
            result[:, position] = edited(hidden[:, position], edit, strengths(row, index, prompt, position))
        return result

    for index, edit in enumerate(row.edits):
        where, block = edit.site.point, edit.site.block

        def after(_module: Any, _args: Any, output: Any, index: int = index) -> Any:
            if isinstance(output, tuple):
                return (change(output[0], index), *output[1:])
            return change(output, index)

        def before(_module: Any, args: Any, kwargs: Any, index: int = index) -> Any:
            if args:
                return (change(args[0], index), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"], index)}

        if where == "embed":
            handle = base.embed_tokens.register_forward_hook(after)
        elif where == "norm":
            handle = base.norm.register_forward_hook(after)
        elif where == "in":
            handle = base.layers[block].register_forward_pre_hook(before, with_kwargs=True)
        elif where == "out":
            handle = base.layers[block].register_forward_hook(after)
        elif where == "mlp":
            handle = base.layers[block].mlp.register_forward_hook(after)
        else:
            layer = base.layers[block]
            mixer = layer.linear_attn if hasattr(layer, "linear_attn") else layer.self_attn
            handle = mixer.register_forward_hook(after)
        stack.callback(handle.remove)


@torch.no_grad()
def logits(model: Any, row: Row, generated: list[int]) -> torch.Tensor:
    """Logits [positions, vocab] of prompt and generated tokens under the row's edits, in one uncached
    pass.
    """
    ids = torch.tensor([[*row.ids, *generated]])
    with ExitStack() as stack:
        attach(stack, model, row, len(row.ids), ids.shape[1])
        return model(input_ids=ids, use_cache=False).logits[0].float()


def greedy(model: Any, row: Row) -> tuple[list[int], list[float]]:
    """Tokens and log-probabilities of the row alone, greedy (or forced), to its stop token or its limit."""
    tokens: list[int] = []
    values: list[float] = []
    count = row.max_new_tokens if row.forced is None else len(row.forced)
    while len(tokens) < count:
        last = logits(model, row, tokens)[-1].log_softmax(-1)
        token = int(last.argmax()) if row.forced is None else row.forced[len(tokens)]
        tokens.append(token)
        values.append(float(last[token]))
        if row.forced is None and token in row.stop_ids:
            break
    return tokens, values


def drawn(last: torch.Tensor, setting: Sampling, point: float) -> int:
    """Inverse CDF over the vocabulary in order, one row, with transformers' own filters."""
    scores = (last / setting.temperature)[None]
    ids = torch.zeros(1, 1, dtype=torch.long)
    if setting.top_k:
        scores = TopKLogitsWarper(setting.top_k)(ids, scores)  # type: ignore[arg-type]
    if setting.top_p < 1:
        scores = TopPLogitsWarper(setting.top_p)(ids, scores)  # type: ignore[arg-type]
    total = 0.0
    probabilities = scores[0].double().softmax(-1).tolist()
    for token, probability in enumerate(probabilities):
        total += probability
        if total > point:
            return token
    raise AssertionError("the probabilities do not reach one")


def alone(model: Any, row: Row) -> list[int]:
    """Tokens of the row alone, greedy or drawn with the uniforms of its seed."""
    if row.sampling.greedy:
        return greedy(model, row)[0]
    points = uniforms(row.seed, row.max_new_tokens)
    generated: list[int] = []
    for point in points:
        generated.append(drawn(logits(model, row, generated)[-1], row.sampling, float(point)))
        if generated[-1] in row.stop_ids:
            break
    return generated
