"""What a student learns goes to other processes as it is."""

from pathlib import Path

import msgspec

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import Row
from vivace.train.distillation.lesson import Divergence, Lesson
from vivace.train.workers.job import Job, read_job, write_job


def test_a_lesson_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    row = Row((1, 2, 3), (-100, 2, 3), 0.5, 2)
    lesson = Lesson(
        tmp_path / "teacher",
        Divergence("jsd", 0.3, 2.0),
        0.7,
        lmbda=0.5,
        eos_ids=(2, 5),
        baked=((row, msgspec.structs.replace(row, ids=(9, 1, 2, 3), labels=(-100, -100, 2, 3))),),
    )
    base = Model("base", tmp_path / "base", "hf", "fp32")
    plan = Plan(((0,),), (3,), 1, (1, 3))
    job = Job((row,), (), plan, base, TrainSettings(), "float32", "cpu", "key", 1, lesson=lesson)
    write_job(job, tmp_path / "job")
    assert read_job(tmp_path / "job").lesson == lesson
