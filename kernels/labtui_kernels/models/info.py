"""What is known of a loaded model: the fields that every result row, direction and session quotes.

Torch-free, so that the app and a replay on a laptop read it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from labtui_artifacts.errors import BadFile
from labtui_kernels.lang.shape import ModelShape


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model, in plain values.

    ``weight_hash`` identifies the weights on disk (see ``models.hashing``), ``revision`` is the Hub commit
    where one is known, else ``""``. ``default_thinking`` is None for a template without a thinking switch.
    ``memory_bytes`` counts parameters and buffers as loaded. ``context_length`` is in tokens;
    ``sliding_window`` is the attention window in tokens where the model uses one, and ``rope`` says how
    positions are scaled (``"default"``, ``"yarn x4 from 32768"``). ``vision_blocks`` to ``merge`` are those of
    :class:`~labtui_kernels.lang.shape.ModelShape`, 0 without a vision tower; ``vision_windowed`` are the tower's blocks in
    which a patch sees its window only.
    """

    source: str
    name: str
    family: str
    architecture: str
    blocks: int
    width: int
    vocab: int
    parameters: int
    dtype: str
    quantisation: str | None
    device: str
    context_length: int
    weight_hash: str
    tokenizer_hash: str
    template_hash: str
    revision: str
    default_thinking: bool | None
    memory_bytes: int
    stop_ids: tuple[int, ...] = ()
    sliding_window: int | None = None
    rope: str = "default"
    vision_blocks: int = 0
    vision_width: int = 0
    deepstack: int = 0
    merge: int = 0
    vision_windowed: tuple[int, ...] = ()

    @property
    def shape(self) -> ModelShape:
        """What the site grammar needs."""
        return ModelShape(
            family=self.family,
            blocks=self.blocks,
            width=self.width,
            vision_blocks=self.vision_blocks,
            vision_width=self.vision_width,
            deepstack=self.deepstack,
            merge=self.merge,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or msgpack."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelInfo:
        """The reverse of :meth:`to_dict`. Fields of newer versions are skipped; BadFile if one is missing."""
        wanted = {field.name for field in fields(cls)}
        kept = {key: value for key, value in data.items() if key in wanted}
        kept |= {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
        try:
            return cls(**kept)
        except TypeError as error:
            raise BadFile(f"a model description lacks fields: {error}") from error
