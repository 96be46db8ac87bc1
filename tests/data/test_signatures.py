"""Signatures, quoted replies, disclaimers: what is taken out, and that no answer is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rooms import run_step
from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.data.steps.signatures import strip
from vivace.domain import Example, Message

ASK = "Where is my parcel?\nIt should have come on Monday."

DIRT = {
    "device lines removed": ["Sent from my iPhone", "Sent from my Samsung Galaxy smartphone.", "Get Outlook for iOS"],
    "help-desk lines removed": [
        "##- Please type your reply above this line -##",
        "This email is a service from Acme. Delivered by Zendesk",
        "Please consider the environment before printing this e-mail.",
    ],
    "quoted replies removed": [
        "On Tue, 5 Nov 2024 at 10:31, Acme Support <help@acme.example> wrote:\n> Dear Jane,\n> we are sorry.",
        "On Tue, 5 Nov 2024 at 10:31, Acme Support\n<help@acme.example> wrote:\n\nDear Jane,\nwe are sorry.",
        "-----Original Message-----\nFrom: Acme\nDear Jane, we are sorry.",
        "From: Acme <help@acme.example>\nSent: Tuesday, November 5, 2024 10:31\nTo: Jane\nSubject: RE: Parcel\n\nHi",
        "Am Di., 5. Nov. 2024 um 10:31 Uhr schrieb Acme <help@acme.example>:\n> Hallo",
        "> Dear Jane,\n> we are sorry.",
    ],
    "signatures removed": [
        "--\nJane Doe\nHead of Tea\n+1 977 625 2661",
        "Kind regards,\nJane Doe\nAcme Inc.\nwww.acme.example",
        "Best,\nJane",
        "Thanks,\nJane Doe\n[EMAIL_1]",
        "Mit freundlichen Grüßen\nJane Doe",
    ],
    "disclaimers removed": [
        "This e-mail is confidential and may be privileged. If you are not the intended recipient, delete it.",
        "CONFIDENTIALITY NOTICE: This message is intended only for the use of the addressee.",
    ],
}


@pytest.mark.parametrize(("kind", "dirt"), [(kind, dirt) for kind, all_of in DIRT.items() for dirt in all_of])
def test_what_programs_add_is_taken_out_and_counted_by_kind(kind: str, dirt: str) -> None:
    assert strip(f"{ASK}\n\n{dirt}") == (ASK, {kind: 1})


def test_a_whole_mail_shrinks_to_what_was_written() -> None:
    mail = "\n\n".join(
        [ASK, DIRT["signatures removed"][1], *DIRT["disclaimers removed"], DIRT["quoted replies removed"][0]]
    )
    text, counts = strip(mail)
    assert text == ASK
    assert set(counts) == {"signatures removed", "disclaimers removed", "quoted replies removed"}


def test_an_answer_below_or_between_quoted_lines_stays() -> None:
    mail = "On 5 Nov 2024, Acme Support wrote:\n> Which size?\nSize nine.\n> Which color?\nBlue, please."
    assert strip(mail)[0] == "Size nine.\nBlue, please."


@pytest.mark.parametrize(
    "text",
    [
        "It was sent from my phone, the other mail came from my iPad.",
        "Thanks,\nwhere is my parcel",
        "Thanks,\nPlease send it again.",
        "Thanks,\nJane\nPlease leave it with the neighbor, I am not at home.",
        "Best regards to your team, and where is it?\nSince Monday I wait.",
        "On Monday I called and your colleague wrote: it will come.\nIt did not.",
        "Is my data confidential?\nI read that this message is recorded.",
        "Use these:\n-- verbose\n-- quiet",
        "From: Berlin\nTo: Paris\nDate: Monday, please book it.",
        "```\n> quoted\n--\nJane\n```\nwhat does this print?",
        "> Dear Jane, we are sorry.\n> It will come.",
        "Price list:\n--\nIs the first one right?",
    ],
)
def test_what_somebody_wrote_stays(text: str) -> None:
    assert strip(text) == (text, {})


def test_a_block_quotation_of_an_agent_is_part_of_the_answer() -> None:
    answer = "The page says:\n> Returns are free.\n> They take 14 days."
    row = Row(Example("x", (Message("user", "Are returns free?"), Message("assistant", answer))))
    assert run_step("signatures", [row], DataSettings())[0] == [row]


def test_turns_and_rejected_turns_are_stripped_and_tool_results_are_not() -> None:
    dirty = "Yes, it is.\n\nSent from my iPhone"
    messages = (Message("user", f"{ASK}\n\nSent from my iPhone"), Message("tool", dirty), Message("assistant", dirty))
    row = Row(Example("x", messages, rejected=(Message("assistant", dirty),)))
    [cleaned], trail = run_step("signatures", [row], DataSettings())
    assert [message.content for message in cleaned.example.messages] == [ASK, dirty, "Yes, it is."]
    assert cleaned.example.rejected[0].content == "Yes, it is."
    assert trail.changes == {"device lines removed": 3}
    assert trail.samples[0].after == ASK


PIECES = st.sampled_from(
    [ASK, "Hi", "> x", "--", "Thanks,", "Jane Doe", "", *(dirt for all_of in DIRT.values() for dirt in all_of)]
)


@given(st.lists(PIECES | st.text(max_size=20), max_size=7), st.sampled_from(["\n", "\n\n"]))
def test_stripping_twice_changes_nothing_more(pieces: list[str], glue: str) -> None:
    once, _counts = strip(glue.join(pieces))
    assert strip(once) == (once, {})
