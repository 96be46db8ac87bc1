"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness) on Vivace's own engines.

So what is measured is what is served: the exported weights, the chat template, the engine. Imported only where lm-eval
is installed.
"""

import asyncio
import logging
import math
import os
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from vivace.chain import stack
from vivace.domain import Candidate, Message, Progress, Request, Sampling
from vivace.errors import DataError, EngineDied, VivaceError
from vivace.evaluate.general.forgetting import Results
from vivace.evaluate.general.tasks import LocalTask
from vivace.models.tokenizer import read_json

GREEDY_METRICS = {"loglikelihood": ("acc",), "multiple_choice": ("exact_match",)}
"""Metrics that ask whether an answer is what greedy decoding gives, which likelihoods alone do not tell."""
DEFAULT_NEW_TOKENS = 256
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE")
_QUIET = logging.getLogger("lm_eval")


class EngineLM(TemplateLM):  # type: ignore[misc]
    """An engine of Vivace as lm-eval's `LM`; it is called from another thread than the event loop's.

    Prompts that came through the chat template reach the engine as the conversation they were, layers included.
    """

    def __init__(self, engine: Any, chain: dict[str, Any], loop: asyncio.AbstractEventLoop, at_once: int) -> None:
        super().__init__()
        self._engine, self._loop = engine, loop
        self._responder = stack(engine, chain)
        self._system = chain.get("system", "")
        self._gate = asyncio.Semaphore(at_once)
        self._asked: dict[str, tuple[Message, ...]] = {}
        self.failures: list[str] = []

    @property
    def eot_token_id(self) -> int:
        """The token that ends a turn."""
        return int(min(self._engine.tokenizer.eos_ids))

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that nothing comes before: that which begins texts, else that which ends turns."""
        tokenizer = read_json(self._engine.model.path / "tokenizer_config.json").get("bos_token")
        text = tokenizer.get("content") if isinstance(tokenizer, dict) else tokenizer
        ids = self.tok_encode(text) if text else []
        return ids[0] if len(ids) == 1 else self.eot_token_id

    @property
    def max_length(self) -> int:
        """The longest text in tokens."""
        return int(self._engine.context_length)

    @property
    def tokenizer_name(self) -> str:
        """A name for caches that are not used."""
        return str(self._engine.model.name)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the template's source, for the log."""
        return str(getattr(self._engine.tokenizer, "template", ""))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """Return token ids; special tokens come from the chat template alone."""
        return list(self._engine.tokenizer.encode(string))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a conversation, and remember which conversation it was."""
        turns = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)  # type: ignore[arg-type]
        shown = turns
        if self._system and not any(turn.role in ("system", "developer") for turn in turns):
            shown = (Message("system", self._system), *turns)
        text = str(self._engine.tokenizer.render(shown, add_generation_prompt=add_generation_prompt))
        self._asked[text] = turns
        return text

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the answers."""
        return self._together(self._answer(number, *each.args) for number, each in enumerate(requests))

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, window by window where they are longer than the context."""
        return self._together(self._rolling(each.args[0]) for each in requests)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        return self._together(self._likelihood(context, answer) for _texts, context, answer in requests)

    def _together(self, work: Any) -> list[Any]:
        async def gather(items: list[Coroutine[Any, Any, Any]]) -> list[Any]:
            return await asyncio.gather(*items)

        return asyncio.run_coroutine_threadsafe(gather(list(work)), self._loop).result()

    async def _likelihood(self, context: Sequence[int], answer: Sequence[int]) -> tuple[float, bool]:
        room = max(1, self.max_length - len(answer))
        async with self._gate:
            found = await self._engine.token_logprobs(tuple(context)[-room:], tuple(answer))
        total = math.fsum(found)
        if not math.isfinite(total):
            raise DataError("The engine gave a likelihood that is no number.")
        # Above one half a token is surely the likeliest; below, likelihoods alone do not tell (see GREEDY_METRICS).
        return total, all(each > -math.log(2) for each in found)

    async def _rolling(self, text: str) -> float:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=max(1, self.max_length - 1),
            context_len=1,
        )
        parts = [make_disjoint_window(window) for window in windows]
        return math.fsum([(await self._likelihood(context, part))[0] for context, part in parts])

    async def _answer(self, number: int, prompt: str, options: dict[str, Any]) -> str:
        messages = self._asked.get(prompt, (Message("user", prompt),))
        until = options.get("until") or ()
        stops = (until,) if isinstance(until, str) else tuple(until)
        longest = options.get("max_gen_toks", options.get("max_new_tokens", DEFAULT_NEW_TOKENS))
        sampled = bool(options.get("do_sample")) and float(options.get("temperature") or 0) > 0
        sampling = Sampling(
            max_tokens=int(longest),
            temperature=float(options.get("temperature") or 0) if sampled else 0.0,
            stop=tuple(stop for stop in stops if stop),
            seed=number if sampled else None,
        )
        text = ""
        try:
            async with self._gate, aclosing(self._responder(Request(str(number), messages, sampling=sampling))) as got:
                async for chunk in got:
                    text += chunk.text
        except EngineDied:
            raise
        except VivaceError as error:
            self.failures.append(error.message)
            return ""
        for stop in stops:
            text = text.split(stop, 1)[0] if stop else text
        return text


@contextmanager
def offline() -> Iterator[None]:
    """Let no library look anything up on a hub meanwhile."""
    import datasets.config
    import huggingface_hub.constants

    before = {name: os.environ.get(name) for name in _OFFLINE}
    switches = [(huggingface_hub.constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE")]
    states = [getattr(module, name) for module, name in switches]
    level = _QUIET.level
    try:
        os.environ.update(dict.fromkeys(_OFFLINE, "1"))
        for module, name in switches:
            setattr(module, name, True)
        _QUIET.setLevel(logging.ERROR)
        yield
    finally:
        _QUIET.setLevel(level)
        for (module, name), state in zip(switches, states, strict=True):
            setattr(module, name, state)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


async def run_tasks(
    engine: Any,
    candidate: Candidate,
    tasks: Sequence[LocalTask],
    progress: Progress,
    *,
    at_once: int = 8,
    limit: int | None = None,
) -> tuple[list[Results], dict[str, str]]:
    """Run tasks and return their metrics example by example, and what could not be measured, with the reason."""
    loop = asyncio.get_running_loop()
    found: list[Results] = []
    missing: dict[str, str] = {}
    with progress.task("Running tasks of lm-eval", total=len(tasks)) as bar:
        for task in tasks:
            bar.note(task.name)
            model = EngineLM(engine, candidate.chain, loop, at_once)
            samples, directions, kind = await asyncio.to_thread(run_one, model, task, limit)
            made, left = results(task.name, samples, directions, kind)
            found += made
            missing |= left
            if model.failures:
                missing[f"{task.name}: {len(model.failures)} answers"] = model.failures[0]
            bar.advance()
    return found, missing


def run_one(model: Any, task: LocalTask, limit: int | None) -> tuple[list[dict[str, Any]], dict[str, bool], str]:
    """Run one task in lm-eval's own evaluator and return its samples, which metrics are better high, and its kind."""
    from lm_eval.evaluator import evaluate

    with offline():
        try:
            made = ConfigurableTask(config=dict(task.config))
            told = evaluate(
                lm=model,
                task_dict={task.name: made},
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
            )
        except VivaceError:
            raise
        except Exception as error:  # whatever a task's file, data or functions do wrong
            raise DataError(
                f"The task {task.name} in {task.path} failed in lm-eval: {type(error).__name__}: {error}.",
                "Try it in lm-eval itself.",
            ) from error
    return list(told["samples"][task.name]), dict(made.higher_is_better()), str(made.OUTPUT_TYPE)


