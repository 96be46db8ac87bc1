"""KTO on people's thumbs up and down (Taskmaster rewards): does the probability of good over bad answers rise?

    python -m benchmarks.preferences feedback_taskmaster_rewards.jsonl.gz --base FOLDER --tokens 40000

Adapters on the base learn from the rows of the split train, the best checkpoint is chosen on validation, and the area
under the ROC curve (good against bad answers) is told for the split test, before and after, with a 95 % interval that
draws whole dialogues. Calls of tools are written as JSON text, which every chat template can show.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Example, Message, Model, SilentProgress, Workspace
from vivace.models import ChatTokenizer, identify
from vivace.store import read_examples, write_examples


def main() -> None:
    """Learn, measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rewards", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--tuned", type=Path, help="an adapter folder on it to go on from; default: a fresh one")
    parser.add_argument("--method", choices=["kto", "dpo"], default="kto")
    parser.add_argument("--kind", choices=["all", "text", "tool_call"], default="all")
    parser.add_argument("--domain", default="", help="such as coffee; default: all")
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--held-out", type=int, default=400, help="test answers that are examined")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = TrainSettings(
        max_length=chosen.max_length,
        per_device_train_batch_size=chosen.batch,
        max_validation_examples=64,
        seed=chosen.seed,
        preference={
            "method": chosen.method,
            "beta": chosen.beta,
            "learning_rate": chosen.learning_rate,
            "max_tokens": chosen.tokens,
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_learn(Path(folder), chosen, settings), indent=2))


def _learn(folder: Path, chosen: argparse.Namespace, settings: TrainSettings) -> dict[str, Any]:
    from vivace.train.preferences.align import align

    write_examples(folder / "preferences.jsonl", _examples(chosen.rewards, chosen.kind, chosen.domain))
    base = identify(chosen.base)
    path = chosen.tuned or _fresh_adapter(base, settings, folder / "fresh")
    tuned = Model("tuned", path, "adapter", "fp32", base=base.path)
    workspace = Workspace(folder / "out", folder / "scratch", SilentProgress())
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    began = time.monotonic()
    facts = align(folder, tuned, base, "", settings, workspace)
    facts["seconds"]["all"] = round(time.monotonic() - began, 1)
    made = Model("aligned", folder / "out" / "model", "adapter", "fp32", base=base.path)
    command = {name: str(value) for name, value in vars(chosen).items()}
    return {"command": command, "facts": facts, "test": _test(folder, tuned, made, base, settings, chosen)}


def _examples(path: Path, kind: str, domain: str) -> Iterator[Example]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if kind not in ("all", row["kind"]) or domain not in ("", row["domain"]):
                continue
            turns = tuple(map(_turn, (*row["messages"], row["completion"])))
            # Rows are prefixes of dialogues: those with the same first question belong together.
            opening = next((turn.content for turn in turns if turn.role == "user"), "")
            yield Example(
                row["id"], turns, row["split"], metadata={"conversation_id": opening}, rating=float(row["reward"])
            )


def _turn(told: dict[str, Any]) -> Message:
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in told.get("tool_calls") or []]
    return Message(told["role"], "\n".join([*([told["content"]] if told.get("content") else []), *calls]))


def _fresh_adapter(base: Model, settings: TrainSettings, out: Path) -> Path:
    from transformers import set_seed

    from vivace.models import load_causal_lm
    from vivace.train import adapters

    set_seed(settings.seed)
    model = adapters.prepare_weights(load_causal_lm(base.path), base, settings)
    adapters.write_model(model, base, settings, out)
    return out


def _test(
    folder: Path, tuned: Model, made: Model, base: Model, settings: TrainSettings, chosen: argparse.Namespace
) -> dict[str, Any]:
    """Return what the models before and after say of answers that neither training nor choosing has seen."""
    from vivace.train.preferences.align import open_tuned, some_prompts
    from vivace.train.preferences.loss import AnswerProbabilities
    from vivace.train.preferences.rows import gather_preferences
    from vivace.train.preferences.scores import held_out_scores
    from vivace.train.preferences.trainer import measure

    examples = read_examples(folder / "preferences.jsonl", "test")
    found = gather_preferences(ChatTokenizer.open(base.path), examples, "", settings.max_length, 1)
    held = some_prompts(found, chosen.held_out, settings.seed)
    said = []
    for model in (tuned, made):
        opened = open_tuned(model, base, settings, "float32", "cpu")
        said.append(measure(AnswerProbabilities(opened, "float32"), held.answers, chosen.batch))
    return held_out_scores(held, said[0], said[1], chosen.beta, settings.seed)


if __name__ == "__main__":
    main()
