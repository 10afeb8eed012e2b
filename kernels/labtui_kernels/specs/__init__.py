"""Specs: what to do, as small structs that read and write as TOML, and their plans into rows. No torch."""

from .base import Message, PromptSource, Spec, as_messages, shown_prompt
from .images import check_pictures, expand, named, pictures_in
from .index import Index
from .kinds import (
    KINDS,
    Calibrate,
    Compose,
    Controls,
    Decoding,
    Diagnose,
    Direction,
    Generate,
    Match,
    Patch,
    RecordedImage,
    RecordedRow,
    Reference,
    Rerun,
    Stroop,
    Sweep,
    VisionTokens,
)
from .load import inline, load, load_toml, override, read, read_prompts, to_dict
from .look import Look
from .write import template, to_command, to_toml

__all__ = [
    "KINDS",
    "Calibrate",
    "Compose",
    "Controls",
    "Decoding",
    "Diagnose",
    "Direction",
    "Generate",
    "Index",
    "Look",
    "Match",
    "Message",
    "Patch",
    "PromptSource",
    "RecordedImage",
    "RecordedRow",
    "Reference",
    "Rerun",
    "Spec",
    "Stroop",
    "Sweep",
    "VisionTokens",
    "as_messages",
    "check_pictures",
    "expand",
    "inline",
    "load",
    "load_toml",
    "named",
    "override",
    "pictures_in",
    "read",
    "read_prompts",
    "shown_prompt",
    "template",
    "to_command",
    "to_dict",
    "to_toml",
]
