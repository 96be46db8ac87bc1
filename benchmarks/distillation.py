"""Does a half-depth student with a teacher end above the same student without one?

    python -m benchmarks.distillation FILE [FILE …] --base FOLDER --test TEST_FILE --system "You are …"

FILEs are conversations as `vivace data` reads them; they are cleaned and split as with its defaults, and `--test` names
held-out ones (else a share is held out). The teacher is the base, tuned with the project's defaults. Then the same
student, the teacher's layers evenly thinned out to `--layers`, is trained twice: with the teacher (`--method`) and on
the dataset's own answers alone. Data, order, steps and settings are the same; only the loss differs. All are examined
on held-out conversations that nothing was trained on or chosen by: loss per learned token, and (with `--answers`) token
F1 and ROUGE-L of greedy answers. Differences are paired by conversation, with 95 % bootstrap intervals; positive means
that the student with the teacher is better.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.config.data import DataSettings
from vivace.config.train import TrainSettings
from vivace.domain import Example, Message, Model, SilentProgress, Workspace
from vivace.models import ChatTokenizer, identify, load_causal_lm
from vivace.stats import mean_of_rows, paired_bootstrap, paired_bootstrap_rows, paired_permutation
from vivace.store import read_examples
from vivace.store.files import read_journal
from vivace.train.batches.rows import with_system

ARMS = ("with", "without")


def main() -> None:
    """Train the teacher and both students, compare them and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conversations", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, nargs="*", default=[], help="held-out conversations")
    parser.add_argument("--base", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument("--rows", type=int, default=2000, help="at most so many conversations, a seeded sample")
    parser.add_argument("--teacher-tokens", type=int, default=40_000, help="training tokens of the teacher")
    parser.add_argument("--tokens", type=int, default=40_000, help="training tokens of each student")
    parser.add_argument("--layers", type=float, default=0.5)
    parser.add_argument("--method", choices=["logits", "gkd"], default="logits")
    parser.add_argument("--alpha", type=float, default=None)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--divergence", choices=["forward_kl", "reverse_kl", "jsd"], default="forward_kl")
    parser.add_argument("--lmbda", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=120, help="conversations that are examined")
    parser.add_argument("--answers", type=int, default=0, help="of which so many are answered")
    parser.add_argument("--answer-tokens", type=int, default=80)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.threads:
        import torch

        torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = _compare(Path(folder), chosen)
    command = {name: _told_value(value) for name, value in vars(chosen).items()}
    print(json.dumps({"command": command, **found}, indent=2))


def _told_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_told_value(item) for item in value]
    return value.name if isinstance(value, Path) else value


