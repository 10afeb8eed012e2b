"""Edits of one row at its positions, and the same for many rows at once.

An edit's *coefficient* at a position is its strength there, or 0 where the edit does not apply. Every forward
pass (prompt, one decode step, teacher forcing, capture) asks for the coefficients of the positions it
processes, so there is one definition of what is edited where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from labtui_artifacts.errors import UsageError

from ..lang.shape import ModelShape
from ..lang.sites import Site, site_width
from .rows import Edit, Op, Row, image_spans


def orthonormal(vectors: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows ``[r, d]`` that span the rows of ``vectors`` ``[k, d]``; r ≤ k is the numerical rank.

    By singular values, in float64 on the CPU; directions below 1e-6 of the largest are left out.
    """
    _, values, rows = torch.linalg.svd(vectors.to("cpu", torch.float64), full_matrices=False)
    return rows[values > 1e-6 * values.max().clamp_min(1e-30)].to(torch.float32)


def check_site(edit: Edit, shape: ModelShape) -> None:
    """Raise UsageError unless the model has the edit's site, with the width of its vectors."""
    site = edit.site
    depth = shape.blocks if site.tower == "llm" else shape.vision_blocks
    if not depth:
        raise UsageError(f"edit at {site}: this model has no vision tower; expected a site such as llm.12")
    if site.block is not None and not 0 <= site.block < depth:
        raise UsageError(f"edit at {site}: the model has blocks {site.tower}.0 to {site.tower}.{depth - 1}")
    width = site_width(site, shape)
    if edit.vectors.shape[1] != width:
        has = f"this model's is {width}" + (" there" if shape.vision_blocks else "")
        raise UsageError(f"edit at {site}: the vectors have width {edit.vectors.shape[1]}; {has}")


class RowEdits:
    """The edits of one row: prepared vectors, prompt masks, strengths and their changes over time.

    ``patches`` has, for edits in the vision tower alone, a mask over the merged patches of each of the row's
    images; at tokens such an edit applies nowhere. ``digests`` are of these edits' vectors.
    """

    def __init__(self, row: Row, shape: ModelShape, device: torch.device) -> None:
        self.row = row
        self.prompt_len = len(row.ids)
        self.matrices: list[torch.Tensor] = []
        self.masks: list[np.ndarray] = []
        self.patches: dict[int, list[np.ndarray]] = {}
        self.digests: dict[int, bytes] = {}
        images = image_spans(row.images, shape.merge) if row.images else ()
        for index, edit in enumerate(row.edits):
            check_site(edit, shape)
            self.matrices.append(_matrix(edit).to(device))
            if edit.site.tower == "vision":
                if not images:
                    raise UsageError(
                        f"edit at {edit.site}: this prompt has no image; give it one, or edit at llm..."
                    )
                self.patches[index] = [np.asarray(m, dtype=np.float32) for m in edit.where.patch_mask(images)]
                held = edit.vectors.cpu().contiguous().numpy().tobytes()
                self.digests[index] = hashlib.blake2b(held, digest_size=16).digest()
                mask = [False] * self.prompt_len
            else:
                mask = edit.where.prompt_mask(self.prompt_len, row.content, images)
            self.masks.append(np.asarray(mask, dtype=np.float32))
        self.knobs: list[tuple[int, int, float]] = sorted(row.knobs, key=lambda knob: knob[0])
        # A generated window or explicit indices switch on and off while decoding; the others never do.
        self.varies = bool(self.knobs) or any(
            edit.where.kind == "indices"
            or (edit.where.kind == "generated" and (edit.where.start or edit.where.stop))
            for edit in row.edits
        )

    def turn(self, step: int, edit: int, strength: float) -> None:
        """From the pass that produces token ``step``, edit ``edit`` has this strength."""
        self.knobs.append((step, edit, strength))
        self.knobs.sort(key=lambda knob: knob[0])
        self.varies = True

    def strength(self, edit: int, step: int) -> float:
        """The strength of an edit in the forward pass that produces generated token ``step``."""
        value = self.row.edits[edit].strength
        for start, index, changed in self.knobs:
            if start > step:
                break
            if index == edit:
                value = changed
        return value

    def applies(self, edit: int, position: int) -> bool:
        """Whether an edit is in force at an absolute position (0 is the first prompt token)."""
        step = position - self.prompt_len
        if step < 0 or edit in self.patches:
            return step < 0 and bool(self.masks[edit][position])
        return self.row.edits[edit].where.generated_at(step, self.prompt_len)

    def span(self, edit: int, start: int, stop: int) -> tuple[np.ndarray, bool]:
        """Coefficients at [start, stop), float32, and whether the edit is in force at any of them."""
        known = self.masks[edit][start : min(stop, self.prompt_len)]
        later = range(max(start, self.prompt_len), stop)
        applied = [self.applies(edit, position) for position in later]
        values = [
            self.strength(edit, position - self.prompt_len + 1) if on else 0.0
            for position, on in zip(later, applied, strict=True)
        ]
        known_values = known * np.float32(self.strength(edit, 0))
        coefficients = np.concatenate([known_values, np.asarray(values, dtype=np.float32)])
        return coefficients, bool(known.any()) or any(applied)

    def prompt_signature(self, length: int) -> tuple[object, ...]:
        """Equal for two rows only if their edits do the same to the same first ``length`` prompt tokens.

        An edit of strength 0 counts: a control row goes through the same motions as the rows it controls.
        """
        parts = []
        for index, (edit, mask) in enumerate(zip(self.row.edits, self.masks, strict=True)):
            if mask[:length].any():
                held = (edit.vectors.data_ptr(), edit.vectors.shape, edit.vectors.stride())
                parts.append((edit.site, edit.op, held, self.strength(index, 0), mask[:length].tobytes()))
        return tuple(parts)


