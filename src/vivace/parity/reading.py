"""Second readers: the same turns and texts through other programs' own tokenizers."""

import ctypes
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.domain import Example, Message
from vivace.errors import ModelError, VivaceError
from vivace.models import ChatTokenizer
from vivace.models.tokenizer import read_json
from vivace.parity.rendering import Rendering, as_turn


class Read(Struct, frozen=True):
    """Turns as they reached the model, and the tools that were on offer."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]


def reads(examples: Sequence[Example], rendered: Sequence[Rendering]) -> list[Read | None]:
    """Return the turns that the layers let through; None where the request was refused."""
    return [
        None if rendering.refused else Read(rendering.messages, tuple(example.tools))
        for example, rendering in zip(examples, rendered, strict=True)
    ]


def read_with_transformers(folder: Path, asked: Sequence[Read | None]) -> list[Rendering]:
    """Render turns with transformers' own `apply_chat_template`, as vLLM and others do."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever transformers makes of a wrong folder
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"transformers cannot open the tokenizer of {folder}: {reason}.") from error
    return [_apply(tokenizer, each) for each in asked]


def _apply(tokenizer: Any, asked: Read | None) -> Rendering:
    if asked is None:
        return Rendering(refused="refused before")
    turns = [as_turn(message) for message in asked.messages]
    try:
        ids = tokenizer.apply_chat_template(
            turns, tools=list(asked.tools) or None, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    except Exception as error:  # a template can raise anything
        return Rendering(refused=(str(error).strip().splitlines() or [type(error).__name__])[0])
    return Rendering(tuple(int(number) for number in ids), messages=asked.messages)


def cut_with_llamacpp(file: Path, tokenizer: ChatTokenizer, asked: Sequence[Read | None]) -> list[Rendering] | None:
    """Cut the rendered texts with a GGUF file's own vocabulary; None where llama.cpp is not installed.

    A tokenizer that composes letters and accents (NFC, Qwen's) has it done before: llama.cpp does not compose.
    """
    from vivace.engines.llamacpp_library import open_library, open_model

    try:
        library = open_library()
    except VivaceError:
        return None
    functions = library.inference()
    composes = '"NFC"' in json.dumps(read_json(file.parent / "tokenizer.json").get("normalizer"))
    model = open_model(library, str(file), vocab_only=True)
    try:
        vocabulary = functions.llama_model_get_vocab(model)
        return [_cut(functions, vocabulary, tokenizer, each, composes=composes) for each in asked]
    finally:
        functions.llama_model_free(model)


def _cut(functions: Any, vocabulary: int, tokenizer: ChatTokenizer, asked: Read | None, *, composes: bool) -> Rendering:
    if asked is None:
        return Rendering(refused="refused before")
    try:
        text = tokenizer.render(asked.messages, tools=asked.tools)
        content = (unicodedata.normalize("NFC", text) if composes else text).encode()
    except (VivaceError, UnicodeEncodeError) as error:
        return Rendering(refused=str(error))
    room = len(content) + 16
    buffer = (ctypes.c_int32 * room)()
    count = functions.llama_tokenize(vocabulary, content, len(content), buffer, room, False, True)
    if count < 0:
        return Rendering(refused="llama.cpp cannot cut this text")
    return Rendering(tuple(buffer[:count]), messages=asked.messages)
