"""The layers around a responder, and the one function that stacks them."""

from vivace.chain.stack import LAYERS, stack
from vivace.chain.trace import answer

__all__ = ["LAYERS", "answer", "stack"]
