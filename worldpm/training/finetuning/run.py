"""Fine-tune: prepare the pairs, run the trainer, and say what it changed."""

from __future__ import annotations

import os

from worldpm.log import logger
from worldpm.training.finetuning.comparison import (
    COMPARISON_FILE,
    compare_run,
    comparison_table,
    write_comparison,
)
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.preparation import prepare_data
from worldpm.training.trainer import train


def finetune(config: FinetuneConfig) -> int:
    """Run, or continue, a fine-tuning run; returns the process's exit code.

    Raises:
        WorldPMError: the configuration, the preference set and the weights do not fit together.
    """
    prepare_data(config)
    code = train(config.training())
    if code == 0 and os.environ.get("RANK", "0") == "0":
        results = compare_run(config.output_dir, config.baseline, seed=config.seed)
        write_comparison(config.output_dir, results)
        logger.info("%s:\n%s", config.output_dir / COMPARISON_FILE, comparison_table(results))
    return code
