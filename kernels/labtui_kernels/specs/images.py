"""Pictures in prompts: how a user writes them, and where they stand in a spec.

In a text that a user writes, a word ``@photo.png`` is a picture and ``@clip.mp4`` a video, which counts as one: ``@``, then
a path that ends in one of `SUFFIXES`, in double quotes where it has spaces (``@"my photo.png"``). Any other ``@`` is
text, and ``\\@photo.png`` is the text ``@photo.png``. ``@sha256:…`` is a picture that the kernel has already. The command
line, the app, TOML files and Python all read their prompts by `expand`. In a message, pictures come before the text,
wherever the word stood; punctuation after a word stays.

A message names a picture by its path until a client has sent the file's bytes to the kernel, by ``sha256:…`` of
those bytes from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labtui_artifacts.images import is_digest

from ..lang.edits import parse_edits
from ..lang.positions import Where, parse_where
from ..lang.shape import ModelShape
from ..lang.sites import parse_sites
from ..lang.text import shown
from .base import Message, PromptSource, Spec

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", *VIDEO_SUFFIXES)
PROMPT_FIELDS = ("prompt", "prompts", "positive", "negative")
"""The fields of specs that hold a prompt, or a list of them."""
PICTURE_FIELDS = ("image", "images")
"""The fields of specs that name a picture, or a list of them, without any text."""

_SUFFIX = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_WORD = re.compile(
    r"(?<![^\s(\[{])"  # at the start, after white space or an opening bracket
    r"(?P<plain>\\)?@"
    rf"(?:\"(?P<quoted>[^\"\n]{{0,4000}}(?:{_SUFFIX}))\""
    rf"|(?P<bare>[^\s\"@][^\s\"]{{0,4000}}?(?:{_SUFFIX})|sha256:[0-9a-f]{{64}})(?=[.,;:!?)\]}}'\"]*(?:\s|\Z)))",
    re.IGNORECASE,
)


def split(text: str) -> tuple[str, list[str]]:
    """A user's text without its picture words, and their paths as written, in order."""
    parts = [""]
    paths: list[str] = []
    at = 0
    for match in _WORD.finditer(text):
        parts[-1] += text[at : match.start()]
        at = match.end()
        if match["plain"]:
            parts[-1] += match.group()[1:]
        else:
            paths.append(match["quoted"] or match["bare"])
            parts.append("")
    parts[-1] += text[at:]
    content = parts[0]
    for part in parts[1:]:
        content = _close(content, part)
    return content, paths


def _close(left: str, right: str) -> str:
    """Two stretches of text without the word that stood between them."""
    left, right = left.rstrip(" \t"), right.lstrip(" \t")
    if not left.strip():
        return right.lstrip()
    if not right.strip():
        return left.rstrip()
    return left + right if right[0] in ".,;:!?)]}'\"\n" or left[-1] in "([{\n" else f"{left} {right}"


def readable(path: str) -> bool:
    """Whether a picture word can stand for that path."""
    return split(word(path))[1] == [path]


def word(path: str) -> str:
    """The picture word of a path, in quotes where it needs them."""
    plain = _WORD.fullmatch(f"@{path}")
    return f"@{path}" if plain is not None and plain["bare"] == path else f'@"{path}"'


def joined(content: str, words: Sequence[str]) -> str:
    """The text that a user would write for a message with pictures, each given as its word."""
    escaped = _WORD.sub(lambda match: "\\" + match.group(), content)
    return " ".join([*words, escaped]).rstrip() if words else escaped


