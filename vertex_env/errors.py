"""What can go wrong, as types.

::

    VertexEnvError                     exit   meaning
    ├─ SettingsError                     78   a setting is missing, wrong or contradicts another
    ├─ CredentialsError                  78   the ADC file is absent, damaged or incomplete
    ├─ RefusedError                      77   Google answered "no": login expired, permission missing, API disabled
    ├─ UnavailableError                  75   Google could not be reached or did not answer sensibly: try again later
    ├─ StoreError                         1   the keychain cannot be used, or `logout` cannot delete
    └─ ChildError                  126, 127   the command of `run` cannot be executed, or was not found

Modules raise; only `cli` prints and exits. Every error carries a hint: the command or the change that cures it.
The exit codes follow sysexits.h (https://man7.org/linux/man-pages/man3/sysexits.h.3head.html, 2026-11-22).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_LONG_WORD = 20
"""No token is shorter; `application-default` in a hint is."""


def clean(text: str) -> str:
    """*text* without anything that looks like a token.

    Where modules cannot be loaded, because no file can be opened any more or Python is upgraded meanwhile, each long
    word is hidden.
    """
    try:
        # Only a failure needs it: it imports `re`, which `run` starts without.
        from vertex_env.redaction import hide
    except (ImportError, OSError):
        lines = [[word if len(word) < _LONG_WORD else "[hidden]" for word in x.split(" ")] for x in text.split("\n")]
        return "\n".join(" ".join(words) for words in lines)
    return hide(text)


class VertexEnvError(Exception):
    """An expected failure, told to a person in two lines.

    Args:
        message: What was tried and what failed, lower case, without a full stop. What looks like a token is hidden.
        hint: What cures it, as a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.rewrite(clean)

    def rewrite(self, change: "Callable[[str], str]") -> None:
        """Put message and hint as *change* gives them, such as `Secrets.redact`."""
        self.message, self.hint = change(self.message), change(self.hint)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles have what the error is made of, and nothing else that hangs on it."""
        return type(self), (self.message, self.hint)


class SettingsError(VertexEnvError):
    """A setting is missing, wrong or contradicts another; the message names where it came from."""

    exit_code = 78


class CredentialsError(VertexEnvError):
    """The ADC file is absent, damaged or incomplete."""

    exit_code = 78


class RefusedError(VertexEnvError):
    """Google answered, and the answer was no."""

    exit_code = 77


class UnavailableError(VertexEnvError):
    """Google could not be reached, or what answered was not Google; trying again later may help."""

    exit_code = 75


class StoreError(VertexEnvError):
    """The keychain cannot be used, though it was chosen, or `logout` cannot delete; there is no silent way round."""


class ChildError(VertexEnvError):
    """The command of `run` could not be started.

    Args:
        message: As for `VertexEnvError`.
        hint: As for `VertexEnvError`.
        status: 127 if the command was not found, 126 if it was found but could not be executed, as in a shell.
    """

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """With the status."""
        return type(self), (self.message, self.hint, self.status)


def revive(kind: str, message: str, hint: str) -> VertexEnvError | None:
    """The error that another process met, from its type's name; None if this is no name of ours."""
    known = (SettingsError, CredentialsError, RefusedError, UnavailableError, StoreError)
    found = next((error for error in known if error.__name__ == kind), None)
    return None if found is None else found(message, hint)
