"""OpenAI's chat completion responses, field for field."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from vivace.domain import Usage


class AnswerMessage(Struct, frozen=True, kw_only=True):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    """How many prompt tokens came from the prefix cache."""

    cached_tokens: int


class CompletionUsage(Struct, frozen=True, kw_only=True):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The answer in one piece."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: CompletionUsage | UnsetType
    system_fingerprint: str


class Delta(Struct, frozen=True, kw_only=True):
    """What a streamed chunk adds to the assistant's turn."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """What a streamed chunk adds to one of `n` answers."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """One server-sent event; `usage` is there only if the client asked for it, and null but in the last."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | UnsetType | None = UNSET


class ModelEntry(Struct, frozen=True, kw_only=True):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "vivace"


class ModelList(Struct, frozen=True, kw_only=True):
    """The models that can be asked."""

    object: Literal["list"] = "list"
    data: tuple[ModelEntry, ...]


encode = msgspec.json.Encoder().encode


def total_usage(usages: Sequence[Usage | None]) -> CompletionUsage | UnsetType:
    """Add up the answers to one prompt: it is counted once, as OpenAI does. Unset where a provider tells no usage."""
    told = [usage for usage in usages if usage is not None]
    if not told or len(told) < len(usages):
        return UNSET
    prompt_tokens = told[0].prompt_tokens
    completion_tokens = sum(usage.completion_tokens for usage in told)
    return CompletionUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=told[0].cached_tokens),
    )
