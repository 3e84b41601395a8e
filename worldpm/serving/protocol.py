"""The shapes of requests and answers: our own, OpenRLHF's, vLLM's, SGLang's, ROLL's and slime's.

Requests of other systems may carry fields that do not concern a score; these are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from worldpm.schema import Group, Message, Role

TokenIds = list[Annotated[int, Field(ge=0)]]


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


class OpenRLHFRequest(BaseModel):
    """What OpenRLHF's executor sends: full texts, their prompts, and labels, all equally long."""

    query: list[Text]
    prompts: list[Text] | None = None
    labels: list[Any] | None = None


class OpenRLHFResponse(BaseModel):
    """`rewards` train; `scores`, between 0 and 1, filter; `extra_logs` are averaged and logged."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


class PoolingRequest(BaseModel):
    """vLLM's `/classify` and `/pooling` (`input` or `messages`), SGLang's `/classify`.

    `input` is text in the checkpoint's template or token ids, one or several; so are SGLang's
    `text` and `input_ids`. Exactly one of the four is given.
    """

    model: Text | None = None
    input: Text | list[Text] | TokenIds | list[TokenIds] | None = None
    messages: list[MessageModel] | None = None
    text: Text | list[Text] | None = None
    input_ids: TokenIds | list[TokenIds] | None = None


class EmbeddingRequest(BaseModel):
    """`POST /v1/embeddings` as SGLang serves it for reward models."""

    model: Text | None = None
    input: Text | list[Text] | TokenIds | list[TokenIds]


class Usage(BaseModel):
    """Token counts as OpenAI-like servers give them."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class ClassificationItem(BaseModel):
    """One score; `probs` holds the raw score, not a probability."""

    index: int
    label: str = "LABEL_0"
    probs: list[float]
    num_classes: int = 1


class ClassificationResponse(BaseModel):
    """vLLM's answer of `/classify`."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ClassificationItem]
    usage: Usage


class PoolingItem(BaseModel):
    """One score."""

    index: int
    object: str = "pooling"
    data: list[float]


class PoolingResponse(BaseModel):
    """vLLM's answer of `/pooling`."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[PoolingItem]
    usage: Usage


class EmbeddingItem(BaseModel):
    """One score."""

    embedding: list[float]
    index: int
    object: str = "embedding"


class EmbeddingResponse(BaseModel):
    """SGLang's answer of `/v1/embeddings`."""

    data: list[EmbeddingItem]
    model: str
    object: str = "list"
    usage: Usage


class SGLangMeta(BaseModel):
    """What SGLang tells beside a score."""

    id: str
    finish_reason: None = None
    prompt_tokens: int


class SGLangItem(BaseModel):
    """SGLang's answer of `/classify` for one text; several texts give a list."""

    embedding: list[float]
    meta_info: SGLangMeta


class ModelCard(BaseModel):
    """One served model."""

    id: str
    object: str = "model"
    owned_by: str = "worldpm"


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    object: str = "list"
    data: list[ModelCard]


class RollTask(BaseModel):
    """What ROLL's remote reward worker submits; prompt and response are policy-template text."""

    prompt: Text
    response: Text
    priority: Any = None
    project_id: Any = None
    experiment_id: Any = None
    global_step: Any = None
    data_id: Any = None
    rollout_id: Any = None
    reward_info: Any = None
    reward_manager: Any = None
    timeout: float | None = Field(default=None, gt=0)


class RollTicket(BaseModel):
    """Under which number the result will be found."""

    reward_request_id: str
    errcode: int = 0


class RollQuery(BaseModel):
    """The body of the GET request for a result."""

    reward_request_id: Text


class RollResult(BaseModel):
    """`errcode` 0: scored, 1: still waiting, 2: failed, with the reason."""

    errcode: int
    errmsg: str = ""
    reward_score: float | None = None
    # The spelling is ROLL's own.
    dimention_reward_score: dict[str, dict[str, Any]] = Field(default_factory=dict)


class SlimeRequest(BaseModel):
    """What slime's `remote_rm` sends; the answer is one number."""

    prompt: Text | list[MessageModel]
    response: Text
    label: Any = None
