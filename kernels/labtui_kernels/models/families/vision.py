"""Families with a vision tower: where it lies, how its patches are ordered, where image tokens stand in the decoder.

Inside a tower the images of a pass are packed into one axis of patches without a batch. Everything above sees that axis in
*merge-group order*: four patches that become one image token stand together, and the groups go row by row over the picture.
Families that work in another order say how to undo it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.models.families.base import TextFamily, config_field, count_field, text_part

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class VisionFamily(TextFamily):
    """A Qwen with a tower: ``model.visual`` with ``blocks`` and ``merger``, and a decoder beside it.

    ``tower_width`` names the field of ``vision_config`` that has the width of the tower's residual stream, and ``deepstack``
    says whether features of some tower blocks are added behind the decoder's first blocks. ``timestamps`` says whether a
    video's frames stand apart in the prompt, each behind the time that it shows; ``timed`` whether its positions in time
    count seconds.
    """

    vision: bool = True
    tower_width: str = "hidden_size"
    deepstack: bool = False
    timestamps: bool = False
    timed: bool = False

    def shape(self, config: Any) -> ModelShape:
        text, tower = text_part(config), config_field(config, "vision_config")
        taken = _tower_blocks(tower, "deepstack_visual_indexes") if self.deepstack else ()
        return ModelShape(
            family=self.name,
            blocks=count_field(text, "num_hidden_layers"),
            width=count_field(text, "hidden_size"),
            vision_blocks=count_field(tower, "depth"),
            vision_width=count_field(tower, self.tower_width),
            deepstack=len(taken),
            merge=count_field(tower, "spatial_merge_size"),
        )

    def tower(self, model: Any) -> nn.Module:
        """The vision tower: pixel values ``[patches, c]`` and grids ``[images, 3]`` to image features."""
        return model.model.visual

    def vision_blocks(self, model: Any) -> Sequence[nn.Module]:
        """The tower's blocks; each takes and returns ``[patches, width]``."""
        return self.tower(model).blocks  # type: ignore[return-value]

    def merger(self, model: Any) -> nn.Module:
        """Takes what the last tower block returns, gives one vector of the decoder's width for each merged patch."""
        return self.tower(model).merger  # type: ignore[return-value]

    def image_token(self, config: Any) -> int:
        """The token id that stands for one merged patch in a prompt."""
        return count_field(config, "image_token_id")

    def video_token(self, config: Any) -> int:
        """The token id that stands for one merged patch of a video's frame."""
        return count_field(config, "video_token_id")

    def windowed(self, config: Any) -> tuple[int, ...]:
        """The tower blocks in which a patch sees its window only, not the whole picture."""
        return ()

    def patch_order(self, model: Any, grids: torch.Tensor) -> torch.Tensor | None:
        """``hidden[order]`` brings a block's patches into merge-group order; None where they are in it.

        ``grids`` is int64 ``[images, 3]``: frames, rows and columns in patches.
        """
        return None

    def merged_order(self, model: Any, grids: torch.Tensor) -> torch.Tensor | None:
        """The same for what the merger module itself returns."""
        return None

    def rope_positions(
        self,
        model: Any,
        ids: Sequence[int],
        grids: Sequence[tuple[int, int, int]],
        seconds: Sequence[float | None] = (),
    ) -> tuple[torch.Tensor, int]:
        """Positions int64 ``[3, tokens]`` (time, row, column) of a prompt with these images, and what is to be added to a
        later token's index to get its position.

        ``seconds`` is for each image None, or of a video how long a frame of its grid lasts.
        """
        import torch

        tokens = torch.tensor([list(ids)])
        kinds = (tokens == self.image_token(model.config)).to(torch.int32)
        lasting = list(seconds) or [None] * len(grids)
        given: dict[str, Any] = {}
        for name, moving in (("image_grid_thw", False), ("video_grid_thw", True)):
            chosen = [list(g) for g, s in zip(grids, lasting, strict=True) if (s is not None) == moving]
            given[name] = torch.tensor(chosen) if chosen else None
        if given["video_grid_thw"] is not None:
            kinds += 2 * (tokens == self.video_token(model.config)).to(torch.int32)
            if self.timed:
                given["second_per_grid_ts"] = [each for each in lasting if each is not None]
        positions, deltas = model.model.get_rope_index(tokens, mm_token_type_ids=kinds, **given)
        return positions[:, 0], int(deltas.flatten()[0])


