"""The real Qwen2.5-0.5B, from the GGUF file in the folder that LABTUI_REAL_QWEN names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from labtui_kernels.models.chat import render
from labtui_kernels.models.load import load

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("LABTUI_REAL_QWEN" not in os.environ, reason="LABTUI_REAL_QWEN is not set"),
    pytest.mark.timeout(600),
]


def test_a_real_gguf_loads_and_answers() -> None:
    told: list[tuple[str, float]] = []
    path = Path(os.environ["LABTUI_REAL_QWEN"]).expanduser()
    file = path if path.suffix == ".gguf" else path / "model.gguf"
    loaded = load(str(file), device="cpu", progress=lambda phase, share: told.append((phase, share)))
    info = loaded.info
    assert (info.family, info.blocks, info.width, info.dtype) == ("qwen2", 24, 896, "float32")
    assert info.stop_ids == (151643, 151645) and info.context_length == 32768
    assert info.default_thinking is None
    assert len({share for phase, share in told if phase == "weights"}) > 50
    messages = [{"role": "user", "content": "Explain what a mutex is in one sentence."}]
    rendered = render(loaded.tokenizer, messages, thinking=False)
    assert rendered.ids == loaded.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    body = [piece for piece, own in zip(rendered.pieces, rendered.content, strict=True) if own]
    assert "".join(body) == messages[0]["content"]
    with torch.inference_mode():
        answer = loaded.model.generate(torch.tensor([rendered.ids]), max_new_tokens=16, do_sample=False)
    assert "mutex" in loaded.tokenizer.decode(answer[0, len(rendered.ids) :]).lower()
