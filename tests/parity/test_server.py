"""A server as a hop: what it counts, what it leaves out and what it answers, over real HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.parity.families import build_family
from tests.parity.material import SETTINGS, broken, proof_of, talk
from vivace.chain import stack
from vivace.domain import Chunk, Message, Request, Responder, Usage
from vivace.errors import ConfigError, EngineError, RequestError
from vivace.loop.parity import serve_on_loopback
from vivace.models import ChatTokenizer
from vivace.parity import Finding, Proof, difference, server
from vivace.parity.rendering import Door
from vivace.parity.scoring import Heard, answers_finding, listen

RULES = "You help the customers of a shop."


class Encoding:
    """A tokenizer that renders otherwise than the folder it is from."""

    def __init__(self, folder: Path, **change: Any) -> None:
        self._chat = ChatTokenizer.open(folder)
        self._change = change
        self.context_length = self._chat.context_length
        self.eos_ids = self._chat.eos_ids

    def encode_chat(self, messages: Sequence[Message], *, tools: Sequence[Any] = (), **more: Any) -> tuple[int, ...]:
        more |= self._change.get("with_", {})
        ids = self._chat.encode_chat(messages, tools=tools, **more)
        return (*self._change.get("before", ()), *ids)


def counted(proof: Proof, door: Door, chain: dict[str, Any], suspects: Sequence[server.Suspect]) -> list[Finding]:
    """Serve a door over HTTP and return what is found of it by counts alone."""

    async def ask() -> list[Finding]:
        responder = stack(door, chain)  # type: ignore[arg-type]
        whole = [each for each in proof.expected if each.ask.room is None]
        async with serve_on_loopback(responder, door) as url, server.ask_server(url, "parity") as remote:
            assert await server.model_name(url) == "parity"
            found = await server.count(remote, whole)
        return server.count_findings(url, whole, found, suspects)

    return asyncio.run(ask())


def suspects(proof: Proof, system: str = "") -> list[server.Suspect]:
    ending = len(proof.speech.generation_ids)
    bare = len(proof.tokenizer.encode(proof.facts.default_system))
    hello = (Message("user", "Hello"),)
    told = len(proof.tokenizer.encode_chat((Message("system", system), *hello)))
    told -= len(proof.tokenizer.encode_chat(hello))
    has_bos = proof.words.piece(proof.asked[0].prompt_ids[0]) == proof.facts.first
    return server.suspects_of(ending, bare, told if system else 0, has_bos=has_bos)


def door_of(folder: Path, **change: Any) -> Door:
    tokenizer = Encoding(folder, **change)
    return Door("served", tokenizer, tokenizer.context_length)  # type: ignore[arg-type]


def test_a_server_that_reads_what_was_trained_passes_and_tells_what_it_refuses(tiny_model: Path) -> None:
    proof = proof_of(tiny_model)
    found = counted(proof, door_of(tiny_model), {}, suspects(proof))
    assert broken(found) == {}
    said = {each.check: each.found for each in found}
    assert "refused (HTTP 400: 'tools' is not supported" in said["requests"]
    assert said["prompt tokens"] == "as many as the trainer reads"


def test_a_first_token_that_a_server_adds_again_is_named(tmp_path: Path) -> None:
    folder = build_family("llama-3", tmp_path / "llama")
    proof = proof_of(folder)
    first = proof.asked[0].prompt_ids[0]
    found = counted(proof, door_of(folder, before=(first,)), {}, suspects(proof))
    assert broken(found) == {"prompt tokens": difference.DOUBLED_BOS}
    assert found[-1].differing == found[-1].of


def test_a_generation_prompt_that_a_server_leaves_out_is_named(tiny_model: Path) -> None:
    proof = proof_of(tiny_model)
    found = counted(proof, door_of(tiny_model, with_={"add_generation_prompt": False}), {}, suspects(proof))
    assert broken(found) == {"prompt tokens": difference.NO_GENERATION_PROMPT}


def test_a_system_prompt_that_a_server_forgets_or_invents_is_named(tiny_model: Path) -> None:
    proof = proof_of(tiny_model, RULES)
    assert broken(counted(proof, door_of(tiny_model), {"system": RULES}, suspects(proof, RULES))) == {}
    found = counted(proof, door_of(tiny_model), {}, suspects(proof, RULES))
    assert broken(found) == {"prompt tokens": difference.SYSTEM_LOST}
    plain = proof_of(tiny_model)
    found = counted(plain, door_of(tiny_model), {"system": RULES}, suspects(plain))
    assert broken(found) == {"prompt tokens": difference.SYSTEM_ADDED}


def test_another_template_on_a_server_is_told_without_a_wrong_guess(tiny_model: Path, tmp_path: Path) -> None:
    proof = proof_of(tiny_model)
    other = build_family("llama-3", tmp_path / "other")
    found = counted(proof, door_of(other), {}, suspects(proof))
    assert broken(found) == {"prompt tokens": server.WORDS["other"]}


def test_a_server_that_refuses_what_was_learned_differs(tiny_model: Path) -> None:
    """A refused conversation of the project is a finding, a made-up one is only told."""

    class Refusing(Door):
        async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
            if any("password" in message.content for message in request.messages):
                raise RequestError("No passwords here.", "messages")
            async for chunk in super().__call__(request):
                yield chunk

    examples = [talk(1), talk(2, "How do I reset my password?")]
    proof = proof_of(tiny_model, examples=examples)
    tokenizer = ChatTokenizer.open(tiny_model)
    found = counted(proof, Refusing("r", tokenizer, 1024), {}, suspects(proof))
    assert broken(found) == {"requests": "refuses conversations that were learned"}
    made_up = proof_of(tiny_model, examples=[examples[0], replace(examples[1], source="")])
    assert broken(counted(made_up, Refusing("r", tokenizer, 1024), {}, suspects(proof))) == {}


def test_a_server_without_usage_is_told_so(tiny_model: Path) -> None:
    proof = proof_of(tiny_model, examples=[talk(1)])
    findings = server.count_findings("s", proof.expected, [server.Counted()], suspects(proof))
    assert broken(findings) == {"prompt tokens": "the server tells no usage"}


def test_answers_over_http_are_held_against_the_engines(tiny_model: Path) -> None:
    proof = proof_of(tiny_model, examples=[talk(1), talk(2, "Thanks!")])

    async def speak(request: Request) -> AsyncGenerator[Chunk, None]:
        yield Chunk(f"Answer to {request.messages[-1].content}", (5, 6))
        yield Chunk(finish_reason="stop", usage=Usage(3, 2))

    async def shout(request: Request) -> AsyncGenerator[Chunk, None]:
        async for chunk in speak(request):
            yield replace(chunk, text=chunk.text.upper())

    async def ask(inside: Responder) -> Finding:
        door = Door("d", ChatTokenizer.open(tiny_model), 1024, inside)
        async with serve_on_loopback(door, door) as url, server.ask_server(url, "parity") as remote:
            theirs = [Heard(item.id, (), *await listen(remote, item, 8)) for item in proof.asked]
        ours = [Heard(item.id, (), *await listen(speak, item, 8)) for item in proof.asked]
        return answers_finding("http", ours, theirs)

    assert asyncio.run(ask(speak)).met
    found = asyncio.run(ask(shout))
    assert not found.met
    assert found.place is not None
    assert found.place.found == "ANSWER TO WHERE IS MY ORDER? [stop]"


def test_wrong_addresses_and_names_are_one_sentence(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "ftp://host", "http://"):
        with pytest.raises(ConfigError, match="no address of a server"):
            server.checked_url(address)
    assert server.checked_url("127.0.0.1:8000") == "http://127.0.0.1:8000/v1"
    assert server.checked_url("https://host/v1/chat/completions") == "https://host/v1"
    with pytest.raises(EngineError, match="cannot be read"):
        asyncio.run(server.model_name("http://127.0.0.1:9/v1"))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for key in ("secret", "env:NO_SUCH_KEY"):
        with pytest.raises(ConfigError, match="names no environment variable"):
            asyncio.run(server.model_name("http://127.0.0.1:9/v1", key))
    assert SETTINGS.max_tokens == 8
