"""What clients may ask of a broker, by method name."""

from labtui_kernels.broker.methods import (
    artifacts,
    claims,
    follow,
    images,
    jobs,
    kernel,
    model,
    relations,
    sessions,
)
from labtui_kernels.broker.methods.registry import METHODS

__all__ = [
    "METHODS",
    "artifacts",
    "claims",
    "follow",
    "images",
    "jobs",
    "kernel",
    "model",
    "relations",
    "sessions",
]
