"""Incremental text: prefix-stable, equal to decoding the whole, and cut at stop texts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from labtui_kernels.recipes.detokenize import Detokenizer, Vocabulary
from tests.support.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)


def pieces(ids: list[Any], stops: list[str] | None = None) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(VOCABULARY, stops or [])
    found: list[str] = []
    for token in ids:
        before = detokenizer.text
        found.append(detokenizer.push(token))
        assert detokenizer.text == before + found[-1]
        if detokenizer.stopped:
            break
    found.append(detokenizer.finish())
    return found, detokenizer


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_any_tokens_give_the_text_of_decoding_them_at_once(ids: list[int]) -> None:
    found, detokenizer = pieces(ids)
    whole = TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(found) == detokenizer.text == whole


@given(st.text(max_size=30))
def test_text_comes_back_in_pieces_without_broken_characters(text: str) -> None:
    ids = TOKENIZER(text.replace("<|", ""), add_special_tokens=False)["input_ids"]
    found, _ = pieces(list(ids))
    assert "".join(found) == TOKENIZER.decode(ids, clean_up_tokenization_spaces=False)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


def test_a_character_comes_with_its_last_byte() -> None:
    ids = list(TOKENIZER("漢", add_special_tokens=False)["input_ids"])
    found, _ = pieces(ids)
    assert len(ids) > 1
    assert found == [""] * (len(ids) - 1) + ["漢", ""]


def test_special_and_padding_tokens_are_no_text_but_markup_is() -> None:
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    think = TOKENIZER.convert_tokens_to_ids("<think>")
    assert "".join(pieces([end, think, len(TOKENIZER) + 5])[0]) == "<think>"


@given(
    st.text("abAB", max_size=24), st.lists(st.text("abAB", min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_text_ends_before_the_first_stop(text: str, stops: list[str]) -> None:
    ids = list(TOKENIZER(text, add_special_tokens=False)["input_ids"])
    found, detokenizer = pieces(ids, stops)
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    given_out = "".join(found)
    assert detokenizer.stopped == bool(ends)
    assert text.startswith(given_out)
    assert not any(stop in given_out for stop in stops)
    if not ends:
        assert given_out == text
