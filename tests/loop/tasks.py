"""A project with two tasks that have nothing in common: what an update learns, and what it forgets."""

import json
import random
from pathlib import Path
from typing import Any

ANSWERS = {
    "old": "Your order was sent yesterday and should arrive on Friday.",
    "new": "Breakfast is served from seven to ten in the restaurant.",
}
WORDS = [f"{first}{second}" for first in ("ba", "ke", "lo", "mi", "tu") for second in ("dor", "fen", "gul", "ris")]


def write_task(project: Path, name: str, count: int = 40, answer: str = "") -> None:
    """Write a task's conversations: each asks other words, and every answer is the task's own."""
    source = random.Random(name)
    rows = []
    for number in range(count):
        asked = " ".join([name, *source.sample(WORDS, 5)])
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer or ANSWERS[name]}]
        split = "test" if number % 8 == 0 else "validation" if number % 4 == 1 else "train"
        rows.append({"id": f"{name}-{number}", "messages": messages, "split": split})
    (project / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_tasks(project: Path, model: Path, *, count: int = 40, **train: Any) -> Path:
    """Write a project whose data is the old task; `write_task(project, "new")` brings the other one."""
    project.mkdir(parents=True, exist_ok=True)
    settings = {
        "max_tokens": 6000,
        "learning_rate": 0.01,
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_layers_fraction": 1.0,
        "eval_steps_fraction": 0.5,
        "max_validation_examples": 4,
        "num_train_epochs": 8,
    } | train
    tables: dict[str, dict[str, Any]] = {
        "project": {"name": "shop"},
        "models": {"base": str(model)},
        "data": {"conversations": ["*.jsonl"], "steps": ["turns"], "near_duplicate_threshold": 1.0},
        "train": settings,
        "compress": {"exports": ["openvino-int8"]},
        "evaluate": {"max_tokens": 8, "concurrency": 4, "resamples": 200},
        "bench": {"requests": 4, "concurrency": 2, "blocks": 1, "max_tokens": 6, "baseline": False},
        "parity": {"enabled": False},
        "release": {"service_level": "none", "must_beat_base": False, "max_degradation": 1.0},
    }
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    (project / "vivace.toml").write_text("\n".join(lines))
    write_task(project, "old", count)
    return project