@dataclass(frozen=True)
class WindowedFamily(VisionFamily):
    """A tower that sorts its merge groups into windows before the first block, and back after the merger."""

    def windowed(self, config: Any) -> tuple[int, ...]:
        tower = config_field(config, "vision_config")
        full = _tower_blocks(tower, "fullatt_block_indexes")
        return tuple(block for block in range(count_field(tower, "depth")) if block not in full)

    def _windows(self, model: Any, grids: torch.Tensor) -> torch.Tensor:
        tower: Any = self.tower(model)
        try:
            from transformers.vision_utils import get_vision_window_index
        except ImportError:  # where it is a method of the tower
            return tower.get_window_index(grids.cpu())[0]
        index, _ = get_vision_window_index(
            grids.cpu(),
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        return index

    def patch_order(self, model: Any, grids: torch.Tensor) -> torch.Tensor | None:
        import torch

        tower: Any = self.tower(model)
        unit = int(tower.spatial_merge_size) ** 2
        index = self._windows(model, grids)
        patches = (index[:, None] * unit + torch.arange(unit)).flatten()
        return torch.argsort(patches)

    def merged_order(self, model: Any, grids: torch.Tensor) -> torch.Tensor | None:
        import torch

        return torch.argsort(self._windows(model, grids))


@dataclass(frozen=True)
class HybridVisionFamily(VisionFamily):
    """A tower before a decoder whose blocks mix tokens through ``linear_attn`` or through ``self_attn``."""

    hybrid: bool = True

    def attn_module(self, block: Any) -> nn.Module:
        return block.linear_attn if hasattr(block, "linear_attn") else block.self_attn


def _tower_blocks(tower: Any, name: str) -> Sequence[int]:
    """A list of tower blocks from a configuration; UsageError where it is something else."""
    blocks = config_field(tower, name)
    if not isinstance(blocks, list | tuple) or not all(type(block) is int for block in blocks):
        raise UsageError(
            f"the model's config.json gives {name}={str(blocks)[:40]}; expected a list of blocks"
        )
    return blocks


def _of(kind: type[VisionFamily], name: str, camel: str, **fields: Any) -> VisionFamily:
    architecture = f"{camel}ForConditionalGeneration"
    return kind(
        name=name, architectures=(architecture,), model_types=(name,), causal_class=architecture, **fields
    )


# Checkpoints of 3.5 call the whole model by the name that the lab gives to its language model alone.
QWEN3_5_VL = HybridVisionFamily(
    name="qwen3_5_vl",
    timestamps=True,
    architectures=("Qwen3_5ForConditionalGeneration",),
    model_types=("qwen3_5",),
    causal_class="Qwen3_5ForConditionalGeneration",
)
QWEN3_5_VL_MOE = HybridVisionFamily(
    name="qwen3_5_vl_moe",
    timestamps=True,
    architectures=("Qwen3_5MoeForConditionalGeneration",),
    model_types=("qwen3_5_moe",),
    causal_class="Qwen3_5MoeForConditionalGeneration",
)
QWEN2_VL = _of(VisionFamily, "qwen2_vl", "Qwen2VL", tower_width="embed_dim")
QWEN2_5_VL = _of(WindowedFamily, "qwen2_5_vl", "Qwen2_5_VL", timed=True)
QWEN3_VL = _of(VisionFamily, "qwen3_vl", "Qwen3VL", deepstack=True, timestamps=True)
QWEN3_VL_MOE = _of(VisionFamily, "qwen3_vl_moe", "Qwen3VLMoe", deepstack=True, timestamps=True)
