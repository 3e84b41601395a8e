"""Score every item of a catalog once: resumable item by item, shardable over processes.

Each process appends lines to its own part file below `OUTPUT/.scores/<identity>/`, where the
identity covers the model and every item's text: what does not match is never reused. The process
that finds all items scored writes `OUTPUT/items.jsonl`, in the order of the catalog.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eval.benchmark import Item
from eval.rows import as_row
from eval.score_files import ScoreLine, read_score_line
from worldpm.artifacts import atomic_file, file_sha256, fingerprint
from worldpm.errors import InputError
from worldpm.log import logger, progress
from worldpm.schema import Group, Message

ITEMS_FILE = "items.jsonl"
PARTS_DIRECTORY = ".scores"
# A kill loses at most the items of one chunk; large enough to fill a packed row.
ITEMS_PER_CHUNK = 64
# Weights beyond this size are identified by size and time of change, not by their bytes.
MAX_HASHED_BYTES = 256 * 1024 * 1024


class ScoredGroup(Protocol):
    """What a scorer says about one group."""

    @property
    def scores(self) -> tuple[float, ...]:
        """One score a response."""
        ...

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt as scored."""
        ...

    @property
    def num_response_tokens(self) -> tuple[int, ...]:
        """Length of each response as scored."""
        ...

    @property
    def prompt_tokens_cut(self) -> int:
        """Tokens taken out of the prompt to fit the context."""
        ...

    @property
    def response_tokens_cut(self) -> tuple[int, ...]:
        """Tokens taken out of each response."""
        ...


class GroupScorer(Protocol):
    """A model in this process, or the client of a server."""

    def score(self, groups: Sequence[Group]) -> Sequence[ScoredGroup]:
        """Score every response of every group, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a run that one process scores: items `rank`, `rank + world_size`, …"""

    rank: int = 0
    world_size: int = 1

    def of(self, items: Sequence[tuple[str, Item]]) -> list[tuple[str, Item]]:
        """This shard's items; the shards of all ranks together hold each item once."""
        return list(items[self.rank :: self.world_size])


def score_catalog(
    items: Sequence[tuple[str, Item]],
    scorer: GroupScorer,
    output_dir: Path,
    *,
    model_identity: str,
    shard: Shard,
) -> dict[str, dict[str, ScoreLine]] | None:
    """Score this shard's items that no part file holds yet; returns all lines once all are there.

    Returns None while other shards are still at work.

    Raises:
        InputError: a part file is damaged other than by a cut last line.
    """
    parts = output_dir / PARTS_DIRECTORY / run_identity(items, model_identity)
    parts.mkdir(parents=True, exist_ok=True)
    done = _read_parts(parts)
    wanted = [
        (source, item) for source, item in shard.of(items) if (source, item.item_id) not in done
    ]
    if len(done):
        logger.info("%s of %s items are scored already", f"{len(done):,}", f"{len(items):,}")
    _score_part(wanted, scorer, _own_part(parts, shard))
    done = _read_parts(parts)
    lacking = sum((source, item.item_id) not in done for source, item in items)
    if lacking:
        logger.info("%s items are left to the other ranks", f"{lacking:,}")
        return None
    table: dict[str, dict[str, ScoreLine]] = {}
    with atomic_file(output_dir / ITEMS_FILE) as file:
        for source, item in items:
            line = done[source, item.item_id]
            table.setdefault(source, {})[item.item_id] = line
            file.write(line.to_json() + "\n")
    return table


def run_identity(items: Sequence[tuple[str, Item]], model_identity: str) -> str:
    """16 hex digits over the model's identity and the text of every item."""
    digest = hashlib.sha256(model_identity.encode())
    for source, item in items:
        turns = [(turn.role, turn.content) for turn in item.prompt]
        digest.update(json.dumps([source, item.item_id, turns, item.responses]).encode())
    return digest.hexdigest()[:16]


def checkpoint_identity(folder: Path, **settings: object) -> str:
    """Identifies a model folder's files and how they are run."""
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        if path.stat().st_size <= MAX_HASHED_BYTES
        else f"{path.stat().st_size} bytes of {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return fingerprint(files, settings)


def score_items(items: Sequence[tuple[str, Item]], scorer: GroupScorer) -> list[ScoreLine]:
    """Score items, those with the same prompt as one group in which equal responses stand once.

    Where a joined group had to be cut, its items are scored one by one: how much of a prompt stays
    depends on the longest response beside it, and an item's score must not depend on its company.
    """
    joined = _join_by_prompt([item for _, item in items])
    results = scorer.score([group for group, _ in joined])
    lines: dict[int, ScoreLine] = {}
    alone: list[int] = []
    for (group, members), result in zip(joined, results, strict=True):
        if len(members) > 1 and (result.prompt_tokens_cut or any(result.response_tokens_cut)):
            alone += members
            continue
        position = {text: index for index, text in enumerate(group.responses)}
        for member in members:
            source, item = items[member]
            indices = [position[text] for text in item.responses]
            lines[member] = _line(source, item, result, indices)
    if alone:
        single = scorer.score([items[member][1].to_group(()) for member in alone])
        for member, result in zip(alone, single, strict=True):
            source, item = items[member]
            lines[member] = _line(source, item, result, range(len(item.responses)))
    return [lines[index] for index in range(len(items))]


def _join_by_prompt(items: Sequence[Item]) -> list[tuple[Group, list[int]]]:
    members: dict[tuple[Message, ...], list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault(item.prompt, []).append(index)
    return [
        (
            Group(
                items[indices[0]].item_id,
                prompt,
                tuple(dict.fromkeys(text for i in indices for text in items[i].responses)),
            ),
            indices,
        )
        for prompt, indices in members.items()
    ]


def _line(source: str, item: Item, result: ScoredGroup, indices: Sequence[int]) -> ScoreLine:
    cut = result.prompt_tokens_cut > 0 or any(result.response_tokens_cut[i] for i in indices)
    return ScoreLine(
        benchmark=source,
        id=item.item_id,
        scores=tuple(result.scores[i] for i in indices),
        prompt_tokens=result.num_prompt_tokens,
        response_tokens=tuple(result.num_response_tokens[i] for i in indices),
        cut=cut,
    )


def _score_part(items: Sequence[tuple[str, Item]], scorer: GroupScorer, part: Path) -> None:
    if not items:
        return
    with part.open("a", encoding="utf-8") as file, progress("scoring items", len(items)) as bar:
        for start in range(0, len(items), ITEMS_PER_CHUNK):
            chunk = items[start : start + ITEMS_PER_CHUNK]
            file.writelines(line.to_json() + "\n" for line in score_items(chunk, scorer))
            file.flush()
            bar.advance(len(chunk))


def _own_part(parts: Path, shard: Shard) -> Path:
    """This process's part file, without the line that a kill may have cut."""
    path = parts / f"part-{shard.rank:05d}-of-{shard.world_size:05d}.jsonl"
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    return path


def _read_parts(parts: Path) -> Mapping[tuple[str, str], ScoreLine]:
    """Lines of all part files by source and item; a last line still being written is left out."""
    found: dict[tuple[str, str], ScoreLine] = {}
    for path in sorted(parts.glob("part-*.jsonl")):
        for line in _whole_lines(path):
            found.setdefault((line.benchmark, line.id), line)
    return found


def _whole_lines(path: Path) -> Iterator[ScoreLine]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                return
            where = f"{path}:{number}"
            try:
                value = json.loads(text)
            except json.JSONDecodeError as exc:
                raise InputError(
                    f"{where}: damaged ({exc}); delete the file to score anew"
                ) from exc
            yield read_score_line(as_row(value, where))
