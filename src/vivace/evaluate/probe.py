"""Sixty general questions, answered in a few words each: what a model can besides its domain, before and after."""

from pathlib import Path

from vivace.domain import Example
from vivace.store import read_examples

QUESTIONS = Path(__file__).with_name("general.jsonl")


def general_probe() -> list[Example]:
    """Return the questions with their answers: facts, arithmetic, language, common sense, lists, code, writing.

    Written for Vivace. They say whether something was lost, not how able a model is.
    """
    return list(read_examples(QUESTIONS, "test"))
