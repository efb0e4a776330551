"""The environment variables to set and unset, and the further names that some tools read."""

import re
import string
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from vertex_env import freshness
from vertex_env.errors import SettingsError
from vertex_env.tokens.token import Token
from vertex_env.vertex.reserved import acted_on_by
from vertex_env.vertex.target import Target

Environment = Mapping[str, str | None]
"""Names to values, in the order to print; None stands for a variable to unset."""

CONFLICTS = ("OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_API_TYPE")
"""Variables that OpenAI clients would send to Google, or that switch the clients to
another protocol (openai 3.54.0, run against a loopback stub, 2026-11-22)."""

_CHAT_PATH = "{path}/chat/completions"

CLIENTS: Mapping[str, Mapping[str, str | None]] = {
    # aider's own names have priority over OPENAI_API_BASE
    # (https://aider.chat/docs/config/options.html, aider-chat 0.86.2). The prefix
    # openai/ is for litellm, which removes it. The prefix and AIDER_MODEL were checked
    # in a run, 2026-11-24.
    "aider": {
        "AIDER_OPENAI_API_KEY": "{token}",
        "AIDER_OPENAI_API_BASE": "{base_url}",
        "AIDER_MODEL": "openai/{model}",
    },
    # https://docs.anythingllm.com/setup/llm-configuration/cloud/openai-generic
    "anything-llm": {
        "GENERIC_OPEN_AI_API_KEY": "{token}",
        "GENERIC_OPEN_AI_BASE_PATH": "{base_url}",
    },
    # https://github.com/danielmiessler/fabric (272f04dd): each vendor has NAME_API_BASE_URL
    "fabric": {"OPENAI_API_BASE_URL": "{base_url}"},
    # https://github.com/aaif-goose/goose: separate host and path; the path has no leading slash
    "goose": {"OPENAI_HOST": "{host}", "OPENAI_BASE_PATH": _CHAT_PATH},
    # https://gptme.org/docs/providers-custom.html (gptme 0.35.1, run 2026-11-24): its
    # provider "openai" requests /responses, which Google's models do not have. Its
    # provider "local" requests /chat/completions.
    "gptme": {"MODEL": "local/{model}"},
    # https://docs.openwebui.com/reference/env-configuration (open-webui 0.12.4): the
    # plural forms, if set, have priority.
    "open-webui": {
        "OPENAI_API_BASE_URL": "{base_url}",
        "OPENAI_API_BASE_URLS": None,
        "OPENAI_API_KEYS": None,
    },
    # OPENAI_API_HOST has priority over every other name
    # (https://www.promptfoo.dev/docs/providers/openai/, promptfoo 0.121.20)
    "promptfoo": {"OPENAI_API_BASE_URL": "{base_url}", "OPENAI_API_HOST": None},
    # https://github.com/TheR1D/shell_gpt (1.5.1): these are the names in its
    # configuration file, and variables have priority over the file.
    "shell-gpt": {"API_BASE_URL": "{base_url}", "DEFAULT_MODEL": "{model}"},
}
"""Variables that a tool reads instead of OPENAI_API_KEY, OPENAI_BASE_URL and
OPENAI_MODEL, or before them.

None unsets a name that would have priority. A template with `{model}` is used only if a
model is set. The facts are as of 2026-11-22, with the version they were read in.
"""

TRACING = "OPENAI_AGENTS_DISABLE_TRACING"
"""Switch that disables the tracing of openai-agents. While tracing is on, each run
sends OPENAI_API_KEY and the prompts to api.openai.com, even if OPENAI_BASE_URL names
another host (https://openai.github.io/openai-agents-python/tracing/, openai-agents
0.24.0, run 2026-11-24)."""

REDIRECTS = tuple(
    sorted(
        {
            n
            for names in CLIENTS.values()
            for n in names
            if n.startswith("OPENAI_") and n != "OPENAI_API_KEY"
        }
    )
)
"""Names that would make some client use another host or key, such as `OPENAI_API_HOST`.

They are always unset, unless `--client` or `--set` sets them.
"""

