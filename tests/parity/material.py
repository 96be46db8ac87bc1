"""Hops to prove things about, made from tiny folders."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vivace.config.parity import ParitySettings
from vivace.domain import Example, Message, Model
from vivace.loop.parity import trainer_of
from vivace.models import ChatTokenizer, identify
from vivace.parity import Finding, Hop, Proof, choose

SETTINGS = ParitySettings(conversations=0, awkward=30, scored=2, max_tokens=8, second_reader=False)


def proof_of(folder: Path, system: str = "", settings: ParitySettings = SETTINGS, **more: Any) -> Proof:
    """Return a proof with the trainer of a folder and awkward conversations, or the examples in `more`."""
    examples: Sequence[Example] = more.get("examples") or choose([], settings)
    return Proof(folder, trainer_of(ChatTokenizer.open(folder), system), system, examples, settings)


def hop_of(folder: Path | Model, name: str = "served", *, system: str = "", trimmed: bool = False) -> Hop:
    """Return a hop on a folder, behind the chain of a project with this system prompt."""
    model = identify(folder) if isinstance(folder, Path) else folder
    engines = {"hf": "transformers", "adapter": "transformers", "onnx": "onnxruntime", "gguf": "llamacpp"}
    chain = {"system": system} if system else {}
    return Hop(name, engines.get(model.format, model.format), model, chain, trimmed)


def tokens(proof: Proof, hop: Hop) -> list[Finding]:
    """Return what is found without opening an engine."""
    return asyncio.run(proof.check_tokens(hop))


def broken(findings: Sequence[Finding]) -> dict[str, str]:
    """Return the causes by check of what differs."""
    return {each.check: each.cause for each in findings if not each.met}


def planted(folder: Path, out: Path, plant: Callable[[Path], object]) -> Path:
    """Copy a folder and plant a fault in the copy."""
    shutil.copytree(folder, out)
    plant(out)
    return out


def retemplate(old: str, new: str) -> Callable[[Path], None]:
    """Return a fault: something else stands in the chat template."""

    def plant(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return plant


def talk(number: int, question: str = "Where is my order?", answer: str = "It was sent yesterday.") -> Example:
    return Example(f"own-{number}", (Message("user", question), Message("assistant", answer)), "test", source="a:1")