def _compare(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    dataset = _dataset(place, chosen)
    base = identify(chosen.base)
    teacher, teacher_facts = _teacher(place, dataset, base, chosen)
    facts: dict[str, Any] = {"teacher": teacher_facts}
    models = {"teacher": teacher}
    for arm in ARMS:
        models[arm], facts[arm] = _student(place, arm, dataset, teacher, chosen)
    held = list(read_examples(dataset, "test"))[: chosen.held_out]
    return {"trained": facts, "held_out": _examined(held, base, models, chosen)}


def _dataset(place: Path, chosen: argparse.Namespace) -> Path:
    from vivace.data import prepare

    settings = DataSettings(
        conversations=[str(_plain(path, place)) for path in chosen.conversations],
        test=[str(_plain(path, place)) for path in chosen.test],
        max_conversations=chosen.rows,
        seed=chosen.seed,
    )
    workspace = _workspace(place / "data")
    prepare(settings, place, workspace)
    return workspace.out / "examples.jsonl"


def _plain(path: Path, place: Path) -> Path:
    """Return the file, unpacked if need be."""
    if path.suffix != ".gz":
        return path.absolute()
    out = place / path.stem
    out.write_bytes(gzip.decompress(path.read_bytes()))
    return out


def _workspace(folder: Path) -> Workspace:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    return Workspace(folder / "out", folder / "scratch", SilentProgress())


def _teacher(place: Path, dataset: Path, base: Model, chosen: argparse.Namespace) -> tuple[Model, dict[str, Any]]:
    """Return the base tuned with the project's defaults, its adapter merged."""
    from vivace.compress import merge
    from vivace.train import tune

    settings = TrainSettings(
        max_tokens=chosen.teacher_tokens,
        max_length=chosen.max_length,
        per_device_train_batch_size=chosen.batch,
        seed=chosen.seed,
    )
    workspace = _workspace(place / "teacher")
    facts = tune(dataset, base, chosen.system, settings, workspace)
    tuned = Model("teacher", workspace.out / "model", "adapter", "fp32", base=base.path)
    return merge(tuned, place / "merged"), _told(facts, workspace)


def _student(
    place: Path, arm: str, dataset: Path, teacher: Model, chosen: argparse.Namespace
) -> tuple[Model, dict[str, Any]]:
    """Return the thinned teacher, trained with the teacher or without."""
    from vivace.train.distillation.distill import distill

    settings = TrainSettings(
        max_length=chosen.max_length,
        per_device_train_batch_size=chosen.batch,
        seed=chosen.seed,
        distill={
            "method": chosen.method,
            "layers": chosen.layers,
            "alpha": chosen.alpha,
            "temperature": chosen.temperature,
            "divergence": chosen.divergence,
            "lmbda": chosen.lmbda,
            "learning_rate": chosen.learning_rate,
            "max_tokens": chosen.tokens,
        },
    )
    workspace = _workspace(place / arm)
    began = time.monotonic()
    facts = distill(dataset, teacher, teacher if arm == "with" else None, chosen.system, settings, workspace)
    told = _told(facts, workspace) | {"seconds": round(time.monotonic() - began, 1)}
    return Model(arm, workspace.out / "model", "hf", "fp32"), told


def _told(facts: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    rows = [json.loads(line) for line in read_journal(workspace.out / "history.jsonl")]
    curve = [(row["step"], round(row["validation_loss"], 4)) for row in rows if "validation_loss" in row]
    names = (
        "examples", "steps", "tokens", "tokens_per_s", "best_step", "validation_loss_before", "best_validation_loss",
        "student_layers", "student_parameters", "divergence_before", "divergence_after", "teacher_agreement_before",
        "teacher_agreement_after", "learning_rate",
    )  # fmt: skip
    return {name: facts[name] for name in names if name in facts} | {"validation": curve}


def _examined(
    held: Sequence[Example], base: Model, models: dict[str, Model], chosen: argparse.Namespace
) -> dict[str, Any]:
    """Return what each model makes of the held-out conversations, and how the two students differ."""
    from vivace.train.batches.rows import encode_examples
    from vivace.train.search.verdict import row_losses

    tokenizer = ChatTokenizer.open(base.path)
    rows = encode_examples(tokenizer, held, chosen.system, chosen.max_length, split="test").rows
    losses = {name: row_losses(model, rows) for name, model in {"base": base, **models}.items()}
    learned = [row.learned for row in rows]
    found: dict[str, Any] = {
        "conversations": len(rows),
        "loss": {name: sum(values) / sum(learned) for name, values in losses.items()},
    }
    own, other = ([[loss, count] for loss, count in zip(losses[arm], learned, strict=True)] for arm in ARMS)
    interval = paired_bootstrap_rows(other, own, mean_of_rows, seed=chosen.seed)
    per_token = [[loss / count for loss, count in zip(losses[arm], learned, strict=True)] for arm in ARMS]
    found["loss_gain"] = {
        "value": found["loss"]["without"] - found["loss"]["with"],
        "low": interval.low,
        "high": interval.high,
        "p": paired_permutation(per_token[1], per_token[0], seed=chosen.seed),
        "better_on": sum(a < b for a, b in zip(*per_token, strict=True)) / len(rows),
    }
    return found | _answered(held[: chosen.answers], base, models, chosen)


def _answered(
    held: Sequence[Example], base: Model, models: dict[str, Model], chosen: argparse.Namespace
) -> dict[str, Any]:
    from vivace.evaluate.answers import is_scorable
    from vivace.evaluate.metrics.rouge import ROUGE_L
    from vivace.evaluate.metrics.token_f1 import METRIC as TOKEN_F1

    asked = [example for example in held if is_scorable(example)]
    if not asked:
        return {}
    tokenizer = ChatTokenizer.open(base.path)
    answers = {name: _answers(model, asked, tokenizer, chosen) for name, model in models.items()}
    found: dict[str, Any] = {"answers": len(asked)}
    for metric in (TOKEN_F1, ROUGE_L):
        scores = {name: metric.rows(given)[:, 0].tolist() for name, given in answers.items()}
        own, other = (scores[arm] for arm in ARMS)
        interval = paired_bootstrap(own, other, seed=chosen.seed)
        found[metric.name] = {name: sum(values) / len(values) for name, values in scores.items()}
        found[f"{metric.name}_gain"] = {
            "value": sum(own) / len(own) - sum(other) / len(other),
            "low": interval.low,
            "high": interval.high,
            "p": paired_permutation(own, other, seed=chosen.seed),
        }
    return found


def _answers(model: Model, asked: Sequence[Example], tokenizer: ChatTokenizer, chosen: argparse.Namespace) -> list[Any]:
    """Return greedy answers, one at a time, in transformers."""
    import torch

    from vivace.evaluate.answers import Answer

    network: Any = load_causal_lm(model.path)
    made = []
    for example in asked:
        turns: Sequence[Message] = with_system(example.prompt, chosen.system)
        ids = tokenizer.encode_chat(turns, tools=example.tools)
        with torch.no_grad():
            said = network.generate(
                torch.tensor([ids]),
                max_new_tokens=chosen.answer_tokens,
                do_sample=False,
                eos_token_id=sorted(tokenizer.eos_ids),
                pad_token_id=0,
            )[0, len(ids) :]
        made.append(Answer(example.id, example.prompt, example.reference, tokenizer.decode(said.tolist()).strip()))
    return made


if __name__ == "__main__":
    main()
