"""The batcher: order, sharing, fairness, isolation, bounds, cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldpm.chat_template import EncodedGroup
from worldpm.errors import ServerError
from worldpm.serving.batcher import Batcher, BatchStatistics
from worldpm.serving.config import QueueConfig
from worldpm.serving.errors import RefusalError

SMALL = QueueConfig(batch_tokens=40, max_waiting_tokens=200, max_waiting_requests=50, gather_ms=0)


class SumModel:
    """Scores a response by its prompt's and its own ids; `gate` holds the worker back."""

    def __init__(self) -> None:
        self.batches: list[list[EncodedGroup]] = []
        self.gate = threading.Event()
        self.gate.set()

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[float]]:
        self.gate.wait(timeout=20)
        self.batches.append(list(groups))
        return [
            [sum(group.prompt_ids) + sum(ids) / 1000 for ids in group.response_ids]
            for group in groups
        ]


def group(prompt: list[int], *responses: list[int]) -> EncodedGroup:
    return EncodedGroup(prompt, list(responses), 0, [0] * len(responses))


def expected(groups: Sequence[EncodedGroup]) -> list[list[float]]:
    return SumModel().score(groups)


async def wait_until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def wait_until_running(batcher: Batcher) -> None:
    """Until the one open request has left the queue for the model."""
    await wait_until(lambda: batcher.num_open_requests == 1 and batcher.num_waiting_tokens == 0)


ids = st.lists(st.integers(1, 9), min_size=1, max_size=30)
groups_of_requests = st.lists(
    st.lists(
        st.tuples(ids, st.lists(ids, max_size=5)).map(lambda pair: group(pair[0], *pair[1])),
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)


@given(requests=groups_of_requests)
@settings(max_examples=40)
def test_every_request_gets_its_own_scores_in_its_own_order(requests):
    async def run():
        config = SMALL.model_copy(update={"max_waiting_tokens": 10**6})
        batcher = Batcher(SumModel().score, config)
        answers = await asyncio.gather(*[batcher.score(request) for request in requests])
        await batcher.close()
        return answers

    assert asyncio.run(run()) == [expected(request) for request in requests]


def test_requests_that_wait_together_share_prompt_and_equal_responses():
    async def run():
        model = SumModel()
        model.gate.clear()
        batcher = Batcher(model.score, SMALL)
        first = asyncio.create_task(batcher.score([group([9], [9])]))
        await wait_until_running(batcher)
        others = [
            asyncio.create_task(batcher.score([group([1, 2], response)]))
            for response in ([3], [4], [3])
        ]
        await wait_until(lambda: batcher.num_open_requests == 4)
        model.gate.set()
        answers = await asyncio.gather(first, *others)
        await batcher.close()
        return model.batches, answers

    batches, answers = asyncio.run(run())
    assert batches[1:] == [[group([1, 2], [3], [4])]]
    assert answers[1] == answers[3] == expected([group([1, 2], [3])])


def test_a_large_request_does_not_delay_a_small_one():
    async def run():
        model = SumModel()
        config = SMALL.model_copy(update={"max_waiting_tokens": 1000})
        batcher = Batcher(model.score, config)
        large = asyncio.create_task(
            batcher.score([group([1] * 10, *([[index] * 20 for index in range(1, 10)]))])
        )
        await asyncio.sleep(0)
        small = asyncio.create_task(batcher.score([group([2], [2])]))
        await small
        is_large_done = large.done()
        await large
        await batcher.close()
        return is_large_done

    assert asyncio.run(run()) is False


def test_a_cancelled_request_leaves_before_the_next_batch():
    async def run():
        model = SumModel()
        model.gate.clear()
        batcher = Batcher(model.score, SMALL)
        running = asyncio.create_task(batcher.score([group([1], [1])]))
        await wait_until_running(batcher)
        cancelled = asyncio.create_task(batcher.score([group([7], [7])]))
        kept = asyncio.create_task(batcher.score([group([8], [8])]))
        await wait_until(lambda: batcher.num_open_requests == 3)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert batcher.num_waiting_tokens == 2
        model.gate.set()
        await asyncio.gather(running, kept)
        await batcher.close()
        return [batch[0].prompt_ids for batch in model.batches], batcher

    prompts, batcher = asyncio.run(run())
    assert prompts == [[1], [8]]
    assert (batcher.num_open_requests, batcher.num_waiting_tokens) == (0, 0)


def test_a_full_queue_refuses_with_the_time_to_wait():
    async def run():
        model = SumModel()
        model.gate.clear()
        batcher = Batcher(model.score, SMALL)
        running = asyncio.create_task(batcher.score([group([1], [1])]))
        await wait_until_running(batcher)
        waiting = asyncio.create_task(batcher.score([group([2] * 100, [2] * 99)]))
        await wait_until(lambda: batcher.num_open_requests == 2)
        with pytest.raises(RefusalError) as refusal:
            await batcher.score([group([3], [3])])
        model.gate.set()
        await asyncio.gather(running, waiting)
        await batcher.close()
        return refusal.value

    refusal = asyncio.run(run())
    assert (refusal.status, refusal.kind) == (429, "queue_full")
    assert int(refusal.to_response().headers["Retry-After"]) >= 1


def test_one_requests_failure_is_not_the_others():
    def score(groups):
        if any(13 in group.prompt_ids for group in groups):
            raise RuntimeError("a fault of the model")
        return expected(groups)

    async def run():
        model = SumModel()
        batcher = Batcher(score, SMALL)
        answers = await asyncio.gather(
            *[batcher.score([group([number], [number])]) for number in (1, 13, 2)],
            return_exceptions=True,
        )
        await batcher.close()
        del model
        return answers

    first, failed, last = asyncio.run(run())
    assert isinstance(failed, RuntimeError)
    assert [first, last] == [[[1.001]], [[2.002]]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error_never_an_answer(value):
    async def run():
        batcher = Batcher(lambda groups: [[value]], SMALL)
        with pytest.raises(ServerError):
            await batcher.score([group([1], [1])])
        await batcher.close()

    asyncio.run(run())


def test_closing_finishes_what_was_accepted_and_takes_no_more():
    async def run():
        model = SumModel()
        model.gate.clear()
        batcher = Batcher(model.score, SMALL)
        accepted = [
            asyncio.create_task(batcher.score([group([number], [number])]))
            for number in range(1, 6)
        ]
        await wait_until(lambda: batcher.num_open_requests == 5)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(RefusalError) as refusal:
            await batcher.score([group([1], [1])])
        model.gate.set()
        answers = await asyncio.gather(*accepted)
        await closing
        return refusal.value.status, len(answers)

    assert asyncio.run(run()) == (503, 5)


def test_groups_without_responses_are_answered_without_the_model():
    async def run():
        model = SumModel()
        batcher = Batcher(model.score, SMALL)
        answer = await batcher.score([group([1])])
        await batcher.close()
        return answer, model.batches

    assert asyncio.run(run()) == ([[]], [])


def test_batches_are_reported():
    async def run():
        seen: list[BatchStatistics] = []
        batcher = Batcher(SumModel().score, SMALL, on_batch=seen.append)
        await batcher.score([group([1, 2], [3], [4, 5])])
        await batcher.close()
        return seen[0]

    statistics = asyncio.run(run())
    assert (statistics.num_requests, statistics.num_responses, statistics.num_tokens) == (1, 2, 5)
