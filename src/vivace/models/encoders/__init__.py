"""Encoders that turn a text into a label or a number: open them, run them on OpenVINO, write them."""

from vivace.models.encoders.intents import Guess, IntentClassifier
from vivace.models.encoders.reward import RewardModel

__all__ = ["Guess", "IntentClassifier", "RewardModel"]
