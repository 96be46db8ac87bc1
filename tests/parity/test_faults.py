"""Each planted fault is caught and named, in real folders and a real stack; the folder without it passes."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer

from tests.parity.exports import make_adapter
from tests.parity.families import FAMILIES, build_family, change
from tests.parity.material import SETTINGS, broken, hop_of, planted, proof_of, retemplate, talk, tokens
from tests.tiny import LINES
from vivace.chain.stack import LAYERS
from vivace.domain import Chunk, Layer, Message, Model, Request, Responder
from vivace.errors import RequestError
from vivace.loop.parity import serve_on_loopback
from vivace.parity import choose, difference
from vivace.parity.weights import NOT_MERGED, OTHER, OUTSIDE, ROUNDED


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build_family(name, tmp_path_factory.mktemp("family") / name) for name in FAMILIES}


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An adapter on every linear layer that changes what the model says."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter") / "model")


@pytest.fixture(scope="session")
def merged(adapter: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vivace.compress import merge

    return merge(adapter, tmp_path_factory.mktemp("merged") / "model").path


# 1: the first token twice


def test_a_first_token_that_comes_twice_is_named(families: dict[str, Path], tmp_path: Path) -> None:
    served = planted(
        families["llama-3"], tmp_path / "s", retemplate("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}")
    )
    found = broken(tokens(proof_of(families["llama-3"]), hop_of(served)))
    assert found["token ids"] == difference.DOUBLED_BOS
    assert found["token ids, cut to fit"] == difference.DOUBLED_BOS
    assert "chat template" in found


def test_a_first_token_that_is_lost_is_named(families: dict[str, Path], tmp_path: Path) -> None:
    served = planted(families["mistral"], tmp_path / "s", retemplate("{{ bos_token }}", ""))
    assert broken(tokens(proof_of(families["mistral"]), hop_of(served)))["token ids"] == difference.LOST_BOS


def test_a_post_processor_that_begins_to_add_a_token_is_named(families: dict[str, Path], tmp_path: Path) -> None:
    """Our layers never let it add anything; TGI and completions elsewhere do."""

    def plant(folder: Path) -> None:
        change(
            folder / "tokenizer.json",
            {"post_processor": json.loads((families["llama-3"] / "tokenizer.json").read_text())["post_processor"]},
        )

    served = planted(
        families["llama-3"], tmp_path / "s", lambda folder: change(folder / "tokenizer.json", {"post_processor": None})
    )
    assert list(broken(tokens(proof_of(families["llama-3"]), hop_of(served)))) == ["added tokens at the ends"]
    plant(served)
    assert broken(tokens(proof_of(families["llama-3"]), hop_of(served))) == {}


# 2: the default system prompt


@pytest.mark.parametrize("name", ["chatml", "qwen"])
def test_a_default_system_prompt_that_is_lost_or_added_is_named(
    families: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = families[name]
    default = "{% if messages[0].role != 'system' %}" if name == "chatml" else "You are Qwen, created by Alibaba Cloud."
    other = "{% if false %}" if name == "chatml" else "Greetings."
    without = planted(folder, tmp_path / "without", retemplate(default, other))
    lost, added = (
        (difference.SYSTEM_LOST, difference.SYSTEM_ADDED) if name == "chatml" else (difference.SYSTEM_OTHER,) * 2
    )
    found = broken(tokens(proof_of(folder), hop_of(without)))
    assert found["token ids"] == lost
    assert "default system prompt" in found
    found = broken(tokens(proof_of(without), hop_of(folder)))
    assert found["token ids"] == added
    assert "default system prompt" in found


def test_a_projects_system_prompt_that_the_stack_forgets_or_invents_is_named(tiny_model: Path) -> None:
    rules = "You help the customers of a shop."
    assert broken(tokens(proof_of(tiny_model, rules), hop_of(tiny_model, system=rules))) == {}
    found = broken(tokens(proof_of(tiny_model, rules), hop_of(tiny_model)))
    assert found["token ids"] == difference.SYSTEM_LOST
    found = broken(tokens(proof_of(tiny_model), hop_of(tiny_model, system=rules)))
    assert found["token ids"] == difference.SYSTEM_ADDED
    found = broken(tokens(proof_of(tiny_model, rules), hop_of(tiny_model, system="You are a pirate, arr.")))
    assert found["token ids"] == difference.SYSTEM_OTHER


# 3: the end of a turn


def _other_end(folder: Path, token: str = "<|endoftext|>") -> None:
    number = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(token)
    for name in ("config.json", "generation_config.json"):
        change(folder / name, {"eos_token_id": number})
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        change(folder / name, {"eos_token": token})


def test_another_end_of_turn_is_told_by_its_name(tiny_model: Path, tmp_path: Path) -> None:
    served = planted(tiny_model, tmp_path / "s", _other_end)
    findings = {each.check: each for each in tokens(proof_of(tiny_model), hop_of(served))}
    assert not findings["end of turn"].met
    assert (findings["end of turn"].expected, findings["end of turn"].found) == ("<|im_end|>", "<|endoftext|>")
    assert findings["token ids"].met  # prompts are the same: only answers run on


def test_an_end_that_only_other_programs_miss_is_told(families: dict[str, Path], tmp_path: Path) -> None:
    """vLLM reads generation_config.json: with one of two ends there, answers run on behind it, though not behind us."""

    def plant(folder: Path) -> None:
        number = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|end_of_text|>")
        change(folder / "generation_config.json", {"eos_token_id": number})

    served = planted(families["llama-3"], tmp_path / "s", plant)
    assert list(broken(tokens(proof_of(families["llama-3"]), hop_of(served)))) == ["ends told to other programs"]


@pytest.mark.slow
def test_an_answer_that_runs_past_its_end_is_caught_by_the_engine(tiny_model: Path, tmp_path: Path) -> None:
    """The trained folder ends with a token that this model really says; the served one has forgotten it."""
    examples = [talk(1), talk(2, "How do I reset my password?")]
    proof = proof_of(tiny_model, examples=examples)
    served = hop_of(tiny_model)
    said = asyncio.run(proof.listen(served, threads=1))
    words, place = proof.words, 2
    spoken = words.piece(said[0].token_ids[place])
    assert spoken not in [words.piece(number) for number in said[0].token_ids[:place]]

    def ends_there(folder: Path) -> None:
        number = said[0].token_ids[place]
        change(folder / "config.json", {"eos_token_id": [2, number]})
        change(folder / "generation_config.json", {"eos_token_id": [2, number]})

    trained = planted(tiny_model, tmp_path / "trained", ends_there)
    proof = proof_of(trained, examples=examples)
    ours = asyncio.run(proof.listen(hop_of(trained), threads=1))
    assert ours[0].finish == "stop"
    assert len(ours[0].token_ids) == place
    assert broken(proof.check_scores(hop_of(trained), ours, ours)) == {}
    theirs = asyncio.run(proof.listen(served, threads=1))
    found = [each for each in proof.check_scores(served, ours, theirs) if not each.met]
    assert [each.check for each in found] == ["greedy answers end"]
    assert found[0].cause == f"goes on after {spoken}"
    # The other way round the answer breaks off.
    found = proof_of(tiny_model, examples=examples).check_scores(hop_of(trained), theirs, ours)
    assert broken(found) == {"greedy answers end": "ends where the trained model goes on"}


# 4: cut on the wrong side


def test_a_truncation_side_that_changed_is_told(tiny_model: Path, tmp_path: Path) -> None:
    served = planted(
        tiny_model, tmp_path / "s", lambda folder: change(folder / "tokenizer_config.json", {"truncation_side": "left"})
    )
    assert list(broken(tokens(proof_of(tiny_model), hop_of(served)))) == ["truncation side"]

    def cuts(folder: Path) -> None:
        cut = {"direction": "Left", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
        change(folder / "tokenizer.json", {"truncation": cut})

    served = planted(tiny_model, tmp_path / "cut", cuts)
    assert list(broken(tokens(proof_of(tiny_model), hop_of(served)))) == ["truncation side"]


def test_a_stack_that_cuts_the_newest_turns_is_caught(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(tokens(proof_of(tiny_model), hop_of(tiny_model))) == {}

    def newest_first(tokenizer: Any, context_length: int) -> Layer:
        def layer(inner: Responder) -> Responder:
            async def respond(request: Request) -> AsyncGenerator[Chunk, None]:
                room, turns = context_length - request.sampling.max_tokens, request.messages
                while len(tokenizer.encode_chat(turns, tools=request.tools)) > room and len(turns) > 1:
                    turns = turns[:-2] if len(turns) > 2 else turns[:1]
                async with aclosing(inner(replace(request, messages=turns))) as chunks:
                    async for chunk in chunks:
                        yield chunk

            return respond

        return layer

    monkeypatch.setitem(LAYERS, "trim", lambda engine, _: newest_first(engine.tokenizer, engine.context_length))
    found = broken(tokens(proof_of(tiny_model), hop_of(tiny_model)))
    assert found == {"token ids, cut to fit": difference.CUT_WRONG_SIDE}


# 5: merged in fewer bits


def _save(folder: Path, weights: dict[str, Any]) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _in_bf16(folder: Path) -> None:
    """Round every number to bf16, to the nearest, and keep it in fp32."""
    rounded = {}
    for name, value in load_file(folder / "model.safetensors").items():
        bits = value.view(np.uint32)
        rounded[name] = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    _save(folder, rounded)


@pytest.mark.slow
def test_a_merge_in_bf16_is_named_whatever_the_file_says(
    adapter: Model, merged: Path, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    proof = proof_of(tiny_model, examples=[talk(1)])
    assert broken(proof.check_merge(hop_of(merged), adapter)) == {}
    disguised = planted(merged, tmp_path / "disguised", _in_bf16)
    assert broken(proof.check_merge(hop_of(disguised), adapter)) == {"merged weights": ROUNDED.format("bf16")}

    def openly(folder: Path) -> None:
        weights = load_torch(folder / "model.safetensors")
        save_torch(
            {name: value.to(torch.bfloat16) for name, value in weights.items()},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )

    plain = planted(merged, tmp_path / "plain", openly)
    assert broken(proof.check_merge(hop_of(plain), adapter)) == {"merged weights": ROUNDED.format("bf16")}


@pytest.mark.slow
def test_log_probabilities_tell_a_merge_in_bf16_from_one_in_fp32(
    adapter: Model, merged: Path, tiny_model: Path, tmp_path: Path
) -> None:
    proof = proof_of(tiny_model, examples=[talk(1), talk(2, "How do I reset my password?")])
    ours = asyncio.run(proof.listen(hop_of(adapter), threads=1))
    clean = proof.check_scores(hop_of(merged), ours, asyncio.run(proof.listen(hop_of(merged), threads=1)))
    assert broken(clean) == {}
    print("merged in fp32:", clean[0].found)
    rounded = hop_of(planted(merged, tmp_path / "rounded", _in_bf16))
    found = proof.check_scores(rounded, ours, asyncio.run(proof.listen(rounded, threads=1)))
    print("merged in bf16:", found[0].found)
    assert "log-probabilities" in broken(found)
    assert found[0].figure is not None
    assert found[0].figure.value > 10 * 1e-4


# 6: the head


def test_a_head_that_is_not_what_the_configuration_says_is_caught(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    proof = proof_of(tiny_model)
    other = planted(
        tiny_model, tmp_path / "other", lambda folder: _save(folder, weights | {"lm_head.weight": table * 1.01})
    )
    assert list(broken(tokens(proof, hop_of(other)))) == ["tied embeddings"]
    missing = planted(
        tiny_model, tmp_path / "missing", lambda folder: change(folder / "config.json", {"tie_word_embeddings": False})
    )
    assert list(broken(tokens(proof, hop_of(missing)))) == ["tied embeddings"]
    # The same matrix twice is wasteful and right; a head of its own that is said to be one, too.
    twice = planted(tiny_model, tmp_path / "twice", lambda folder: _save(folder, weights | {"lm_head.weight": table}))
    assert broken(tokens(proof, hop_of(twice))) == {}
    change(other / "config.json", {"tie_word_embeddings": False})
    assert broken(tokens(proof, hop_of(other))) == {}


# 7: another adapter


@pytest.mark.slow
def test_a_merge_of_an_earlier_checkpoint_is_named(
    adapter: Model, merged: Path, tiny_model: Path, tmp_path: Path
) -> None:
    def earlier(folder: Path) -> None:
        weights = load_file(folder / "adapter_model.safetensors")
        for name in weights:
            weights[name] = (weights[name] * np.float32(0.999)).astype(np.float32)
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    now = replace(adapter, path=planted(adapter.path, tmp_path / "now", earlier))
    proof = proof_of(tiny_model, examples=[talk(1)])
    assert broken(proof.check_merge(hop_of(merged), now)) == {"merged weights": OTHER}
    assert broken(proof.check_merge(hop_of(tiny_model), adapter)) == {"merged weights": NOT_MERGED}
    ours = asyncio.run(proof.listen(hop_of(now), threads=1))
    theirs = asyncio.run(proof.listen(hop_of(merged), threads=1))
    assert "log-probabilities" in broken(proof.check_scores(hop_of(merged), ours, theirs))


def test_a_merge_into_another_base_is_named(adapter: Model, merged: Path, tiny_model: Path, tmp_path: Path) -> None:
    def renew(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] = weights["model.norm.weight"] * np.float32(1.001)
        _save(folder, weights)

    other = planted(merged, tmp_path / "other", renew)
    assert broken(proof_of(tiny_model).check_merge(hop_of(other), adapter)) == {"merged weights": OUTSIDE}


# 8: the tokenizer


def test_a_tokenizer_that_drifted_is_told_with_its_part(tiny_model: Path, tmp_path: Path) -> None:
    def loses_merges(folder: Path) -> None:
        path = folder / "tokenizer.json"
        told = json.loads(path.read_text())
        told["model"]["merges"] = told["model"]["merges"][:40]
        path.write_text(json.dumps(told))

    def gains_a_token(folder: Path) -> None:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_tokens([AddedToken("order", normalized=False)])
        tokenizer.save(str(folder / "tokenizer.json"))

    proof = proof_of(tiny_model)
    for name, plant, part in (("merges", loses_merges, "merges"), ("added", gains_a_token, "added tokens")):
        served = planted(tiny_model, tmp_path / name, plant)
        findings = {each.check: each for each in tokens(proof, hop_of(served)) if not each.met}
        assert findings["token ids"].cause == difference.TOKENIZER
        assert part in findings["tokenizer"].found
        assert findings["token ids"].place is not None


def test_a_vocabulary_that_was_trimmed_on_purpose_is_compared_as_text(tiny_model: Path, tmp_path: Path) -> None:
    from vivace.compress.trim import trim_vocabulary

    trim_vocabulary(tiny_model, LINES[:2], tmp_path / "trimmed", keep=300, multiple=8)
    proof = proof_of(tiny_model)
    assert broken(tokens(proof, hop_of(tmp_path / "trimmed", trimmed=True))) == {}
    assert {"token ids", "tokenizer"} <= broken(tokens(proof, hop_of(tmp_path / "trimmed"))).keys()
    lost = planted(tmp_path / "trimmed", tmp_path / "lost", retemplate("<|im_start|>assistant\n", ""))
    assert broken(tokens(proof, hop_of(lost, trimmed=True)))["token ids"] == difference.NO_GENERATION_PROMPT


@pytest.mark.slow
def test_a_trimmed_model_is_scored_in_its_own_ids_up_to_http(tiny_model: Path, tmp_path: Path) -> None:
    from vivace.compress.trim import trim_vocabulary

    trim_vocabulary(tiny_model, LINES[:2], tmp_path / "trimmed", keep=300, multiple=8)
    proof = proof_of(tiny_model, examples=[talk(1, "Thank you very much!"), talk(2), *choose([], SETTINGS)])
    hop = hop_of(tmp_path / "trimmed", trimmed=True)
    ours = asyncio.run(proof.listen(hop, threads=1))
    assert [len(each.logprobs) for each in ours] != [len(each.answer_ids) for each in proof.asked]
    findings = asyncio.run(proof.check_engine(hop, ours, serve_on_loopback, threads=1))
    assert broken(findings) == {}
    checks = [(each.hop, each.check) for each in findings]
    assert ("served", "log-probabilities") in checks
    assert ("served over HTTP", "token ids") in checks
    assert ("served over HTTP", "greedy answers") in checks


# 9: the generation prompt, 10: another version of the template


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mistral"])
def test_a_missing_generation_prompt_is_named(families: dict[str, Path], tmp_path: Path, name: str) -> None:
    served = planted(families[name], tmp_path / "s", retemplate("{% if add_generation_prompt %}", "{% if false %}"))
    assert broken(tokens(proof_of(families[name]), hop_of(served)))["token ids"] == difference.NO_GENERATION_PROMPT


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("chatml", "<|im_end|>\n{% endfor %}", "<|im_end|>{% endfor %}"),
        ("llama-3", "{{ turn.content | trim }}", "{{ turn.content }} "),
        ("mistral", "[/INST]", " [/INST]"),
        ("gemma", "'model'", "'assistant'"),
        ("qwen", "<tools>", "<functions>"),
    ],
)
def test_another_version_of_the_template_is_caught(
    families: dict[str, Path], tmp_path: Path, name: str, old: str, new: str
) -> None:
    served = planted(families[name], tmp_path / "s", retemplate(old, new))
    findings = {each.check: each for each in tokens(proof_of(families[name]), hop_of(served)) if not each.met}
    assert {"token ids", "chat template"} <= findings.keys()
    assert findings["token ids"].cause == difference.TEMPLATE
    place = findings["token ids"].place
    assert place is not None
    assert place.expected != place.found


def test_a_template_that_refuses_what_was_learned_is_caught(families: dict[str, Path], tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{{ bos_token }}"
    served = planted(families["llama-3"], tmp_path / "s", retemplate("{{ bos_token }}", refusing))
    finding = next(each for each in tokens(proof_of(families["llama-3"]), hop_of(served)) if each.check == "token ids")
    assert (finding.met, finding.cause) == (False, difference.REFUSED)
    assert finding.place is not None
    assert "no system here" in finding.place.found


def test_other_generation_settings_are_told(tiny_model: Path, tmp_path: Path) -> None:
    served = planted(
        tiny_model,
        tmp_path / "s",
        lambda folder: change(folder / "generation_config.json", {"repetition_penalty": 1.3, "temperature": 0.6}),
    )
    finding = next(each for each in tokens(proof_of(tiny_model), hop_of(served)) if not each.met)
    assert (finding.check, finding.found) == ("generation settings", "repetition_penalty 1.3, temperature 0.6")
    assert finding.hint


# and no false alarm


@pytest.mark.parametrize("name", list(FAMILIES))
def test_twenty_clean_runs_of_each_family_raise_no_alarm(families: dict[str, Path], name: str) -> None:
    """A hundred in all, each with other conversations; without engines, whose start is too costly here."""
    for seed in range(20):
        settings = SETTINGS.model_copy(update={"seed": seed, "awkward": 20})
        system = "" if seed % 2 or name == "gemma" else "You help the customers of a shop."
        proof = proof_of(families[name], system, settings)
        assert proof.conversations >= 20
        assert broken(tokens(proof, hop_of(families[name], system=system))) == {}


def test_what_the_template_refuses_is_refused_everywhere_alike(families: dict[str, Path]) -> None:
    proof = proof_of(families["gemma"])
    refused = [each for each in proof.expected if each.rendering.refused]
    assert refused
    assert len(refused) < len(proof.expected)
    with pytest.raises(RequestError):
        proof.tokenizer.encode_chat([Message("system", "x"), Message("user", "y")])
    finding = tokens(proof, hop_of(families["gemma"]))[0]
    assert finding.met
    assert "refused alike" in finding.found
