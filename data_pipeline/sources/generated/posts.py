"""One stretch of a site's history: questions, their answers, votes and dates, as rows in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from statistics import NormalDist

from data_pipeline.sources.generated.answers import Latent, draft_answer, draw_latent
from data_pipeline.sources.generated.config import GenerateConfig
from data_pipeline.sources.generated.near_copies import draft_copy, num_originals
from data_pipeline.sources.generated.questions import Question, draft_question
from data_pipeline.sources.generated.text import to_html
from data_pipeline.sources.generated.votes import (
    draw_answer_votes,
    draw_popularity,
    draw_question_votes,
)
from data_pipeline.sources.generated.world import SiteWorld

# Share of questions with 0, 1, 2, … answers; most posts of a real dump have few.
ANSWER_COUNTS = (0.08, 0.22, 0.27, 0.19, 0.11, 0.06, 0.03, 0.02, 0.01, 0.01)
POSTS_PER_QUESTION = 1 + sum(count * share for count, share in enumerate(ANSWER_COUNTS))

ACCEPTING_SHARE = 0.6
CLOSED_SHARE = 0.03
DELETED_AUTHOR_SHARE = 0.015
COMMUNITY_WIKI_SHARE = 0.01
SELF_ANSWER_SHARE = 0.02
COPIED_ANSWER_SHARE = 0.01
COPIED_ANSWER_OPENER = "<p>As said above:</p>\n"
EDITED_SHARE = 0.2

_MIX_1, _MIX_2, _WORD = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, (1 << 64) - 1


@dataclass(slots=True)
class Post:
    """A row of Posts.xml before it has its Id; `latent` is an answer's planted truth."""

    created: datetime
    body: str
    user: int | None
    up_votes: int
    down_votes: int
    question: Question
    parent: Post | None = None
    latent: Latent | None = None
    is_accepted: bool = False
    answers: list[Post] = field(default_factory=list["Post"])
    closed: datetime | None = None
    community_owned: datetime | None = None
    edited: datetime | None = None
    num_comments: int = 0
    post_id: int = 0

    @property
    def accepted_answer(self) -> Post | None:
        """The answer that the asker accepted, for a question that has one."""
        return next((answer for answer in self.answers if answer.is_accepted), None)


@dataclass(frozen=True, slots=True)
class SiteHistory:
    """What is fixed for a site before its first post: its world, users and pace."""

    world: SiteWorld
    worlds: tuple[SiteWorld, ...]
    config: GenerateConfig
    num_users: int
    start: datetime
    step: timedelta

    def draft_block(self, first_question: int, num_questions: int, room: int) -> list[Post]:
        """Posts of `num_questions` questions from number `first_question` on, by date.

        At most `room` posts. The random stream depends on the first number alone, so blocks can
        be made in any order.
        """
        rng = Random(f"{self.config.seed}/{self.world.theme.host}/{first_question}")
        block_end = self.start + (first_question + num_questions) * self.step
        posts: list[Post] = []
        for number in range(first_question, first_question + num_questions):
            if len(posts) >= room:
                break
            asked = self.start + number * self.step
            thread = self._draft_thread(asked, block_end, room - len(posts), rng)
            posts.extend((thread, *thread.answers))
        posts.sort(key=lambda post: post.created)
        return posts

    def _draft_thread(self, asked: datetime, end: datetime, room: int, rng: Random) -> Post:
        question = self._draft_question(rng)
        popularity = draw_popularity(self.config.votes, rng)
        up, down = draw_question_votes(popularity, rng)
        asker = self._draw_user(rng)
        thread = Post(asked, to_html(question.blocks), asker, up, down, question)
        _add_incidents(thread, end, rng)
        for position in range(min(_draw_answer_count(rng), room - 1)):
            thread.answers.append(
                self._draft_answer(thread, position, popularity, end=end, rng=rng)
            )
        if rng.random() < ACCEPTING_SHARE:
            _accept_one(thread.answers, rng)
        return thread

    def _draft_question(self, rng: Random) -> Question:
        if rng.random() < self.config.near_copy_share and not self.world.theme.is_meta:
            number = int(rng.random() * num_originals(self.config.num_posts))
            return draft_copy(self.worlds, number, self.config.seed, rng)
        return draft_question(self.world, rng)

    def _draft_answer(
        self, thread: Post, position: int, popularity: float, *, end: datetime, rng: Random
    ) -> Post:
        user = thread.user if rng.random() < SELF_ANSWER_SHARE else self._draw_user(rng)
        latent = draw_latent(self._skill(user), rng)
        body = to_html(draft_answer(thread.question, latent, rng))
        if thread.answers and rng.random() < COPIED_ANSWER_SHARE:
            latent, body = thread.answers[-1].latent, COPIED_ANSWER_OPENER + thread.answers[-1].body
        assert latent is not None
        up, down = draw_answer_votes(
            latent,
            popularity,
            position,
            self.config.votes,
            rng,
            votes_follow_quality=not self.world.theme.is_meta,
        )
        earliest = thread.answers[-1].created if thread.answers else thread.created
        created = earliest + rng.random() ** 3 * (end - earliest)
        answer = Post(created, body, user, up, down, thread.question, parent=thread, latent=latent)
        _add_incidents(answer, end, rng)
        return answer

    def _draw_user(self, rng: Random) -> int | None:
        luck = rng.random()
        if rng.random() < DELETED_AUTHOR_SHARE:
            return None
        return 1 + int(self.num_users * luck**2)

    def _skill(self, user: int | None) -> float:
        """An author's lasting skill, standard normal, from a hash of the user's number."""
        mixed = (self.config.seed * 0x9E3779B97F4A7C15 + (user or 0)) & _WORD
        mixed = ((mixed ^ (mixed >> 30)) * _MIX_1) & _WORD
        mixed = ((mixed ^ (mixed >> 27)) * _MIX_2) & _WORD
        return NormalDist().inv_cdf(((mixed >> 12) + 0.5) / (1 << 52))


def _draw_answer_count(rng: Random) -> int:
    luck = rng.random()
    for count, share in enumerate(ANSWER_COUNTS):
        luck -= share
        if luck < 0:
            return count
    return len(ANSWER_COUNTS) - 1


def _accept_one(answers: list[Post], rng: Random) -> None:
    """The asker accepts the answer that looks best to them: true quality plus a personal error."""
    best, best_appeal = None, -0.5
    for answer in answers:
        assert answer.latent is not None
        appeal = answer.latent.quality + rng.gauss(0.0, 0.8)
        if appeal > best_appeal:
            best, best_appeal = answer, appeal
    if best is not None:
        best.is_accepted = True


def _add_incidents(post: Post, end: datetime, rng: Random) -> None:
    """Edits, comments, closures and community ownership: rows of every real dump have them."""
    remaining = end - post.created
    post.num_comments = int(3 * rng.random() ** 3 * 2)
    if rng.random() < EDITED_SHARE:
        post.edited = post.created + rng.random() * remaining
    if post.parent is None and rng.random() < CLOSED_SHARE:
        post.closed = post.created + rng.random() * remaining
    if rng.random() < COMMUNITY_WIKI_SHARE:
        post.community_owned = post.created + rng.random() * remaining
