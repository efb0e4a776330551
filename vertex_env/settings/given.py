"""Base class of the generated `keywords.Settings`: converts fields to command-line options."""

import os
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta

from vertex_env.redaction import hide


class Given:
    """Settings as given by a Python program."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, value in self._values().items():
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif isinstance(value, dict):
                object.__setattr__(
                    self, name, tuple(f"{key}={item}" for key, item in value.items())
                )
            elif isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))

    def __repr__(self) -> str:
        """The fields that are set, with any token in them hidden."""
        shown = (
            f"{name}={hide(repr(value))}"
            for name, value in self._values().items()
            if value not in (None, ())
        )
        return f"Settings({', '.join(shown)})"

    def options(self) -> dict[str, str | Sequence[str] | None]:
        """The settings as the command line would give them."""
        values = {name: value for name, value in self._values().items() if value not in (None, ())}
        texts = {
            n: f"{v.total_seconds():f}" if isinstance(v, timedelta) else v
            for n, v in values.items()
        }
        return {n: v if isinstance(v, str | tuple) else str(v) for n, v in texts.items()}

    def _values(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
