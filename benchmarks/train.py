"""Training with Vivace against TRL: useful tokens a second, held-out loss, and the time to a target loss.

    python -m benchmarks.train PROJECT --rows 64 --blocks 3       speed: TRL's defaults, a well-tuned TRL, Vivace
    python -m benchmarks.train PROJECT --target --rows 600        time until the held-out loss that TRL ends with

PROJECT is a folder with `vivace.toml`. All arms see the same conversations and train the same LoRA matrices unless the
arm's note says otherwise; each is a process of its own, and their order is reversed from block to block. Useful tokens
are those of the conversations, padding not counted; time is that of the training loop alone.

- `trl-defaults`: `SFTTrainer` with `SFTConfig()` and a LoRA of rank 16 on all linear layers. One default is changed in
  TRL's favor: bfloat16 only where the hardware is fast at it; `trl-as-it-is` leaves that, too.
- `trl-tuned`: the same LoRA as Vivace's (upper half of the layers), loss on the answers only, batches of like length,
  no gradient checkpointing, float32 where the CPU is not fast at bfloat16, Vivace's learning rate and schedule.
- `vivace`: `vivace train` with its defaults.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivace.config.train import TrainSettings
from vivace.domain import Example, Model, SilentProgress, Workspace
from vivace.stats import bootstrap_mean
from vivace.store import read_examples, write_examples

ARMS = ("trl-defaults", "trl-tuned", "vivace")


def main() -> None:
    """Run what was asked for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rows", type=int, default=64, help="training conversations")
    parser.add_argument("--held-out", type=int, default=24, help="validation conversations")
    parser.add_argument("--epochs", type=float, default=3.0, help="passes of the tuned arms")
    parser.add_argument("--default-epochs", type=float, default=None, help="passes of TRL's defaults")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--curve", type=int, default=0, help="examine the held-out loss of TRL every so many steps")
    parser.add_argument("--target", action="store_true", help="time to the loss that TRL's tuned arm ends with")
    parser.add_argument("--keep", type=float, default=0.34, help="share of the conversations Vivace selects (--target)")
    parser.add_argument(
        "--found", action="append", default=[], metavar="NAME=VALUE", help="what a search found, for an arm of its own"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        arm, folder, out = chosen.child
        Path(out).write_text(json.dumps(_child(arm, Path(folder), chosen)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(chosen, place)
        found = _target(chosen, place) if chosen.target else _speed(chosen, place)
    command = {name: str(value) for name, value in vars(chosen).items() if name != "child"}
    print(json.dumps({"command": command, **found}, indent=2))


def _prepare(chosen: argparse.Namespace, place: Path) -> None:
    """Write the conversations of all arms: the first rows of the project's train and validation splits."""
    from vivace.loop.project import open_project
    from vivace.loop.run import run

    with open_project(chosen.project, SilentProgress(), lock=True) as project:
        dataset = run(project, "data").dataset
        assert dataset is not None
        from vivace.loop import stages

        base = stages.base_model(project)
        path = dataset.path / "examples.jsonl"
        system = project.settings.project.system
    train = list(read_examples(path, "train"))[: chosen.rows]
    held = list(read_examples(path, "validation"))[: chosen.held_out]
    write_examples(place / "examples.jsonl", [*train, *held])
    spec = {"base": str(base.path), "name": base.name, "system": system, "license": base.license}
    (place / "spec.json").write_text(json.dumps(spec))


def _speed(chosen: argparse.Namespace, place: Path) -> dict[str, Any]:
    arms = chosen.arms.split(",")
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for block in range(chosen.blocks):
        for arm in arms if block % 2 == 0 else reversed(arms):
            runs[arm].append(_run(arm, place, chosen))
            print(arm, block, {k: v for k, v in runs[arm][-1].items() if k != "losses"}, file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "tokens_per_s": {arm: round(float(np.mean([run["tokens_per_s"] for run in runs[arm]])), 1) for arm in arms},
        "held_out_loss": {arm: [round(float(np.mean(run["losses"])), 4) for run in runs[arm]] for arm in arms},
        "curves": {arm: runs[arm][0]["curve"] for arm in arms},
    }
    if "vivace" in arms:
        others = [arm for arm in arms if arm != "vivace"]
        result["ratio"] = {arm: _ratio(runs["vivace"], runs[arm]) for arm in others}
        result["loss_difference"] = {arm: _difference(runs["vivace"][0], runs[arm][0]) for arm in others}
    return result


def _target(chosen: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Let TRL train on everything, then ask when each arm first had the loss that TRL ended with."""
    full = _run("trl-tuned", place, chosen)
    target = full["curve"][-1]["loss"]
    ours = _run("vivace-selected", place, chosen)
    all_data = _run("vivace", place, chosen)
    runs = {"trl-tuned": full, "vivace": all_data, "vivace-selected": ours}
    if chosen.found:
        runs["vivace-searched"] = _run("vivace-searched", place, chosen)
    reached = {
        name: next((point["seconds"] for point in run["curve"] if point["loss"] <= target), None)
        for name, run in runs.items()
    }
    return {"target": target, "seconds": reached, "curves": {name: run["curve"] for name, run in runs.items()}}


def _ratio(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> dict[str, float]:
    ratios = np.array([a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(ours, theirs, strict=True)])
    interval = bootstrap_mean(ratios, level=0.95, resamples=2000, seed=0)
    return {"ratio": round(float(ratios.mean()), 3), "low": round(interval.low, 3), "high": round(interval.high, 3)}


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Return our held-out loss minus theirs, conversation by conversation; nats per token."""
    differences = np.subtract(ours["losses"], theirs["losses"])
    interval = bootstrap_mean(differences, level=0.95, resamples=2000, seed=0)
    return {
        "difference": round(float(differences.mean()), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def _run(arm: str, place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    out = place / "result.json"
    command = [sys.executable, "-m", "benchmarks.train", str(chosen.project), "--child", arm, str(place), str(out)]
    command += ["--epochs", str(chosen.epochs), "--curve", str(chosen.curve), "--keep", str(chosen.keep)]
    command += [part for pair in chosen.found for part in ("--found", pair)]
    if chosen.default_epochs is not None:
        command += ["--default-epochs", str(chosen.default_epochs)]
    subprocess.run(command, check=True, stdout=sys.stderr)  # TRL tells its figures on standard output
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _child(arm: str, place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    spec = json.loads((place / "spec.json").read_text())
    base = Model(spec["name"], Path(spec["base"]), "hf", "fp32", license=spec["license"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if arm.startswith("vivace"):
            return _vivace(arm, place, work, base, spec["system"], chosen)
        return _trl(arm, place, work, base, spec["system"], chosen)


def _vivace(arm: str, place: Path, work: Path, base: Model, system: str, chosen: argparse.Namespace) -> dict[str, Any]:
    from vivace.train import tune

    found = dict(pair.split("=", 1) for pair in chosen.found) if arm == "vivace-searched" else {}
    fixed = {"max_tokens": None, "num_train_epochs": chosen.epochs, "max_validation_examples": chosen.held_out}
    settings = TrainSettings.model_validate(fixed | found)
    workspace = Workspace(work / "out", work / "scratch", SilentProgress())
    for path in (workspace.out, workspace.scratch):
        path.mkdir()
    dataset, select_s = place / "examples.jsonl", 0.0
    if arm == "vivace-selected":
        dataset, select_s = _select(place, work, chosen)
    facts = tune(dataset, base, system, settings, workspace)
    history = [json.loads(line) for line in (workspace.out / "history.jsonl").read_text().splitlines()]
    curve = [
        {
            "tokens": row["tokens"],
            "seconds": round(select_s + row["tokens"] / facts["tokens_per_s"], 1),
            "loss": row["validation_loss"],
        }
        for row in history
        if "validation_loss" in row
    ]
    losses = _held_out(base, workspace.out / "model", place, system)
    return {"tokens_per_s": facts["tokens_per_s"], "losses": losses, "curve": curve, "seconds": facts["seconds"]}


def _select(place: Path, work: Path, chosen: argparse.Namespace) -> tuple[Path, float]:
    """Keep the most useful share of the training conversations as `[data.balance] keep_best` does."""
    from vivace.data.balance.curation import choose_useful
    from vivace.index.embedders import open_embedder

    began = time.monotonic()
    examples = list(read_examples(place / "examples.jsonl"))
    train = [example for example in examples if example.split == "train"]
    questions = [next((turn.content for turn in item.messages if turn.role == "user"), "") for item in train]
    vectors = open_embedder("minilm", progress=SilentProgress()).embed(questions)
    count = round(chosen.keep * len(train))
    kept = {train[place].id for place in choose_useful(vectors, [1.0] * len(train), count, 0).chosen}
    path = work / "examples.jsonl"
    write_examples(path, [item for item in examples if item.split != "train" or item.id in kept])
    return path, time.monotonic() - began


def _trl(arm: str, place: Path, work: Path, base: Model, system: str, chosen: argparse.Namespace) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from vivace.models import ChatTokenizer
    from vivace.train.adapters import prepare_weights
    from vivace.train.batches.rows import encode_examples
    from vivace.train.machine import arithmetic
    from vivace.train.methods import learning_rate

    settings = TrainSettings()
    tuned = arm == "trl-tuned"
    epochs = chosen.epochs if tuned or chosen.default_epochs is None else chosen.default_epochs
    examples = list(read_examples(place / "examples.jsonl", "train"))
    rows = encode_examples(ChatTokenizer.open(base.path), examples, system, settings.max_length).rows
    set_seed(settings.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base.path, dtype="float32")
    peft: Any = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    fast = arithmetic("auto", "cpu") == "bfloat16"
    options: dict[str, Any] = {} if arm == "trl-as-it-is" else {"bf16": fast}
    data = Dataset.from_list([{"messages": _messages(example, system)} for example in examples])
    if tuned:
        model, peft = prepare_weights(model, base, settings), None
        data = Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})
        options = {
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "per_device_train_batch_size": settings.per_device_train_batch_size,
            "gradient_checkpointing": False,
            "bf16": fast,
            "max_length": None,
            "learning_rate": learning_rate(settings),
            "lr_scheduler_type": settings.lr_scheduler_type,
            "warmup_steps": round(settings.warmup_ratio * epochs * len(rows) / settings.per_device_train_batch_size),
            "train_sampling_strategy": "group_by_length",
            "optim": "adamw_torch_fused",
            "dataloader_pin_memory": False,
        }
    arguments = SFTConfig(
        output_dir=str(work / "trl"), num_train_epochs=epochs, save_strategy="no", report_to="none",
        disable_tqdm=True, use_cpu=True, seed=settings.seed, **options,
    )  # fmt: skip
    trainer: Any = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base.path),
        peft_config=peft,
    )
    clock = _Clock(trainer, place, base, system, chosen.curve)
    trainer.add_callback(clock.callback())
    trainer.train()
    clock.examine()
    tokens = sum(len(row.ids) for row in rows) * epochs
    return {"tokens_per_s": round(tokens / clock.seconds, 1), "losses": clock.losses, "curve": clock.curve}


def _messages(example: Example, system: str) -> list[dict[str, str]]:
    said = [{"role": turn.role, "content": turn.content or ""} for turn in example.messages]
    return said if not system or said[0]["role"] == "system" else [{"role": "system", "content": system}, *said]


class _Clock:
    """Measures the training loop without the examinations in between."""

    def __init__(self, trainer: Any, place: Path, base: Model, system: str, every: int) -> None:
        self.trainer, self.place, self.base, self.system, self.every = trainer, place, base, system, every
        self.seconds, self.curve, self.losses, self.began = 0.0, [], [], 0.0  # type: ignore[var-annotated]

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Hook(TrainerCallback):
            """Starts, stops and examines."""

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock.began = time.monotonic()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if clock.every and state.global_step % clock.every == 0:
                    clock.seconds += time.monotonic() - clock.began
                    clock.examine()
                    clock.began = time.monotonic()

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock.seconds += time.monotonic() - clock.began

        return Hook()

    def examine(self) -> None:
        """Note the held-out loss now."""
        model = self.trainer.model
        sums = losses_of(model, self.base, self.place, self.system)
        self.losses = [loss / tokens for loss, tokens in sums]
        model.train()
        per_token = sum(loss for loss, _ in sums) / sum(tokens for _, tokens in sums)  # as Vivace's own history
        self.curve.append({"seconds": round(self.seconds, 1), "loss": per_token})


def _held_out(base: Model, adapter: Path, place: Path, system: str) -> list[float]:
    from vivace.models import load_with_adapter

    sums = losses_of(load_with_adapter(adapter, base.path), base, place, system)
    return [loss / tokens for loss, tokens in sums]


def losses_of(model: Any, base: Model, place: Path, system: str) -> list[tuple[float, int]]:
    """Return the summed loss on the answers of each held-out conversation, in nats, and their tokens."""
    import torch

    from vivace.models import ChatTokenizer
    from vivace.train.batches.rows import encode_examples

    held = list(read_examples(place / "examples.jsonl", "validation"))
    rows = encode_examples(ChatTokenizer.open(base.path), held, system, 512, split="validation").rows
    model.train(False)
    found = []
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1]
            labels = torch.tensor(row.labels[1:])
            loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
            found.append((float(loss), int((labels != -100).sum())))
    return found


if __name__ == "__main__":
    main()
