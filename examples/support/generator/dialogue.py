"""Builds conversations from the banks: training ones in many voices, test ones from separate wordings."""

import random
from dataclasses import dataclass, field

from generator import bank, voices
from generator.scenario import draw

Message = dict[str, str]
ORDER_INTENTS = ("order_status", "parcel_missing", "refund_status", "change_address")
TEST_NEEDS = {
    "two espressos a day in a small kitchen": "a tiny flat and a couple of shots daily",
    "milk drinks for the whole family": "five people who all want lattes",
    "cappuccino at the push of a button": "foamy coffee without any effort",
    "a small office with eight people": "a team of eight at work",
    "big pots of filter coffee": "long meetings with lots of drip coffee",
    "pour-over at home": "slow brewing by hand",
    "learning to make real espresso": "a beginner who wants to become a barista",
    "someone who has no patience in the morning": "a sleepy person in a rush",
}


@dataclass
class Conversation:
    """One conversation with its subject and the dirt planted in it."""

    messages: list[Message]
    intent: str
    order: str = "KV-000000"
    dirt: set[str] = field(default_factory=set)
    origin: "Conversation | None" = None
    ticket: str = ""
    opened_at: str = ""
    channel: str = ""
    customer: str = ""


def grams(text: str, size: int = 5) -> set[tuple[str, ...]]:
    """The word n-grams of a text, without case and punctuation."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def customer_text(messages: list[Message]) -> str:
    """All customer turns of a conversation as one text."""
    return "\n".join(m["content"] for m in messages if m["role"] == "user")


class Writer:
    """Writes conversations and remembers what it wrote, so that none repeats another."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.intents = bank.load()
        self.replies: set[str] = set()
        self.written: dict[str, list[set[tuple[str, ...]]]] = {name: [] for name in self.intents}
        self.queue: dict[str, list[str]] = {}

    def training(self, name: str) -> Conversation:
        """Write a training conversation that is not close to an earlier one."""
        best: tuple[float, Conversation, set[tuple[str, ...]]] | None = None
        for _ in range(12):
            draft = self._draft(self.intents[name], test=False)
            shape = grams("\n".join(m["content"] for m in draft.messages))
            close = max((len(shape & other) / len(shape | other) for other in self.written[name]), default=0.0)
            if best is None or close < best[0]:
                best = (close, draft, shape)
            if close < 0.25:
                break
        assert best is not None
        self.written[name].append(best[2])
        self.replies |= {m["content"] for m in best[1].messages if m["role"] == "assistant"}
        return best[1]

    def testing(self, name: str, opening: str) -> Conversation:
        """Write a test conversation whose reference answer never occurs in training."""
        for _ in range(200):
            draft = self._draft(self.intents[name], test=True, opening=opening)
            answer = draft.messages[-1]["content"]
            if answer not in self.replies and 20 <= len(answer.split()) <= 52:
                self.replies.add(answer)
                return draft
        raise RuntimeError(f"no unseen reference answer for {name}: {opening}")

    def _next_opening(self, intent: bank.Intent) -> str:
        left = self.queue.setdefault(intent.name, [])
        if not left:
            left.extend(self.rng.sample(intent.train, len(intent.train)))
        return left.pop()

    def _draft(self, intent: bank.Intent, *, test: bool, opening: str = "") -> Conversation:
        rng = self.rng
        opening = opening or self._next_opening(intent)
        slots, tags = draw(intent.name, rng)
        while not bank.matching([opening], tags):
            slots, tags = draw(intent.name, rng)
        focus, spoken = bank.focus(opening), bank.mentions(opening)
        opening = bank.matching([opening], tags)[0]
        if spoken & {"country", "city"}:
            tags.add("place")
        tags |= {f"has{slot}" for slot in ("points", "beans2") if "{" + slot + "}" in opening}
        if "color" in tags and "{color}" in opening:
            tags.add("hasaltcolor")
        said = slots | ({"need": TEST_NEEDS[slots["need"]]} if test else {})
        habit = "plain" if test else rng.choice(voices.HABITS)
        text = bank.expand(opening, said, rng)
        if test:
            text = f"{rng.choice(voices.TEST_GREETINGS)} {voices.soften(text)}" if rng.random() < 0.3 else text
        else:
            text = voices.speak(text, habit, intent.upset, rng)
        turns = [text]
        lead = ""
        if not test and intent.name in ORDER_INTENTS and rng.random() < 0.3:
            turns += [rng.choice(voices.ASK_ORDER), rng.choice(voices.GIVE_ORDER).format(order=slots["order"])]
            lead = rng.choice(voices.AFTER_ORDER) + " "
        turns.append(
            lead
            + (self._focused(intent, focus, said) if focus else self._answer(intent, spoken, tags, bool(lead), said))
        )
        weights = (50, 42, 8) if test else (12, 66, 22)
        turns += self._follow(intent, focus, spoken, said, tags, habit, test, rng.choices((0, 1, 2), weights)[0])
        if not test and rng.random() < 0.11:
            turns += rng.choice(voices.THANKS)
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(turns)]
        return Conversation(messages, intent.name, slots["order"])

    def _focused(self, intent: bank.Intent, focus: str, said: dict[str, str]) -> str:
        parts = intent.focused.get(focus) or (intent.follow_ups[focus].replies,)
        return " ".join(bank.expand(self.rng.choice(lines), said, self.rng) for lines in parts)

    def _answer(self, intent: bank.Intent, spoken: set[str], tags: set[str], led: bool, said: dict[str, str]) -> str:
        rng = self.rng
        parts = []
        fact = rng.choice(bank.answerable(bank.matching(intent.facts, tags), spoken))
        if intent.upset and not led and "orry" not in fact and rng.random() < 0.3:
            parts.append(rng.choice(voices.SORRY))
        parts.append(fact)
        steps, nexts = (bank.answerable(bank.matching(lines, tags), spoken) for lines in (intent.steps, intent.nexts))
        if steps:
            parts.append(rng.choice(steps))
        if nexts and rng.random() < 0.75:
            parts.append(rng.choice(nexts))
        return " ".join(bank.expand(part, said, rng) for part in parts)

    def _follow(
        self,
        intent: bank.Intent,
        focus: str,
        spoken: set[str],
        said: dict[str, str],
        tags: set[str],
        habit: str,
        test: bool,
        count: int,
    ) -> list[str]:
        rng = self.rng
        turns: list[str] = []
        for name in rng.sample(list(intent.follow_ups), len(intent.follow_ups)):
            follow_up = intent.follow_ups[name]
            questions = bank.matching(follow_up.test if test else follow_up.train, tags)
            asked = rng.choice(questions) if questions else ""
            replies = bank.answerable(bank.matching(follow_up.replies, tags), spoken | bank.mentions(asked))
            if asked and replies and name != focus and len(turns) < 2 * count:
                question = bank.expand(asked, said, rng)
                turns += [voices.type_like(question, habit, rng), bank.expand(rng.choice(replies), said, rng)]
        return turns
