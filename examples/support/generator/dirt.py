"""Plants the natural dirt of a real export, and keeps account of every piece of it."""

import html
import random
from pathlib import Path

from generator import voices
from generator.dialogue import Conversation, grams

STRAYS = Path(__file__).resolve().parent / "strays.txt"
CARDS = (
    "4111 1111 1111 1111",
    "5555 5555 5555 4444",
    "4242 4242 4242 4242",
    "3782 822463 10005",
    "6011 1111 1111 1117",
    "4012888888881881",
    "5105105105105100",
)
EMAIL_WORDS = (
    "mira.holt",
    "j.vandenberg",
    "kat1989",
    "tomas.lind",
    "aoife.b",
    "ruben-k",
    "nora.winter",
    "elin_s",
    "p.moreira",
    "carla.conti",
    "the.owens",
    "freya.dahl",
    "hugo.m",
    "sanne82",
    "luca.r",
)
PII_LINES = {
    "email": (
        "You can reach me at {email}.",
        "My e-mail is {email}.",
        "The account is under {email}.",
        "Please answer to {email}, I don't check this one often.",
    ),
    "phone": (
        "My phone is {phone}.",
        "Call me on {phone} if that's quicker.",
        "You can also text {phone}.",
        "Mobile: {phone}",
    ),
    "order": ("Order {order}.", "My order number is {order}.", "It's about {order}.", "(order no. {order})"),
    "card": (
        "I paid with card {card}, if you need it.",
        "The card was {card}.",
        "Here is my card number again: {card}",
    ),
}
MARKUP = (("& ", "&amp; "), (". ", ".<br>"), (", ", ",&nbsp;"), ("'", "&#39;"), ('"', "&quot;"), ("? ", "?</p><p>"))


def copies(base: list[Conversation], rng: random.Random, count: int) -> list[Conversation]:
    """Repeat conversations exactly, as an export does that ran twice."""
    made = []
    for source in rng.sample(base, count):
        messages = [dict(message) for message in source.messages]
        made.append(Conversation(messages, source.intent, source.order, {"exact_duplicate"}, source))
    return made


def near_copies(base: list[Conversation], rng: random.Random, count: int) -> list[Conversation]:
    """Repeat conversations with small edits: typos, another greeting, another order number."""
    made: list[Conversation] = []
    for source in rng.sample(base, len(base)):
        if len(made) == count:
            break
        messages = [dict(message) for message in source.messages]
        first = messages[0]
        first["content"] = voices.add_typos(first["content"], rng, 1)
        edit = rng.choice(("greeting", "ending", "tail"))
        if edit == "greeting":
            first["content"] = f"{rng.choice(('Hello!', 'Hi again,', 'Hey!', 'Good afternoon,'))} {first['content']}"
        elif edit == "ending":
            first["content"] += rng.choice((" Thanks!", " Please help.", " Thank you"))
        else:
            messages[-1]["content"] += rng.choice((" Best regards, your Kellvane team", " Have a nice day!"))
        for message in messages:
            message["content"] = message["content"].replace(source.order, f"KV-{rng.randint(210000, 989999)}")
        if _closeness(messages, source.messages) >= 0.75 and messages != source.messages:
            made.append(Conversation(messages, source.intent, source.order, {"near_duplicate"}, source))
    return made


def _closeness(one: list[dict[str, str]], other: list[dict[str, str]]) -> float:
    first, second = (grams("\n".join(m["content"] for m in messages), 3) for messages in (one, other))
    return len(first & second) / len(first | second)


def break_encoding(conversation: Conversation, rng: random.Random) -> None:
    """Damage the text as a wrong code page or an HTML editor would."""
    whole = "".join(m["content"] for m in conversation.messages)
    if any(mark in whole for mark in "'€°") and rng.random() < 0.6:
        for message in conversation.messages:
            curly = message["content"].replace("'", "’")
            message["content"] = curly.encode("utf-8").decode("cp1252", errors="replace")
        conversation.dirt.add("mojibake")
        return
    for message in conversation.messages:
        text = html.escape(message["content"], quote=False) if "&" in message["content"] else message["content"]
        for old, new in rng.sample(MARKUP, 3):
            text = text.replace(old, new, 1)
        message["content"] = f"<p>{text}</p>" if rng.random() < 0.5 else text
    first = conversation.messages[0]
    if not any(sign in first["content"] for sign in ("&", "<")):
        first["content"] = f"<div>{first['content']}</div>"
    conversation.dirt.add("markup")


def add_personal(conversation: Conversation, kind: str, rng: random.Random) -> None:
    """Let the customer mention an e-mail address, a phone, an order or a card number."""
    values = {
        "email": rng.choice(EMAIL_WORDS)
        + rng.choice(("", "", "7", "21"))
        + "@example."
        + rng.choice(("com", "org", "net")),
        "phone": rng.choice(("+31 6 555 0{0} {1}", "+44 7700 900{2}", "+49 30 5550 {0}{2}", "06-5550{0}{1}")).format(
            rng.randint(10, 99), rng.randint(10, 99), rng.randint(100, 999)
        ),
        "order": conversation.order,
        "card": rng.choice(CARDS),
    }
    message = rng.choice([m for m in conversation.messages if m["role"] == "user" and m["content"]][:2])
    text = message["content"].rstrip()
    stop = "" if text.endswith((".", "!", "?", "...", ",")) else "."
    message["content"] = f"{text}{stop} {rng.choice(PII_LINES[kind]).format(**values)}"
    conversation.dirt.add(f"{kind}_planted")


def strays() -> list[Conversation]:
    """Read the off-topic and other-language conversations."""
    made: list[Conversation] = []
    kind = ""
    for block in STRAYS.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("# "):
            kind = lines.pop(0)[2:].replace("-", "_").replace(" ", "_")
        intent = "other"
        if kind == "other_language":
            _, intent, first = lines[0][2:].split("|", 2)
            lines[0] = f"u {first}"
        roles = {"u": "user", "a": "assistant"}
        messages = [{"role": roles[line[0]], "content": line[2:]} for line in lines]
        made.append(Conversation(messages, intent, dirt={kind}))
    return made


def empty_turn(conversation: Conversation, rng: random.Random) -> None:
    """Empty one turn in the middle, as a lost attachment leaves it."""
    at = rng.randrange(1, len(conversation.messages) - 1)
    conversation.messages[at]["content"] = rng.choice(("", " ", "\n"))
    conversation.dirt.add("empty_turn")


def unanswered(conversation: Conversation, rng: random.Random) -> None:
    """Drop the last answer, so that the customer speaks last."""
    conversation.messages.pop()
    conversation.dirt.add("unanswered")
