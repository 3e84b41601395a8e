"""Ten thousand requests, among them cancelled, malformed and 10 MB ones: no 5xx, no leak."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from worldpm.schema import Group, Message
from worldpm.scoring import Scorer

NUM_REQUESTS = 10_000
WARM_UP = 3_000
CONCURRENCY = 32
SEED = 7
# Over the whole run after the warm-up; a leaked body of each 10 MB request alone would be 500 MB.
ALLOWED_GROWTH_BYTES = 48 * 1024 * 1024

PROMPTS = [f"Question number {number}?" for number in range(5)]
RESPONSES = [f"Answer {number}: " + "word " * number for number in range(8)]
HUGE = "long text " * 1_000_000
JSON = {"content-type": "application/json"}
MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe\x00",
    b'{"groups": 3}',
    b'{"groups": [{"id": "a", "prompt": [], "responses": []}]}',
    b'{"groups": [{"id": "\\ud800", "prompt": [{"role": "user", "content": "a"}]}]}',
    b"[" * 20_000,
]


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def served(checkpoint: Path, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    log = folder / "log"
    command = [str(Path(sys.executable).with_name("worldpm")), "serve", str(checkpoint)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", "0"],
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
    try:
        while "ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        url = next(word for word in log.read_text().split() if word.startswith("http://"))
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


async def send_and_leave(url: httpx.URL, body: bytes, choice: random.Random) -> None:
    """Close the connection in the middle of the body, or while the answer is awaited."""
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    sent = body[: choice.choice([len(body) // 2, len(body)])]
    writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + sent)
    await writer.drain()
    await asyncio.sleep(choice.uniform(0, 0.02))
    writer.close()
    await writer.wait_closed()


async def send_one(
    client: httpx.AsyncClient, kind: str, choice: random.Random, expected: dict, tally: Tally
) -> None:
    if kind == "malformed":
        content = choice.choice(MALFORMED)
        path = choice.choice(["/v1/score", "/get_reward", "/classify", "/nowhere"])
        answer = await client.post(path, content=content, headers=JSON)
        tally.statuses[f"malformed {answer.status_code}"] += 1
        return
    prompt = choice.choice(PROMPTS)
    texts = choice.sample(RESPONSES, 3)
    if kind == "huge":
        texts = [HUGE]
    group = {"id": "g", "prompt": [{"role": "user", "content": prompt}], "responses": texts}
    body = json.dumps({"groups": [group]}).encode()
    if kind == "cancelled":
        await send_and_leave(client.base_url, body, choice)
        tally.statuses["cancelled"] += 1
        return
    answer = await client.post("/v1/score", content=body, headers=JSON)
    tally.statuses[f"{kind} {answer.status_code}"] += 1
    if answer.status_code == 200:
        scores = answer.json()["results"][0]["scores"]
        wanted = [expected[prompt, text] for text in texts]
        if scores != pytest.approx(wanted, abs=1e-5):
            tally.wrong.append(f"{prompt} {texts}: {scores}, expected {wanted}")


async def soak(url: str, process: psutil.Process, expected: dict) -> tuple[Tally, int, int]:
    choice, tally = random.Random(SEED), Tally()
    kinds = choice.choices(
        ["valid", "malformed", "cancelled", "huge"], [0.795, 0.1, 0.1, 0.005], k=NUM_REQUESTS
    )
    slots = asyncio.Semaphore(CONCURRENCY)
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def limited(kind: str, number: int) -> None:
            async with slots:
                await send_one(client, kind, random.Random(number), expected, tally)

        async def send_all(start: int, end: int) -> int:
            await asyncio.gather(*[limited(kinds[n], n) for n in range(start, end)])
            return process.memory_info().rss

        rss_warm = await send_all(0, WARM_UP)
        rss_end = await send_all(WARM_UP, NUM_REQUESTS)
        while "worldpm_requests_open 0.0" not in (metrics := (await client.get("/metrics")).text):
            await asyncio.sleep(0.05)
    assert "worldpm_tokens_waiting 0.0" in metrics
    return tally, rss_warm, rss_end


@pytest.mark.slow
def test_ten_thousand_requests_leave_no_trace(checkpoint: Path, scorer: Scorer, tmp_path: Path):
    groups = [Group(text, (Message("user", text),), tuple(RESPONSES)) for text in PROMPTS]
    expected = {
        (result.group_id, response): score
        for result in scorer.score(groups)
        for response, score in zip(RESPONSES, result.scores, strict=True)
    }
    with served(checkpoint, tmp_path) as (url, process):
        tally, rss_warm, rss_end = asyncio.run(soak(url, process, expected))
    print(json.dumps(tally.statuses, indent=1), f"RSS {rss_warm:,} -> {rss_end:,}")
    assert sum(tally.statuses.values()) == NUM_REQUESTS
    assert not tally.wrong, tally.wrong[:3]
    statuses = {name.split()[-1] for name in tally.statuses} - {"cancelled"}
    assert statuses <= {"200", "400", "404", "405", "413", "422"}, tally.statuses
    assert not [name for name in tally.statuses if name.startswith("valid") and "200" not in name]
    assert tally.statuses["cancelled"] > 0
    assert tally.statuses["huge 413"] > 0
    assert rss_end - rss_warm < ALLOWED_GROWTH_BYTES, f"{rss_warm:,} -> {rss_end:,} bytes"
