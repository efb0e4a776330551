"""The Python API: the real clients, past the end of many tokens; one store with the command line."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import langchain_openai
import openai
import pytest
from openai.providers.vertex import vertex

import vertex_env
from tests.support.forking import IN_A_SCRIPT
from tests.support.loopback import clean_environ, run_cli
from vertex_env import api
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token

MODEL = "google/gemini-3-flash"
HEARD = "The sandbox heard: good morning"
HELLO: list[Any] = [{"role": "user", "content": "good morning"}]


@contextmanager
def at(google: Sandbox, folder: Path) -> Iterator[Mapping[str, str]]:
    """This process as if started by *google*, without what it knows already."""
    environ = google.environ(str(folder), {**os.environ, **clean_environ(folder)})
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environ.keys():
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        api._holders.clear()
        yield environ
        for thread in threading.enumerate():
            if thread.name == "vertex-env":
                thread.join(30)
        api._holders.clear()


@pytest.fixture
def google() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def environ(google: Sandbox, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    with at(google, tmp_path) as environ:
        yield environ


def program(text: str, env: Mapping[str, str], *options: str) -> str:
    """What a program prints that has nothing to complain about."""
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", text],
        env=env, cwd=env["HOME"] if Path(env["HOME"]).is_dir() else "/", capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def printed(*args: str, env: Mapping[str, str]) -> str:
    done = run_cli(*args, env=env)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout


def stored(env: Mapping[str, str]) -> tuple[FileStore, str]:
    """The store of the child that was started last, and its token's key."""
    store = FileStore(Path(env["VERTEX_ENV_CACHE_DIR"]))
    (key,) = store.keys()
    return store, key


# --- clients ---


Asking = Callable[[], str | None]
"""Asks the model, and gives its answer."""


def chat(stack: ExitStack) -> Asking:
    client = stack.enter_context(
        openai.OpenAI(base_url=vertex_env.base_url(), api_key=vertex_env.token, max_retries=0)
    )
    return lambda: (
        client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    )


def stream(stack: ExitStack) -> Asking:
    client = stack.enter_context(
        openai.OpenAI(base_url=vertex_env.base_url(), api_key=vertex_env.token, max_retries=0)
    )

    def ask() -> str:
        chunks = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    return ask


def async_chat(_: ExitStack) -> Asking:
    async def ask() -> str | None:
        async with openai.AsyncOpenAI(
            base_url=vertex_env.base_url(), api_key=vertex_env.atoken, max_retries=0
        ) as one:
            answer = await one.chat.completions.create(model=MODEL, messages=HELLO)
            return answer.choices[0].message.content

    return lambda: asyncio.run(ask())


def provider(stack: ExitStack) -> Asking:
    url = vertex_env.base_url(api="responses")
    there = vertex(base_url=url, token_provider=vertex_env.token)
    client = stack.enter_context(openai.OpenAI(provider=there, max_retries=0))
    return lambda: client.responses.create(model=MODEL, input="good morning").output_text


def async_provider(_: ExitStack) -> Asking:
    async def ask() -> str:
        there = vertex(
            base_url=vertex_env.base_url(api="responses"), token_provider=vertex_env.atoken
        )
        async with openai.AsyncOpenAI(provider=there, max_retries=0) as client:
            return (await client.responses.create(model=MODEL, input="good morning")).output_text

    return lambda: asyncio.run(ask())


def langchain(stack: ExitStack) -> Asking:
    model = langchain_openai.ChatOpenAI(
        model=MODEL,
        base_url=vertex_env.base_url(),
        api_key=vertex_env.token,
        max_retries=0,
        http_client=stack.enter_context(openai.DefaultHttpxClient()),
    )
    return lambda: str(model.invoke("good morning").content)


def async_langchain(_: ExitStack) -> Asking:
    async def ask() -> str:
        # LangChain's own is shared by all models, whatever their loop.
        async with openai.DefaultAsyncHttpxClient() as http:
            model = langchain_openai.ChatOpenAI(
                model=MODEL,
                base_url=vertex_env.base_url(),
                api_key=vertex_env.atoken,
                max_retries=0,
                http_async_client=http,
            )
            return str((await model.ainvoke("good morning")).content)

    return lambda: asyncio.run(ask())


class Bearer(httpx.Auth):
    """A fresh token for each request."""

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {vertex_env.token()}"
        yield request


def with_httpx(stack: ExitStack) -> Asking:
    client = stack.enter_context(httpx.Client(base_url=vertex_env.base_url(), auth=Bearer()))

    def ask() -> str:
        answer = client.post(
            "/chat/completions", json={"model": MODEL, "messages": HELLO}
        ).raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    return ask


