"""A difference is named by what most likely happened, and shown where it begins."""

import asyncio
from pathlib import Path

import pytest

from tests.parity.material import SETTINGS, hop_of, proof_of, talk
from vivace.config.parity import ParitySettings
from vivace.domain import Example, FunctionCall, Message, Model, Score, ToolCall
from vivace.domain.score import Interval
from vivace.errors import ConfigError
from vivace.models import ChatTokenizer
from vivace.parity import Finding, ParityReport, Place, awkward, choose, load_parity, reason, section, write_parity
from vivace.parity import difference as named
from vivace.parity.bounds import BOUNDS, bound, check_bounds, stretched
from vivace.parity.difference import compare, speech
from vivace.parity.findings import markdown, merge_reports, rows
from vivace.parity.rendering import Ask, Door, Expected, Rendering, Words, as_turn, render_stack, shown
from vivace.parity.scoring import Heard, distance_finding, ending_finding


def test_awkward_conversations_are_the_same_for_a_seed_and_hold_every_kind() -> None:
    assert awkward(200, 3) == awkward(200, 3)
    assert awkward(200, 3) != awkward(200, 4)
    made = awkward(200)
    assert len({example.id for example in made}) == 200
    assert all(example.messages[-1].role == "assistant" for example in made)
    texts = "".join(message.content for example in made for message in example.messages)
    for sign in ("\u200b", "👩\u200d👩", "أين", "e\u0301", "<|im_end|>", "{% raise %}", "订单"):
        assert sign in texts
    assert any(example.tools and any(turn.tool_calls for turn in example.messages) for example in made)
    assert any(not turn.content for example in made for turn in example.messages if turn.role == "user")
    assert any(turn.role == "system" for example in made for turn in example.messages)
    assert max(len(example.messages) for example in made) > 30


def test_only_conversations_that_end_with_an_answer_are_chosen_and_each_once() -> None:
    asked = Example("asked", (Message("user", "Hello?"),), "test")
    alone = Example("alone", (Message("assistant", "Hello."),), "test")
    own = [talk(number) for number in range(9)]
    settings = ParitySettings(conversations=5, awkward=3)
    chosen = choose([asked, alone, *own], settings)
    assert len(chosen) == 8
    assert len({example.id for example in chosen}) == 8
    assert not {"asked", "alone"} & {example.id for example in chosen}
    assert chosen == choose([asked, alone, *own], settings)
    assert chosen != choose([asked, alone, *own], settings.model_copy(update={"seed": 1}))
    assert len(choose(own, ParitySettings(conversations=100, awkward=0))) == 9


def test_the_first_place_is_shown_with_what_cannot_be_seen_written_out(tiny_model: Path) -> None:
    words = Words(tiny_model)
    chat = ChatTokenizer.open(tiny_model)
    ask = Ask(talk(1, "zero\u200bwidth"))
    wanted = chat.encode_chat(ask.example.prompt)
    place = list(wanted).index(chat.encode("\u200b")[-1])
    found = (*wanted[:place], *wanted[place + 1 :])
    told = compare(Expected(ask, Rendering(wanted)), Rendering(found), speech(chat, words), words)
    assert told is not None
    assert told.place.position == place
    assert "\\u200b" in told.place.expected
    assert shown("a\nb\u202e") == "a⏎b\\u202e"


def test_one_other_id_in_as_many_is_a_difference(tiny_model: Path) -> None:
    words, chat = Words(tiny_model), ChatTokenizer.open(tiny_model)
    ask = Ask(talk(1))
    wanted = chat.encode_chat(ask.example.prompt)
    found = (*wanted[:-1], wanted[-1] + 1)
    told = compare(Expected(ask, Rendering(wanted)), Rendering(found), speech(chat, words), words)
    assert told is not None
    assert (told.cause, told.place.position) == (named.TEMPLATE, len(wanted) - 1)
    assert compare(Expected(ask, Rendering(wanted)), Rendering(wanted), speech(chat, words), words) is None


