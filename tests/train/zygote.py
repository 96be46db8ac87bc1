"""A process that has imported everything once and forks a training command whenever it is told to.

Reads lines of JSON, `{"words": [PROJECT]}`, and answers with `{"pid": ...}` and, when that process has ended,
`{"code": ...}`. What is forked is a process of its own: SIGKILL ends it as it would any other.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from vivace.domain import SilentProgress
from vivace.errors import VivaceError


def main() -> None:
    """Import, then fork for each line on standard input."""
    import torch
    import transformers
    from datasets import Dataset  # noqa: F401
    from peft import get_peft_model  # noqa: F401
    from trl.trainer.sft_trainer import SFTTrainer  # noqa: F401

    import vivace.loop.stages
    import vivace.train.recovery.attempts
    import vivace.train.session
    import vivace.train.tune  # noqa: F401

    torch.set_num_threads(1)
    transformers.AutoModelForCausalLM  # noqa: B018  the libraries import lazily
    for line in sys.stdin:
        words = json.loads(line)["words"]
        pid = os.fork()
        if not pid:
            _be_the_command(words)
        print(json.dumps({"pid": pid}), flush=True)
        _pid, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _be_the_command(words: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        train(Path(words[0]))
    except VivaceError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except BaseException:
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def train(project: Path) -> None:
    """Run the training stage of a project whose dataset is there, as `vivace train` does."""
    from vivace.loop import stages
    from vivace.loop.project import open_project

    with open_project(project, SilentProgress()) as opened:
        (dataset,) = opened.store.artifacts("data")
        stages.train(opened, dataset, stages.base_model(opened))


if __name__ == "__main__":
    main()
