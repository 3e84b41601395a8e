"""Write a made-up dump: site after site, posts in blocks, in memory that does not grow."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

from data_pipeline.sources.generated import xml_rows
from data_pipeline.sources.generated.config import GenerateConfig
from data_pipeline.sources.generated.dump_readme import DUMP_README
from data_pipeline.sources.generated.posts import POSTS_PER_QUESTION, Post, SiteHistory
from data_pipeline.sources.generated.test_sets import TEST_SET_NAMES, make_test_set
from data_pipeline.sources.generated.truth import TruthWriter, truth_writer
from data_pipeline.sources.generated.world import SiteWorld, make_worlds
from worldpm.artifacts import (
    MANIFEST_NAME,
    Manifest,
    atomic_directory,
    file_sha256,
    fingerprint,
    is_current,
)
from worldpm.errors import ConfigError
from worldpm.group_files import write_group_file
from worldpm.log import Progress, logger, progress

KIND = "generated dump"
QUESTIONS_PER_BLOCK = 500
HISTORY_START = datetime(2010, 9, 1, 8, 0, 0)
HISTORY_END = datetime(2024, 3, 31, 20, 0, 0)
DELETED_POST_VOTE_SHARE = 10  # one vote in ten posts points at a post that is not in the dump

BYTES_PER_POST = 650  # of Posts.xml, measured

# 2024-04-06, as in the archives of that dump: no archive may carry the time it was made here.
ARCHIVE_TIME_S = 1_712_361_600


@dataclass(frozen=True, slots=True)
class GeneratedDump:
    """What was written; `is_new` is False when the folder already held exactly this dump."""

    num_posts: int
    num_questions: int
    num_answers: int
    sites: tuple[str, ...]
    is_new: bool


def generate_dump(config: GenerateConfig) -> GeneratedDump:
    """Write the dump of `config` to its `output_dir`, whole or not at all.

    The same settings give the same bytes. An `output_dir` that already holds them is left alone;
    one that holds another generated dump is replaced.

    Raises:
        ConfigError: `output_dir` holds something else.
    """
    settings = config.model_dump(mode="json", exclude={"output_dir"})
    expected = fingerprint(KIND, _code_version(), settings)
    if is_current(config.output_dir, expected):
        counts = Manifest.read(config.output_dir).counts
        return GeneratedDump(**{**counts, "sites": tuple(counts["sites"]), "is_new": False})
    _refuse_foreign(config.output_dir)
    worlds = make_worlds(config.world, config.seed)
    with atomic_directory(config.output_dir) as hidden:
        dump = _write_sites(worlds, config, hidden)
        for name in TEST_SET_NAMES:
            groups = make_test_set(name, worlds, config.num_test_items, config.seed)
            write_group_file(hidden / "test_sets" / f"{name}.jsonl", groups)
        (hidden / "README.md").write_text(DUMP_README, encoding="utf-8")
        counts = {key: value for key, value in asdict(dump).items() if key != "is_new"}
        Manifest(KIND, expected, settings, {}, counts).write(hidden)
    return dump


def _refuse_foreign(output_dir: Path) -> None:
    """Never replace a folder that the generator did not write."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    if not (output_dir / MANIFEST_NAME).is_file() or Manifest.read(output_dir).kind != KIND:
        raise ConfigError(
            f"output_dir: {output_dir} holds something that is no generated dump; name a new folder"
        )


def _code_version() -> str:
    folder = Path(__file__).parent
    return fingerprint([file_sha256(path) for path in sorted(folder.glob("*.py"))])


def _write_sites(
    worlds: tuple[SiteWorld, ...], config: GenerateConfig, directory: Path
) -> GeneratedDump:
    totals: Counter[str] = Counter()
    quotas = _quotas(worlds, config.num_posts)
    with (
        truth_writer(directory) as truth,
        progress("Writing posts", config.num_posts) as bar,
    ):
        for world, quota in zip(worlds, quotas, strict=True):
            host = world.theme.host
            logger.info("%s: %s posts", host, f"{quota:,}")
            history = _history(world, worlds, config, quota)
            with _SiteFiles.open(directory / host, with_votes=config.with_votes_file) as files:
                totals += _write_site(history, quota, files, truth, bar)
            if config.archive_format == "7z":
                _pack(directory / host)
    hosts = tuple(world.theme.host for world in worlds)
    return GeneratedDump(totals.total(), totals["questions"], totals["answers"], hosts, True)


def _quotas(worlds: tuple[SiteWorld, ...], num_posts: int) -> list[int]:
    quotas = [int(num_posts * world.theme.share) for world in worlds]
    quotas[0] += num_posts - sum(quotas)
    return quotas


