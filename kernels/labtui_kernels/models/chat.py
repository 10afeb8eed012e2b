"""Messages to token ids, exactly as the model's own chat template writes them.

Two things are added to what transformers does. Each token is marked *content* when it belongs to a message's
body, so that readings and norms can leave out template tokens and attention sinks. And text of a message
cannot pose as the template: the characters ``<|im_end|>`` inside a message are tokenised as those characters,
not as the end of the turn.

How: every body is wrapped in private-use characters before the template runs, which shows where it ended up.
Control tokens are then recognised outside the bodies only, and each stretch between them goes through the
tokenizer's own normaliser, splitter and merges. Assistant bodies and the prefill may hold markup that the
model itself writes (``<think>``), never control tokens.

Pictures come before the text of their message. The template writes one image token for each; that one is repeated for every
merged patch of the picture, as Qwen's processors do. A video is a picture with a token of its own; where the family tells
its frames apart, the time of each is written before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.positions import ImageSpan
from labtui_kernels.models.imagetokens import (
    Patches,
    expand,
    framed,
    image_token,
    is_video,
    video_token,
)
from labtui_kernels.models.info import ModelInfo

ROLES = ("system", "user", "assistant", "tool")
MAX_CHARACTERS = 4_000_000

# Wrapped around bodies while the template runs; messages that hold one of these are refused.
_LITERAL, _MARKUP, _CLOSE = "\ue0f1", "\ue0f2", "\ue0f3"
_MARKS = re.compile(f"[{_LITERAL}{_MARKUP}{_CLOSE}]")


_SMALLER = {False: ", lower max_pixels", True: ", lower max_pixels or max_frames"}


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model sees it.

    ``ids``, ``pieces`` and ``content`` have one entry a token. ``pieces`` joined give ``text`` (a character
    that is split over several tokens belongs to the first of them). ``content`` is True for tokens that hold
    part of a message's body, where white space at its ends does not count; position 0, the attention sink, is
    never content. ``images`` says where each picture's tokens lie, in order; they are not content, the first of them
    has the piece ``<|image_pad|>`` and the others have empty ones, so that ``text`` names a picture once.
    """

    ids: list[int]
    pieces: list[str]
    content: list[bool]
    text: str
    images: tuple[ImageSpan, ...] = ()


@dataclass(frozen=True)
class _Span:
    """A body in the rendered text, in characters; ``markup`` when the model's own tags count in it."""

    start: int
    stop: int
    markup: bool


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    thinking: bool | None = None,
    prefill: str = "",
    pictures: Sequence[Patches] = (),
) -> Rendered:
    """Render ``messages`` with the generation prompt, and ``prefill`` as the beginning of the answer.

    ``thinking`` switches the thinking of templates that know it; None leaves the template's default. A
    tokenizer without a chat template takes a single user message, which is then the raw text. A message may have
    ``images``: a list of what its pictures are called, or their number; ``pictures`` are those of all messages in order.
    UsageError for an empty prompt, a malformed message, a switch that the template lacks, pictures that it has no place
    for, or a template that refuses the messages.
    """
    checked = _check(messages, prefill, pictures)
    if tokenizer.chat_template is None:
        if len(checked) != 1 or checked[0]["role"] != "user" or thinking or pictures:
            raise UsageError(
                "this tokenizer has no chat template: give one user message (the raw text), without thinking and pictures"
            )
        marked = _wrap(checked[0]["content"], _LITERAL)
        text = checked[0]["content"]
    else:
        for kind in sorted({is_video(picture) for picture in pictures}):
            _check_takes_pictures(tokenizer, kind)
        marked, text = _apply(tokenizer, checked, thinking)
    marked += _wrap(prefill, _MARKUP)
    text += prefill
    plain, spans = _unmark(marked)
    assert plain == text
    videos = [picture for picture in pictures if is_video(picture)]
    if videos:
        text, spans = _with_frames(tokenizer, text, spans, videos)
    ids, offsets = _tokenize(tokenizer, text, spans)
    images: tuple[ImageSpan, ...] = ()
    if pictures:
        tokens = {False: image_token(tokenizer)[1]} | ({True: video_token(tokenizer)[1]} if videos else {})
        ids, offsets, images = expand(ids, offsets, tokens, pictures)
    return _assemble(ids, offsets, text, spans, images)


def plain_tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of ``text`` without template, and the characters that each covers; nothing in it is a control token."""
    return _tokenize(tokenizer, text, [_Span(0, len(text), False)])


def require_room(rendered: Rendered, info: ModelInfo, max_new_tokens: int = 1) -> None:
    """UsageError when the prompt and the answer do not fit the model's context."""
    if len(rendered.ids) + max_new_tokens > info.context_length:
        seen = sum(span.tokens for span in rendered.images)
        raise UsageError(
            f"the prompt has {len(rendered.ids)} tokens{f' ({seen} of them pictures)' if seen else ''} and the answer "
            f"up to {max_new_tokens}, but the context of {info.name} holds {info.context_length}: "
            f"shorten the prompt{_SMALLER[any(one.frames > 1 for one in rendered.images)] if seen else ''} "
            "or lower max_new_tokens"
        )


