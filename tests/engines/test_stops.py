"""Stop strings are cut wherever the pieces of the text fall."""

from hypothesis import given
from hypothesis import strategies as st

from vivace.engines.stops import StopStrings

letters = st.text(alphabet="abX ", max_size=40)
stops = st.lists(st.text(alphabet="abX ", min_size=1, max_size=4), max_size=3)


def cut(text: str, wanted: list[str]) -> str:
    places = [text.index(stop) for stop in wanted if stop in text]
    return text[: min(places)] if places else text


@given(letters, stops, st.data())
def test_any_split_of_a_text_is_cut_where_the_whole_would_be(text: str, wanted: list[str], data: st.DataObject) -> None:
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *borders], [*borders, len(text)], strict=True)]
    cutter = StopStrings(wanted)
    told = "".join(cutter.push(piece) for piece in pieces) + cutter.flush()
    # Piece by piece the stop string that is complete first wins, which may begin after one that is complete later.
    assert told.startswith(cut(text, wanted))
    assert all(stop not in told for stop in wanted)
    assert cutter.found == any(stop in text for stop in wanted)


@given(letters, st.text(alphabet="abX ", min_size=1, max_size=4))
def test_one_stop_string_cuts_exactly_at_its_first_place(text: str, stop: str) -> None:
    cutter = StopStrings([stop])
    assert "".join(cutter.push(letter) for letter in text) + cutter.flush() == cut(text, [stop])


def test_what_cannot_begin_a_stop_string_is_told_at_once() -> None:
    cutter = StopStrings(["END"])
    assert cutter.push("hello") == "hello"
    assert cutter.push(" EN") == " "
    assert cutter.push("X") == "ENX"


def test_without_stop_strings_nothing_is_held_back() -> None:
    cutter = StopStrings(["", ""])
    assert (cutter.push("anything"), cutter.flush(), cutter.found) == ("anything", "", False)