def expand(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Plain data of a spec with the picture words of its prompts as images of their messages.

    A prompt that has none stays the text it was, and messages keep their content as it is. Paths are made absolute
    from ``base``; nothing is read. What is no prompt, or malformed, is left for ``load`` to refuse.
    """
    found = dict(data)
    for name in PROMPT_FIELDS:
        if name in found:
            found[name] = _expand(found[name], base, name == "prompt")
    for name in PICTURE_FIELDS:
        if name in found:
            found[name] = _map(found[name], lambda picture: absolute(picture, base))
    return found


def _expand(value: Any, base: Path, alone: bool) -> Any:
    """``value``: a prompt where ``alone``, else a list of them."""
    if not alone:
        return [_expand(prompt, base, True) for prompt in value] if isinstance(value, list) else value
    if isinstance(value, str):
        prompt = as_prompt(value, base)
        return prompt if isinstance(prompt, str) else [_plain(turn) for turn in prompt]
    if not isinstance(value, list):
        return value
    return [_turn(turn, base) for turn in value]


def as_prompt(text: str, base: Path) -> str | list[Message]:
    """A prompt from a user's text: the text itself, or a chat of one turn where it has pictures or an ``\\@``."""
    content, paths = split(text)
    if content == text and not paths:
        return text
    return [Message(role="user", content=content, images=[absolute(path, base) for path in paths])]


def with_images(prompt: Any, paths: Sequence[str]) -> Any:
    """A prompt as plain data with more pictures, in the last turn of a chat; behind those that it has."""
    if isinstance(prompt, str):
        content, own = split(prompt)
        return [{"role": "user", "content": content, "images": [*own, *paths]}]
    if not isinstance(prompt, list) or not prompt or not isinstance(prompt[-1], Mapping):
        return prompt
    *before, last = prompt
    return [*before, {**last, "images": [*(last.get("images") or ()), *paths]}]


def _plain(turn: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": turn.role, "content": turn.content}
    return {**said, "images": list(turn.images)} if turn.images else said


def _turn(turn: Any, base: Path) -> Any:
    if isinstance(turn, Message):
        turn = _plain(turn)
    if not isinstance(turn, Mapping) or not turn.get("images"):
        return turn
    return {**turn, "images": _map(turn["images"], lambda picture: absolute(picture, base))}


def absolute(picture: str, base: Path) -> str:
    """A picture's path from ``base``; a digest stays what it is."""
    if is_digest(picture) or not picture.strip():
        return picture
    return str(base / Path(picture).expanduser())


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [change(one) if isinstance(one, str) else one for one in value]
    return value


def pictures_in(data: Mapping[str, Any]) -> list[str]:
    """The pictures that plain data of a spec names, each once, in order: paths and digests."""
    return list(dict.fromkeys(_pictures(data)))


def has_pictures(data: Mapping[str, Any]) -> bool:
    """Whether plain data of a spec names a picture, be it as a word of a prompt."""
    return bool(pictures_in(expand(data, Path())))


def _pictures(data: Mapping[str, Any]) -> Iterator[str]:
    for turn in _turns(data):
        yield from (one for one in turn.get("images") or () if isinstance(one, str))
    for name in PICTURE_FIELDS:
        value = data.get(name)
        yield from [value] if isinstance(value, str) and value else ()
        yield from (one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _turns(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in PROMPT_FIELDS:
        value = data.get(name)
        for prompt in [value] if name == "prompt" else value if isinstance(value, list) else ():
            for turn in prompt if isinstance(prompt, list) else ():
                if isinstance(turn, Mapping):
                    yield turn


def named(data: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Plain data of a spec with each picture under its name in ``digests`` (one that is not in it stays)."""
    found = dict(data)

    def changed(value: Any) -> Any:
        return _map(value, lambda picture: digests.get(picture, picture))

    def turn(one: Any) -> Any:
        has = isinstance(one, Mapping) and one.get("images")
        return {**one, "images": changed(one["images"])} if has else one

    def prompt(one: Any) -> Any:
        return [turn(each) for each in one] if isinstance(one, list) else one

    for name in PROMPT_FIELDS:
        value = found.get(name)
        if name == "prompt":
            found[name] = prompt(value)
        elif isinstance(value, list):
            found[name] = [prompt(one) for one in value]
    for name in PICTURE_FIELDS:
        if found.get(name):
            found[name] = changed(found[name])
    return {name: value for name, value in found.items() if name in data}


# -- checks before anything runs -------------------------------------------------------------------------


def check_pictures(spec: Spec, shape: ModelShape) -> None:
    """Refuse what a model of that shape cannot do with the spec's pictures, or without them.

    UsageError for a picture that was not sent, a picture for a model without a vision tower, an edit, a site or a
    place that needs a picture where a prompt has none, and a number of an image that a prompt does not have.
    """
    prompts = _prompts(spec)
    counts: list[tuple[str, int]] = []
    for field, prompt in prompts:
        turns = [] if isinstance(prompt, str) else prompt
        images = [image for turn in turns for image in turn.images]
        unsent = split(prompt)[1] if isinstance(prompt, str) else [i for i in images if not is_digest(i)]
        if unsent:
            raise spec.refuse(
                field, f"the picture {shown(unsent[0])} was not sent to this kernel; expected its digest"
            )
        if images and not shape.vision_blocks:
            raise spec.refuse(
                field,
                "it has a picture, and this model reads none: it has no vision tower; expected a Qwen-VL model",
            )
        counts.append((field, len(images)))
    for field, what, number in _needs(spec, shape):
        for place, count in counts:
            if count == 0:
                raise spec.refuse(
                    field, f"{what} needs a picture, and {place} has none; expected one, as in @photo.png"
                )
            if number is not None and number >= count:
                raise spec.refuse(
                    field, f"{what}: {place} has {count} picture{'s' * (count > 1)}, counted from 0"
                )


def _prompts(spec: Spec) -> list[tuple[str, str | list[Message]]]:
    """(field, prompt) of every prompt of a spec; a bundled set's count as one text."""
    found: list[tuple[str, str | list[Message]]] = []
    for name in PROMPT_FIELDS:
        value = getattr(spec, name, None)
        if value is None:
            continue
        if isinstance(value, PromptSource):
            found.append((f"the set {value.set}", ""))
        elif name == "prompt":
            found.append((name, value))
        else:
            found += [(f"{name}[{index}]", prompt) for index, prompt in enumerate(value)]
    if getattr(spec, "style", ""):
        found.append((f"the style {getattr(spec, 'style', '')}", ""))
    return found


def _needs(spec: Spec, shape: ModelShape) -> Iterator[tuple[str, str, int | None]]:
    """(field, what, which image) of everything that selects patches of a prompt's pictures."""
    if not _prompts(spec):
        return
    for name in ("edits", "like"):
        for term in parse_edits(getattr(spec, name, "") or "", shape):
            if any(site.tower == "vision" for site in term.sites):
                yield name, f"the edit {term}", term.where.number
            elif _in_picture(term.where):
                yield name, f"where {str(term.where)!r}", term.where.number
    sites = getattr(spec, "sites", "") if getattr(spec, "method", "") != "random" else ""
    for group in parse_sites(sites, shape) if sites else ():
        for site in group:
            if site.tower == "vision":
                yield "sites", f"the site {site.short}", None
    places = getattr(spec, "where", "")
    for place in [places] if isinstance(places, str) else places:
        where = parse_where(place) if place else Where()
        if _in_picture(where):
            yield "where", f"where {str(where)!r}", where.number


def _in_picture(where: Where) -> bool:
    return where.kind in ("image", "ink")
