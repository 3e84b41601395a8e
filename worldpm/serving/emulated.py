"""The shapes that other systems send and expect: OpenRLHF, vLLM, SGLang, ROLL and slime.

Requests may carry fields that do not concern a score; these are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from worldpm.serving.protocol import MessageModel, Text

TokenIds = list[Annotated[int, Field(ge=0)]]
# In the checkpoint's template, or as ids; one or several.
Inputs = Text | list[Text] | TokenIds | list[TokenIds]


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
    input: Inputs | None = None
    messages: list[MessageModel] | None = None
    text: Text | list[Text] | None = None
    input_ids: TokenIds | list[TokenIds] | None = None


class EmbeddingRequest(BaseModel):
    """`POST /v1/embeddings` as SGLang serves it for reward models."""

    model: Text | None = None
    input: Inputs


class Usage(BaseModel):
    """Token counts as OpenAI-like servers give them."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class VllmAnswer(BaseModel):
    """What vLLM's pooling endpoints answer."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Any]
    usage: Usage


class ClassificationItem(BaseModel):
    """One score; `probs` holds the raw score, not a probability."""

    index: int
    label: str = "LABEL_0"
    probs: list[float]
    num_classes: int = 1


class ClassificationResponse(VllmAnswer):
    """vLLM's answer of `/classify`."""

    data: list[ClassificationItem]


class PoolingItem(BaseModel):
    """One score."""

    index: int
    object: str = "pooling"
    data: list[float]


class PoolingResponse(VllmAnswer):
    """vLLM's answer of `/pooling`."""

    data: list[PoolingItem]


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
