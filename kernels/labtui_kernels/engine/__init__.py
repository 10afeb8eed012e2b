"""The engine: rows with edits and pictures of their own, decoded together; readings taken in the same pass.

A library by itself: torch, transformers and ``labtui_kernels.lang``. It knows nothing of kernels, jobs or
sessions. Everything runs on the one thread that made the :class:`Engine`.
"""

from .audit import Audit
from .batch import Batch
from .capture import Pooling, Prompt, RefNorm, selected, selected_patches
from .engine import Engine
from .observe import Look, Sight
from .rows import Edit, Emitted, ImageInput, Row, Sampling

__all__ = [
    "Audit",
    "Batch",
    "Edit",
    "Emitted",
    "Engine",
    "ImageInput",
    "Look",
    "Pooling",
    "Prompt",
    "RefNorm",
    "Row",
    "Sampling",
    "Sight",
    "selected",
    "selected_patches",
]
