"""The pictures of a Stroop recipe, by what they are for: drawn from the seed, or taken from a folder. Torch-free.

*Build* pictures make the chunks, *references* are what cosines are taken to, *choose* and *judge* pictures are asked
about. References, judge and congruent pictures share no font, size or place with the others, and judge pictures no
(word, ink) pair with those that are chosen by. Drawn pictures of one set show every label in the same renderings, so
that the difference of two labels is of nothing else.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from labtui_artifacts.images import digest_of

from ..models.pictures import Picture
from ..specs import Stroop
from ..vision.stimuli import (
    BACKGROUNDS,
    CANVASES,
    NEUTRAL,
    NO_WORD,
    SPLIT_FONTS,
    SPLIT_SIZES,
    Split,
    Stimulus,
    draw,
    fits,
    load_folder,
    random_place,
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A stimulus as a picture file: ``data`` are its bytes as PNG. ``target`` is the colour that its answers are to be
    turned to, empty where nothing is steered."""

    stimulus: Stimulus
    picture: Picture
    data: bytes = field(repr=False)
    split: str
    target: str = ""

    @property
    def word(self) -> str:
        return self.stimulus.word

    @property
    def ink(self) -> str:
        return self.stimulus.ink

    @property
    def subset(self) -> str:
        return self.stimulus.subset

    def right(self, question: str) -> str:
        """The right answer to ``ink`` or ``word``."""
        return self.ink if question == "ink" else self.word


@dataclass(frozen=True, eq=False)
class Sets:
    """All pictures; ``build`` and ``references`` by sort of label (``ink``, ``word``), label by label."""

    labels: tuple[str, ...]
    build: dict[str, list[Shown]]
    references: dict[str, list[Shown]]
    choose: list[Shown]
    judge: list[Shown]
    congruent: list[Shown]
    source: str

    def index(self, shown: Iterable[Shown], sort: str) -> list[int]:
        """The label's number of each picture: its ink's, or its word's."""
        return [self.labels.index(one.ink if sort == "ink" else one.word) for one in shown]


def as_shown(stimulus: Stimulus, split: str, target: str = "") -> Shown:
    """A stimulus as a picture."""
    out = io.BytesIO()
    stimulus.image.save(out, "PNG")
    data = out.getvalue()
    picture = Picture(stimulus.image, digest_of(data), stimulus.image.size, stimulus.name)
    return Shown(stimulus, picture, data, split, target)


def gather(spec: Stroop) -> Sets:
    """The pictures of a spec. UsageError for a folder that lacks some, BadFile for one that cannot be read."""
    return _from_folder(spec) if spec.folder else _drawn(spec)