CLIENTS = [
    chat,
    stream,
    async_chat,
    provider,
    async_provider,
    langchain,
    async_langchain,
    with_httpx,
]


def test_clients_outlive_many_tokens(tmp_path: Path) -> None:
    """Every client works on through three renewals, and no request is refused."""
    deadline = time.monotonic() + 60
    with Sandbox(lifetime=timedelta(seconds=5)) as google, at(google, tmp_path):

        def work(make: Callable[[ExitStack], Asking]) -> set[str | None]:
            with ExitStack() as stack:
                ask, heard = make(stack), set()
                while google.counts["token"] < 4 and time.monotonic() < deadline:
                    heard.add(ask())
                    time.sleep(0.1)
            return heard

        with ThreadPoolExecutor(len(CLIENTS)) as pool:
            results = dict(
                zip((make.__name__ for make in CLIENTS), pool.map(work, CLIENTS), strict=True)
            )
        assert results == {make.__name__: {HEARD} for make in CLIENTS}
        assert google.counts["token"] == 4
        assert google.counts["refused"] == 0


# --- one token for all ---


def test_the_command_line_has_the_same_store(google: Sandbox, environ: Mapping[str, str]) -> None:
    """What one has minted, the other does not ask for."""
    value = printed("token", env=environ).strip()
    assert vertex_env.token() == value
    assert asyncio.run(vertex_env.atoken()) == value
    assert vertex_env.environment()["OPENAI_API_KEY"] == value
    assert google.counts["token"] == 1
    other = vertex_env.token(scope="openid")
    assert other != value
    assert printed("token", "--scope", "openid", env=environ).strip() == other
    assert google.counts["token"] == 2


def test_threads_mint_once(tmp_path: Path) -> None:
    """50 of them, started cold at once."""
    with Sandbox(delay=timedelta(seconds=0.3)) as google, at(google, tmp_path):
        barrier = threading.Barrier(50)

        def ask(_: int) -> str:
            barrier.wait(60)
            return vertex_env.token()

        with ThreadPoolExecutor(50) as pool:
            assert len(set(pool.map(ask, range(50)))) == 1
        assert google.counts["token"] == 1


def test_threads_fail_together(tmp_path: Path) -> None:
    """Who waited for a failure does not go through it once more, and later calls try anew."""
    refusal = Fault(count=30, status=400)
    with Sandbox(delay=timedelta(seconds=1), faults=[refusal]) as google, at(google, tmp_path):
        barrier = threading.Barrier(30)

        def ask(_: int) -> str:
            barrier.wait(60)
            with pytest.raises(vertex_env.VertexEnvError) as caught:
                vertex_env.token()
            return caught.value.message

        with ThreadPoolExecutor(30) as pool:
            assert len(set(pool.map(ask, range(30)))) == 1
        assert google.counts["token"] < 5  # and not 30; a thread may come late
        with pytest.raises(vertex_env.VertexEnvError):
            vertex_env.token()


def test_the_event_loop_is_not_blocked(tmp_path: Path) -> None:
    """It goes on while a token is minted, for as many tasks as want it."""
    with Sandbox(delay=timedelta(seconds=1)) as google, at(google, tmp_path):

        async def main() -> tuple[int, set[str]]:
            ticks = 0
            asked = asyncio.gather(*(vertex_env.atoken() for _ in range(20)))
            while not asked.done():
                await asyncio.sleep(0.02)
                ticks += 1
            return ticks, set(await asked)

        ticks, values = asyncio.run(main())
        assert ticks > 5
        assert len(values) == 1
        assert google.counts["token"] == 1


@pytest.mark.usefixtures("environ")
def test_a_token_is_renewed_behind_the_back(google: Sandbox, environ: Mapping[str, str]) -> None:
    """The old one is given out at once, and no child process is left."""
    printed("token", env=environ)
    store, key = stored(environ)
    now = datetime.now(UTC)
    old = Token("ya29.old", now + timedelta(minutes=10), now - timedelta(minutes=50))
    store.save(key, old)
    assert vertex_env.token() == "ya29.old"
    deadline = time.monotonic() + 60
    while store.load(key) == old and time.monotonic() < deadline:
        time.sleep(0.02)
    new = store.load(key)
    assert new is not None
    assert new != old
    assert google.counts["token"] == 2
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    # In its own good time; here the clock that says when is set forward.
    for holder in api._holders.values():
        holder._look_at = 0
    assert vertex_env.token() == new.value


def test_an_old_token_is_better_than_none(google: Sandbox, environ: Mapping[str, str]) -> None:
    """With Google out of reach, there is a warning and the stored token."""
    printed("token", env=environ)
    store, key = stored(environ)
    now = datetime.now(UTC)
    store.save(key, Token("ya29.old", now + timedelta(minutes=4), now - timedelta(minutes=56)))
    google.fail(Fault(count=100, status=503))
    with pytest.warns(UserWarning, match="using the stored token"):
        assert vertex_env.token() == "ya29.old"


