"""Examples are answered in fixed groups, exactly once, and nothing is dropped."""

import asyncio
import random

import pytest

from tests.evaluate.fakes import EOS, SETTINGS, Characters, FakeEngine, LikelyEngine, candidate, example
from vivace.domain import Chunk, Message, SilentProgress
from vivace.errors import EngineDied, EngineError, RequestError
from vivace.evaluate.answering import answer_examples, finished_groups, group_key, grouped, reference_ids
from vivace.models import ChatTokenizer

EXAMPLES = [example(number) for number in range(10)]


def layers_of(system: str = ""):
    """Return a stacking function that puts a system prompt first, as the chain's layer does."""

    def stack(engine):
        async def respond(request):
            turns = (Message("system", system), *request.messages) if system else request.messages
            asked = type(request)(request.id, turns, sampling=request.sampling)
            async for chunk in engine(asked):
                yield chunk

        return respond

    return stack


def ask(engine, folder, *, settings=SETTINGS, examples=EXAMPLES, system=""):
    groups = [(group_key(candidate(), group, settings), group) for group in grouped(examples, settings.concurrency)]
    done = finished_groups(folder / "groups.jsonl")
    to_do = [(key, group) for key, group in groups if key not in done]
    work = answer_examples(engine, layers_of(system), to_do, settings, folder / "groups.jsonl", SilentProgress())
    done |= asyncio.run(work)
    return [answer for key, _ in groups for answer in done[key]]


def test_groups_do_not_depend_on_the_order_of_the_examples():
    shuffled = random.Random(0).sample(EXAMPLES, len(EXAMPLES))
    assert grouped(shuffled, 4) == grouped(EXAMPLES, 4)
    assert sorted(each.id for group in grouped(EXAMPLES, 4) for each in group) == [each.id for each in EXAMPLES]


def test_a_run_that_died_continues_and_asks_nothing_finished_again(tmp_path):
    dying = FakeEngine(str.upper, dies_after=6)
    with pytest.raises(EngineDied, match="signal 9") as caught:
        ask(dying, tmp_path)
    assert "finished answers are kept" in caught.value.hint
    kept = [answer.id for answers in finished_groups(tmp_path / "groups.jsonl").values() for answer in answers]
    assert len(kept) == SETTINGS.concurrency
    second = FakeEngine(str.upper)
    continued = ask(second, tmp_path)
    assert not set(second.asked) & set(kept)
    assert sorted(second.asked + kept) == [each.id for each in EXAMPLES]
    (tmp_path / "fresh").mkdir()
    assert continued == ask(FakeEngine(str.upper), tmp_path / "fresh")


def test_other_settings_or_examples_do_not_reuse_old_answers(tmp_path):
    ask(FakeEngine(str.upper), tmp_path)
    again = FakeEngine(str.upper)
    ask(again, tmp_path, settings=SETTINGS.model_copy(update={"max_tokens": 5}))
    assert len(again.asked) == len(EXAMPLES)
    assert group_key(candidate(), EXAMPLES[:2], SETTINGS) != group_key(candidate(system="Hi"), EXAMPLES[:2], SETTINGS)
    assert group_key(candidate(), EXAMPLES[:2], SETTINGS) != group_key(candidate(), EXAMPLES[1:3], SETTINGS)
    assert group_key(candidate(), EXAMPLES[:2], SETTINGS) == group_key(candidate(), EXAMPLES[:2], SETTINGS)


def test_a_torn_last_line_of_the_journal_is_asked_again(tmp_path):
    ask(FakeEngine(str.upper), tmp_path)
    journal = tmp_path / "groups.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    again = FakeEngine(str.upper)
    assert len(ask(again, tmp_path)) == len(EXAMPLES)
    assert 0 < len(again.asked) <= SETTINGS.concurrency


def test_refusals_and_empty_answers_are_failures_that_say_why(tmp_path):
    def reply(question):
        return "!" if "question 3" in question else "  " if "question 4" in question else "fine"

    answers = {answer.id: answer for answer in ask(FakeEngine(reply), tmp_path)}
    assert answers["example-003"].error == "This one cannot be answered."
    assert answers["example-004"].error == "The answer is empty."
    assert sum(answer.failed for answer in answers.values()) == 2


def test_an_engine_that_is_found_dead_ends_the_run_even_if_it_raised_nothing_special(tmp_path):
    class Silent(FakeEngine):
        async def __call__(self, request):
            self.alive = False
            raise EngineError("broken pipe")
            yield Chunk()

    with pytest.raises(EngineDied, match="broken pipe"):
        ask(Silent(str.upper), tmp_path)
    assert not finished_groups(tmp_path / "groups.jsonl")


