"""The lists of names in the hooks are those of the tables."""

import pytest

from tools import hooknames
from vertex_env.formats.snapshot import NAMES
from vertex_env.vertex.variables import SETTABLE, UNSETTABLE


@pytest.mark.parametrize("shell", hooknames.ROWS)
def test_a_hook_has_the_names_of_the_tables(shell: str) -> None:
    """If not: python -m tools.hooknames."""
    assert hooknames.path(shell).read_text() == hooknames.text(shell)


def test_each_name_has_one_kind() -> None:
    kinds = [name for kind in ("keys", "urls", "words") for name in NAMES[kind]]
    stamps = {"VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP"}
    assert sorted([*kinds, *stamps]) == sorted(SETTABLE)
    assert {"OPENAI_API_KEY", "AIDER_OPENAI_API_KEY"} <= set(NAMES["keys"])
    assert {"OPENAI_BASE_URL", "OPENAI_HOST", "API_BASE_URL"} <= set(NAMES["urls"])
    assert {"OPENAI_MODEL", "OPENAI_BASE_PATH"} <= set(NAMES["words"])
    # What a hook unsets.
    assert {name for name in UNSETTABLE if not name.startswith("OPENAI_")} <= set(NAMES["urls"])
