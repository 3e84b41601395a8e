"""Entities in many texts at once: the same as one text after the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sources.entities import ENTITIES, PADDING, resolve_entities
from data_pipeline.sources.rows import unescape

FRAGMENTS = st.lists(
    st.sampled_from(
        [*(entity.decode() for entity in ENTITIES), "&", "&lt", "&foo;", "&amp", ";", "ä", "text"]
    )
).map("".join)


@given(st.lists(st.tuples(FRAGMENTS, FRAGMENTS)))
def test_slices_are_resolved_as_each_text_on_its_own(texts: list[tuple[str, str]]) -> None:
    data = PADDING
    starts: list[int] = []
    ends: list[int] = []
    for between, text in texts:
        data += f'{between} "'.encode()
        starts.append(len(data))
        data += text.encode()
        ends.append(len(data))
        data += b'"'
    cut = resolve_entities(data + PADDING).cut(np.array(starts, np.int64), np.array(ends, np.int64))
    assert cut.to_pylist()[1::2] == [unescape(text) for _, text in texts]


def test_references_beyond_the_usual_ones_are_left_and_named() -> None:
    data = PADDING + b"&#65;&lt;&#x41;&copy;&#39;" + PADDING
    resolved = resolve_entities(data)
    assert resolved.data.to_pybytes().strip() == b"&#65;<&#x41;&copy;'"
    assert resolved.odd_references.tolist() == [data.find(b"&#65"), data.find(b"&#x41")]