SHARED: Mapping[str, tuple[str, ...]] = {
    name: tuple(c for c, names in CLIENTS.items() if name in names)
    for client in CLIENTS.values()
    for name, template in client.items()
    if name not in REDIRECTS
    and template is not None
    and ("{base_url}" in template or "{host}" in template)
}
"""Names of hosts or URLs, such as `API_BASE_URL`, each with the clients that read it.

Other programs may read these names too, so they are unset only if their host is OpenAI's.
"""

JUDGED: Mapping[str, str] = {
    TRACING: "tracing",
    "OPENAI_CUSTOM_HEADERS": "headers",
    **dict.fromkeys(SHARED, "url"),
}
"""Names that stay or are replaced depending on their value, each with its rule
(`cache.answers.is_kept`)."""

SETTABLE: tuple[str, ...] = tuple(
    sorted(
        {
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_API_BASE",
            "OPENAI_MODEL",
            TRACING,
            "VERTEX_ENV_EXPIRES_AT",
            "VERTEX_ENV_REFRESH_AT",
            "VERTEX_ENV_STAMP",
            *(
                n
                for names in CLIENTS.values()
                for n, template in names.items()
                if template is not None
            ),
        }
    )
)
"""Every name that may get a value without `--set`, sorted. A hook may load only these."""

UNSETTABLE: tuple[str, ...] = tuple(
    sorted({*CONFLICTS, "OPENAI_CUSTOM_HEADERS", *REDIRECTS, *SHARED})
)
"""Every name that may be unset, sorted."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def environment(
    target: Target,
    token: Token,
    *,
    model: str | None = None,
    clients: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    kept: Collection[str] = (),
) -> dict[str, str | None]:
    """Return the variables that make an OpenAI client use *target* with *token*, in order.

    The unset names come first, then the values without the token, and `OPENAI_API_KEY`
    last. With this order, if a shell fails to set a name, it has not yet set the token
    beside another host.

    `OPENAI_API_BASE` is always included. LlamaIndex and aider read only this name and
    would otherwise send the Google token to api.openai.com. LangChain prefers it over
    `OPENAI_BASE_URL` (run against a loopback stub, 2026-11-22).

    A name is unset even if it is not set now, so that a shell that has already unset it
    gets the same answer.

    Args:
        target: Where the client sends its requests.
        token: The token that the client sends.
        model: Value for `OPENAI_MODEL`.
        clients: Keys of `CLIENTS`.
        extra: Names to templates, such as `{"LLM_URL": "{base_url}/chat/completions"}`.
        kept: Names of `JUDGED` whose value is the user's own and stays.

    Raises:
        SettingsError: A name, a placeholder or a value cannot be used.
    """
    extra = extra or {}
    result: dict[str, str | None] = dict.fromkeys(to_unset(clients, extra, kept))
    if TRACING not in kept:
        result[TRACING] = "1"
    result |= {"OPENAI_BASE_URL": target.base_url, "OPENAI_API_BASE": target.base_url}
    if model is not None:
        result["OPENAI_MODEL"] = model
    instants = {
        "VERTEX_ENV_EXPIRES_AT": str(int(token.expiry.timestamp())),
        "VERTEX_ENV_REFRESH_AT": str(int(freshness.due(*token.seconds))),
    }
    result |= {**instants, "OPENAI_API_KEY": token.value}
    values = _placeholders(target, token, model)
    for name, template in _of_clients(clients, model).items():
        result[name] = _fill(name, template, values)
    for name, template in extra.items():
        check_template(name, template)
        result[name] = _fill(name, template, values)
    for name, value in result.items():
        _check_text(name, value or "")

    def rank(item: tuple[str, str | None]) -> tuple[bool, bool, bool, bool]:
        name, value = item
        return (
            name == "OPENAI_API_KEY",
            token.value in (value or ""),
            name in instants,
            value is not None,
        )

    return dict(sorted(result.items(), key=rank))


def _of_clients(clients: Sequence[str], model: str | None) -> dict[str, str]:
    """Return the names that *clients* read, with templates: `{"API_BASE_URL": "{base_url}"}`.

    Raises:
        SettingsError: A client reads only a model, and no model is set.
    """
    found: dict[str, str] = {}
    for client in clients:
        templates = {name: t for name, t in CLIENTS[client].items() if t is not None}
        usable = {
            name: t for name, t in templates.items() if model is not None or "{model}" not in t
        }
        if not usable:
            raise SettingsError(
                f"client {client} needs a model: {', '.join(templates)} is all that it reads",
                "add --model, for example --model google/gemini-2.5-flash",
            )
        found |= usable
    return found


def judged(clients: Sequence[str], extra: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `JUDGED` that neither *clients* nor *extra* set."""
    ours = _named(clients, extra)
    return {name: rule for name, rule in JUDGED.items() if name not in ours}


