"""`--mint-timeout`: how long a slow Google is waited for, by everything that asks it for a token or an endpoint."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.answers import Answers, Handler, Reply, Route
from tests.support.loopback import Completed, run_cli
from tests.support.processes import RUN, Log, Process, sandboxed, until
from vertex_env.session import open_session
from vertex_env.settings.inputs import Inputs
from vertex_env.tokens.keychain import KeyringStore
from vertex_env.tokens.store import FileStore

SLOW_S = 2.0
"""How long Google takes here: longer than the short time-out, and not as long as the long one."""
SHORT, LONG = "1s", "20s"

NO_ANSWER = "no answer in time"
HINT = "if it is only slow, add --mint-timeout 30s\n"


def check_gave_up(ended: Completed, status: int) -> None:
    """It failed before Google's answer, and named the cure."""
    assert (ended.status, ended.stdout) == (status, "")
    assert NO_ANSWER in ended.stderr
    assert ended.stderr.endswith(HINT)


@pytest.mark.parametrize("place", ["option", "variable", "profile"])
def test_a_mint_ends_in_time(tmp_path: Path, place: str) -> None:
    """A slow Google costs the time-out and no more; the control, with a longer one, gets the token."""
    with sandboxed(tmp_path, delay_s=60) as (google, env):

        def mint(timeout: str) -> Completed:
            option = ["--mint-timeout", timeout] if place == "option" else []
            own = {"VERTEX_ENV_MINT_TIMEOUT": timeout} if place == "variable" else {}
            config = tmp_path / "config.toml"
            config.write_text(
                f'[profile.work]\nmint-timeout = "{timeout}"\n' if place == "profile" else ""
            )
            profile = ["--profile", "work"] if place == "profile" else []
            return run_cli(
                "token", *option, *profile, env={**env, **own, "VERTEX_ENV_CONFIG": str(config)}
            )

        started = time.monotonic()
        ended = mint(SHORT)
        assert 1.0 < time.monotonic() - started < 30
        check_gave_up(ended, 75)
        google._google.delay = timedelta(seconds=SLOW_S)
        control = mint(LONG)
        assert (control.status, control.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", [["endpoints"], ["url", "--endpoint", "my-endpoint"]], ids=["list", "look up"]
)
def test_a_question_for_endpoints_ends_in_time(tmp_path: Path, command: list[str]) -> None:
    """The same for a list of endpoints, and for one that is looked up."""
    parent = "/v1/projects/sandbox-project/locations/us-central1/endpoints"
    one = {"name": f"{parent.removeprefix('/v1/')}/my-endpoint", "displayName": "x"}
    wait_s = [60.0]

    def slow(body: object) -> Route:
        def answer(handler: Handler) -> None:
            handler.server.left.wait(wait_s[0])
            handler.send(Reply(body=body))

        return answer

    routes: dict[str, Route] = {
        parent: slow({"endpoints": [one]}),
        f"{parent}/my-endpoint": slow(one),
    }
    with sandboxed(tmp_path) as (_, env), Answers(routes) as answers:
        env["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] = answers.url
        assert run_cli("token", env=env).status == 0
        ended = run_cli(*command, "--location", "us-central1", "--mint-timeout", SHORT, env=env)
        check_gave_up(ended, 75)
        wait_s[0] = SLOW_S
        control = run_cli(*command, "--location", "us-central1", "--mint-timeout", LONG, env=env)
        assert (control.status, control.stderr) == (0, "")
        assert "my-endpoint" in control.stdout


@pytest.mark.parametrize("where", ["option", "variable"])
def test_the_first_mint_of_run_ends_in_time(tmp_path: Path, where: str) -> None:
    """The process that mints for `run` has the setting, wherever it comes from; with a longer one, it succeeds."""
    with sandboxed(tmp_path, delay_s=60) as (google, env):

        def run(timeout: str) -> Completed:
            option = ["--mint-timeout", timeout] if where == "option" else []
            own = {"VERTEX_ENV_MINT_TIMEOUT": timeout} if where == "variable" else {}
            return run_cli(
                "run", *option, "--", "echo", "ran", env={**env, **own, "VERTEX_ENV_STORE": "none"}
            )

        check_gave_up(run(SHORT), 125)
        google._google.delay = timedelta(seconds=SLOW_S)
        assert run(LONG) == Completed(0, "ran\n", "")


@pytest.mark.parametrize("timeout", [SHORT, LONG])
def test_the_renewals_of_run_end_in_time(tmp_path: Path, timeout: str) -> None:
    """The supervisor hands the option on to each process that mints; with a longer one, the command is renewed."""
    log = Log(tmp_path)
    command = [*RUN, "--mint-timeout", timeout, "--", *log.probe()]
    with (
        sandboxed(tmp_path, lifetime_s=12) as (google, env),
        Process(command, env, tmp_path) as process,
    ):
        log.start()
        google._google.delay = timedelta(seconds=SLOW_S)
        if timeout == LONG:
            log.start(1)
            assert NO_ANSWER not in process.stderr
        else:
            until(lambda: HINT in process.stderr, 30)
            assert len(log("start")) == 1


def test_waits_are_derived(tmp_path: Path) -> None:
    """Those who wait for the lock give its holder the time of a mint and 20 s more, whatever the store."""
    with sandboxed(tmp_path) as (_, env):
        for store in ("file", "keyring"):
            for text, wait_s in ((None, 30.0), ("2m", 140.0)):
                options = {"store": store, "mint_timeout": text}
                session = open_session(
                    options, Inputs(env), lambda: pytest.fail("no clock is needed"), pytest.fail
                )
                assert isinstance(session.store, FileStore | KeyringStore)
                assert session.store.lock_wait_s == wait_s
