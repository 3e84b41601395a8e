"""OpenRLHF: `--reward.remote_url …/worldpm/integrations/openrlhf.py` (up to 0.10.1
`--remote_rm_url`) with WORLDPM_REWARD set; the server's `/get_reward` needs no file at all.

OpenRLHF hands over the policy's template text, which is parsed back into messages.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from worldpm.integrations.source import numbers_of, open_reward, reference_of
from worldpm.policy_text import split_query
from worldpm.rewards.base import Sample

# Where a number must stand for an abstention, the user chooses it.
ON_ABSTAIN_VARIABLE = "WORLDPM_ON_ABSTAIN"


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
) -> dict[str, Any]:
    """Rewards, filter scores between 0 and 1, and logs, for OpenRLHF's executor.

    Raises:
        InputError: a query is not in the template of a known policy.
        ServerError: the reward abstains or the server gives no scores. OpenRLHF logs the error and
            then stops for want of a reward.
    """
    samples = [
        Sample(*split_query(query, prompt), reference_of(label))
        for query, prompt, label in zip(queries, prompts, labels, strict=True)
    ]
    chosen = os.environ.get(ON_ABSTAIN_VARIABLE)
    values = open_reward().score(samples)
    rewards = numbers_of(values, float(chosen) if chosen else None, where="OpenRLHF")
    return {
        "rewards": rewards,
        # Dynamic filtering expects 0 to 1.
        "scores": [1 / (1 + math.exp(-max(-700.0, min(700.0, reward)))) for reward in rewards],
        "extra_logs": {
            "worldpm_score": rewards,
            "worldpm_abstained": [float(value.value is None) for value in values],
        },
    }
