r"""Text of the snapshot: a shell sets the variables from it at its start, without Python.

A snapshot contains the last environment, and everything that the environment depended
on. The lines can be read and compared by a shell's builtins:

    vertex-env-snapshot 2
    until 1763816400                    stale from this instant on; absent if no fact in it ages
    file 1763812800 0f3a….mark /path    stale unless file and mark both have this time stamp
    none /path                          stale if the path exists
    same NAME=value                     stale unless the variable has this value
    fits NAME=value                     stale if the variable is set to another value
    lacks NAME=text                     stale if the value contains the text, in any letter case
    gone NAME NAME...                   stale if one of the variables is set
    token /folder/KEY.token             the file with the stored token, in the snapshot's folder
    stamp /folder/KEY.stamp             the file `REFRESH_AT EXPIRES_AT GENERATION`, beside it
    unset NAME NAME...                  variables to unset
    set NAME=value                      \x1f stands for the token; lines with it come last
    end

`cache.snapshots` makes the marks and writes the file. The token itself stays in the
store.

Some shells cannot check whether another user may write to a file. So a hook accepts
only contents that can do no harm. A snapshot sets only the names in `NAMES`, to values
of their kind, and always sets both base URLs beside the key. It unsets only `OPENAI_*`
names and those in `NAMES`. It sets the tracing switch of openai-agents only to `1`, and
only if the shell has no value for it. An environment that needs more gets no snapshot,
and shells start Python for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vertex_env.vertex.target import GOOGLE_DOMAINS, is_loopback
from vertex_env.vertex.variables import (
    CLIENTS,
    CONFLICTS,
    REDIRECTS,
    SETTABLE,
    SHARED,
    TRACING,
    Environment,
)

_FROM_STAMP = ("VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP")
_PLAIN = re.compile(
    r"(?:VERTEX_ENV|GOOGLE|CLOUDSDK|GCLOUD|GCE|XDG)_[A-Z0-9_]+|HOME|APPDATA|LOCALAPPDATA"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|HEADER|PROXY|VERTEX_ENV_SET")
"""Names of variables whose value may be in a snapshot (`_PLAIN`), and exceptions (`_SECRET`).

A name that contains a word of `_SECRET` is an exception.
"""

_LACKS = {"OPENAI_CUSTOM_HEADERS": "authorization", **dict.fromkeys(SHARED, "openai.com")}
"""Variables whose value may be a secret and is not kept.

A snapshot only depends on whether the value contains this text.
"""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@%+=,/-]*)?",
    re.ASCII,
)
_GOOGLE = tuple(f".{domain}" for domain in GOOGLE_DOMAINS)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*", re.ASCII)


def _kinds() -> dict[str, tuple[str, ...]]:
    templates = {
        "OPENAI_API_KEY": "{token}",
        "OPENAI_BASE_URL": "{base_url}",
        "OPENAI_API_BASE": "{base_url}",
    }
    for client in CLIENTS.values():
        templates |= {name: template for name, template in client.items() if template is not None}
    names = [name for name in SETTABLE if name not in _FROM_STAMP]
    keys = [name for name in names if "{token}" in templates.get(name, "")]
    urls = [name for name in names if templates.get(name, "").startswith(("{base_url}", "{host}"))]
    words = [name for name in names if name not in (*keys, *urls)]
    return {"keys": tuple(keys), "urls": tuple(urls), "words": tuple(words)}


NAMES: Mapping[str, tuple[str, ...]] = _kinds()
"""The only names that a snapshot may set, by the kind of their value.

| kind | value |
|---|---|
| `keys` | the mark that stands for the token, and nothing else |
| `urls` | an https URL without a port on a host of Google's, or an allowed host (see below) |
| `words` | letters, digits and `._/-`, beginning with a letter or digit: no host |

The shell's own `VERTEX_ENV_ALLOW_HOST` may name further hosts. Their URLs may have any
port, and may be http if the host is loopback. The hooks contain these lists as well
(`python -m tools.hooknames`).
"""


Files = Mapping[str, "tuple[int, str] | None"]
"""The files that an answer depends on, by path.

