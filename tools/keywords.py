"""Generator of the Python API's `Settings` from the rows of the settings.

`python -m tools.keywords` writes the file. The class is not made at run time, because type checkers
and editors have to see the keywords.
"""

from pathlib import Path

from vertex_env.settings.options import OPTIONS

PATH = Path(__file__).parent.parent / "vertex_env" / "settings" / "keywords.py"

HEAD = '''\
"""The settings as keywords of the Python API. Made by python -m tools.keywords: do not edit."""

import os
from dataclasses import dataclass
from datetime import timedelta

from vertex_env.settings.given import Given


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(Given):
    """Settings, named like the command line's options; None leaves a setting to the other layers.

    A duration is a timedelta or a text such as `12h`. An item of `set` is a text such as
    `LLM_URL={base_url}/chat/completions`. The other lists may be one text with commas:
    `client="aider,shell-gpt"`.
    """

'''


def text() -> str:
    """The text of the generated module."""
    rows = [
        f"    {option.field}: {option.kind.keyword}\n" for option in OPTIONS if not option.internal
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PATH.write_text(text())