@pytest.mark.parametrize("refused", ["", "no"])
def test_a_refusal_on_one_side_alone_differs(tiny_model: Path, refused: str) -> None:
    words, chat = Words(tiny_model), ChatTokenizer.open(tiny_model)
    ask = Ask(talk(1))
    rendered = Rendering(chat.encode_chat(ask.example.prompt))
    sides = (rendered, Rendering(refused="no")) if not refused else (Rendering(refused="no"), rendered)
    told = compare(Expected(ask, sides[0]), sides[1], speech(chat, words), words)
    assert told is not None
    assert told.cause == (named.NOT_REFUSED if refused else named.REFUSED)
    both = compare(Expected(ask, Rendering(refused="no")), Rendering(refused="never"), speech(chat, words), words)
    assert both is None


def test_every_cause_has_a_hint() -> None:
    causes = [value for name, value in vars(named).items() if name.isupper() and isinstance(value, str)]
    assert len(causes) == 14
    assert all(named.HINTS[cause] for cause in causes)


def test_other_programs_get_arguments_as_objects_and_the_developer_as_system() -> None:
    call = ToolCall("1", FunctionCall("find", '{"n": 1}'))
    broken = ToolCall("2", FunctionCall("find", "not json"))
    turn = as_turn(Message("assistant", "", tool_calls=(call, broken)))
    assert [each["function"]["arguments"] for each in turn["tool_calls"]] == [{"n": 1}, "not json"]
    assert as_turn(Message("developer", "x"))["role"] == "system"
    assert as_turn(Message("tool", "x", tool_call_id="1"))["tool_call_id"] == "1"


def test_what_reaches_the_door_is_what_an_engine_would_be_fed(tiny_model: Path) -> None:
    chat = ChatTokenizer.open(tiny_model)
    (rendered,) = asyncio.run(render_stack(chat, 1024, {"system": "Be kind."}, [Ask(talk(1))]))
    turns = (Message("system", "Be kind."), Message("user", "Where is my order?"))
    assert rendered.ids == chat.encode_chat(turns)
    assert rendered.messages == turns
    door = Door("d", chat, 1024)
    assert door.alive
    (refused,) = asyncio.run(render_stack(chat, 8, {}, [Ask(talk(1))]))
    assert "tokens even without its older turns" in refused.refused


def test_conversations_longer_than_the_context_are_cut_by_the_trainer_too(tiny_model: Path) -> None:
    turns = [Message(("user", "assistant")[n % 2], f"turn {n} " + "word " * 60) for n in range(40)]
    proof = proof_of(tiny_model, examples=[Example("much", tuple(turns), "test")])
    (expected,) = proof.expected
    assert expected.ask.room == 1023
    assert len(expected.rendering.ids) <= 1023
    assert all(each.met for each in asyncio.run(proof.check_tokens(hop_of(tiny_model))))


def heard(*logprobs: float, ids: tuple[int, ...] = (5, 6), finish: str = "stop") -> list[Heard]:
    return [Heard("a", logprobs, ids, "text", finish, 3)]


def test_a_bound_is_kept_or_broken_by_the_mean_distance_and_stretched_in_the_tail() -> None:
    near = distance_finding("h", heard(-1.0, -2.0), heard(-1.1, -2.0), 0.1)
    assert near is not None
    assert near.met
    assert near.figure is not None
    assert near.figure.value == pytest.approx(0.05)
    far = distance_finding("h", heard(-1.0, -2.0), heard(-1.3, -2.0), 0.1)
    assert far is not None
    assert not far.met
    assert "moved by more than these weights explain" in far.cause
    tail = distance_finding("h", heard(-9.0, -9.0), heard(-9.3, -9.0), 0.1)
    assert tail is not None
    assert tail.met
    assert stretched(0.1, 8.0) == pytest.approx(0.2)
    assert stretched(0.1, 2.0) == 0.1
    broken = distance_finding("h", heard(-1.0), heard(float("nan")), 0.1)
    assert broken is not None
    assert not broken.met
    assert distance_finding("h", heard(), heard(), 0.1) is None
    free = distance_finding("h", heard(-1.0), heard(-5.0), None)
    assert free is not None
    assert free.met


