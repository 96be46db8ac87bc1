"""Answers that the student writes itself, on the prompts of a batch."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vivace.train.batches.packing import collate
from vivace.train.batches.rows import IGNORED
from vivace.train.distillation.lesson import Lesson

Place = tuple[int, int, int]
"""Step, worker and number of the batch among those of the step."""


class OwnAnswers:
    """Replaces answers of the dataset by the student's own (Agarwal et al. 2024, https://arxiv.org/abs/2306.13649).

    What is drawn follows from the seed, the step and the place of the batch in it alone, whatever was drawn before.
    """

    def __init__(self, lesson: Lesson, pad_id: int) -> None:
        self.share, self.max_new_tokens, self.temperature = lesson.lmbda, lesson.max_new_tokens, lesson.heat
        self.eos_ids, self.pad_id, self.seed = list(lesson.eos_ids), pad_id, lesson.seed

    def wanted(self, step: int) -> bool:
        """Tell whether the student answers the prompts of this step."""
        return self._source(step).random() < self.share

    def replace(self, model: Any, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """Return the batch with one answer of each row, and what comes after it, replaced by the model's own."""
        source = self._source(place)
        rows = [
            (ids[mask.bool()].tolist(), labels[mask.bool()].tolist())
            for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
        ]
        prompts = [ids[: source.choice(answer_starts(labels))] for ids, labels in rows]
        answers = self._write(model, prompts, place)
        shares = batch["shares"].tolist() if "shares" in batch else [1.0] * len(rows)
        made = collate(
            [
                {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer, "share": share}
                for prompt, answer, share in zip(prompts, answers, shares, strict=True)
            ],
            self.pad_id,
        )
        made = {name: value.to(batch["input_ids"].device) for name, value in made.items()}
        return made | {"sampled": torch.ones(len(rows), dtype=torch.bool, device=batch["input_ids"].device)}

    def _write(self, model: Any, prompts: Sequence[list[int]], place: Place) -> list[list[int]]:
        from transformers import GenerationConfig

        make: Any = GenerationConfig
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[self.pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        on = next(model.parameters()).device
        config = make(
            max_new_tokens=self.max_new_tokens,
            do_sample=True,
            temperature=self.temperature,
            top_k=0,
            top_p=1.0,
            use_cache=True,
            eos_token_id=self.eos_ids,
            pad_token_id=self.pad_id,
            bos_token_id=None,
        )
        training, settings = model.training, model.generation_config
        # With the folder's own generation settings (penalties, top_k) it would not be the student's own words.
        model.generation_config = config
        model.train(False)
        try:
            with torch.random.fork_rng([on] if on.type == "cuda" else []), torch.no_grad():
                torch.manual_seed(self._source(place).getrandbits(63))
                written = model.generate(input_ids=ids.to(on), attention_mask=mask.to(on), generation_config=config)
        finally:
            model.train(training)
            model.generation_config = settings
        return [_ended(row, self.eos_ids) for row in written[:, width:].tolist()]

    def _source(self, place: int | Place) -> random.Random:
        return random.Random(f"vivace-gkd-{self.seed}-{place}")


def answer_starts(labels: Sequence[int]) -> list[int]:
    """Return where the learned answers of a row begin."""
    return [
        place
        for place in range(1, len(labels))
        if labels[place] != IGNORED and (place == 1 or labels[place - 1] == IGNORED)
    ]


def _ended(answer: list[int], eos_ids: Sequence[int]) -> list[int]:
    """Return an answer up to its end token; what follows is padding."""
    end = next((place + 1 for place, token in enumerate(answer) if token in eos_ids), len(answer))
    return answer[:end]
