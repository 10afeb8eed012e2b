"""Token ids to text as they arrive: pieces that never change what was already shown."""

from __future__ import annotations

import codecs
import functools
from typing import Any


class PieceDecoder:
    """Decodes one answer token by token. Qwen tokenizers are byte-level, so a character may
    span several tokens.

    The pieces of an answer, joined with the last :meth:`flush`, are its text; a character appears with the
    token that completes it. Special tokens (``<|im_end|>``) are shown only with ``special=True``; markup
    (``<think>``) always is.
    """

    def __init__(self, tokenizer: Any, *, special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._added = dict(tokenizer.added_tokens_decoder)
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that this token adds: ``""`` while a character is incomplete."""
        added = self._added.get(token)
        if added is not None:
            return self.flush() + (str(added) if self._special or not added.special else "")
        written = self._tokenizer.convert_ids_to_tokens(token)
        if written is None:  # padding of the vocabulary, which no text encodes to
            return self.flush()
        alphabet = _byte_of()
        raw = bytes(alphabet[character] for character in written if character in alphabet)
        return self._bytes.decode(raw)

    def flush(self) -> str:
        """What is left of an incomplete character (as U+FFFD); the decoder is then fresh."""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest


@functools.cache
def _byte_of() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, the alphabet of byte-level BPE, back to the bytes.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for U+0100 upwards.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}