# --- settings ---


@pytest.mark.usefixtures("environ")
def test_settings_and_keywords_are_the_same() -> None:
    """A `Settings`, keywords, or both; lists and paths as well."""
    robot = vertex_env.Settings(project="my-project", location="us-central1")
    expected = vertex_env.base_url(project="my-project", location="us-central1")
    assert expected.endswith("/v1/projects/my-project/locations/us-central1/endpoints/openapi")
    assert vertex_env.base_url(robot) == expected
    assert (
        vertex_env.base_url(vertex_env.Settings(project="my-project"), location="us-central1")
        == expected
    )
    assert vertex_env.base_url(robot, location="eu") != expected
    listed: Any = ["openid", "email"]
    values = {
        vertex_env.token(scope=listed),
        vertex_env.token(scope=tuple(listed)),
        vertex_env.token(vertex_env.Settings(scope=tuple(listed))),
        vertex_env.token(vertex_env.Settings(scope=listed)),
        vertex_env.token(vertex_env.Settings(), scope=listed, min_ttl=timedelta(minutes=1)),
        vertex_env.token(vertex_env.Settings(), scope=listed, min_ttl="1m"),
    }
    assert len(values) == 1
    assert vertex_env.token(scope="openid,email") in values
    two = vertex_env.environment(client="aider,shell-gpt", model="google/g")
    assert two == vertex_env.environment(client=("aider", "shell-gpt"), model="google/g")
    assert (two["AIDER_MODEL"], two["DEFAULT_MODEL"]) == ("openai/google/g", "google/g")
    path = os.environ["GOOGLE_APPLICATION_CREDENTIALS"]
    assert (
        vertex_env.token(credentials=Path(path))
        == vertex_env.token(credentials=path)
        == vertex_env.token()
    )


