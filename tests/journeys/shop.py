"""A small project on a tiny model, for journeys that run the real commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples" / "support"
ENVIRONMENT = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}


def make_project(folder: Path, model: Path, conversations: int = 60, tests: int = 10, **changes: str) -> Path:
    """Write a project of the example shop's first conversations with everything set to be quick."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = (EXAMPLES / "conversations.jsonl").read_text().splitlines()[:conversations]
    (folder / "chats.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "test.jsonl").write_text("\n".join((EXAMPLES / "test.jsonl").read_text().splitlines()[:tests]) + "\n")
    tables: dict[str, dict[str, Any]] = {
        "project": {"name": "shop", "system": "You help the customers of a shop."},
        "models": {"base": str(model)},
        "data": {"conversations": ["chats.jsonl"], "test": ["test.jsonl"]},
        "train": {
            "max_tokens": 6000,
            "per_device_train_batch_size": 4,
            "eval_steps_fraction": 0.2,
            "learning_rate": 0.01,
        },
        "compress": {"exports": ["openvino-int8"]},
        "evaluate": {"max_tokens": 8, "concurrency": 4, "resamples": 200},
        "bench": {"requests": 4, "concurrency": 2, "blocks": 1, "max_tokens": 6},
        "release": {"service_level": "none", "must_beat_base": False, "max_degradation": 1.0},
        "parity": {"enabled": False},  # two more engines with torch for each candidate: tests/parity sees to it
        "serve": {"port": 0},
    }
    for name, value in changes.items():
        table, _, key = name.partition("__")
        tables[table][key] = json.loads(value)
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    (folder / "vivace.toml").write_text("\n".join(lines))
    return folder


def vivace(*words: str, timeout: float = 280, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "vivace", *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr + done.stdout
    return done