def _history(
    world: SiteWorld, worlds: tuple[SiteWorld, ...], config: GenerateConfig, quota: int
) -> SiteHistory:
    num_questions = max(1, int(quota / POSTS_PER_QUESTION))
    return SiteHistory(
        world,
        worlds,
        config,
        num_users=max(20, num_questions // 2),
        start=HISTORY_START,
        step=(HISTORY_END - HISTORY_START) / (num_questions * 1.1 + QUESTIONS_PER_BLOCK),
    )


def _write_site(
    history: SiteHistory, quota: int, files: _SiteFiles, truth: TruthWriter, bar: Progress
) -> Counter[str]:
    world = history.world
    tags = world.attributes[: max(0, (quota - 1) // 2)]
    totals = Counter({"wikis": files.write_tag_wikis(tags, history.start)})
    first_question, next_id = 0, 1 + totals["wikis"]
    while room := quota - totals.total():
        posts = history.draft_block(first_question, QUESTIONS_PER_BLOCK, room)
        for post_id, post in enumerate(posts, next_id):
            post.post_id = post_id
        for post in posts:
            files.write_post(post, world)
        truth.add(world.theme.host, posts)
        answers = sum(post.parent is not None for post in posts)
        totals.update(answers=answers, questions=len(posts) - answers)
        next_id += len(posts)
        first_question += QUESTIONS_PER_BLOCK
        bar.advance(len(posts))
    files.write_tags(tags)
    files.write_users(history)
    return totals


class _SiteFiles:
    """The open XML files of one site."""

    def __init__(self, posts: TextIO, votes: TextIO | None, tags: TextIO, users: TextIO) -> None:
        self._posts, self._votes, self._tags, self._users = posts, votes, tags, users
        self._tag_counts: Counter[str] = Counter()
        self._next_vote = 1

    @classmethod
    @contextmanager
    def open(cls, directory: Path, *, with_votes: bool) -> Generator[_SiteFiles]:
        """Open the files of a site, each with its frame of XML."""
        directory.mkdir()
        with ExitStack() as stack:

            def table(name: str) -> TextIO:
                return stack.enter_context(_xml_file(directory / f"{name.capitalize()}.xml", name))

            posts, tags, users = table("posts"), table("tags"), table("users")
            yield cls(posts, table("votes") if with_votes else None, tags, users)

    def write_tag_wikis(self, tags: tuple[str, ...], created: datetime) -> int:
        """Write excerpt and wiki of every tag as the first posts; returns how many."""
        for number, tag in enumerate(tags):
            for offset, post_type in ((1, 4), (2, 5)):
                post_id = 2 * number + offset
                self._posts.write(xml_rows.tag_wiki_row(post_id, post_type, tag, created))
        return 2 * len(tags)

    def write_post(self, post: Post, world: SiteWorld) -> None:
        """Write a question or an answer, and its votes."""
        if post.parent is None:
            self._posts.write(xml_rows.question_row(post, world.theme.tag_style))
            self._tag_counts[post.question.subject.attribute] += 1
        else:
            self._posts.write(xml_rows.answer_row(post))
        if self._votes is None:
            return
        rows = xml_rows.vote_rows(post, self._next_vote)
        if post.post_id % DELETED_POST_VOTE_SHARE == 0:
            rows.append(xml_rows.stray_vote_row(self._next_vote + len(rows), post))
        self._next_vote += len(rows)
        self._votes.writelines(rows)

    def write_tags(self, tags: tuple[str, ...]) -> None:
        """Write Tags.xml."""
        for number, tag in enumerate(tags):
            excerpt, wiki = 2 * number + 1, 2 * number + 2
            count = self._tag_counts[tag]
            self._tags.write(xml_rows.tag_row(number + 1, tag, count, excerpt, wiki))

    def write_users(self, history: SiteHistory) -> None:
        """Write Users.xml."""
        for user in range(1, history.num_users + 1):
            self._users.write(xml_rows.user_row(user, history.start - timedelta(days=30)))


@contextmanager
def _xml_file(path: Path, root: str) -> Generator[TextIO]:
    """A file of rows in the publisher's frame: BOM, CRLF, no newline after the last tag."""
    with path.open("w", encoding="utf-8-sig", newline="", buffering=1 << 20) as file:
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\r\n<{root}>\r\n')
        yield file
        file.write(f"</{root}>")


def _pack(directory: Path) -> None:
    """Put a site's files into `<host>.7z` beside the folder, and remove the folder."""
    import py7zr

    filters = [{"id": py7zr.FILTER_BZIP2}]
    with py7zr.SevenZipFile(directory.with_name(directory.name + ".7z"), "w", filters=filters) as z:
        for path in sorted(directory.iterdir()):
            path.chmod(0o644)
            os.utime(path, (ARCHIVE_TIME_S, ARCHIVE_TIME_S))
            z.write(path, path.name)
    shutil.rmtree(directory)
