"""Score the conversations of a folder of checkpoints with whatever transformers is installed.

Knows nothing of this project: it does what a consumer's code does. Prints one JSON object.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def score(folder: Path, conversations: list[list[dict[str, str]]]) -> list[float]:
    """The logit of every conversation, as one right-padded batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, torch_dtype=torch.float32)
    texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        logits = model.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert logits.shape == (len(conversations), 1), logits.shape
    return logits[:, 0].tolist()


def main() -> None:
    """Score every checkpoint below the folder given."""
    root = Path(sys.argv[1])
    conversations = json.loads((root / "conversations.json").read_text(encoding="utf-8"))
    names = sorted(path.parent.name for path in root.glob("*/config.json"))
    scores = {name: score(root / name, conversations) for name in names}
    print(json.dumps({"transformers": transformers.__version__, "scores": scores}))


if __name__ == "__main__":
    main()