def results(
    name: str, samples: Sequence[dict[str, Any]], directions: dict[str, bool], kind: str
) -> tuple[list[Results], dict[str, str]]:
    """Return a task's metrics as rows, one per example, in the order of the documents."""
    found, missing = [], {}
    filters = list(dict.fromkeys(str(each["filter"]) for each in samples))
    for chosen in filters:
        own = sorted((each for each in samples if each["filter"] == chosen), key=lambda each: int(each["doc_id"]))
        ids = tuple(str(each["doc_hash"]) + f"-{each['doc_id']}" for each in own)
        for metric in own[0]["metrics"]:
            label = metric if len(filters) == 1 else f"{metric} ({chosen})"
            if metric in GREEDY_METRICS.get(kind, ()):
                missing[f"{name}: {label}"] = "Whether an answer is the greedy one is not told by likelihoods."
                continue
            rows = [_row(each[metric], metric) for each in own]
            if any(row is None for row in rows):
                missing[f"{name}: {label}"] = "It is no figure of single examples, so it cannot be compared in pairs."
                continue
            table = tuple(row for row in rows if row is not None)
            values = [row[0] for row in table]
            share = all(row[1] == 1.0 for row in table) and min(values) >= 0 and max(values) <= 1
            found.append(Results(name, label, ids, table, directions.get(metric, True), share))
    return found, missing


def _row(value: Any, metric: str) -> tuple[float, float] | None:
    """Return (numerator, denominator) of one example; perplexities become nats, which less is better of."""
    if isinstance(value, (bool, int, float, np.number)):
        return (-float(value), 1.0) if metric == "perplexity" else (float(value), 1.0)
    pair = list(value) if isinstance(value, (tuple, list)) else []
    if len(pair) == 2 and all(isinstance(each, (int, float, np.number)) for each in pair):
        if metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
            return -float(pair[0]) / math.log(2), float(pair[1])
        return None
    return None
