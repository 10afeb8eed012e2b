"""Tokens to text while they come, in pieces that never change afterwards."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import cache
from typing import Any


@cache
def _bytes_of_characters() -> dict[str, int]:
    """The printable characters that byte-level BPE writes the 256 bytes as (GPT-2's table), reversed."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in set(plain)]
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


class Vocabulary:
    """The bytes of every token of a byte-level tokenizer. Special tokens have none: they are not text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {
            number: b"" if token.special else str(token).encode()
            for number, token in tokenizer.added_tokens_decoder.items()
        }
        self._known: dict[int, bytes] = {}

    def token(self, number: int) -> bytes:
        """The bytes of one token; none for ids past the vocabulary, which padded checkpoints have."""
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self._read(number)
        return found

    def _read(self, number: int) -> bytes:
        if number in self._added:
            return self._added[number]
        if not 0 <= number < len(self._tokenizer):
            return b""
        word = self._tokenizer.convert_ids_to_tokens(number)
        table = _bytes_of_characters()
        if word is None:
            return b""
        if all(character in table for character in word):
            return bytes(table[character] for character in word)
        return word.encode()


class Detokenizer:
    """Text from tokens, one at a time. The pieces joined are the text so far, and stay so.

    A character whose bytes are spread over several tokens comes with the last of them; bytes that are no
    UTF-8 become U+FFFD, as in decoding the whole. With ``stops``, what may be the beginning of a stop text is
    held back until it is clear; when one is complete, ``stopped`` is True and the text ends before it.
    """

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stops)
        self._held = ""
        self._parts: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """What has been given out."""
        return "".join(self._parts)

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        return self._give(self._decoder.decode(self._vocabulary.token(token)), final=False)

    def finish(self) -> str:
        """What was held back, at the end."""
        return self._give(self._decoder.decode(b"", final=True), final=True)

    def _give(self, more: str, final: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + more
        self._held = ""
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped = True
            text = text[: min(places)]
        elif not final and self._stops:
            keep = max(_overlap(text, stop) for stop in self._stops)
            if keep:
                text, self._held = text[:-keep], text[-keep:]
        if text:
            self._parts.append(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
