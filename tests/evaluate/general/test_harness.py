"""lm-eval on our engines gives what lm-eval gives on transformers, and an exported task scores as Vivace does."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluate.fakes import FakeEngine, example
from vivace.domain import Candidate, Message, Model, Request, SilentProgress
from vivace.engines import open_engine
from vivace.errors import ConfigError, DataError
from vivace.evaluate.general.export import export_task
from vivace.evaluate.general.tasks import LocalTask, find_tasks
from vivace.evaluate.metrics.exact_match import exact_match
from vivace.evaluate.metrics.rouge import ROUGE_L
from vivace.evaluate.metrics.token_f1 import token_f1

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

CHOICES = """task: colors
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{c}}"
doc_to_target: t
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
WRITING = """task: writing
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{c[0]}}"
generation_kwargs: {until: ["zzz"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
"""
ROLLING = """task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{long}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
ROWS = [
    {"q": f"What about order {n}?", "c": ["breakfast is late", "no", "your parcel number nine"], "t": n % 3}
    | {"long": "The parcel is late and the hotel is closed. " * (1 if n else 60)}
    for n in range(12)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tasks")
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in (("colors", CHOICES), ("writing", WRITING), ("texts", ROLLING)):
        (place / f"{name}.yaml").write_text(text.replace("DATA", str(place / "rows.jsonl")))
    return place


def lm_eval(model: Path, place: Path, name: str, out: Path, *more: str) -> list[list[dict]]:
    """Run plain lm-eval, in a process of its own, on the Hugging Face folder; return its samples."""
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"]
    command += ["--device", "cpu", "--batch_size", "1", "--include_path", str(place), "--tasks", name]
    command += ["--apply_chat_template", "--output_path", str(out), "--log_samples", *more]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for task in name.split(","):
        (file,) = out.glob(f"*/samples_{task}_*.jsonl")
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        found.append(sorted(samples, key=lambda each: each["doc_id"]))
    return found


def ours(model: Path, tasks: list[LocalTask], chain: dict | None = None):
    from vivace.evaluate.general.harness import run_tasks

    item = Candidate("tiny", "transformers", Model("tiny", model, "hf", "fp32"), chain or {})

    async def run():
        async with open_engine(item.engine, item.model, threads=1, prefix_cache=False) as engine:
            return await run_tasks(engine, item, tasks, SilentProgress())

    return asyncio.run(run())


def test_our_engine_and_lm_evals_own_agree_on_every_document(tiny_model: Path, folder: Path) -> None:
    found, missing = ours(tiny_model, find_tasks([str(folder)], folder))
    by_name = {(each.task, each.metric): each for each in found}
    assert missing == {}
    from lm_eval.models.huggingface import HFLM

    from vivace.evaluate.general.harness import run_one

    own = HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", batch_size=1)
    tasks = {task.name: task for task in find_tasks([str(folder)], folder)}
    theirs, texts = (run_one(own, tasks[name], None)[0] for name in ("colors", "texts"))
    for metric in ("acc", "acc_norm"):
        assert [row[0] for row in by_name[("colors", metric)].rows] == [each[metric] for each in theirs]
    assert 0 < by_name[("colors", "acc")].value < 1
    assert by_name[("colors", "acc")].is_share
    nats = [row[0] * -0.6931471805599453 for row in by_name[("texts", "bits_per_byte")].rows]
    assert nats[1:] == pytest.approx([each["bits_per_byte"][0] for each in texts[1:]], rel=1e-3)
    assert not by_name[("texts", "bits_per_byte")].is_share


def test_written_answers_come_through_the_served_stack(tiny_model: Path, folder: Path) -> None:
    (task,) = find_tasks([str(folder / "writing.yaml")], folder)

    async def served() -> list[str]:
        async with open_engine("transformers", Model("tiny", tiny_model, "hf", "fp32"), threads=1) as engine:
            texts = []
            for row in ROWS:
                from vivace.domain import Sampling

                asked = Request("x", (Message("user", row["q"]),), sampling=Sampling(max_tokens=6))
                texts.append("".join([chunk.text async for chunk in engine(asked)]))
            return texts

    from vivace.evaluate.general.harness import EngineLM, run_one

    async def measured():
        async with open_engine("transformers", Model("tiny", tiny_model, "hf", "fp32"), threads=1) as engine:
            lm = EngineLM(engine, {}, asyncio.get_running_loop(), 4)
            return await asyncio.to_thread(run_one, lm, task, None)

    samples, _directions, _kind = asyncio.run(measured())
    assert [each["resps"][0][0] for each in samples] == asyncio.run(served())


def test_layers_have_their_say_and_failures_are_told(folder: Path) -> None:
    from vivace.evaluate.general.harness import run_tasks

    class Rendering(FakeEngine):
        def __init__(self):
            super().__init__(lambda text: "!" if "order 3" in text else "breakfast is late zzz and more")
            self.model = Model("fake", Path("nowhere"), "echo", "none")
            self.tokenizer.render = lambda turns, add_generation_prompt=True: "|".join(t.content for t in turns)

    engine = Rendering()
    item = Candidate("fake", "fake", engine.model, {"system": "Be brief."})
    (task,) = find_tasks([str(folder / "writing.yaml")], folder)
    found, missing = asyncio.run(run_tasks(engine, item, [task], SilentProgress(), limit=6))
    assert {len(request.messages) for request in engine.seen} == {2}
    asked = sorted(request.messages[1].content for request in engine.seen)
    assert asked == [f"What about order {n}?" for n in range(6)]  # the conversation, not the rendered prompt
    assert engine.seen[0].messages[0].content == "Be brief."
    assert engine.seen[0].sampling.max_tokens == 6
    assert len(found[0].ids) == 6
    assert missing["writing: 1 answers"] == "This one cannot be answered."


def test_a_task_that_fails_in_lm_eval_is_told_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    from vivace.evaluate.general.harness import run_tasks

    path = tmp_path / "broken.yaml"
    text = (folder / "writing.yaml").read_text().replace('doc_to_text: "{{q}}"', 'doc_to_text: "{{q | nonsense}}"')
    path.write_text(text.replace("task: writing", "task: broken"))
    engine = FakeEngine(str)
    engine.model = Model("fake", Path("nowhere"), "echo", "none")
    item = Candidate("fake", "fake", engine.model)
    with pytest.raises(DataError, match="The task broken .* failed in lm-eval"):
        asyncio.run(run_tasks(engine, item, find_tasks([str(path)], tmp_path), SilentProgress()))


def test_an_exported_task_scores_in_plain_lm_eval_as_vivace_does(tiny_model: Path, tmp_path: Path) -> None:
    examples = [example(n, reference=f"Breakfast {n} is late, isn't it? 朝食 {n}.50") for n in range(5)]
    long = (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "When?"),
        Message("assistant", "At 9"),
    )
    from msgspec.structs import replace

    examples.append(replace(example(9), messages=long))
    export_task(examples, tmp_path / "task", name="My-shop_test", system='Be "brief": now.', max_tokens=16)
    moved = (tmp_path / "task").rename(tmp_path / "moved")
    (samples,) = lm_eval(tiny_model, moved, "my_shop_test", tmp_path / "out")
    assert [each["doc"]["id"] for each in samples] == [each.id for each in examples]
    assert samples[0]["arguments"]["gen_args_0"]["arg_0"].startswith('<|im_start|>system\nBe "brief": now.<|im_end|>')
    assert "User: Hi\nAssistant: Hello\nUser: When?" in samples[5]["arguments"]["gen_args_0"]["arg_0"]
    for each, one in zip(samples, examples, strict=True):
        said = each["resps"][0][0]
        assert said
        assert each["token_f1"] == token_f1(said, one.reference)
        assert each["exact_match"] == exact_match(said, one.reference)


def test_the_exported_metrics_are_ours_for_any_answer(tmp_path: Path) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    export_task([example(1)], tmp_path / "task", name="x", system="", max_tokens=8)
    spec = spec_from_file_location("exported_task", tmp_path / "task" / "vivace_task.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    from tests.evaluate.fakes import answered

    pairs = [
        ("It's 3.50 EUR, isn’t it?", "It is 3.50 euros"), ("朝食は七時です", "朝食は八時です"), ("", "x"), (" ", "x"),
        ("Same words", "same WORDS!"), ("🙂", "🙂"), ("🙂", "🙁"), ("ﬁne", "fine"), ("a b c d", "d c b a"),
    ]  # fmt: skip
    for said, wanted in pairs:
        rouge = ROUGE_L.rows([answered(1, said, wanted, error=None if said.strip() else "empty")])[0, 0]
        scores = {"token_f1": token_f1(said, wanted), "exact_match": exact_match(said, wanted), "rouge_l": rouge}
        assert module.score({"reference": wanted}, [said]) == pytest.approx(scores), said


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"holds other files, such as 'mine\.txt'"):
        export_task([example(1)], tmp_path, name="x", system="", max_tokens=8)
    with pytest.raises(ConfigError, match="is a file"):
        export_task([example(1)], tmp_path / "mine.txt", name="x", system="", max_tokens=8)
