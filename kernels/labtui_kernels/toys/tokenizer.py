"""The bundled models' tokenizers: a small byte-level BPE, Qwen's special tokens, a chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
"""Entries in all, special tokens included."""

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_CONTROL = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    *(
        f"<|{name}|>"
        for name in ("object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end")
    ),
    *(f"<|{name}|>" for name in ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")),
)
# Kept when special tokens are skipped in decoding, as in Qwen3: they carry structure that a reader may want.
_VISIBLE = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

# Runs of letters keep the one sign before them (mostly a blank); digits stand alone.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- set thinks = enable_thinking is defined and enable_thinking -%}
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('unknown role ' ~ message.role ~ ': expected system, user, assistant or tool') -}}
    {%- endif -%}
    {%- set text = message.content if message.content is string else '' -%}
    {%- if message.role == 'assistant' -%}
        {%- if '</think>' in text -%}
            {%- set text = text.split('</think>')[-1].lstrip('\\n') -%}
        {%- endif -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- if loop.last and message.reasoning_content is string and message.reasoning_content -%}
            {{- '<think>\\n' ~ message.reasoning_content.strip('\\n') ~ '\\n</think>\\n\\n' -}}
        {%- elif loop.last -%}
            {{- '<think>\\n\\n</think>\\n\\n' -}}
        {%- endif -%}
        {{- text ~ '<|im_end|>\\n' -}}
    {%- elif message.role == 'tool' -%}
        {{- '<|im_start|>user\\n<tool_response>\\n' ~ text ~ '\\n</tool_response><|im_end|>\\n' -}}
    {%- else -%}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ text ~ '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if not thinks -%}
        {{- '<think>\\n\\n</think>\\n\\n' -}}
    {%- endif -%}
{%- endif -%}
"""
"""Qwen's turns. Thinking is off unless ``enable_thinking`` is true: an empty thought then comes first.
Earlier answers are shown without their thoughts. No system prompt is added."""


def train_tokenizer(
    texts: Iterable[str], vocabulary: int = VOCABULARY, template: str = CHAT_TEMPLATE
) -> PreTrainedTokenizerFast:
    """A tokenizer of ``vocabulary`` entries, learnt from ``texts``; the same texts give the same tokenizer."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(_CONTROL) - len(_VISIBLE),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_CONTROL)})
    tokenizer.add_tokens(list(_VISIBLE))
    tokenizer.chat_template = template
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token of the vocabulary; KeyError where it has none."""
    return tokenizer.get_vocab()[token]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write ``tokenizer`` to ``folder`` so that ``AutoTokenizer`` of transformers 4 and 5 loads it."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that both major versions know
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
