"""The response group and its symmetry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.errors import InputError
from worldpm.schema import Group, Message, Pair, parse_messages

PROMPT = (Message("user", "Why?"),)


@st.composite
def groups(draw: st.DrawFn) -> Group:
    responses = tuple(draw(st.lists(st.text(), min_size=2, max_size=5)))
    indices = st.integers(0, len(responses) - 1)
    pairs = draw(st.lists(st.tuples(indices, indices).filter(lambda pair: pair[0] != pair[1])))
    return Group("g", PROMPT, responses, tuple(Pair(*pair) for pair in pairs))


@given(groups())
def test_swapping_twice_changes_nothing(group: Group) -> None:
    assert group.swap().swap() == group
    assert [(pair.rejected, pair.chosen) for pair in group.swap().pairs] == [
        (pair.chosen, pair.rejected) for pair in group.pairs
    ]


@pytest.mark.parametrize("pair", [Pair(0, 0), Pair(0, 2), Pair(-1, 0)])
def test_a_pair_names_two_responses_of_its_group(pair: Pair) -> None:
    with pytest.raises(InputError, match="does not name two of its 2 responses"):
        Group("g", PROMPT, ("a", "b"), (pair,))


@pytest.mark.parametrize("message", [{"role": "robot", "content": "x"}, {"role": "user"}, {}])
def test_a_message_needs_a_known_role_and_a_text(message: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^file:3: a message needs a role"):
        parse_messages([message], where="file:3")
