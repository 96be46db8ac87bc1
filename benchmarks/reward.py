"""A reward model on people's thumbs up and down (Taskmaster rewards): does it tell good from bad answers?

    python -m benchmarks.reward feedback_taskmaster_rewards.jsonl.gz --kind text --epochs 2 --max-length 160

An encoder learns from the rows of the split train, checkpoint and calibration are chosen on validation, and the figures
are of the split test, which neither has seen: area under the ROC curve and accuracy of pairs with 95 % intervals that
draw whole dialogues, the same with length set aside, and what length has to do with the scores.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.preferences import _examples
from vivace.config.reward import RewardSettings
from vivace.domain import SilentProgress, Workspace
from vivace.errors import ModelError
from vivace.models import resolve
from vivace.store import write_examples


def main() -> None:
    """Learn, measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rewards", type=Path)
    parser.add_argument("--encoder", default="all-minilm-l6-v2", help="a name, or a Hugging Face folder")
    parser.add_argument("--kind", choices=["all", "text", "tool_call"], default="all")
    parser.add_argument("--domain", default="", help="such as coffee; default: all")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--max-length", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--freeze", type=float, default=0.0, help="share of the layers that stay as they are")
    parser.add_argument("--max-length-bias", type=float, default=0.1, help="0.5: preferences are never reweighted")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = RewardSettings(
        num_train_epochs=chosen.epochs,
        learning_rate=chosen.learning_rate,
        max_length=chosen.max_length,
        per_device_train_batch_size=chosen.batch,
        freeze_layers_fraction=chosen.freeze,
        max_length_bias=chosen.max_length_bias,
        seed=chosen.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_learn(Path(folder), chosen, settings), indent=2))


def _learn(folder: Path, chosen: argparse.Namespace, settings: RewardSettings) -> dict[str, Any]:
    from vivace.train.preferences.reward import train_reward

    write_examples(folder / "preferences.jsonl", _examples(chosen.rewards, chosen.kind, chosen.domain))
    workspace = Workspace(folder / "out", folder / "scratch", SilentProgress())
    for place in (workspace.out, workspace.scratch):
        place.mkdir()
    command = {name: str(value) for name, value in vars(chosen).items()}
    began = time.monotonic()
    try:
        facts = train_reward(folder, resolve(chosen.encoder), settings, workspace)
    except ModelError as refusal:
        facts = {"refused": refusal.message}
    return {"command": command, "seconds": round(time.monotonic() - began, 1), "facts": facts}


if __name__ == "__main__":
    main()
