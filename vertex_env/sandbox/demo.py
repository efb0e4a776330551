"""Demo of all features in a few seconds: each step runs the real program on the sandbox."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta

from vertex_env.errors import VertexEnvError
from vertex_env.program import own_argv
from vertex_env.sandbox.server import Sandbox

Say = Callable[[str], None]

LIFETIME = timedelta(seconds=12)
_PROGRAM = own_argv()

# An OpenAI client in the standard library: it reads two variables and posts a chat.
_ASK = """
import json, os, urllib.error, urllib.request
def ask(question):
    body = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as e:
        body = json.load(e)  # an object, or an array with one
        error = (body[0] if isinstance(body, list) else body)["error"]
        return str(e.code) + " " + (error.get("details") or [{}])[0].get("reason", error["status"])
"""
_ONE_QUESTION = _ASK + 'print(ask("Is anybody there?"))'
_AGENT = (
    _ASK
    + """
import time
left = 3
while left:
    generation = os.environ["VERTEX_ENV_GENERATION"]
    seconds = int(os.environ["VERTEX_ENV_EXPIRES_AT"]) - time.time()
    print(f"agent (start no. {generation}, token good for {seconds:4.1f} s): {ask('Still there?')}", flush=True)
    left -= generation != "0"
    time.sleep(1)
"""
)


def tell(environ: Mapping[str, str], say: Say) -> None:
    """Run the demo and print each step.

    Raises:
        VertexEnvError: A step failed.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(lifetime=LIFETIME))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vertex-env-demo-"))
        env = sandbox.environ(folder, environ)
        say(f"A small Google on loopback, {sandbox.url}: no account, no network.")
        say(
            f"Its access tokens live {LIFETIME.seconds} seconds where the real ones live an hour.\n"
        )

        say("1. A token, minted by google-auth from Application Default Credentials:\n")
        say("   $ vertex-env token")
        token = _run(env, *_PROGRAM, "token").strip()
        say(f"   {_short(token)}\n")

        say("2. A shell evaluates the variables, and an OpenAI client needs nothing else:\n")
        say('   $ eval "$(vertex-env export)"')
        say('   $ python ask.py "Is anybody there?"')
        script = 'python=$1; shift; eval "$("$@" export)" && exec "$python" -c "$QUESTION"'
        answer = _run(
            {**env, "QUESTION": _ONE_QUESTION}, "sh", "-c", script, "sh", sys.executable, *_PROGRAM
        )
        say(f"   {answer.strip()}\n")

        say("3. A program that runs for longer than a token lives is started anew in time:\n")
        say("   $ vertex-env run -- python agent.py")
        refused = sandbox.counts.get("refused", 0)
        lines = _stream(env, say, *_PROGRAM, "run", "--", sys.executable, "-u", "-c", _AGENT)
        refused = sandbox.counts.get("refused", 0) - refused
        if refused or not any("start no. 1" in line for line in lines):
            raise _failed(f"{refused} requests were refused, {len(lines)} lines were printed")

        say("\n4. The token of step 1, pasted by hand as people do, has expired meanwhile:\n")
        say("   $ OPENAI_API_KEY=ya29... python ask.py")
        pasted = {
            **env,
            "OPENAI_API_KEY": token,
            "OPENAI_BASE_URL": f"{sandbox.url}/v1/projects/p/locations/l/endpoints/openapi",
        }
        _wait_until_refused(pasted, say)

        counts = sandbox.counts
        say(
            f"\nDone in {time.monotonic() - started:.0f} s: {counts.get('token', 0)} tokens minted, "
            f"{counts.get('chat', 0)} requests answered, none refused under vertex-env."
        )


def _run(env: Mapping[str, str], *argv: str) -> str:
    done = subprocess.run(  # noqa: S603
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise _failed(done.stderr.strip())
    return done.stdout


def _stream(env: Mapping[str, str], say: Say, *argv: str) -> list[str]:
    lines = []
    with subprocess.Popen(  # noqa: S603
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            say("   " + line.rstrip())
    if process.returncode != 0:
        raise _failed(f"the child ended with status {process.returncode}")
    return lines


def _wait_until_refused(env: Mapping[str, str], say: Say) -> None:
    answer = ""
    deadline = time.monotonic() + LIFETIME.total_seconds()
    while "401" not in answer and time.monotonic() < deadline:
        answer = _run(env, sys.executable, "-c", _ONE_QUESTION).strip()
        time.sleep(0.2)
    if "401" not in answer:
        raise _failed("an old token was still accepted")
    say(f"   {answer}")


def _short(token: str) -> str:
    return token[:22] + "..."


def _failed(what: str) -> VertexEnvError:
    return VertexEnvError(
        f"the demo failed: {what}", "this should not happen: please report it with the lines above"
    )