def _check(
    messages: Sequence[Mapping[str, Any]], prefill: str, pictures: Sequence[Patches]
) -> list[dict[str, Any]]:
    """The messages as plain role, content and number of images; UsageError says which one is wrong."""
    checked: list[dict[str, Any]] = []
    total, named = len(prefill), 0
    for number, message in enumerate(messages, 1):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UsageError(f"message {number}: role is {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise UsageError(f"message {number}: content is a {type(content).__name__}; expected text")
        images = message.get("images", 0)
        images = len(images) if isinstance(images, list | tuple) else images
        if type(images) is not int or images < 0:
            raise UsageError(
                f"message {number}: images is {str(images)[:40]!r}; expected a list or a number of them"
            )
        shown = [is_video(picture) for picture in pictures[named : named + images]]
        checked.append({"role": role, "content": content, "images": images, "videos": shown})
        total += len(content)
        named += images
    for text in (*(message["content"] for message in checked), prefill):
        if _MARKS.search(text) or any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(
                "the prompt holds a lone surrogate or one of U+E0F1 to U+E0F3; remove that character"
            )
    if total > MAX_CHARACTERS:
        raise UsageError(f"the prompt has {total} characters; at most {MAX_CHARACTERS} are accepted")
    if not any(message["content"].strip() or message["images"] for message in checked):
        raise UsageError("the prompt is empty: give at least one message with text")
    if named != len(pictures):
        raise UsageError(f"the messages name {named} pictures, but {len(pictures)} were given")
    return checked


def _check_takes_pictures(tokenizer: Any, video: bool) -> None:
    """UsageError when the chat template has no place for a picture, or for a ``video``."""
    token, _ = video_token(tokenizer) if video else image_token(tokenizer)
    probe = [{"role": "user", "content": "x", "images": 1, "videos": [video]}]
    try:
        found = _template(tokenizer, probe, None).count(token)
    except UsageError:
        found = 0
    if found != 1:
        what, it = ("videos", "video") if video else ("pictures", "picture")
        raise UsageError(
            f"this model's chat template takes no {what}: load a model that reads them, or take the {it} out"
        )


def _with_frames(
    tokenizer: Any, text: str, spans: list[_Span], videos: Sequence[Patches]
) -> tuple[str, list[_Span]]:
    """The text with what stands for each video's frames in the place of its token, and where the bodies then lie."""
    token, number = video_token(tokenizer)
    places = [start for start, _, found in _control_places(tokenizer, text, spans) if found == number]
    parts, last, added = [], 0, 0
    moved = list(spans)
    for place, video in zip(places, videos, strict=False):
        said = framed(tokenizer, video)
        parts += [text[last:place], said]
        last = place + len(token)
        more = len(said) - len(token)
        moved = [
            _Span(s.start + more, s.stop + more, s.markup) if s.start >= place + added else s for s in moved
        ]
        added += more
    return "".join([*parts, text[last:]]), moved


def _apply(tokenizer: Any, messages: list[dict[str, Any]], thinking: bool | None) -> tuple[str, str]:
    """The template's text, with marks around the bodies and without."""
    text = _template(tokenizer, messages, thinking)
    _check_thinking(tokenizer, text, thinking)
    tags = [token for token in _added(tokenizer) if token not in _control(tokenizer)]
    # Some templates look at how a body begins (tool responses) or cut it at a tag (earlier thoughts): bodies
    # are wrapped as one whole where that changes nothing, else around the tags.
    for everywhere in (False, True):
        wrapped = [_wrap_message(message, tags, everywhere) for message in messages]
        marked = _template(tokenizer, wrapped, thinking)
        if _unmark(marked)[0] == text:
            return marked, text
    raise UsageError(
        "this model's chat template rewrites the messages in a way that cannot be followed; simplify them"
    )


def _template(tokenizer: Any, messages: list[dict[str, Any]], thinking: bool | None) -> str:
    import jinja2

    switch = {} if thinking is None else {"enable_thinking": thinking}
    turns = [{"role": message["role"], "content": _parts(message)} for message in messages]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switch)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the model's chat template refuses these messages: {reason}") from error


def _parts(message: dict[str, Any]) -> Any:
    """A message's content as templates take it: text alone, or its pictures and videos and then its text."""
    if not message.get("images"):
        return message["content"]
    text = [{"type": "text", "text": message["content"]}] if message["content"] else []
    shown = message.get("videos") or [False] * message["images"]
    return [*({"type": "video" if video else "image"} for video in shown), *text]


def _check_thinking(tokenizer: Any, text: str, thinking: bool | None) -> None:
    """UsageError when the template cannot do what ``thinking`` asks."""
    if "enable_thinking" in tokenizer.chat_template:
        return
    always = text.rstrip().endswith("<think>")
    if thinking and not always:
        raise UsageError(
            "thinking is on, but this model's chat template has no thinking switch; leave it unset"
        )
    if thinking is False and always:
        raise UsageError(
            "thinking is off, but this model's chat template always starts a thought; leave it unset"
        )


