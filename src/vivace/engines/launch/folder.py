"""What a model folder must hold for vLLM and TGI: collected from a Hugging Face folder, checked before it is used."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.domain import Message
from vivace.errors import ModelError
from vivace.models import ChatTokenizer, check_data_only
from vivace.models.tokenizer import read_json
from vivace.store.files import disk_errors, guard_disk, write_atomic

KEPT = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "recipe.yaml",
    "LICENSE",
)
CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello!"),),
    (
        Message("system", "You are brief."),
        Message("user", "Where is my order? 📦"),
        Message("assistant", "On its way."),
    ),
    (
        Message("user", "Grüße, señor\n\n  two lines"),
        Message("assistant", "Ja."),
        Message("user", "<|im_end|> {{ x }}"),
    ),
)
_DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000


class Checked(Struct, frozen=True):
    """What was looked at in a folder: `done` are checks that passed, `left_out` those that could not be made."""

    folder: str
    architecture: str
    weights_bytes: int
    tensors: int
    done: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def collect(source: Path, target: Path) -> Checked:
    """Copy what a server reads of `source` into the new folder `target` and check it; nothing else is brought along.

    Raises `ModelError` for a folder that a server would not open; then `target` is not left behind.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} is there already.", "Name a new folder with --to.")
    weights = sorted(source.glob("*.safetensors"))
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    guard_disk(target.parent, sum(path.stat().st_size for path in weights))
    try:
        with disk_errors(target):
            part.mkdir(parents=True)
            for path in [*weights, *(source / name for name in KEPT if (source / name).is_file())]:
                shutil.copyfile(path, part / path.name)
        _complete(part)
        checked = check_folder(part)
        with disk_errors(target):
            if target.is_dir():
                target.rmdir()
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Checked(
        str(target), checked.architecture, checked.weights_bytes, checked.tensors, checked.done, checked.left_out
    )


def _complete(folder: Path) -> None:
    """Write what servers look for and the folder may say elsewhere: the ends of an answer, the template's own file."""
    tokenizer = ChatTokenizer.open(folder)
    if not (folder / "generation_config.json").is_file():
        told = {"eos_token_id": sorted(tokenizer.eos_ids), "do_sample": False}
        write_atomic(folder / "generation_config.json", json.dumps(told, indent=1) + "\n")
    if not (folder / "chat_template.jinja").is_file() and tokenizer.template:
        write_atomic(folder / "chat_template.jinja", tokenizer.template)


def check_folder(folder: Path, conversations: Sequence[tuple[Message, ...]] = CONVERSATIONS) -> Checked:
    """Check that a server would open the folder and read prompts as we do; raises `ModelError` with what is wrong."""
    check_data_only(folder)
    config = read_json(folder / "config.json")
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise ModelError(f"{folder / 'config.json'} names no architecture, so no server knows how to open it.")
    if "auto_map" in config:
        raise ModelError(f"{folder / 'config.json'} points to code of its own (auto_map), which is never run here.")
    tensors, size = _weights(folder)
    tokenizer = ChatTokenizer.open(folder)
    if not tokenizer.template:
        raise ModelError(f"{folder} has no chat template, so a server could not be asked with conversations.")
    if not tokenizer.eos_ids:
        raise ModelError(f"{folder} does not say which token ends an answer: every answer would run to its limit.")
    done = ["config.json", f"{tensors} tensors whose places and sizes are sound", "the tokens that end an answer"]
    left_out = []
    reason = _renders_alike(folder, tokenizer, conversations)
    if reason is None:
        done.append(f"{len(conversations)} conversations become the same tokens in transformers and here")
    else:
        left_out.append(reason)
    return Checked(str(folder), str(names[0]), size, tensors, tuple(done), tuple(left_out))


def _weights(folder: Path) -> tuple[int, int]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no *.safetensors.")
    held: dict[str, str] = {}
    for path in files:
        for name in read_header(path):
            if name in held:
                raise ModelError(f"The tensor {name} is in {held[name]} and in {path.name}.")
            held[name] = path.name
    index = read_json(folder / "model.safetensors.index.json").get("weight_map")
    if isinstance(index, dict):
        for name, file in index.items():
            if held.get(name) != file:
                raise ModelError(f"The index says that {name} is in {file}; it is in {held.get(name, 'no file')}.")
    elif len(files) > 1:
        raise ModelError(f"{folder} holds {len(files)} files of weights and no model.safetensors.index.json.")
    return len(held), sum(path.stat().st_size for path in files)


def read_header(path: Path) -> dict[str, Any]:
    """Return what a safetensors file says of its tensors; raises `ModelError` where places, sizes and file disagree."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
            raise ModelError(f"{path} is cut off or no safetensors file: its header would be {length:,} bytes long.")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ModelError(f"The header of {path} cannot be read: {error}.") from error
    tensors = {name: told for name, told in header.items() if name != "__metadata__"}
    places = []
    for name, told in tensors.items():
        try:
            begin, end = (int(value) for value in told["data_offsets"])
            need = _DTYPE_BYTES[told["dtype"]]
            for dimension in told["shape"]:
                need *= int(dimension)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The tensor {name} in {path} is described in a way nobody reads ({error}).") from error
        if end - begin != need:
            raise ModelError(f"The tensor {name} in {path} has {end - begin:,} bytes; its shape needs {need:,}.")
        places.append((begin, end))
    at = 0
    for begin, end in sorted(places):
        if begin != at:
            raise ModelError(f"The tensors in {path} overlap or leave gaps at byte {at:,}.")
        at = end
    if 8 + length + at != size:
        raise ModelError(f"{path} has {size:,} bytes; its header describes {8 + length + at:,}. Was it cut off?")
    return tensors


def _renders_alike(folder: Path, ours: ChatTokenizer, conversations: Sequence[tuple[Message, ...]]) -> str | None:
    """Compare with transformers, whose tokenizer the servers use; returns why that was not possible, None if it was."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        return 'Prompts were not compared with transformers: pip install "vivace[loop]" for that.'
    try:
        theirs: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever a library makes of a strange folder
        raise ModelError(f"transformers cannot open the tokenizer in {folder}: {str(error)[:200]}.") from error
    for messages in conversations:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        told = theirs.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
        mine = list(ours.encode_chat(messages))
        if list(told) != mine:
            place = next(
                (at for at, (a, b) in enumerate(zip(told, mine, strict=False)) if a != b), min(len(told), len(mine))
            )
            raise ModelError(
                f"{folder} turns a conversation into other tokens in transformers than here, from token {place} on "
                f"({len(told)} against {len(mine)} tokens): a server would read other prompts than were trained on."
            )
    return None
