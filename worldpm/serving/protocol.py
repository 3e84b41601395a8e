"""The shapes of our own requests and answers, and what all endpoints share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from worldpm.schema import Group, Message, Role


def _check_unicode(text: str) -> str:
    # JSON can escape half of a surrogate pair, which no tokenizer and no UTF-8 answer can hold.
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("the text holds half of a surrogate pair: no valid Unicode") from exc
    return text


Text = Annotated[str, AfterValidator(_check_unicode)]


class MessageModel(BaseModel):
    """One turn of a conversation."""

    role: Role
    content: Text

    def to_message(self) -> Message:
        """The record of this turn."""
        return Message(self.role, self.content)


class GroupModel(BaseModel):
    """A prompt and its responses."""

    model_config = ConfigDict(extra="forbid")

    id: Text | int
    prompt: list[MessageModel] = Field(min_length=1)
    responses: list[Text]

    def to_group(self) -> Group:
        """The record of this group."""
        messages = tuple(message.to_message() for message in self.prompt)
        return Group(str(self.id), messages, tuple(self.responses))


class ScoreRequest(BaseModel):
    """`POST /v1/score` and `POST /v1/cuts`."""

    model_config = ConfigDict(extra="forbid")

    groups: list[GroupModel]


class GroupScoresModel(BaseModel):
    """The scores of one group, in the order of its responses."""

    id: str | int
    scores: list[float]
    num_prompt_tokens: int
    num_response_tokens: list[int]
    prompt_tokens_cut: int
    response_tokens_cut: list[int]


class ScoreResponse(BaseModel):
    """The answer of `POST /v1/score`, in the order of the groups."""

    results: list[GroupScoresModel]


class CutText(BaseModel):
    """A text as the model sees it: `kept_start` and `kept_end`, without `cut` between them."""

    kept_start: str
    cut: str
    kept_end: str


class GroupCuts(BaseModel):
    """What was cut out of a group."""

    id: str | int
    prompt: CutText
    responses: list[CutText]


class CutsResponse(BaseModel):
    """The answer of `POST /v1/cuts`."""

    results: list[GroupCuts]


class HealthResponse(BaseModel):
    """The answer of `GET /health`; the status code is 200 only for `ready`."""

    status: str
    model: str
    version: str
    score_mean: float | None = None
    score_std: float | None = None
    max_tokens: int | None = None


class ErrorDetail(BaseModel):
    """What was wrong: `type` for programs, `message` for people."""

    message: str
    type: str
    param: str | None
    code: int


class ErrorResponse(BaseModel):
    """Every error."""

    error: ErrorDetail


class ModelCard(BaseModel):
    """One served model."""

    id: str
    object: str = "model"
    owned_by: str = "worldpm"


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    object: str = "list"
    data: list[ModelCard]