def halves(
    spec: Stroop, pairs: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(word, ink) pairs to choose by, and those to judge on."""
    order = sorted(pairs)
    random.Random(f"stroop-pairs/{spec.seed}").shuffle(order)
    return order[: len(order) // 2], order[len(order) // 2 :]


# -- drawn --------------------------------------------------------------------------------------------


def _drawn(spec: Stroop) -> Sets:
    labels = spec.labels
    first, second = halves(spec, list(permutations(labels, 2)))
    return Sets(
        labels=labels,
        build={sort: _matched(spec, sort, spec.build, "train", "build") for sort in ("ink", "word")},
        references={
            sort: _matched(spec, sort, spec.references, "held-out", "reference") for sort in ("ink", "word")
        },
        choose=_pairs(spec, first, spec.choose, "train", "choose"),
        judge=_pairs(spec, second, spec.judge, "held-out", "judge"),
        congruent=_pairs(spec, [(label, label) for label in labels], spec.judge, "held-out", "congruent"),
        source="drawn",
    )


@dataclass(frozen=True)
class _Rendering:
    font: str
    size: int
    place: tuple[float, float]
    background: str
    canvas: tuple[int, int]

    def draw(self, word: str, ink: str) -> Stimulus:
        return draw(
            word,
            ink,
            font=self.font,
            size=self.size,
            place=self.place,
            background=self.background,
            canvas=self.canvas,
        )


def _rendering(rng: random.Random, split: Split, words: Sequence[str]) -> _Rendering:
    """A random rendering of a split that has room for every one of these words."""
    canvas = rng.choice(CANVASES)
    while True:
        font, size = rng.choice(SPLIT_FONTS[split]), rng.choice(SPLIT_SIZES[split])
        if all(fits(word, font, size, canvas) for word in words):
            break
    return _Rendering(font, size, random_place(rng, split), rng.choice(list(BACKGROUNDS)), canvas)


def _matched(spec: Stroop, sort: str, count: int, split: Split, use: str) -> list[Shown]:
    """``count`` pictures of every label, each rendering once with each of them."""
    found: list[Shown] = []
    for number in range(count):
        rng = random.Random(f"stroop/{spec.seed}/{use}/{sort}/{number}")
        rendering = _rendering(rng, split, spec.labels)
        for label in spec.labels:
            stimulus = rendering.draw(NO_WORD, label) if sort == "ink" else rendering.draw(label, NEUTRAL)
            found.append(as_shown(stimulus, use))
    return found


def _pairs(spec: Stroop, pairs: Sequence[tuple[str, str]], count: int, split: Split, use: str) -> list[Shown]:
    """``count`` different pictures of these pairs in turn, with their targets."""
    found: dict[str, Shown] = {}
    rng = random.Random(f"stroop/{spec.seed}/{use}")
    while len(found) < count:
        word, ink = pairs[len(found) % len(pairs)]
        target = _target(spec, word, ink, len(found) // len(pairs)) if use in ("choose", "judge") else ""
        made = as_shown(_rendering(rng, split, spec.labels).draw(word, ink), use, target)
        found.setdefault(made.picture.digest, made)
    return list(found.values())


def _target(spec: Stroop, word: str, ink: str, turn: int) -> str:
    """The colour that a pair's answers are to be turned to: neither its ink nor its word, another one each turn."""
    others = [label for label in spec.labels if label not in (word, ink)]
    random.Random(f"stroop-target/{spec.seed}/{word}/{ink}").shuffle(others)
    return others[turn % len(others)]


# -- from a folder ------------------------------------------------------------------------------------


def _from_folder(spec: Stroop) -> Sets:
    place = Path(spec.folder).expanduser()
    stimuli = load_folder(place)
    single = {
        "ink": _by_label([one for one in stimuli if one.subset == "color_only"], "ink"),
        "word": _by_label([one for one in stimuli if one.subset == "text_only"], "word"),
    }
    present = [label for label in spec.labels if label in single["ink"] and label in single["word"]]
    if spec.colors and len(present) < len(spec.colors):
        missing = [label for label in spec.colors if label not in present]
        raise spec.refuse(
            "folder", f"{place} has no color_only and text_only pictures of {', '.join(missing)}"
        )
    if len(present) < 4:
        raise spec.refuse(
            "folder",
            f"{place} has color_only and text_only pictures of {len(present)} colours; expected at least 4: a target "
            "differs from ink and word, and others are left",
        )
    pairs = {(one.word, one.ink) for one in stimuli if one.subset == "incongruent"}
    pairs = {pair for pair in pairs if set(pair) <= set(present)}
    if len(pairs) < 2:
        raise spec.refuse(
            "folder", f"{place} has {len(pairs)} incongruent pairs of them; expected at least 2"
        )
    narrowed = _with_labels(spec, present)
    first, second = halves(narrowed, list(pairs))
    build: dict[str, list[Shown]] = {}
    references: dict[str, list[Shown]] = {}
    for sort, by_label in single.items():
        parts = [_parted(spec, sort, label, by_label[label]) for label in present]
        build[sort] = [as_shown(one, "build") for part, _ in parts for one in part]
        references[sort] = [as_shown(one, "reference") for _, part in parts for one in part]
    return Sets(
        labels=tuple(present),
        build=build,
        references=references,
        choose=_of_pairs(narrowed, stimuli, first, spec.choose, "choose"),
        judge=_of_pairs(narrowed, stimuli, second, spec.judge, "judge"),
        congruent=_of_pairs(
            narrowed, stimuli, [(label, label) for label in present], spec.judge, "congruent"
        ),
        source=str(place),
    )


def _with_labels(spec: Stroop, labels: Sequence[str]) -> Stroop:
    import msgspec

    return msgspec.structs.replace(spec, colors=list(labels))


def _by_label(stimuli: Iterable[Stimulus], sort: str) -> dict[str, list[Stimulus]]:
    found: dict[str, list[Stimulus]] = {}
    for one in stimuli:
        found.setdefault(one.ink if sort == "ink" else one.word, []).append(one)
    return found


def _parted(
    spec: Stroop, sort: str, label: str, stimuli: Sequence[Stimulus]
) -> tuple[list[Stimulus], list[Stimulus]]:
    """(build, references): a third for reference at most; what is not known of fonts and places cannot be held out."""
    order = sorted(stimuli, key=lambda one: one.name)
    random.Random(f"stroop-folder/{spec.seed}/{sort}/{label}").shuffle(order)
    held = min(spec.references, len(order) // 3)
    if held < 1 or len(order) - held < spec.clusters:
        raise spec.refuse(
            "folder",
            f"{len(order)} {'color_only' if sort == 'ink' else 'text_only'} pictures of {label}; {spec.clusters} "
            f"clusters and a reference need at least {max(3, spec.clusters + 1)}",
        )
    return order[held : held + spec.build], order[:held]


def _of_pairs(
    spec: Stroop, stimuli: Sequence[Stimulus], pairs: Sequence[tuple[str, str]], count: int, use: str
) -> list[Shown]:
    """At most ``count`` pictures of these pairs, the pairs in turn, each picture once."""
    stacks: dict[tuple[str, str], list[Stimulus]] = {pair: [] for pair in pairs}
    for one in sorted(stimuli, key=lambda one: one.name):
        if (one.word, one.ink) in stacks:
            stacks[one.word, one.ink].append(one)
    for (word, ink), stack in stacks.items():
        random.Random(f"stroop-folder/{spec.seed}/{use}/{word}/{ink}").shuffle(stack)
    found: dict[str, Shown] = {}
    for turn in range(max(map(len, stacks.values()), default=0)):
        for (word, ink), stack in stacks.items():
            if turn < len(stack) and len(found) < count:
                target = _target(spec, word, ink, turn) if use != "congruent" else ""
                made = as_shown(stack[turn], use, target)
                found.setdefault(made.picture.digest, made)
    return list(found.values())