A value is the time stamp in whole epoch seconds, and the name of the mark with the same
time stamp. It is None if the file did not exist.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The lines of a snapshot that do not depend on files."""

    variables: Sequence[str]
    changes: Sequence[str]

    def text(self, files: Files, *, token: str, stamp: str, until: float) -> str | None:
        """The text of the snapshot; None if a part of it contains a line break.

        Args:
            files: The files that the answer depends on.
            token: Path of the file with the stored token.
            stamp: Path of the token's stamp.
            until: When a fact has to be looked up again, in epoch seconds; 0 for never.
        """
        head = ["vertex-env-snapshot 2", *([f"until {int(until)}"] if until else [])]
        for path, seen in files.items():
            head.append(f"none {path}" if seen is None else f"file {seen[0]} {seen[1]} {path}")
        lines = [*head, *self.variables, f"token {token}", f"stamp {stamp}", *self.changes, "end"]
        if any(re.search(r"[\n\r]", line) for line in lines):
            return None
        return "".join(f"{line}\n" for line in lines)


def snapshot(
    names: Iterable[str],
    judged: Mapping[str, str],
    environ: Mapping[str, str],
    env: Environment,
    stand_in: str,
) -> Snapshot | None:
    """Make a snapshot without the lines about files; None if this format cannot express it.

    Args:
        names: Variables that were looked up, whether set or not.
        judged: Variable to rule, for variables of which only `answers.is_kept` was
            looked up.
        environ: The environment.
        env: The variables for the stand-in token.
        stand_in: The value of the stand-in token.
    """
    # Unset the conflicting variables in any case. The shell that writes the snapshot
    # may have unset them already, but in a shell that loads it they may still be set.
    env = {
        **dict.fromkeys((*CONFLICTS, *REDIRECTS)),
        **{n: v for n, v in env.items() if n not in _FROM_STAMP},
    }
    env = {name: value for name, value in env.items() if name not in _LACKS or value is not None}
    variables = _variables(names, judged, environ, env)
    changes = _changes(
        env, stand_in, re.split(r"[,\s]+", environ.get("VERTEX_ENV_ALLOW_HOST", "").lower())
    )
    return None if variables is None or changes is None else Snapshot(variables, changes)


def _variables(
    names: Iterable[str], judged: Mapping[str, str], environ: Mapping[str, str], env: Environment
) -> list[str] | None:
    """The lines about the variables *names* and *judged*; None if a value must not be kept."""
    lines, gone = [], []
    for name in names:
        value = environ.get(name)
        if name in env:
            continue  # its old value does not matter: the snapshot sets or unsets it
        if value is None:
            gone.append(name)
        elif _PLAIN.fullmatch(name) and not _SECRET.search(name):
            lines.append(f"same {name}={value}")
        else:
            return None
    for name in judged:
        value = environ.get(name, "")
        if name in _LACKS:
            if _LACKS[name] in value.lower():
                return None
            lines.append(f"lacks {name}={_LACKS[name]}")
        else:
            lines.append(f"fits {name}={env[name]}" if name in env else f"same {name}={value}")
    return [*lines, " ".join(("gone", *gone))]


def _changes(env: Environment, stand_in: str, allowed: Iterable[str]) -> list[str] | None:
    """The lines about variables to set and unset; None if a hook would refuse one of them."""
    unset = [name for name, value in env.items() if value is None]
    if not all(name.startswith("OPENAI_") or name in NAMES["urls"] for name in unset):
        return None
    lines, last = [" ".join(("unset", *unset))], []
    for name, value in env.items():
        if value is None:
            continue
        if name == TRACING and value != "1":
            return None
        if name in NAMES["keys"] and value == stand_in:
            last.append(f"set {name}=\x1f")
        elif (name in NAMES["urls"] and _is_url(value, allowed)) or (
            name in NAMES["words"] and _WORD.fullmatch(value)
        ):
            lines.append(f"set {name}={value}")
        else:
            return None
    return lines + last


def _is_url(value: str, allowed: Iterable[str]) -> bool:
    found = _URL.fullmatch(value)
    if found is None:
        return False
    scheme, host = found.group("scheme", "host")
    if scheme == "https" and host.endswith(_GOOGLE) and f"{value}/".startswith(f"https://{host}/"):
        return True
    return host in allowed and (scheme == "https" or is_loopback(host.strip("[]")))
