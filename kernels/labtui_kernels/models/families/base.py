"""What the lab asks of a model family, and the layout that all Qwen decoders share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.shape import ModelShape

if TYPE_CHECKING:
    from torch import nn


class Family(Protocol):
    """Where a family of models keeps its parts. Everything above speaks in sites."""

    @property
    def name(self) -> str:
        """The lab's word for the family: ``"qwen3"``."""
        ...

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of ``config.architectures`` that belong to it."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of ``config.model_type`` that belong to it."""
        ...

    @property
    def causal_class(self) -> str:
        """The transformers class that holds the text model with its head."""
        ...

    @property
    def hybrid(self) -> bool:
        """Whether some blocks keep a recurrent state instead of keys and values."""
        ...

    @property
    def vision(self) -> bool:
        """Whether it has a vision tower; such a family is a :class:`~.vision.VisionFamily`."""
        ...

    @property
    def timestamps(self) -> bool:
        """Whether a video's frames stand apart in the prompt, each behind the time that it shows."""
        ...

    @property
    def unquantised(self) -> tuple[str, ...]:
        """Names of modules that stay whole under 4-bit and 8-bit loading: the head, and any vision tower."""
        ...

    def shape(self, config: Any) -> ModelShape:
        """Blocks and widths, from a ``config.json`` dict or a transformers configuration."""
        ...

    def decoder(self, model: nn.Module) -> nn.Module:
        """The stack between the token ids and the head."""
        ...

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """The decoder blocks; each takes and returns the residual stream ``[batch, positions, width]``."""
        ...

    def embed(self, model: nn.Module) -> nn.Module:
        """Token ids to residual stream."""
        ...

    def norm(self, model: nn.Module) -> nn.Module:
        """The final norm, before the head."""
        ...

    def head(self, model: nn.Module) -> nn.Module:
        """Normed residual stream to logits."""
        ...

    def attn_module(self, block: nn.Module) -> nn.Module:
        """The token mixer of a block; its output (first item, if a tuple) joins the residual stream."""
        ...

    def mlp_module(self, block: nn.Module) -> nn.Module:
        """The MLP (or expert) module of a block, whose output is added to the residual stream."""
        ...


def config_field(config: Any, name: str) -> Any:
    """A field of a ``config.json`` dict or of a transformers configuration; None where it is absent."""
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def text_part(config: Any) -> Any:
    """The language model's part of a configuration that also describes a vision tower; else all of it."""
    inner = config_field(config, "text_config")
    return config if inner is None else inner


def count_field(config: Any, name: str) -> int:
    """A positive integer of a configuration; UsageError where it is absent or is something else."""
    value = config_field(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise UsageError(f"the model's config.json gives {name}={value!r}; expected a positive integer")
    return value


@dataclass(frozen=True)
class TextFamily:
    """A decoder-only Qwen: ``model.embed_tokens``, ``model.layers``, ``model.norm`` and ``lm_head``.

    Paths are asked of transformers (``get_decoder`` and its like) rather than written down, so a checkpoint
    whose class nests the decoder deeper is found too.
    """

    name: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    causal_class: str
    hybrid: bool = False
    vision: bool = False
    timestamps: bool = False
    unquantised: tuple[str, ...] = ("lm_head", "model.visual")

    def shape(self, config: Any) -> ModelShape:
        text = text_part(config)
        blocks = count_field(text, "num_hidden_layers")
        return ModelShape(family=self.name, blocks=blocks, width=count_field(text, "hidden_size"))

    def decoder(self, model: Any) -> nn.Module:
        return model.get_decoder()

    def blocks(self, model: Any) -> Sequence[nn.Module]:
        return model.get_decoder().layers

    def embed(self, model: Any) -> nn.Module:
        return model.get_input_embeddings()

    def norm(self, model: Any) -> nn.Module:
        return model.get_decoder().norm

    def head(self, model: Any) -> nn.Module:
        return model.get_output_embeddings()

    def attn_module(self, block: Any) -> nn.Module:
        return block.self_attn

    def mlp_module(self, block: Any) -> nn.Module:
        return block.mlp