def test_bounds_go_by_format_first_and_the_users_win() -> None:
    onnx = Model("m", Path("m"), "onnx", "int8")
    assert bound(onnx) == BOUNDS["onnx-int8"]
    assert bound(Model("m", Path("m"), "gguf", "Q8_0")) == BOUNDS["Q8_0"]
    assert bound(Model("m", Path("m"), "hf", "fp32"), "bf16") == BOUNDS["bf16"]
    assert bound(Model("m", Path("m"), "gguf", "gguf")) is None
    assert bound(onnx, own={"int8": 0.5}) == BOUNDS["onnx-int8"]
    assert bound(onnx, own={"onnx-int8": 0.5}) == 0.5
    check_bounds({"int8": 1.0, "openvino-int4": 1.0})
    with pytest.raises(ConfigError, match="int9"):
        check_bounds({"int9": 1.0})


def test_answers_may_differ_but_not_run_on(tiny_model: Path) -> None:
    words = Words(tiny_model)

    def ends(ours: list[Heard], theirs: list[Heard], *, exact: bool = False) -> Finding:
        return ending_finding("h", ours, theirs, frozenset({2}), words, exact=exact)

    assert ends(heard(ids=(5, 6)), heard(ids=(7, 8, 9))).met
    assert ends(heard(ids=(5, 6)), heard(ids=(5, 6))).met
    assert ends(heard(ids=(5, 6)), heard(ids=(5, 6, 7))).cause == "goes on where the trained model ends"
    assert ends(heard(ids=(5, 6), finish="length"), heard(ids=(5, 6, 7))).met
    assert ends(heard(ids=(5, 6)), heard(ids=(9, 2, 7))).cause == "goes on after <|im_end|>"
    assert ends(heard(ids=(5, 6)), heard(ids=(5,))).met
    assert ends(heard(ids=(5, 6)), heard(ids=(5,)), exact=True).cause == "ends where the trained model goes on"


def report(*findings: Finding, name: str = "tuned") -> ParityReport:
    return ParityReport(name, ("trained", "served"), findings, 4, 2, ("A note.",))


def test_a_report_is_told_to_people_programs_and_the_gate(tmp_path: Path) -> None:
    figure = Score("logprob_distance", 0.1, Interval(0.05, 0.2), 2, "nats", higher_is_better=False)
    good = [
        Finding("served", "end of turn", True, "x", "x"),
        Finding("served", "first token", True, "y", "y"),
        Finding("served", "log-probabilities", True, found="0.1 nats", figure=figure, of=2),
    ]
    bad = Finding(
        "served", "token ids", False, cause="another | cause", hint="Do this.", differing=2, of=4,
        place=Place("own-1", 3, "a⏎b", "ab"),
    )  # fmt: skip
    whole = report(*good, bad)
    assert not whole.met
    assert reason(whole).met is False
    assert "served: token ids another | cause" in reason(whole).detail
    assert reason(report(*good)).met
    told = rows(whole.findings)
    assert told[0] == ("served", "files", "same", "end of turn, first token")
    assert len(told) == 3
    assert told[-1][2] == "DIFFERS"
    assert "2 of 4 conversations" in told[-1][3]
    assert "first in own-1, token 3: expected “a⏎b”, found “ab”" in told[-1][3]
    page = markdown(whole)
    assert "another \\| cause" in page
    assert "Do this." in page
    assert "A note." in page
    write_parity(whole, tmp_path)
    assert load_parity(tmp_path) == whole
    shown_ = section([whole])
    assert shown_ is not None
    assert shown_["candidates"][0]["hints"] == ["Do this."]
    assert section([]) is None
    both = merge_reports("x", [report(*good), report(bad)])
    assert both.hops == ("trained", "served")
    assert len(both.findings) == 4
    assert both.notes == ("A note.",)


def test_settings_refuse_what_cannot_be() -> None:
    assert SETTINGS.scored == 2
    for wrong in ({"scored": 0}, {"bounds": {"": 1.0}}, {"bounds": {"int8": -1.0}}, {"conversations": -1}):
        with pytest.raises(ValueError, match="1 validation error"):
            ParitySettings(**wrong)
