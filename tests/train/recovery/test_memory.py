"""Out of memory is told from other failures, and training goes on in smaller pieces to the same end."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.train.material import ROOT, Watcher, run, write_dataset
from vivace.errors import ResourceError
from vivace.store.files import folder_digest, read_journal
from vivace.train import machine
from vivace.train.recovery.memory import fitting, is_out_of_memory

STEADY: dict[str, Any] = {"lora_dropout": 0.0, "learning_rate": 1e-3, "num_train_epochs": 4}


def test_only_a_failed_allocation_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = refused.value
    assert is_out_of_memory(wrapped)
    with pytest.raises(RuntimeError) as wrong:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(wrong.value)


def test_rows_are_halved_until_they_fit_and_never_below_one() -> None:
    assert fitting(12, lambda rows: 10 * rows, 100) == 6
    assert fitting(12, lambda rows: 10 * rows, 120) == 12
    assert fitting(12, lambda rows: 10 * rows, 5) == 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def whole(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that had all the memory it wanted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(dataset, tiny_model, folder, per_device_train_batch_size=8, **STEADY)


@pytest.fixture
def no_room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the model's forward pass ask torch for memory that nobody has, where it is given too many rows."""
    from transformers import LlamaModel

    def limit(rows: int, *, after: Path | None = None) -> None:
        plain = LlamaModel.forward

        def forward(self: Any, *args: Any, **named: Any) -> Any:
            begun = after is None or after.is_dir()
            if self.training and begun and len(named["input_ids"]) > rows:
                torch.empty(1 << 50)
            return plain(self, *args, **named)

        monkeypatch.setattr(LlamaModel, "forward", forward)

    return limit


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]
    return [row["loss"] for row in rows if row["step"]]


def check_same(folder: Path, whole: Path) -> None:
    np.testing.assert_allclose(losses(folder), losses(whole), rtol=1e-4)
    ours, theirs = (load_file(str(f / "out" / "model" / "adapter_model.safetensors")) for f in (folder, whole))
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-4)


@pytest.mark.slow
def test_out_of_memory_halves_what_is_computed_at_a_time_and_changes_nothing_else(
    dataset: Path,
    tiny_model: Path,
    tmp_path: Path,
    whole: tuple[Path, dict[str, Any]],
    no_room_for: Callable[..., None],
) -> None:
    no_room_for(2)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, per_device_train_batch_size=8, **STEADY)
    assert [text.split(":")[0] for text in watcher.said if "Memory ran out" in text] == [
        "Memory ran out with 8 conversations at a time",
        "Memory ran out with 4 conversations at a time",
    ]
    assert (facts["micro_batch"], whole[1]["micro_batch"]) == (2, 8)
    assert facts["steps"] == whole[1]["steps"]
    check_same(tmp_path, whole[0])


@pytest.mark.slow
def test_out_of_memory_in_the_middle_goes_on_from_the_newest_checkpoint(
    dataset: Path,
    tiny_model: Path,
    tmp_path: Path,
    whole: tuple[Path, dict[str, Any]],
    no_room_for: Callable[..., None],
) -> None:
    no_room_for(4, after=tmp_path / "scratch" / "checkpoint-3")
    watcher = Watcher()
    run(dataset, tiny_model, tmp_path, progress=watcher, per_device_train_batch_size=8, **STEADY)
    assert any("Training continues after step 3 of 4" in text for text in watcher.said)
    check_same(tmp_path, whole[0])
    # The checkpoints remember it: nobody runs into the same wall again.
    manifest = json.loads((tmp_path / "scratch" / "checkpoint-4" / "checkpoint.json").read_text())
    assert manifest["notes"]["micro_batch"] == 4


@pytest.mark.slow
def test_where_not_even_one_conversation_fits_it_is_said(
    dataset: Path, tiny_model: Path, tmp_path: Path, no_room_for: Callable[..., None]
) -> None:
    no_room_for(0)
    with pytest.raises(ResourceError, match="one conversation at a time") as refused:
        run(dataset, tiny_model, tmp_path, **STEADY)
    assert "max_length" in refused.value.hint
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.slow
def test_what_would_not_fit_is_halved_before_the_start(
    dataset: Path, tiny_model: Path, tmp_path: Path, whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the estimate a run of this model needs 101 MB, and 0.8 MB for each conversation at a time.
    monkeypatch.setattr(machine, "memory_free", lambda _on: FREE_BYTES)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, per_device_train_batch_size=8, **STEADY)
    assert facts["micro_batch"] == 4
    assert any("Memory would not suffice with 8 conversations at a time" in text for text in watcher.said)
    check_same(tmp_path, whole[0])


@pytest.mark.slow
def test_a_process_that_may_take_no_more_memory_ends_with_the_same_model(tiny_model: Path, tmp_path: Path) -> None:
    """The operating system itself refuses: no address space is left for the larger batches."""
    told = json.loads(
        subprocess.run(
            [sys.executable, "-m", "tests.train.recovery.test_memory", str(tiny_model), str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=200,
        ).stdout.splitlines()[-1]
    )  # fmt: skip
    assert any("Memory ran out with 32 conversations" in text for text in told["said"])
    assert told["micro_batch"] < 32


FREE_BYTES = 104_500_000


def _starve(model: Path, folder: Path) -> None:
    from tests.train.material import FACTS
    from vivace.domain import Example, Message
    from vivace.store import write_examples

    torch.set_num_threads(1)
    words = " ".join(FACTS)
    talk = (Message("user", f"Say {words}." * 4), Message("assistant", f"{words}. " * 12))
    rows = [Example(f"t{number}", talk) for number in range(32)] + [Example("v", talk, split="validation")]
    write_examples(folder / "examples.jsonl", rows)
    common: dict[str, Any] = STEADY | {"num_train_epochs": 1, "max_length": 900}
    run(folder / "examples.jsonl", model, folder / "warm", per_device_train_batch_size=1, **common)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 160_000_000, resource.RLIM_INFINITY))
    watcher = Watcher()
    facts = run(
        folder / "examples.jsonl", model, folder / "starved", progress=watcher, per_device_train_batch_size=32, **common
    )
    print(json.dumps({"said": watcher.said, "micro_batch": facts["micro_batch"], "digest": folder_digest(folder)[0]}))


if __name__ == "__main__":
    _starve(*map(Path, sys.argv[1:3]))
