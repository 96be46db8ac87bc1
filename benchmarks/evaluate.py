"""How much of the engine's own throughput an evaluation reaches: the same prompts, with and without the evaluation.

`python -m benchmarks.evaluate EXAMPLES --model FOLDER` interleaves blocks of both: bare, so many requests at once and
nothing scored; evaluated, `vivace.evaluate` answers, asks for the likelihood of the references where it is told to,
journals and scores. Prints JSON: tokens a second of each block, and their ratios.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from time import monotonic

import numpy as np

from vivace.chain import answer, stack
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Example, Message, Model, Request, Sampling, SilentProgress, Workspace
from vivace.engines import default_engine, open_engine
from vivace.evaluate import evaluate, load_report
from vivace.store import read_examples

FORMATS = {"openvino_model.xml": "openvino", "genai_config.json": "onnx", "config.json": "hf"}


async def bare(
    candidate: Candidate, examples: list[Example], tokens: int, at_once: int, threads: int
) -> tuple[int, float]:
    """Return tokens written and seconds, engine's start not counted."""
    async with open_engine(candidate.engine, candidate.model, threads=threads, prefix_cache=False) as engine:
        responder, slots = stack(engine, recipe=candidate.chain), asyncio.Semaphore(at_once)

        async def one(example: Example) -> int:
            async with slots:
                request = Request(example.id, example.prompt, sampling=Sampling(max_tokens=tokens))
                trace = await answer(responder, request, monotonic)
                return trace.usage.completion_tokens if trace.usage else 0

        await one(examples[0])
        began = monotonic()
        written = sum(await asyncio.gather(*map(one, examples)))
        return written, monotonic() - began


def evaluated(
    candidate: Candidate, examples: list[Example], settings: EvaluateSettings, threads: int
) -> tuple[int, float, float]:
    """Return tokens written, seconds of the whole evaluation, and seconds that an empty one takes to start."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("out", "scratch", "out0", "scratch0"):
            (Path(folder) / name).mkdir()
        few = Workspace(Path(folder) / "out0", Path(folder) / "scratch0", SilentProgress())
        began = monotonic()
        evaluate(candidate, examples[:2], settings.model_copy(update={"max_tokens": 1}), few, threads=threads)
        start = monotonic() - began
        place = Workspace(Path(folder) / "out", Path(folder) / "scratch", SilentProgress())
        began = monotonic()
        evaluate(candidate, examples, settings, place, threads=threads)
        seconds = monotonic() - began
        written = sum(each.completion_tokens for each in load_report(place.out).answers)
        return written, seconds, start


def many(examples: list[Example], count: int) -> list[Example]:
    """Return `count` examples: the project's, again with a number in the question where there are too few."""
    made = []
    for number in range(count):
        example = examples[number % len(examples)]
        turns = [*example.messages]
        if number >= len(examples):
            place = max(place for place, turn in enumerate(turns) if turn.role == "user")
            turns[place] = Message("user", f"{turns[place].content} ({number // len(examples)})")
        made.append(Example(f"{number:05}", tuple(turns), "test", metadata=example.metadata))
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=Path, help="examples.jsonl of a dataset")
    parser.add_argument("--model", type=Path, required=True, help="exported folder")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, nargs="+", default=[EvaluateSettings().concurrency])
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--likelihood", action="store_true")
    given = parser.parse_args()
    kind = next(name for file, name in FORMATS.items() if (given.model / file).is_file())
    model = Model("model", given.model, kind, "int8")
    candidate = Candidate("model", default_engine(kind), model)
    examples = many(list(read_examples(given.examples, "test")), given.count)
    told = {"command": {key: str(value) for key, value in vars(given).items()}, "rows": []}
    for at_once in given.at_once:
        settings = EvaluateSettings(
            max_examples=given.count, max_tokens=given.tokens, concurrency=at_once, likelihood=given.likelihood
        )
        rates: dict[str, list[float]] = {"bare": [], "evaluated": []}
        for block in range(given.blocks):
            for arm in ("bare", "evaluated") if block % 2 == 0 else ("evaluated", "bare"):
                if arm == "bare":
                    written, seconds = asyncio.run(bare(candidate, examples, given.tokens, at_once, given.threads))
                    rates[arm].append(written / seconds)
                else:
                    written, seconds, start = evaluated(candidate, examples, settings, given.threads)
                    rates[arm].append(written / (seconds - start))
        ratio = np.array(rates["evaluated"]) / np.array(rates["bare"])
        told["rows"].append(
            {
                "at_once": at_once,
                "tokens_per_s": {name: [round(rate, 1) for rate in values] for name, values in rates.items()},
                "ratio": round(float(ratio.mean()), 3),
                "ratios": [round(float(each), 3) for each in ratio],
            }
        )
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
