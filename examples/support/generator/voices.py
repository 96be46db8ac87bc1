"""How different customers write: greetings, moods, typing habits and sign-offs."""

import random
import re

GREETINGS = (
    "Hi,",
    "Hello,",
    "Hi there,",
    "Hey,",
    "Good morning,",
    "Good evening,",
    "Hello Kellvane team,",
    "Hi team,",
    "Dear support,",
)
TEST_GREETINGS = ("Hiya,", "Good day,", "Hello again,", "Hey folks,", "Dear Kellvane,", "Afternoon,")
CHATTY = (
    "First of all, I love the coffee you roast!",
    "I hope you're having a good week.",
    "Long-time customer here.",
    "Not sure I'm writing to the right place.",
    "I read your help pages but got stuck.",
    "My partner says I should just ask you, so here I am.",
    "I'm on the train, so excuse the short message.",
    "Sorry if this has been asked a hundred times.",
    "I tried calling but the line was busy.",
    "We've been customers since you had only two blends.",
    "It's my first order with you.",
    "Small question before my next coffee.",
    "You helped me so well last time.",
    "I don't usually write to support, but...",
)
ANGRY = (
    "Seriously?",
    "This is really annoying.",
    "I'm quite frustrated.",
    "Not impressed so far.",
    "I expected better from you.",
    "This is the second time I'm writing!",
    "Honestly, this is a joke.",
)
POLITE_ENDS = (
    "Thanks in advance!",
    "Thank you for your help.",
    "Many thanks.",
    "I'd appreciate your help.",
    "Thanks a lot, and have a nice day.",
    "Best regards",
    "Kind regards",
)
NAMES = (
    "Mira",
    "Jonas",
    "Ines",
    "Tom",
    "Aoife",
    "Katrin",
    "Paulo",
    "Sanne",
    "Ruben",
    "Elin",
    "Marta",
    "Luca",
    "Freya",
    "Hugo",
    "Nora",
    "Owen",
    "Carla",
    "Bram",
)
ASK_ORDER = (
    "Happy to look into that. Could you send me the order number? It starts with KV.",
    "I will check that right away. What is the order number, please? You find it in the confirmation e-mail.",
    "Let me look that up for you. Which order is it? The number begins with KV.",
    "Of course. Please send me your order number, so that I see the right parcel.",
    "I can check that. May I have the order number from your confirmation?",
)
GIVE_ORDER = (
    "It's {order}.",
    "{order}",
    "Sure, {order}.",
    "Order {order}",
    "The number is {order}, I think.",
    "here: {order}",
    "{order}, placed last week.",
    "Had to dig for it: {order}.",
)
AFTER_ORDER = (
    "Thanks, I have it in front of me.",
    "Thank you, found it.",
    "Thanks, I see the order.",
    "Got it, thanks.",
)
SORRY = ("Sorry about the trouble.", "I am sorry about that.", "That is annoying, sorry.", "Sorry to hear that.")
THANKS = (
    ("Perfect, thank you!", "You are welcome. Enjoy your coffee, and write to us any time."),
    (
        "Great, that's all I needed.",
        "Glad I could help. This conversation stays open for 7 days if something comes up.",
    ),
    ("ok thanks", "You are welcome. If anything else comes up, just reply here."),
    ("Great, thanks for the quick answer!", "Good to hear. I am closing the ticket; a reply opens it again."),
    ("Thanks, I'll see how it goes.", "Good luck with it. If it does not work, reply here and we pick it up again."),
    ("Super helpful, cheers.", "My pleasure. You can reach us Monday to Friday 8 to 18 and Saturday 9 to 13."),
    ("Alright, I'll do that.", "Perfect. Reply here if you get stuck and we will go through it together."),
    ("Good service, thank you.", "Thank you for the kind words, I will pass them on to the team."),
)
HABITS = ("plain", "plain", "plain", "greeting", "greeting", "chatty", "polite", "terse", "typos", "foreign", "angry")


def speak(text: str, habit: str, upset: bool, rng: random.Random) -> str:
    """Write the opening of a training conversation the way this customer would."""
    greeting = rng.choice(GREETINGS)
    if text[:1].islower() and habit not in ("terse", "typos"):
        return text
    text = text if text.endswith((".", "!", "?", "...")) or habit == "plain" else f"{text}."
    if habit == "greeting":
        return f"{greeting} {soften(text)}"
    if habit == "chatty":
        start = f"{greeting} {soften(rng.choice(CHATTY))}" if rng.random() < 0.5 else rng.choice(CHATTY)
        return f"{start} {text}"
    if habit == "polite":
        end = rng.choice(POLITE_ENDS)
        return f"{greeting} {soften(text)} {end}" + (f", {rng.choice(NAMES)}" if not end.endswith(("!", ".")) else "")
    if habit == "angry" and upset:
        return f"{rng.choice(ANGRY)} {text}"
    if habit == "foreign":
        end = rng.choice(("Sorry for my English.", "Thank you very much.", ""))
        return f"Hello, {soften(drop_articles(text, rng))} {end}".strip()
    return type_like(text, habit, rng)


def type_like(text: str, habit: str, rng: random.Random) -> str:
    """Apply only the typing habit, for the later turns of the same customer."""
    if habit == "terse":
        return text.lower().rstrip(".")
    return add_typos(text, rng, 1 + len(text) // 90) if habit == "typos" else text


def soften(text: str) -> str:
    """Lower the first letter after a greeting unless it is a name, a code or the word I."""
    first = text.split(" ", 1)[0]
    names = (
        "I",
        "I'm",
        "I've",
        "I'd",
        "Brio",
        "Aria",
        "Pallas",
        "Mola",
        "Tern",
        "PostNova",
        "Kellvane",
        "WELCOME10",
        "Wi-Fi",
        "Google",
        "Aria",
        "PureStem",
    )
    keep = first.rstrip(",.?!") in names or bool(re.match(r"[A-Z]+\d|[A-Z]{2}", first))
    return text if keep else text[:1].lower() + text[1:]


def drop_articles(text: str, rng: random.Random) -> str:
    """Leave out some articles, as people do whose language has none."""
    return re.sub(r"(?<=[a-z,]) (the|a) (?=[a-zA-Z])", lambda hit: " " if rng.random() < 0.5 else hit.group(0), text)


def add_typos(text: str, rng: random.Random, count: int) -> str:
    """Swap or drop a letter in a few plain words."""
    words = text.split(" ")
    plain = [index for index, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.islower()]
    for index in rng.sample(plain, min(count, len(plain))):
        word = words[index]
        at = rng.randint(1, len(word) - 3)
        words[index] = (
            (word[:at] + word[at + 1] + word[at] + word[at + 2 :]) if rng.random() < 0.6 else word[:at] + word[at + 1 :]
        )
    return " ".join(words)