def _wrap_message(message: dict[str, Any], tags: list[str], everywhere: bool) -> dict[str, Any]:
    own = message["role"] == "assistant"
    mark = _MARKUP if own else _LITERAL
    if not tags or not (own or everywhere):
        return {**message, "content": _wrap(message["content"], mark)}
    parts = re.split(f"({'|'.join(map(re.escape, tags))})", message["content"])
    content = "".join(part if index % 2 else _wrap(part, mark) for index, part in enumerate(parts))
    return {**message, "content": content}


def _wrap(text: str, mark: str) -> str:
    """Marks around the text but for white space at its ends, which a template may strip."""
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return f"{text[:start]}{mark}{core}{_CLOSE}{text[start + len(core) :]}"


def _unmark(marked: str) -> tuple[str, list[_Span]]:
    """The text without marks, and where the marked bodies lie in it."""
    parts: list[str] = []
    spans: list[_Span] = []
    length = last = start = 0
    mark = ""
    for match in _MARKS.finditer(marked):
        parts.append(marked[last : match.start()])
        length += match.start() - last
        last = match.end()
        if match.group() == _CLOSE:
            if mark:
                spans.append(_Span(start, length, mark == _MARKUP))
            mark = ""
        else:
            start, mark = length, match.group()
    parts.append(marked[last:])
    return "".join(parts), spans


def _added(tokenizer: Any) -> list[str]:
    return [str(token) for token in tokenizer.get_added_vocab()]


def _control(tokenizer: Any) -> set[str]:
    """Tokens that only a template may write: special ones (``<|im_end|>``), not markup (``<think>``)."""
    decoder = tokenizer.added_tokens_decoder
    return {str(token) for token in decoder.values() if token.special}


def _tokenize(tokenizer: Any, text: str, spans: list[_Span]) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets of ``text``, where nothing inside ``spans`` counts as a control token."""
    added = _added(tokenizer)
    control = _control(tokenizer)
    forbidden = [(span, control if span.markup else added) for span in spans]
    if not any(token in text[span.start : span.stop] for span, tokens in forbidden for token in tokens):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [tuple(pair) for pair in encoded["offset_mapping"]]
    return _tokenize_apart(tokenizer, text, spans)


def _tokenize_apart(tokenizer: Any, text: str, spans: list[_Span]) -> tuple[list[int], list[tuple[int, int]]]:
    """The same for text with lookalikes: control tokens by hand, the stretches between by the merges."""
    pieces = _bare(tokenizer)
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    last = 0
    for start, stop, token in [*_control_places(tokenizer, text, spans), (len(text), len(text), None)]:
        stretch = pieces.encode(text[last:start], add_special_tokens=False)
        ids += stretch.ids
        offsets += [(last + a, last + b) for a, b in stretch.offsets]
        if token is not None:
            ids.append(token)
            offsets.append((start, stop))
        last = stop
    return ids, offsets


def _control_places(tokenizer: Any, text: str, spans: list[_Span]) -> list[tuple[int, int, int]]:
    """Where control tokens and markup really stand: ``(start, stop, id)``, in order."""
    ids = tokenizer.get_added_vocab()
    control = _control(tokenizer)
    outside = _alternatives(ids)
    inside = _alternatives([token for token in ids if token not in control])
    places: list[tuple[int, int, int]] = []
    last = 0
    for span in [*spans, _Span(len(text), len(text), False)]:
        stretches = [(outside, last, span.start)]
        if span.markup:
            stretches.append((inside, span.start, span.stop))
        for pattern, start, stop in stretches:
            if pattern is not None:
                places += [(*m.span(), ids[m.group()]) for m in pattern.finditer(text, start, stop)]
        last = span.stop
    return places


def _alternatives(tokens: Any) -> re.Pattern[str] | None:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


_BARE: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _bare(tokenizer: Any) -> Any:
    """The tokenizer's pipeline without its added tokens; built once a tokenizer."""
    import json

    from tokenizers import Tokenizer

    if tokenizer not in _BARE:
        pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
        pipeline["added_tokens"] = []
        pipeline["post_processor"] = None
        _BARE[tokenizer] = Tokenizer.from_str(json.dumps(pipeline))
    return _BARE[tokenizer]


def _assemble(
    ids: list[int],
    offsets: list[tuple[int, int]],
    text: str,
    spans: list[_Span],
    images: tuple[ImageSpan, ...],
) -> Rendered:
    pieces: list[str] = []
    content: list[bool] = []
    done = 0
    following = iter(spans)
    span = next(following, None)
    for start, stop in offsets:
        stop = max(stop, done)
        pieces.append(text[done:stop])
        done = stop
        while span is not None and span.stop <= start:
            span = next(following, None)
        content.append(span is not None and span.start < max(stop, start + 1) and bool(content))
    if pieces and done < len(text):
        pieces[-1] += text[done:]
    for image in images:
        for place in image.positions:
            content[place] = False
    return Rendered(ids, pieces, content, text, images)
