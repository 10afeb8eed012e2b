"""Does the model still stand as it was found? Hooks counted, parameters compared with a baseline.

The baseline is taken after the first forward pass, since 4-bit weights are repacked in it. ``state_dict()``
is never called: after a CPU pass it corrupts a 4-bit model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .hooks import Hooks

_TABLES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_GLOBAL_TABLES = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
)
_LIBRARIES = ("torch", "transformers", "accelerate", "bitsandbytes")
_SAMPLE = 64  # values of a parameter that the quick fingerprint reads
_PIECE = 1 << 24  # values hashed at a time


@dataclass(frozen=True)
class Audit:
    """The findings. ``handles`` are the hooks found (those of torch, transformers and accelerate left out),
    ``expected`` those that the engine placed plus those that were there before it. ``deep`` says whether
    every byte was compared.
    """

    ok: bool
    handles: int
    expected: int
    changed_parameters: tuple[str, ...]
    detail: str
    deep: bool = False


@dataclass(frozen=True)
class _Mark:
    """What is remembered of a parameter."""

    version: int
    address: int
    sample: bytes
    digest: bytes


class Auditor:
    """The baseline of one model, and the comparison with it."""

    def __init__(self, model: nn.Module, hooks: Hooks) -> None:
        self._model, self._hooks = model, hooks
        self._foreign = len(_hook_functions(model))
        self._marks: dict[str, _Mark] | None = None
        self._deep = False

    def take_baseline(self, deep: bool = False) -> None:
        """Remember the parameters as they are now; ``deep`` hashes every byte of them."""
        self._deep = deep
        self._marks = {name: _mark(parameter, deep) for name, parameter in self._model.named_parameters()}

    @property
    def has_baseline(self) -> bool:
        return self._marks is not None

    def audit(self, deep: bool = False) -> Audit:
        """Compare with the baseline.

        Without ``deep`` a change is seen by the parameter's version counter, by its address, or by 64 of its
        values. A deep audit needs a deep baseline; without one ``detail`` says so.
        """
        functions = _hook_functions(self._model)
        expected = self._foreign + len(self._hooks.handles())
        notes = []
        if len(functions) != expected:
            notes.append(
                f"{len(functions)} hooks where {expected} were expected: {_names(functions, self._hooks)}"
            )
        lost = [str(site) for site, in_place in self._hooks.check() if not in_place]
        if lost:
            notes.append(f"the engine's own hooks are gone at {', '.join(lost)}")
        compare_deep = deep and self._deep
        changed = tuple(self._changed(compare_deep))
        if changed:
            shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
            notes.append(f"parameters changed: {shown}")
        ok = not notes
        if self._marks is None:
            notes.append("no forward pass yet, so no baseline: parameters not compared")
        elif deep and not self._deep:
            notes.append("the baseline was not deep: parameters compared by version and sample")
        detail = "; ".join(notes) or "hooks and parameters as expected"
        return Audit(ok, len(functions), expected, changed, detail, compare_deep)

    def _changed(self, deep: bool) -> Iterator[str]:
        if self._marks is None:
            return
        now = dict(self._model.named_parameters())
        yield from (name for name in self._marks if name not in now)
        for name, parameter in now.items():
            before = self._marks.get(name)
            after = _mark(parameter, deep)
            if (
                before is None
                or (before.version, before.address, before.sample)
                != (
                    after.version,
                    after.address,
                    after.sample,
                )
                or (deep and before.digest != after.digest)
            ):
                yield name


def _mark(parameter: torch.Tensor, deep: bool) -> _Mark:
    value = parameter.detach()
    version = -1 if value.is_inference() else parameter._version
    return _Mark(version, value.data_ptr(), _sample(value), _digest(value) if deep else b"")


def _sample(value: torch.Tensor) -> bytes:
    if not value.numel() or value.is_meta:
        return b""
    step = max(1, value.numel() // _SAMPLE)
    return _bytes(value.reshape(-1)[::step][:_SAMPLE])


def _digest(value: torch.Tensor) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    flat = value.reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        found.update(_bytes(flat[start : start + _PIECE]))
    return found.digest()


def _bytes(value: torch.Tensor) -> bytes:
    return value.contiguous().view(torch.uint8).cpu().numpy().tobytes()


def _hook_functions(model: nn.Module) -> list[Any]:
    """All hook functions on the model's modules and the global ones, those of the libraries left out."""
    found = [
        hook for module in model.modules() for name in _TABLES for hook in getattr(module, name).values()
    ]
    found += [hook for name in _GLOBAL_TABLES for hook in getattr(nn.modules.module, name).values()]
    return [hook for hook in found if _origin(hook) not in _LIBRARIES]


def _origin(hook: Any) -> str:
    return str(getattr(hook, "__module__", type(hook).__module__)).split(".")[0]


def _names(functions: list[Any], hooks: Hooks) -> str:
    foreign = [hook for hook in functions if hook not in hooks.functions]
    words = sorted(
        {f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', '?')}" for hook in foreign}
    )
    return ", ".join(words[:3]) or "some of ours are missing"
