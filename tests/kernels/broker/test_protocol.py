"""Framing: any chopping gives the same bodies; lengths are bounded; versions are negotiated."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels import protocol
from labtui_kernels.protocol import LENGTH, Frames, ProtocolError


@given(st.lists(st.binary(max_size=200), max_size=12), st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_whole_however_they_were_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(LENGTH.pack(len(body)) + body for body in bodies)
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += list(frames.feed(stream[at : at + step]))
        at, turn = at + step, turn + 1
    assert found == bodies
    assert frames.pending == 0


@given(st.integers(1, 2**32 - 1))
def test_a_frame_over_the_limit_is_refused_before_it_is_read(extra: int) -> None:
    length = min(2**32 - 1, 1000 + extra)
    with pytest.raises(ProtocolError, match="announces"):
        list(Frames(1000).feed(LENGTH.pack(length)))


@given(st.binary(max_size=300))
def test_no_bytes_but_messages_are_decoded(body: bytes) -> None:
    for decode in (protocol.decode_client, protocol.decode_broker, protocol.decode_from_worker):
        try:
            assert isinstance(decode(body), protocol.Message)
        except ProtocolError as error:
            assert "\n" not in str(error)


def test_a_message_survives_the_wire() -> None:
    sent = protocol.Request(7, "submit", {"spec": {"kind": "sweep", "strengths": [1.5, "8%"]}})
    (body,) = Frames().feed(protocol.encode(sent))
    assert protocol.decode_client(body) == sent


async def test_a_stream_that_ends_within_a_frame_is_told_from_one_that_ends() -> None:
    for data, whole in ((b"", True), (b"\x01", False), (b"\x05\x00\x00\x00ab", False)):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        if whole:
            assert await protocol.read_frame(reader) is None
        else:
            with pytest.raises(ProtocolError, match="within a frame"):
                await protocol.read_frame(reader)


def test_versions_meet_or_say_which_side_to_renew() -> None:
    assert protocol.negotiate(1, 5, "toy") == protocol.VERSION
    with pytest.raises(UsageError, match=r"labtui is older.*labtui kernel stop toy"):
        protocol.negotiate(protocol.VERSION + 1, protocol.VERSION + 2, "toy")
    with pytest.raises(UsageError, match=r"the other side is older"):
        protocol.negotiate(0, protocol.MIN_VERSION - 1, "toy")