def to_unset(clients: Sequence[str], extra: Mapping[str, str], kept: Collection[str]) -> list[str]:
    """List the names to unset; the arguments are those of `environment`."""
    ours = {TRACING, *_named(clients, extra), *kept}
    return [name for name in (*CONFLICTS, *REDIRECTS, *JUDGED) if name not in ours]


def _named(clients: Sequence[str], extra: Mapping[str, str]) -> set[str]:
    return {
        *extra,
        *(n for c in clients for n, template in CLIENTS[c].items() if template is not None),
    }


def check_template(name: str, template: str) -> None:
    """Refuse a `--set` that could never be filled, before a token is minted for it.

    Raises:
        SettingsError: The name cannot be a variable's; or a shell, a loader or an
            interpreter acts on it; or the template has an unknown placeholder or a
            control character.
    """
    if _NAME.fullmatch(name) is None:
        raise SettingsError(
            f"{name!r} is not a name for a variable",
            "give --set NAME=TEMPLATE, for example --set LLM_URL={base_url}/chat/completions",
        )
    by = acted_on_by(name)
    if by is not None:
        raise SettingsError(
            f"--set does not set {name}, whose value is read by {by}",
            "set it where that is set up, or choose another name",
        )
    _check_text(name, template)
    _fields(name, template)


def _check_text(name: str, value: str) -> None:
    if _CONTROL.search(value):
        # In a file or in a log command, a line break in a value would start a new statement.
        raise SettingsError(
            f"the value for {name} has a control character, or a byte that is not UTF-8",
            "leave line breaks and control characters out",
        )


def _placeholders(target: Target, token: Token, model: str | None) -> dict[str, str]:
    url = urlsplit(target.base_url)
    return {
        "token": token.value,
        "base_url": target.base_url,
        "project": target.project,
        "location": target.location,
        "model": model or "",
        "host": f"{url.scheme}://{url.netloc}",
        "path": url.path.strip("/"),
    }


PLACEHOLDERS = ("token", "base_url", "project", "location", "model", "host", "path")


def _fields(name: str, template: str) -> list[tuple[str, str | None]]:
    """Split *template* into pairs: `"a{host}b"` gives `[("a", "host"), ("b", None)]`.

    Each pair is a text and the placeholder after it.
    """
    hint = (
        "placeholders are "
        + ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
        + "; write {{ and }} for braces"
    )
    try:
        parsed = [
            (text, field, spec, conversion)
            for text, field, spec, conversion in string.Formatter().parse(template)
        ]
    except ValueError as e:
        raise SettingsError(f"the template for {name} is malformed: {e}", hint) from e
    for _, field, spec, conversion in parsed:
        # Accept bare names only, because str.format would also follow attributes and indexes.
        if field is not None and (field not in PLACEHOLDERS or spec or conversion):
            raise SettingsError(
                f"the template for {name} has an unknown placeholder: {field!r}", hint
            )
    return [(text, field) for text, field, _, _ in parsed]


def _fill(name: str, template: str, values: Mapping[str, str]) -> str:
    fields = _fields(name, template)
    for needed, example in (("model", "google/gemini-2.5-flash"), ("project", "my-project-123")):
        if any(field == needed for _, field in fields) and not values[needed]:
            raise SettingsError(
                f"the template for {name} needs a {needed}",
                f"add --{needed}, for example --{needed} {example}",
            )
    return "".join(text + (values[field] if field else "") for text, field in fields)
