"""The README that lies in every made-up dump."""

from __future__ import annotations

DUMP_README = """\
# A made-up dump

Nothing in this folder was written by people. `worldpm data generate` wrote it, in the format of
the public Stack Exchange data dump, to test a preference-model pipeline where no data can be
downloaded.
Names, facts and opinions in it are invented; do not mix it into data about the real world.

| file | content |
|---|---|
| `<host>.7z` or `<host>/` | Posts.xml, Votes.xml, Tags.xml, Users.xml of one invented site |
| `truth.parquet` | one row an answer: its planted quality and what it is made of |
| `near_copies.parquet` | one row a near-copied question; rows of one `original` belong together |
| `test_sets/adversarial.jsonl` | right and plain against wrong, longer, confident, marked up |
| `test_sets/objective.jsonl` | right against wrong, all else alike |
| `test_sets/subjective.jsonl` | two right answers in different tone; the label is a weak taste |
| `manifest.json` | the settings that made it; the same settings give the same bytes |

The questions of the test sets are not in the dump; the facts they ask about are.
"""