def test_a_death_is_noticed_even_if_a_layer_hides_it_and_the_engine_is_up_again(tmp_path):
    class Restarting(FakeEngine):
        async def __call__(self, request):
            if "question 5" in request.messages[-1].content:
                raise EngineDied("It ended with signal 11.")
            yield Chunk(text="fine", finish_reason="stop")

    def hiding(engine):
        async def respond(request):
            try:
                async for chunk in engine(request):
                    yield chunk
            except EngineError:
                yield Chunk(text="Sorry.", finish_reason="stop")

        return respond

    work = answer_examples(
        Restarting(str.upper), hiding, [("key", EXAMPLES)], SETTINGS, tmp_path / "groups.jsonl", SilentProgress()
    )
    with pytest.raises(EngineDied, match="signal 11"):
        asyncio.run(work)
    assert not finished_groups(tmp_path / "groups.jsonl")


def test_a_mistake_of_ours_is_not_taken_for_a_failed_example(tmp_path):
    with pytest.raises(ZeroDivisionError):
        ask(FakeEngine(lambda _: str(1 // 0)), tmp_path)


def test_a_whole_group_is_sent_at_once_and_never_more(tmp_path):
    class Counting(FakeEngine):
        now = most = 0

        async def __call__(self, request):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            yield Chunk(text="done", finish_reason="stop")

    engine = Counting(str.upper)
    ask(engine, tmp_path)
    assert engine.most == SETTINGS.concurrency


def test_the_reference_is_judged_after_the_conversation_the_engine_saw(tmp_path):
    class Recording(LikelyEngine):
        pairs: list = []  # noqa: RUF012

        async def token_logprobs(self, prompt_ids, answer_ids):
            self.pairs.append((prompt_ids, answer_ids))
            return await super().token_logprobs(prompt_ids, answer_ids)

    engine = Recording(str.upper)
    one = example(0, "Where?", "Here.")
    (answer,) = ask(engine, tmp_path, examples=[one], system="Be brief.")
    prompt_ids, answer_ids = engine.pairs[0]
    assert "".join(map(chr, prompt_ids)) == "system:Be brief.\0\nuser:Where?\0\nassistant:"
    assert answer_ids == (*map(ord, "Here."), EOS)
    assert answer.token_count == 6
    assert answer.logprob == pytest.approx(-6 * 0.6931471805599453)


def test_an_engine_without_likelihood_says_so(tmp_path):
    answers = ask(FakeEngine(str.upper), tmp_path)
    assert {answer.likelihood_error for answer in answers} == {"The engine cannot tell likelihoods."}
    assert all(answer.logprob is None for answer in answers)


def test_a_likelihood_that_is_refused_or_no_number_is_listed(tmp_path):
    class Odd(LikelyEngine):
        async def token_logprobs(self, prompt_ids, answer_ids):
            if sum(answer_ids) % 2:
                raise RequestError("The context is too short.")
            return [float("-inf")] * len(answer_ids)

    answers = ask(Odd(str.upper), tmp_path)
    assert all(answer.logprob is None for answer in answers)
    assert {answer.likelihood_error.split()[0] for answer in answers} == {"The"}
    assert any("sum -inf" in answer.likelihood_error for answer in answers)


def test_a_template_that_rewrites_its_prompt_gives_no_likelihood():
    class Rewriting(Characters):
        def encode_chat(self, messages, *, add_generation_prompt=True, tools=()):
            ids = super().encode_chat(messages, add_generation_prompt=add_generation_prompt)
            return ids if add_generation_prompt else ids[::-1]

    with pytest.raises(RequestError, match="right after the prompt"):
        reference_ids(Rewriting(), EXAMPLES[0].prompt, EXAMPLES[0])


def test_sampling_gets_a_seed_per_example_and_greedy_gets_none(tmp_path):
    greedy, warm = FakeEngine(str.upper), FakeEngine(str.upper)
    ask(greedy, tmp_path)
    ask(warm, tmp_path, settings=SETTINGS.model_copy(update={"temperature": 0.7}))
    assert {request.sampling.seed for request in greedy.seen} == {None}
    assert len({request.sampling.seed for request in warm.seen}) == len(EXAMPLES)
    assert {request.sampling.max_tokens for request in greedy.seen} == {80}


def test_with_a_real_tokenizer_prompt_and_answer_are_the_whole_conversation(tiny_model):
    tokenizer = ChatTokenizer.open(tiny_model)
    one = example(0, "Where is my order?", "It was sent on Friday.")
    prompt_ids, answer_ids = reference_ids(tokenizer, one.prompt, one)
    assert tokenizer.decode(answer_ids) == "It was sent on Friday."
    assert answer_ids[-1] in tokenizer.eos_ids
    whole = tokenizer.encode_chat(one.messages, add_generation_prompt=False)
    assert whole[: len(prompt_ids) + len(answer_ids)] == prompt_ids + answer_ids