@pytest.mark.parametrize("name", ["token", "atoken", "base_url", "environment"])
def test_an_unknown_keyword_is_a_type_error(name: str) -> None:
    """As for any function; a misspelt setting must not be passed over."""
    function = getattr(vertex_env, name)
    with pytest.raises(TypeError, match="projcet"):
        asyncio.run(function(projcet="p")) if name == "atoken" else function(projcet="p")


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "europe-west4-a"}, "zone"),
        ({"project": ""}, "project"),
        ({"credentials": "/nowhere/adc.json"}, "/nowhere/adc.json"),
        ({"min_ttl": timedelta(days=-1)}, "min-ttl"),
        ({"lifetime": timedelta(hours=13)}, "lifetime"),
        ({"lifetime": "1h"}, "impersonate"),
        ({"profile": "nobody"}, "nobody"),
        ({"store": "cloud"}, "cloud"),
        ({"set": ["1=2"]}, "'1'"),
        ({"client": "emacs"}, "emacs"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_have_a_message_and_a_hint(options: dict[str, Any], message: str) -> None:
    """The same as on the command line."""
    with pytest.raises(vertex_env.VertexEnvError) as caught:
        vertex_env.token(**options)
    assert message in caught.value.message
    assert caught.value.hint
    assert str(caught.value) == caught.value.message
    with pytest.raises(type(caught.value)):
        asyncio.run(vertex_env.atoken(**options))


def test_the_environment_is_what_export_prints(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same settings, and what is to be unset as None."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    options: Any = {
        "model": MODEL,
        "client": ["aider", "goose"],
        "set": ["LLM_URL={base_url}/chat/completions"],
    }
    args = (
        "--model",
        MODEL,
        "--client",
        "aider",
        "--client",
        "goose",
        "--set",
        "LLM_URL={base_url}/chat/completions",
    )
    found = json.loads(
        printed("export", "--format", "json", *args, env={**environ, "OPENAI_ORG_ID": "org-1"})
    )
    assert vertex_env.environment(**options) == found
    assert found["OPENAI_ORG_ID"] is None
    assert found["OPENAI_BASE_URL"] == vertex_env.base_url()


# --- the package ---


def test_importing_the_package_is_light(environ: Mapping[str, str]) -> None:
    """Until a name is used: the warm path imports it too."""
    text = "import sys; before = set(sys.modules); import vertex_env; print(*sorted(set(sys.modules) - before))"
    assert program(text, environ, "-I" if "PYTHONPATH" not in environ else "-s").split() == [
        "vertex_env",
        "vertex_env.program",
    ]


@pytest.mark.parametrize(
    "first",
    [
        "",
        "import vertex_env.api",
        "from vertex_env import environment",
        "vertex_env.token()",
        "import vertex_env.session",
    ],
)
def test_every_name_is_there(environ: Mapping[str, str], first: str) -> None:
    """However often and in whatever order they are asked for: a module is named as one of the functions is."""
    text = (
        f"import vertex_env\n{first}\n"
        "for _ in range(2):\n"
        "    names = [getattr(vertex_env, name) for name in vertex_env.__all__]\n"
        "    assert all(callable(each) or isinstance(each, str) for each in names), names\n"
        "from vertex_env import *\n"
        "assert environment()['OPENAI_API_KEY'] == token()\n"
    )
    assert program(text, environ) == ""


def test_what_is_not_there_is_an_attribute_error() -> None:
    """`hasattr` and the like work."""
    assert not hasattr(vertex_env, "tokken")


def test_nothing_is_printed(environ: Mapping[str, str]) -> None:
    """Neither on stdout nor on stderr; warnings, were there any, would be errors."""
    text = (
        "import asyncio, vertex_env as v\n"
        "v.token(); v.token(scope='openid'); asyncio.run(v.atoken()); v.base_url(); v.environment(client='aider')\n"
        "try: v.token(credentials='/nowhere')\n"
        "except v.VertexEnvError: pass\n"
    )
    assert program(text, environ, "-W", "error") == ""


def test_no_home_is_no_obstacle(google: Sandbox, environ: Mapping[str, str]) -> None:
    """Where nothing can be stored, a process still mints once."""
    env = {name: value for name, value in environ.items() if name != "VERTEX_ENV_CACHE_DIR"}
    text = "import vertex_env as v; assert v.token() == v.token() == v.token(v.Settings())"
    assert program(text, {**env, "HOME": "/proc/nowhere"}, "-W", "error") == ""
    assert google.counts["token"] == 1


def test_a_fork_has_its_own_tokens(google: Sandbox, environ: Mapping[str, str]) -> None:
    """A child goes on with the token, or mints one, and both share the store."""
    text = (
        IN_A_SCRIPT + "import os, vertex_env as v\n"
        "if {warm}: v.token()\n"
        "def say(): os.write(1, f'{v.token()}\\n'.encode())\n"  # at once, also where stdout is unbuffered
        "pid = fork(say)\n"
        "say()\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    for warm in (False, True):
        one, two = program(text.replace("{warm}", str(warm)), environ, "-W", "error").split()
        assert one == two
    assert google.counts["token"] == 1


def test_a_fork_does_not_wait_for_a_thread_of_its_parent(tmp_path: Path) -> None:
    """The parent's thread that is minting does not exist in the child; its lock must not either."""
    text = (
        IN_A_SCRIPT + "import os, threading, time, vertex_env as v\n"
        "threading.Thread(target=v.token).start()\n"
        "time.sleep(0.7)\n"
        "pid = fork(lambda: (v.token(), sys.exit(7)))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    with Sandbox(delay=timedelta(seconds=1)) as google, at(google, tmp_path) as environ:
        assert program(text, environ, "-W", "ignore") == "7\n"


@pytest.mark.usefixtures("environ")
def test_no_repr_shows_the_token() -> None:
    """Not of what keeps it, nor of an error's traceback."""
    value = vertex_env.token()
    holders = list(api._holders.values())
    assert holders
    shown = [
        repr(api._holders),
        repr([vars(holder) for holder in holders]),
        repr(vertex_env.Settings(model=MODEL)),
    ]
    with pytest.raises(vertex_env.VertexEnvError) as caught:
        vertex_env.environment(endpoint="not-there", location="us-central1")
    shown.append("".join(traceback.format_exception(caught.value)))
    assert [text for text in shown if value in text] == []


TYPED = """
import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import vertex_env
from vertex_env import Settings, VertexEnvError

robot = Settings(project="p", lifetime=timedelta(hours=12), client=("aider",), credentials=Path("adc.json"))
key: Callable[[], str] = vertex_env.token
akey: Callable[[], Awaitable[str]] = vertex_env.atoken
url: str = vertex_env.base_url(robot, location="eu")
variables: dict[str, str | None] = vertex_env.environment(robot)
try:
    text: str = vertex_env.token(robot) + asyncio.run(vertex_env.atoken(min_ttl="10m"))
except VertexEnvError as e:
    lines: tuple[str, str] = (e.message, e.hint)
wrong = Settings(projcet="p")  # type: ignore[call-arg]
wrong_type = Settings(project=1)  # type: ignore[arg-type]
robot.project = "q"  # type: ignore[misc]
"""


def test_the_api_is_typed(environ: Mapping[str, str], tmp_path: Path) -> None:
    """For who checks their own program strictly."""
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "typed.py"],
        env={**environ, "MYPYPATH": environ.get("PYTHONPATH", "")}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "Success: no issues found in 1 source file\n"
