"""The clients: packages, command, and the settings that send each to a wrong host.

A new client is a row here. All rows were run with the pinned versions on 2026-11-24.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.clients.installs import Install

MODEL = "google/gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the OpenAI API that asks one question and ends."""

    name: str
    install: Install | None
    """None for a client that needs nothing but this Python."""
    argv: tuple[str, ...]
    """Its command. `@INSTALL@` is the installed environment, `@PROMPT@` the question; `@NODE@` and
    `@PYTHON@` are these programs."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Content of its working folder: path to text, with the same placeholders."""


@dataclass(frozen=True, slots=True)
class Trap:
    """A reason for which a client sends the token to another host, and how vertex-env cures it."""

    client: Client
    sentinel: str
    """The host that gets the token without the cure."""
    leftover: Mapping[str, str] = field(default_factory=dict)
    """Variables that the user set before."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of vertex-env that the cure needs."""
    spoil: tuple[str, ...] = ()
    """Arguments of `env` that undo the cure."""

    @property
    def name(self) -> str:
        """Such as `promptfoo-OPENAI_API_HOST`."""
        return "-".join([self.client.name, *self.leftover, *self.settings])

    @property
    def environ(self) -> Mapping[str, str]:
        """What is set before vertex-env runs."""
        return {**self.leftover, **self.settings}


_AGENTS_PY = f"""\
import sys

from agents import Agent, Runner, set_default_openai_api

set_default_openai_api("chat_completions")
agent = Agent(name="Echo", instructions="Answer.", model="openai/{MODEL}")
print(Runner.run_sync(agent, sys.argv[1]).final_output)
"""

_AGENTS_JS = f"""\
import {{ createRequire }} from "node:module";

const require = createRequire("@INSTALL@/");
const {{ Agent, run, setOpenAIAPI }} = require("@openai/agents");

setOpenAIAPI("chat_completions");
const agent = new Agent({{ name: "Echo", instructions: "Answer.", model: "openai/{MODEL}" }});
console.log((await run(agent, process.argv[2])).finalOutput);
"""

AGENTS_PY = Client(
    "openai-agents",
    Install("openai-agents", "pypi", ("openai-agents==0.24.0",)),
    ("@INSTALL@/bin/python", "ask.py", "@PROMPT@"),
    {"ask.py": _AGENTS_PY},
)
AGENTS_JS = Client(
    "openai-agents-js",
    Install(
        "openai-agents-js", "npm", ("@openai/agents@0.20.0", "@modelcontextprotocol/client@2.4.0")
    ),
    ("@NODE@", "ask.mjs", "@PROMPT@"),
    {"ask.mjs": _AGENTS_JS},
)
PROMPTFOO = Client(
    "promptfoo",
    # The second is its database. npm counts it as optional; all optional ones are over a gigabyte.
    Install("promptfoo", "npm", ("promptfoo@0.123.1", "@libsql/linux-x64-gnu@0.5.29")),
    (
        "@NODE@",
        "@INSTALL@/node_modules/promptfoo/dist/src/entrypoint.js",
        "eval",
        "--no-cache",
        "-c",
        "ask.yaml",
    ),
    {"ask.yaml": f"prompts: ['@PROMPT@']\nproviders: ['openai:chat:{MODEL}']\n"},
)
SHELL_GPT = Client(
    "shell-gpt",
    Install("shell-gpt", "pypi", ("shell-gpt==1.5.1", "click==8.5.1")),
    ("@INSTALL@/bin/sgpt", "--model", MODEL, "--no-cache", "@PROMPT@"),
)

CLIENTS = (AGENTS_PY, AGENTS_JS, PROMPTFOO, SHELL_GPT)

_OPENAI = "api.openai.com"
_TRACED = ("-u", "OPENAI_AGENTS_DISABLE_TRACING")

_OPENAI_URL = f"https://{_OPENAI}/v1"
_CORP = "llm.corp.example"


def _left_over(
    client: Client, name: str, value: str, sentinel: str = _OPENAI, **settings: str
) -> Trap:
    return Trap(client, sentinel, {name: value}, settings, (f"{name}={value}",))


TRAPS = (
    Trap(AGENTS_PY, _OPENAI, spoil=_TRACED),
    Trap(AGENTS_JS, _OPENAI, spoil=_TRACED),
    _left_over(PROMPTFOO, "OPENAI_API_HOST", _OPENAI),
    _left_over(PROMPTFOO, "OPENAI_API_BASE_URL", _OPENAI_URL),
    _left_over(SHELL_GPT, "API_BASE_URL", _OPENAI_URL),
    # The name is common: a host other than OpenAI's is replaced only with `--client`.
    _left_over(
        SHELL_GPT, "API_BASE_URL", f"https://{_CORP}/v1", _CORP, VERTEX_ENV_CLIENT="shell-gpt"
    ),
)
