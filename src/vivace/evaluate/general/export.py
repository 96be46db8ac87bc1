"""The test set as a task that anybody's lm-eval runs: YAML, JSON Lines and our metrics as plain Python."""

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path

from vivace import __version__
from vivace.domain import Example
from vivace.errors import ConfigError
from vivace.evaluate.metrics import exact_match, token_f1
from vivace.store.files import write_atomic
from vivace.text import words

HEAD = '''"""The metrics of Vivace {version} for its exported task; needs lm-eval and rouge-score only."""

import json
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

_ROUGE = RougeScorer(["rougeL"], use_stemmer=False)


def dataset(**_options):
    """Return the questions, which lie beside this file wherever the folder is."""
    from datasets import Dataset

    text = Path(__file__).with_name("{file}").read_text(encoding="utf-8")
    return {{"test": Dataset.from_list([json.loads(line) for line in text.splitlines()])}}


def prompt(doc):
    """Return the question; of a conversation, all of its turns."""
    turns = json.loads(doc["messages"])
    if len(turns) == 1:
        return turns[0]["content"]
    return "\\n".join(f"{{turn['role'].capitalize()}}: {{turn['content']}}" for turn in turns)


def score(doc, results):
    """Return the scores of one answer; an empty one scores 0."""
    said, wanted = results[0].strip(), doc["reference"]
    if not said:
        return {{"token_f1": 0.0, "exact_match": 0.0, "rouge_l": 0.0}}
    return {{
        "token_f1": token_f1(said, wanted),
        "exact_match": exact_match(said, wanted),
        "rouge_l": float(_ROUGE.score(wanted, said)["rougeL"].fmeasure),
    }}
'''
YAML = """# Made by Vivace {version}. Run it in lm-evaluation-harness 0.4.13 or later:
#   lm_eval --model hf --model_args pretrained=FOLDER --apply_chat_template --include_path . --tasks {name}
task: {name}
custom_dataset: !function vivace_task.dataset
test_split: test
output_type: generate_until
description: {description}
doc_to_text: !function vivace_task.prompt
doc_to_target: "{{{{reference}}}}"
process_results: !function vivace_task.score
generation_kwargs:
  max_gen_toks: {max_tokens}
  do_sample: false
  temperature: 0.0
  until: []
metric_list:
{metrics}
metadata:
  version: 1.0
"""
METRICS = ("token_f1", "exact_match", "rouge_l")


def export_task(examples: Sequence[Example], out: Path, *, name: str, system: str, max_tokens: int) -> list[Path]:
    """Write a task into the folder `out` and return its files; raises `ConfigError` for a folder in use."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file.", "Name a folder that is empty or not there yet.")
    task = re.sub(r"[^a-z0-9_]+", "_", name.lower())
    files = {f"{task}.yaml", f"{task}.jsonl", "vivace_task.py"}
    strangers = sorted(each.name for each in out.iterdir() if each.name not in files) if out.is_dir() else []
    strangers = [each for each in strangers if each != "__pycache__"]
    if strangers:
        raise ConfigError(f"{out} holds other files, such as {strangers[0]!r}.", "Name a folder of its own.")
    lines = [
        json.dumps(
            {
                "id": each.id,
                # As one string: rows of differing shape are no table.
                "messages": json.dumps(
                    [{"role": turn.role, "content": turn.content} for turn in each.prompt], ensure_ascii=False
                ),
                "reference": each.reference,
            },
            ensure_ascii=False,
        )
        for each in examples
    ]
    metrics = "\n".join(
        f"  - metric: {metric}\n    aggregation: mean\n    higher_is_better: true" for metric in METRICS
    )
    settings = YAML.format(
        version=__version__,
        name=task,
        description=json.dumps(system, ensure_ascii=False),
        max_tokens=max_tokens,
        metrics=metrics,
    )
    written = {
        f"{task}.jsonl": "".join(f"{line}\n" for line in lines),
        "vivace_task.py": HEAD.format(version=__version__, file=f"{task}.jsonl") + "\n\n" + definitions(),
        f"{task}.yaml": settings,
    }
    for file, text in written.items():
        write_atomic(out / file, text)
    return [out / file for file in written]


def definitions() -> str:
    """Return the source of our metrics and of what counts as a word: one definition, here and in the exported task."""
    text = inspect.getsource(words)
    parts = [text[text.index("APOSTROPHES = ") :]]
    for module in (token_f1, exact_match):
        found = [each for _name, each in inspect.getmembers(module, inspect.isfunction)]
        own = [each for each in found if each.__module__ == module.__name__ and each.__name__ != "<lambda>"]
        parts += map(inspect.getsource, sorted(own, key=lambda each: each.__code__.co_firstlineno))
    return "\n\n".join(part.rstrip() + "\n" for part in parts)