def _matrix(edit: Edit) -> torch.Tensor:
    if edit.op == "project":
        return orthonormal(edit.vectors)
    return edit.vectors.sum(0, keepdim=True)


@dataclass(eq=False)
class Stage:
    """One operation at one site for all lanes of a batch: at most one edit a lane, coefficient 0 elsewhere.

    A member is (lane, the row's edits, edit index). ``active`` says whether one is in force in the next pass.
    """

    op: Op
    lanes: int
    members: list[tuple[int, RowEdits, int]] = field(default_factory=list)
    vectors: torch.Tensor | None = None  # [lanes, k, d] float32
    coefficients: torch.Tensor | None = None  # [lanes, positions, 1] float32
    active: bool = False

    def seal(self, device: torch.device) -> None:
        """Stack the members' vectors, zero for lanes without one and beyond an edit's own rank."""
        k = max(edits.matrices[index].shape[0] for _, edits, index in self.members)
        width = self.members[0][1].matrices[self.members[0][2]].shape[1]
        vectors = torch.zeros(self.lanes, k, width, device=device)
        for lane, edits, index in self.members:
            matrix = edits.matrices[index]
            vectors[lane, : matrix.shape[0]] = matrix
        self.vectors = vectors

    def aim(self, starts: Sequence[int], stops: Sequence[int], positions: int) -> None:
        """Set the coefficients for positions [starts[i], stops[i]) of lane i, padded to ``positions``."""
        table = np.zeros((self.lanes, positions, 1), dtype=np.float32)
        self.active = False
        for lane, edits, index in self.members:
            span, applied = edits.span(index, starts[lane], stops[lane])
            table[lane, : len(span), 0] = span
            self.active |= applied
        if self.active:
            assert self.vectors is not None
            self.coefficients = torch.from_numpy(table).to(self.vectors.device)

    def apply(self, hidden: torch.Tensor) -> torch.Tensor:
        """The edited hidden states; ``hidden`` is [lanes, positions, d] in the model's dtype.

        Computed in float32; a coefficient of 0 leaves a value bit for bit as it was.
        """
        assert self.vectors is not None and self.coefficients is not None
        return change(self.op, hidden, self.vectors.to(hidden.device), self.coefficients.to(hidden.device))


def change(op: Op, hidden: torch.Tensor, vectors: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """One operation on hidden states [..., n, d] with vectors [..., k, d] and coefficients [..., n, 1], in float32."""
    h = hidden.float()
    if op == "add":
        edited = torch.addcmul(h, coefficients, vectors)
    elif op == "replace":
        edited = h + coefficients * (vectors - h)
    else:
        inside = torch.matmul(torch.matmul(h, vectors.transpose(-1, -2)), vectors)
        edited = h - coefficients * inside
    return edited.to(hidden.dtype)


class Stages:
    """All edits of the lanes of a batch, by site, in the order in which they apply."""

    def __init__(self, lanes: Sequence[RowEdits | None], device: torch.device) -> None:
        self.by_site: dict[Site, list[Stage]] = {}
        self.lanes = [lane for lane in lanes if lane is not None]
        self.varies = self.changes()
        for number, lane in enumerate(lanes):
            if lane is not None:
                self._place(number, lane, len(lanes))
        for stages in self.by_site.values():
            for stage in stages:
                stage.seal(device)

    def changes(self) -> bool:
        """Whether some coefficient may differ from one decode step to the next."""
        return any(lane.varies for lane in self.lanes)

    def _place(self, number: int, lane: RowEdits, lanes: int) -> None:
        after: dict[Site, int] = {}  # where this lane's next edit may go at the earliest, by site
        for index, edit in enumerate(lane.row.edits):
            if index in lane.patches:
                continue  # the tower has seen to it
            stages = self.by_site.setdefault(edit.site, [])
            at = after.get(edit.site, 0)
            while at < len(stages) and stages[at].op != edit.op:
                at += 1
            if at == len(stages):
                stages.append(Stage(edit.op, lanes))
            stages[at].members.append((number, lane, index))
            after[edit.site] = at + 1

    def aim(self, starts: Sequence[int], stops: Sequence[int], positions: int) -> None:
        """Point every stage at the positions that the next pass processes: [starts[i], stops[i]) in lane i.

        ``positions`` is the width of the pass; a lane with fewer of its own is padded on the right, unedited.
        """
        for stages in self.by_site.values():
            for stage in stages:
                stage.aim(starts, stops, positions)
