"""The Python API's `Settings`, made from the rows of the settings: `python -m tools.keywords` writes the file.

It is written out, and not made at run time, so that type checkers and editors see the keywords.
"""

from pathlib import Path

from vertex_env.settings.options import OPTIONS

PATH = Path(__file__).parent.parent / "vertex_env" / "settings" / "keywords.py"

HEAD = '''\
"""The settings as keywords of the Python API; made by python -m tools.keywords: do not edit."""

import os
from dataclasses import dataclass
from datetime import timedelta

from vertex_env.settings.given import Given


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(Given):
    """Settings by the names of the command line's options; None for what is to come from elsewhere.

    Durations are timedeltas or texts such as `12h`; `set` has items such as `LLM_URL={base_url}/chat/completions`.
    The other lists may be one text with commas: `client="aider,shell-gpt"`.
    """

'''


def text() -> str:
    """The module."""
    rows = [f"    {option.field}: {option.kind.keyword}\n" for option in OPTIONS if not option.internal]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PATH.write_text(text())
