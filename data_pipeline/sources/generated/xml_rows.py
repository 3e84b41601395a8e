"""The rows of Posts.xml, Votes.xml, Tags.xml and Users.xml, as the publisher writes them."""

from __future__ import annotations

from datetime import datetime

from data_pipeline.sources.generated.posts import Post
from data_pipeline.sources.generated.text import xml_attribute
from data_pipeline.sources.generated.vocabulary import NAMES, TagStyle

# From when on an unchanged post stands under which licence.
LICENCE_3_FROM = datetime(2011, 4, 8)
LICENCE_4_FROM = datetime(2018, 5, 2)

ACCEPTED, UP, DOWN = 1, 2, 3
MODERATOR_USER = -1


def timestamp(moment: datetime) -> str:
    """A date as the dump writes it: milliseconds, no zone (it is UTC)."""
    return moment.isoformat(timespec="milliseconds")


def licence(moment: datetime) -> str:
    """The licence of a post of that date."""
    if moment < LICENCE_3_FROM:
        return "CC BY-SA 2.5"
    return "CC BY-SA 3.0" if moment < LICENCE_4_FROM else "CC BY-SA 4.0"


def row(**attributes: object) -> str:
    """A row; attributes that are None are left out, the others stand in the given order."""
    inside = " ".join(
        f'{name}="{xml_attribute(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"  <row {inside} />\r\n"


def question_row(post: Post, tag_style: TagStyle) -> str:
    """A row of PostTypeId 1."""
    accepted = post.accepted_answer
    votes = post.up_votes + post.down_votes
    return row(
        Id=post.post_id,
        PostTypeId=1,
        AcceptedAnswerId=accepted.post_id if accepted else None,
        CreationDate=timestamp(post.created),
        Score=post.up_votes - post.down_votes,
        ViewCount=40 + 37 * votes,
        Body=post.body,
        **_people(post),
        LastActivityDate=timestamp(max([post.created, *(a.created for a in post.answers)])),
        Title=post.question.title,
        Tags=_tags(post, tag_style),
        AnswerCount=len(post.answers),
        CommentCount=post.num_comments,
        FavoriteCount=post.up_votes // 3 if post.up_votes >= 3 else None,
        ClosedDate=timestamp(post.closed) if post.closed else None,
        CommunityOwnedDate=timestamp(post.community_owned) if post.community_owned else None,
        ContentLicense=licence(post.created),
    )


def answer_row(post: Post) -> str:
    """A row of PostTypeId 2."""
    assert post.parent is not None
    return row(
        Id=post.post_id,
        PostTypeId=2,
        ParentId=post.parent.post_id,
        CreationDate=timestamp(post.created),
        Score=post.up_votes - post.down_votes,
        Body=post.body,
        **_people(post),
        LastActivityDate=timestamp(post.edited or post.created),
        CommentCount=post.num_comments,
        CommunityOwnedDate=timestamp(post.community_owned) if post.community_owned else None,
        ContentLicense=licence(post.created),
    )


def tag_wiki_row(post_id: int, post_type: int, tag: str, created: datetime) -> str:
    """A tag's wiki (PostTypeId 5) or its excerpt (4): neither question nor answer."""
    text = f"Questions about {tag} & how to choose it."
    return row(
        Id=post_id,
        PostTypeId=post_type,
        CreationDate=timestamp(created),
        Score=0,
        Body=text if post_type == 4 else f"<p>{text.replace('&', '&amp;')}</p>\n",
        OwnerUserId=MODERATOR_USER,
        LastEditorUserId=MODERATOR_USER,
        LastEditDate=timestamp(created),
        LastActivityDate=timestamp(created),
        CommentCount=0,
        ContentLicense=licence(created),
    )


def tag_row(tag_id: int, tag: str, count: int, excerpt_id: int, wiki_id: int) -> str:
    """A row of Tags.xml."""
    return row(Id=tag_id, TagName=tag, Count=count, ExcerptPostId=excerpt_id, WikiPostId=wiki_id)


def vote_rows(post: Post, first_id: int) -> list[str]:
    """One row a vote of a post; dates carry no time of day, as in the real file."""
    day = post.created.strftime("%Y-%m-%dT00:00:00.000")
    kinds = [ACCEPTED] * post.is_accepted + [UP] * post.up_votes + [DOWN] * post.down_votes
    return [
        f'  <row Id="{vote_id}" PostId="{post.post_id}" VoteTypeId="{kind}" '
        f'CreationDate="{day}" />\r\n'
        for vote_id, kind in enumerate(kinds, first_id)
    ]


def user_row(user: int, start: datetime) -> str:
    """A row of Users.xml with a made-up name."""
    return row(
        Id=user,
        Reputation=1 + (user * 7919) % 5_000,
        CreationDate=timestamp(start),
        DisplayName=display_name(user),
        LastAccessDate=timestamp(start),
        Views=user % 97,
        UpVotes=user % 53,
        DownVotes=user % 11,
        AccountId=1_000_000 + user,
    )


def display_name(user: int) -> str:
    """A user's made-up name."""
    return f"{NAMES[user % len(NAMES)]} {user}"


def _people(post: Post) -> dict[str, object]:
    """Owner and editor; a deleted author leaves a display name or nothing."""
    gone = f"user{len(post.body) * 31 % 9_000 + 100}" if len(post.body) % 2 else None
    return {
        "OwnerUserId": post.user,
        "OwnerDisplayName": gone if post.user is None else None,
        "LastEditorUserId": post.user if post.edited else None,
        "LastEditDate": timestamp(post.edited) if post.edited else None,
    }


def _tags(post: Post, style: TagStyle) -> str:
    tags = [post.question.subject.attribute, post.question.subject.symptom.replace(" ", "-")]
    return f"|{'|'.join(tags)}|" if style == "pipes" else "".join(f"<{tag}>" for tag in tags)


def stray_vote_row(vote_id: int, post: Post) -> str:
    """A vote for a post deleted before the dump: real Votes.xml files are full of them."""
    day = post.created.strftime("%Y-%m-%dT00:00:00.000")
    return (
        f'  <row Id="{vote_id}" PostId="{post.post_id + 900_000_000}" VoteTypeId="{UP}" '
        f'CreationDate="{day}" />\r\n'
    )
