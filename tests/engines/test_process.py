"""An engine's process may crash, hang or be told to stop; its callers always get an answer or one sentence."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.asking import ask, collect, echo, ids_of, of_format, outcome, request, until, with_engine
from vivace.engines import ProcessEngine, default_engine, open_engine
from vivace.engines.tokens import ByteTokenizer
from vivace.errors import ConfigError, EngineDied, EngineError, RequestError


def test_the_echo_answers_with_the_last_user_message_and_its_usage(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        text, last = await ask(engine, "Hällo wörld 👋🏽")
        assert text == "Hällo wörld 👋🏽"
        assert last.finish_reason == "stop"
        assert last.usage is not None
        assert last.usage.completion_tokens == len("Hällo wörld 👋🏽".encode())
        assert last.usage.prompt_tokens == len("user: Hällo wörld 👋🏽\nassistant: ".encode())

    with_engine("echo", echo(tmp_path), story)


def test_only_the_last_chunk_has_finish_reason_and_usage(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        chunks = await collect(engine, request("some words"))
        assert len(chunks) > 5
        assert all(chunk.finish_reason is None and chunk.usage is None for chunk in chunks[:-1])
        assert sum(len(chunk.token_ids) for chunk in chunks) == chunks[-1].usage.completion_tokens  # type: ignore[union-attr]

    with_engine("echo", echo(tmp_path), story)


def test_characters_come_whole_although_their_bytes_come_one_by_one(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        chunks = await collect(engine, request("é👩‍💻ß"))
        assert [chunk.text for chunk in chunks if chunk.text] == list("é👩‍💻ß")
        cut, last = await ask(engine, "é👩", max_tokens=4)
        assert (cut, last.finish_reason) == ("é\ufffd", "length")

    with_engine("echo", echo(tmp_path), story)


def test_a_models_own_tokenizer_is_used_where_there_is_one(tiny_model: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        ids = await ids_of(engine, "Where is my order?")
        assert tuple(ids) == engine.tokenizer.encode("Where is my order?")
        assert (await ask(engine, "Straße 👋"))[0] == "Straße 👋"

    with_engine("echo", echo(tiny_model), story)


def test_stop_strings_cut_answers_across_tokens(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        texts = ["one two", "two one", "no such", "Ende é two"]
        answers = await asyncio.gather(*(ask(engine, text, stop=("é tw", "two")) for text in texts))
        assert [text for text, _ in answers] == ["one ", "", "no such", "Ende "]
        assert {last.finish_reason for _, last in answers} == {"stop"}
        assert engine.active == 0

    with_engine("echo", echo(tmp_path), story)


def test_a_stop_string_frees_the_slot_before_the_answer_would_have_ended(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        text, last = await ask(engine, "stop " + "x" * 1000, stop=("xxx",), ignore_eos=True, max_tokens=2000)
        assert (text, last.finish_reason) == ("stop ", "stop")
        assert last.usage is not None
        assert last.usage.completion_tokens == 8
        took = await until(lambda: engine.active == 0)
        assert took < 0.1

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5})


def test_max_tokens_ends_an_answer_with_length(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert (await ask(engine, "abcdef", max_tokens=3))[1].finish_reason == "length"
        text, last = await ask(engine, "ab", max_tokens=5, ignore_eos=True)
        assert (text, last.finish_reason) == ("ababa", "length")

    with_engine("echo", echo(tmp_path), story)


def test_a_client_that_leaves_frees_its_slot(tmp_path: Path) -> None:
    # One slot, taken by an answer of a minute: only if leaving frees it does the next request get in.
    async def story(engine: ProcessEngine) -> None:
        async with aclosing(engine(request("x", max_tokens=3000, ignore_eos=True))) as chunks:
            async for _chunk in chunks:
                break
        assert engine.active == 0
        async with asyncio.timeout(1.0):
            assert (await ask(engine, "next"))[0] == "next"

    with_engine("echo", echo(tmp_path), story, max_batch=1, options={"delay_ms_per_token": 20})


def test_a_task_that_is_cancelled_frees_its_slot(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        task = asyncio.create_task(ask(engine, "x", max_tokens=3000, ignore_eos=True))
        await until(lambda: engine.active == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.active == 0
        async with asyncio.timeout(1.0):
            assert (await ask(engine, "next"))[0] == "next"

    with_engine("echo", echo(tmp_path), story, max_batch=1, options={"delay_ms_per_token": 20})


def test_a_slot_stays_taken_while_its_client_listens(tmp_path: Path) -> None:
    # The positive twin: with the slot taken, the next request does wait.
    async def story(engine: ProcessEngine) -> None:
        async with aclosing(engine(request("x", max_tokens=3000, ignore_eos=True))) as chunks:
            await anext(chunks)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(engine, "next"), 0.3)

    with_engine("echo", echo(tmp_path), story, max_batch=1, options={"delay_ms_per_token": 20})


def test_eight_at_once_take_the_steps_of_one(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        await asyncio.gather(*(ask(engine, "x" * 20) for _ in range(8)))
        together = clock() - started
        # 20 steps of 10 ms for all of them; one after the other they would take 160.
        assert together < 0.8

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 10})


def test_a_crash_reaches_everybody_as_one_sentence_and_the_next_request_starts_the_engine_again(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        first = engine.pid
        waiting = [asyncio.create_task(ask(engine, "x", max_tokens=3000, ignore_eos=True)) for _ in range(3)]
        await until(lambda: engine.active == 3)
        assert isinstance(await outcome(ask(engine, "boom")), EngineDied)
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, EngineDied) for error in errors)
        assert len({id(error) for error in errors}) == 3
        assert str(errors[0]) == (
            "The echo engine ended: killed by SIGABRT, last words: echo: a request asked for a crash."
        )
        assert not engine.alive
        answers = await asyncio.gather(*(ask(engine, f"again {number}") for number in range(4)))
        assert [text for text, _ in answers] == [f"again {number}" for number in range(4)]
        assert engine.alive
        assert engine.pid != first

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5, "crash_on": "boom"})


def test_an_engine_that_keeps_dying_is_started_again_more_and_more_slowly(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        clock = asyncio.get_running_loop().time
        pauses = []
        for _ in range(3):
            started = clock()
            await outcome(ask(engine, "boom"))
            pauses.append(clock() - started)
        assert pauses[1] < 0.9 < pauses[2]

    with_engine("echo", echo(tmp_path), story, options={"crash_on": "boom"})


def test_a_hang_is_noticed_and_the_process_ended(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        pid = engine.pid
        error = await outcome(ask(engine, "freeze"))
        assert isinstance(error, EngineDied)
        assert str(error) == "The echo engine did not come to the end of a step in 0.4 s and was ended."
        assert pid is not None
        await until(lambda: not psutil.pid_exists(pid))
        assert (await ask(engine, "after"))[0] == "after"

    with_engine("echo", echo(tmp_path), story, hang_timeout_s=0.4, options={"hang_on": "freeze"})


def test_a_slow_answer_is_no_hang(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert (await ask(engine, "slow"))[0] == "slow"

    with_engine("echo", echo(tmp_path), story, hang_timeout_s=0.4, options={"delay_ms_per_token": 250})


def test_idle_silence_is_no_hang(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        await asyncio.sleep(0.5)
        assert engine.alive
        assert (await ask(engine, "hi"))[0] == "hi"

    with_engine("echo", echo(tmp_path), story, hang_timeout_s=0.2)


@pytest.mark.slow
def test_a_step_that_takes_long_is_no_hang_while_the_process_answers(tmp_path: Path) -> None:
    # One step of 6 s: longer than any silence that is borne.
    async def story(engine: ProcessEngine) -> None:
        assert (await ask(engine, "z"))[0] == "z"

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 6000})


@pytest.mark.slow
def test_a_process_that_is_stopped_is_replaced_within_seconds(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        clock = asyncio.get_running_loop().time
        waiting = [asyncio.create_task(outcome(ask(engine, "x", max_tokens=3000, ignore_eos=True))) for _ in range(3)]
        await until(lambda: engine.active == 3)
        pid, stopped = engine.pid, clock()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        for error in await asyncio.gather(*waiting):
            assert isinstance(error, EngineDied)
            assert str(error) == "The echo engine was stopped by a signal (SIGSTOP) and was ended."
        assert clock() - stopped < 5
        assert (await ask(engine, "back"))[0] == "back"
        assert clock() - stopped < 10
        assert engine.pid != pid

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5})


@pytest.mark.slow
def test_a_process_that_is_stopped_while_idle_is_no_longer_called_alive(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)
        await until(lambda: not engine.alive, 5)
        assert (await ask(engine, "back"))[0] == "back"

    with_engine("echo", echo(tmp_path), story)


def test_a_process_that_is_killed_fails_what_is_in_work_at_once_and_is_back(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        clock = asyncio.get_running_loop().time
        waiting = asyncio.create_task(outcome(ask(engine, "x", max_tokens=3000, ignore_eos=True)))
        await until(lambda: engine.active == 1)
        assert engine.pid is not None
        killed = clock()
        os.kill(engine.pid, signal.SIGKILL)
        error = await waiting
        assert isinstance(error, EngineDied)
        assert "SIGKILL (often: no memory left)" in str(error)
        assert not engine.alive
        assert clock() - killed < 5
        assert (await ask(engine, "back"))[0] == "back"
        assert clock() - killed < 10

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5})


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of another process")
def test_a_process_that_runs_out_of_memory_says_so_and_is_back(tmp_path: Path) -> None:
    import resource

    async def story(engine: ProcessEngine) -> None:
        clock = asyncio.get_running_loop().time
        assert engine.pid is not None
        limit = psutil.Process(engine.pid).memory_info().vms + 200_000_000
        resource.prlimit(engine.pid, resource.RLIMIT_AS, (limit, limit))
        waiting = asyncio.create_task(outcome(ask(engine, "x", max_tokens=3000, ignore_eos=True)))
        await until(lambda: engine.active == 1)
        began = clock()
        assert isinstance(await outcome(ask(engine, "swell")), EngineDied)
        error = await waiting
        assert isinstance(error, EngineDied)
        assert str(error) == "The echo engine failed: The engine ran out of memory."
        assert clock() - began < 5
        assert (await ask(engine, "back"))[0] == "back"
        assert clock() - began < 10

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5, "swell_on": "swell"})


def test_restart_ends_what_is_in_work_and_opens_a_new_process(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        task = asyncio.create_task(ask(engine, "x", max_tokens=3000, ignore_eos=True))
        await until(lambda: engine.active == 1)
        await engine.restart()
        assert isinstance(await outcome(task), EngineDied)
        assert (await ask(engine, "hi"))[0] == "hi"

    with_engine("echo", echo(tmp_path), story, options={"delay_ms_per_token": 5})


def test_a_conversation_that_does_not_fit_is_refused_and_one_that_just_fits_is_not(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        prompt = len(engine.tokenizer.encode_chat(request("x" * 50).messages))
        error = await outcome(ask(engine, "x" * 50, max_tokens=100 - prompt + 1))
        assert isinstance(error, RequestError)
        assert (error.param, error.code) == ("messages", "context_length_exceeded")
        assert (await ask(engine, "x" * 50, max_tokens=100 - prompt))[1].finish_reason == "length"

    (tmp_path / "echo.json").write_text('{"context_length": 100}')
    with_engine("echo", echo(tmp_path), story)


@pytest.mark.parametrize(
    ("sampling", "param"),
    [({"max_tokens": 0}, "max_tokens"), ({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p")],
)
def test_numbers_no_engine_can_use_are_refused(tmp_path: Path, sampling: dict[str, float], param: str) -> None:
    async def story(engine: ProcessEngine) -> None:
        error = await outcome(ask(engine, "hi", **sampling))
        assert isinstance(error, RequestError)
        assert error.param == param

    with_engine("echo", echo(tmp_path), story)


def test_likelihoods_come_one_per_answer_token_and_need_an_answer(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert len(await engine.token_logprobs((1, 2), (3, 4, 5))) == 3
        assert isinstance(await outcome(engine.token_logprobs((1,), ())), RequestError)
        assert engine.active == 0

    with_engine("echo", echo(tmp_path), story)


def test_the_process_ends_with_its_engine(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> int | None:
        assert engine.peak_memory_bytes() > 5_000_000
        return engine.pid

    pid = with_engine("echo", echo(tmp_path), story)
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from vivace.domain import Model
from vivace.engines import open_engine

async def main():
    async with open_engine("echo", Model("echo", Path({str(tmp_path)!r}), "echo", "none")) as engine:
        print(engine.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait()
    gone, _ = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=3)
    assert not psutil.pid_exists(pid) or gone


def test_ctrl_c_does_not_reach_the_process(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert engine.pid is not None
        assert os.getpgid(engine.pid) != os.getpgid(0)
        os.kill(engine.pid, signal.SIGINT)
        assert (await ask(engine, "still here"))[0] == "still here"

    with_engine("echo", echo(tmp_path), story)


def test_a_process_that_cannot_open_its_model_says_why(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "echo.json").write_text('{"delay_ms_per_token": "soon"}')
    error = asyncio.run(outcome(open_engine("echo", echo(tmp_path)).__aenter__()))
    assert isinstance(error, EngineError)
    assert str(error) == "could not convert string to float: 'soon'."


def test_unknown_engines_options_and_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no engine 'opnvino'.*'openvino'"):
        asyncio.run(open_engine("opnvino", echo(tmp_path)).__aenter__())
    with pytest.raises(ConfigError, match="no option 'delay_ms'.*'delay_ms_per_token'"):
        asyncio.run(open_engine("echo", echo(tmp_path), options={"delay_ms": 3}).__aenter__())
    with pytest.raises(EngineError, match="openvino engine does not open tiny.*'hf'"):
        asyncio.run(open_engine("openvino", of_format(tmp_path, "hf")).__aenter__())


def test_each_format_has_its_engine() -> None:
    formats = ("openvino", "onnx", "gguf", "hf", "adapter", "echo")
    assert [default_engine(each) for each in formats] == [
        "openvino",
        "onnxruntime",
        "llamacpp",
        "transformers",
        "transformers",
        "echo",
    ]
    with pytest.raises(EngineError, match="'clay'"):
        default_engine(cast(Any, "clay"))


@given(st.text())
def test_bytes_round_trip_through_the_byte_tokenizer(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    assert tokenizer.decode(ids) == text
    assert "".join(stream.push(token) for token in ids) + stream.flush() == text
