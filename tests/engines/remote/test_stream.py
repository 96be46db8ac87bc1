"""Bytes become events, wherever the network cuts them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.engines.remote.stream import Body, EventStream, Garbled

STREAM = "﻿: hi\ndata: Zoë\ndata: 🙂 two\nid: 7\n\nevent: x\ndata:{}\n\n\ndata\ndata: \n\ndata: last\n\n"
EVENTS = ["Zoë\n🙂 two", "{}", "last"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_every_way_to_cut_gives_the_same_events(ending: str, cuts: list[int]) -> None:
    data = STREAM.replace("\n", ending).encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    stream = EventStream()
    found = [event for start, end in pairwise(places) for event in stream.push(data[start:end])]
    if (rest := stream.flush()) is not None:
        found.append(rest)
    assert [event for event in found if event.strip()] == EVENTS


def test_one_byte_at_a_time() -> None:
    for ending in ("\n", "\r\n", "\r"):
        stream = EventStream()
        data = STREAM.replace("\n", ending).encode()
        found = [event for byte in data for event in stream.push(bytes([byte]))]
        rest = stream.flush()
        assert [event for event in [*found, rest or ""] if event.strip()] == EVENTS


def test_after_done_nothing_is_read() -> None:
    body = Body()
    assert list(body.push(b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: rubbish\n\n')) == [{"a": 1}]
    assert body.done


def test_what_is_no_object_is_garbled() -> None:
    for data in (b"data: [1]\n\n", b"data: 1\n\n", b"data: {\n\n", b"data: " + b"[" * 10_000 + b"\n\n"):
        with pytest.raises(Garbled):
            list(Body().push(data))
    body = Body()
    assert list(body.push(b" [1]")) == []
    with pytest.raises(Garbled):
        list(body.end())
