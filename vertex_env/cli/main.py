"""The command line: the only module that prints or exits.

stdout gets what was asked for, at once and only when all of it is there; on failure it stays empty, but for the line
`false` that makes `eval "$(vertex-env export)"` fail. stderr gets what is said to a person, and nothing when it worked;
but `ci` says how long the token lasts.
"""

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

import click

from vertex_env.cache import answers as warm
from vertex_env.errors import CredentialsError, SettingsError, UnavailableError, VertexEnvError
from vertex_env.formats.render import CI_EVALUATED, CI_SYSTEMS, DATA_FORMATS, HOW_TO_USE, RENDERERS, guess_format, watch
from vertex_env.formats.shellfiles import COMPLETIONS, HOOKS, read_shell_file
from vertex_env.redaction import hide, of_environ
from vertex_env.report import status_facts
from vertex_env.session import Session, open_session
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.options import OPTIONS, as_environ, environ_layer, options_layer, parse_duration
from vertex_env.tokens.token import Token
from vertex_env.version import __version__
from vertex_env.vertex.target import NO_REGIONS
from vertex_env.vertex.variables import Environment

if TYPE_CHECKING:
    from vertex_env.formats.ci import Call
    from vertex_env.run.lifecycle import OnFailure, Policy, Rules

F = TypeVar("F", bound=Callable[..., Any])

_HOOKS_CALL = ["export", "--format", "lines"]
"""How a shell's hook asks: it hears of an error, but not, at each prompt of a train ride, that there is no network."""

_EVALUATED = "what the job evaluates reads it again"

_READ_AGAIN = {
    "lines": "the shell's hook renews the token",
    "direnv": "direnv renews the token",
    "circleci": "each step of the job reads it",
    "gitlab": _EVALUATED,
    "jenkins": _EVALUATED,
}
"""Formats after which the credentials are read again."""

USAGE = 2
BUG = 70
INTERRUPTED = 130


class Command(click.Command):
    """A command whose help keeps the settings, which many commands share, apart from its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two lists of options."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if isinstance(parameter, SettingsOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if shared:
            with formatter.section("Settings, each with its variable; also keys in config.toml"):
                formatter.write_dl(shared)


class NeedsHookError(click.UsageError):
    """A command of the hook has reached the program, which cannot set its parent's variables."""

    def __init__(self) -> None:
        super().__init__("only the hook can set this shell's variables, and it is not loaded")


class Commands(click.Group):
    """The commands; for a misspelt name it suggests only those that `--help` shows."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Click from 8.4 on suggests hidden ones as well."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            suggested = getattr(e, "possibilities", None) or []
            shown = [name for name in suggested if not self.commands[name].hidden]
            if len(shown) < len(suggested):
                raise click.UsageError(e.message, ctx) from e
            raise


class SettingsOption(click.Option):
    """An option of `settings.OPTIONS`; its variable is read there, to keep where the value came from."""


class Duration(click.ParamType[timedelta]):
    """`90m`, `1h30m`, `45s` or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse, or fail as Click does."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


def settings_options(function: F) -> F:
    """Add the shared options to a command; it gets them as keyword arguments, by field."""
    for option in reversed([o for o in OPTIONS if not o.internal]):
        function = click.option(
            f"--{option.name}",
            option.field,
            cls=SettingsOption,
            metavar=option.metavar,
            multiple=option.many,
            allow_from_autoenv=False,
            help=f"{option.help}  [env: {option.variable}]",
        )(function)
    return function


def table_or_json(variable: str) -> Callable[[F], F]:
    """The `--format` of a command that lists something; *variable* is the one that stands for it."""
    return click.option(
        "--format",
        "format_name",
        type=click.Choice(["table", "json"]),
        envvar=variable,
        default="table",
        show_default=True,
        show_envvar=True,
        help="For reading, or for programs.",
    )


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "VERTEX_ENV",
        "max_content_width": 110,
    },
    no_args_is_help=True,
)
@click.version_option(__version__, message="vertex-env %(version)s", allow_from_autoenv=False)
def app() -> None:
    """Vertex AI for OpenAI clients: fresh Google access tokens as OPENAI_API_KEY.

    Clients that ignore OPENAI_BASE_URL send the token or the prompt to OpenAI: pi, cline -P openai,
    Codex with its default provider, Goose without --client goose.

    \b
      eval "$(vertex-env export)"          variables for this shell
      vertex-env run -- python app.py      a child that never sees an expired token
      vertex-env token                     for tools that take a "key command"
      vertex-env url                       for tools that want the base URL in a file
      vertex-env ci                        variables for the later steps of a CI job
      vertex-env demo                      see it all on a sandbox, without an account
    """  # noqa: D301 -- Click wants the control character itself


@app.command(cls=Command)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([*RENDERERS, *CI_SYSTEMS]),
    envvar="VERTEX_ENV_EXPORT_FORMAT",
    show_envvar=True,
    help="Shell or data format, or a CI system, to do what the command ci does; without it the calling shell's.",
)
@click.option("--refresh", is_flag=True, show_envvar=True, help="Mint a new token even if the stored one is fresh.")
@settings_options
def export(format_name: str | None, refresh: bool, **options: Any) -> None:  # noqa: FBT001
    """Print statements that set (and unset) the variables."""
    question = warm.ask(sys.argv[1:], os.environ)
    settings = as_environ(options_layer(options))
    again = _READ_AGAIN.get(format_name or "", "")
    if format_name == "direnv":
        inputs = Inputs(os.environ)
        stamps: list[Path] = []
        try:
            session = _session(options, refreshes=True, inputs=inputs, again=again)
            stamps += [session.stamp] if session.stamp else []
            environment = session.environment(refresh=refresh)
        except VertexEnvError as e:
            # direnv does not try again by itself: have it do so when one of the files that matter changes. The hook in
            # the shell tries again as well, with the same settings.
            tell_error(e)
            _print(RENDERERS["direnv"](settings) + watch(map(str, [*inputs.files, *stamps])) + "false\n")
            sys.exit(e.exit_code)
    else:
        session = _session(options, refreshes=True, again=again)
        environment = session.environment(refresh=refresh)
    name = format_name or guess_format(_shells(session.inputs.environ))
    if name in CI_SYSTEMS:
        _hand_over(name, environment, session.token(), options)
        return  # what has effects besides its output cannot be replayed

    in_lines = name in ("lines", "direnv")
    stamp = session.stamp_of(session.token()) if in_lines else None

    def render(environment: Environment) -> str:
        if in_lines:
            environment = {"VERTEX_ENV_STAMP": str(stamp) if stamp else None, **environment}
        if name != "direnv":
            return RENDERERS[name](environment)
        files = [*session.inputs.files, *([session.stamp] if session.stamp else [])]
        return RENDERERS[name]({**settings, "VERTEX_ENV_VIA": "direnv", **environment}) + watch(map(str, files))

    _print(render(environment))
    if name in HOW_TO_USE and sys.stdout.isatty():
        _tell(f"hint: to set these in your shell: {HOW_TO_USE[name]}")
    # A shell that asks although there is a snapshot could not use it: it shall have a new one, not the same answer.
    served = sys.argv[1:] == _HOOKS_CALL and session.snapshot()
    if not served and not refresh:
        target = session.target()
        session.remember(sys.argv[1:], question, lambda token: render(session.environment_for(token, target)), _now())


@app.command(cls=Command)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "json", "header"]),
    envvar="VERTEX_ENV_TOKEN_FORMAT",
    default="text",
    show_default=True,
    show_envvar=True,
    help="The token alone, an object with its expiry, or an Authorization header.",
)
@click.option("--refresh", is_flag=True, show_envvar=True, help="Mint a new token even if the stored one is fresh.")
@settings_options
def token(format_name: str, refresh: bool, **options: Any) -> None:  # noqa: FBT001
    """Print an access token, for tools that take a "key command"."""
    question = warm.ask(sys.argv[1:], os.environ)
    session = _session(options, refreshes=True)
    minted = session.token(refresh=refresh)
    now = _now()  # not before Google has answered, or the token would seem to last longer than it does

    def render(token: Token) -> str:
        match format_name:
            case "text":
                return token.value + "\n"
            case "header":
                return f"Authorization: Bearer {token.value}\n"
            case _:
                import json

                seconds = token.expiry.timestamp()
                left = {"expiry": warm.rfc3339(seconds), "expires_in": int(seconds - now.timestamp())}
                return json.dumps({"token": token.value, "token_type": "Bearer", **left}) + "\n"

    _print(render(minted))
    if not refresh:
        session.remember(sys.argv[1:], question, render, now)


@app.command(cls=Command)
@settings_options
def url(**options: Any) -> None:
    """Print the base URL alone, for a tool's own settings, without a token.

    It needs no credentials where the settings have the project. With --endpoint the host is looked
    up at Google, which needs a token; the answer is remembered for a day.
    """
    _print(_session(options, anonymous=True).target().base_url + "\n")


@app.command(cls=Command, name="run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--on-expiry",
    type=click.Choice(["auto", "restart", "ignore", "stop"]),
    default="auto",
    show_default=True,
    show_envvar=True,
    help="Before the token expires: restart the command, but not while it holds the terminal or when its stdin is a "
    "pipe (auto); restart it always; run it in place of ourselves (ignore); stop it with status 75.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="10s",
    show_default=True,
    show_envvar=True,
    metavar="DURATION",
    help="How long the command may take to end after SIGTERM.",
)
@click.option(
    "--on-refresh-failure",
    "on_failure",
    type=click.Choice(["keep", "stop"]),
    envvar="VERTEX_ENV_RUN_ON_REFRESH_FAILURE",
    default="keep",
    show_default=True,
    show_envvar=True,
    help="If the token expires and there is no new one: keep the command running, or stop it with status 75.",
)
@settings_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(
    on_expiry: "Policy", grace: timedelta, on_failure: "OnFailure", command: tuple[str, ...], **options: Any
) -> None:
    """Run COMMAND with the variables, and start it anew before its token expires."""
    from vertex_env.run import start as run
    from vertex_env.run.child import OWN_FAILURE
    from vertex_env.run.helper import HelperError
    from vertex_env.run.lifecycle import Rules

    try:
        run.check_command(command)
        _run(Rules(on_expiry, on_failure, grace.total_seconds()), command, options)
    except HelperError as e:
        # Our own process has said it already, in the form that everything is said in.
        _say(str(e))
        sys.exit(OWN_FAILURE)
    except VertexEnvError as e:
        tell_error(e)
        sys.exit(run.failure(e))


def _run(rules: "Rules", command: Sequence[str], options: Mapping[str, Any]) -> NoReturn:
    from vertex_env.run import start as run
    from vertex_env.run.helper import ask_helper, helper_argv

    overlay = as_environ(options_layer(options))
    own = sys.argv[1 : -len(command)]  # with the dashes, if these are ours and not the command's
    question = warm.ask(own, os.environ)
    in_place = rules.policy == "ignore"
    session = _session(options, again="" if in_place else "run renews the token (not so with --on-expiry ignore)")
    if session.adc.is_pipe:
        environment: Environment = session.environment()  # the helper could not read it any more
    elif session.broker.stored() is not None and session.settings.endpoint.value is None:
        environment = session.environment()
        target = session.target()

        def render(token: Token) -> str:
            return run.pack(session.environment_for(token, target), overlay, rules)

        if "--" in own and own.index("--") == len(own) - 1:
            session.remember(own, question, render, _now(), refreshes=False)
    else:
        # google-auth would stay in the supervisor's memory.
        environment = ask_helper(helper_argv(), {**os.environ, **overlay})
    if rules.policy != "ignore" and run.can_supervise():
        run.start_lean(command, run.pack(environment, overlay, rules))
    run.start(command, environment, overlay, rules=rules, say=_tell)


@app.command(cls=Command, name="ci")
@click.option(
    "--job-timeout",
    type=Duration(),
    show_envvar=True,
    metavar="DURATION",
    help="Fail now if a new token would not last as long.",
)
@settings_options
def ci_command(job_timeout: timedelta | None, **options: Any) -> None:
    """Set the variables for a CI job's later steps, masked in its log; say how long the token lasts.

    \b
    GitHub Actions, Azure Pipelines, Buildkite, TeamCity:  vertex-env ci
    CircleCI, with a fresh token for each step:            vertex-env ci
    GitLab, Jenkins, for the rest of the script:           eval "$(vertex-env ci)"
    """  # noqa: D301 -- Click wants the control character itself
    from vertex_env.formats import ci

    system = ci.recognise(os.environ)
    again = "the steps of a long job renew the token" if job_timeout is not None else _READ_AGAIN.get(system, "")
    session = _session(options, again=again)
    environment = session.environment()
    stored, now = session.token(), _now()
    # What an earlier job on this machine has left may do for a shell, but no step renews it.
    if stored.remaining(now) < max(job_timeout or timedelta(), (stored.expiry - stored.issued) / 2):
        environment = session.environment(refresh=True)
    if job_timeout is not None:
        ci.check_lasts(session.token(), job_timeout, _now())
    _hand_over(system, environment, session.token(), options)
    _tell(ci.lasts(session.token(), _now()))


def _settings_elsewhere(options: Mapping[str, Any]) -> dict[str, str]:
    """The step's settings, such as `{"VERTEX_ENV_PROFILE": "work"}`, for a step in another folder.

    A path in them is absolute, and the file that a profile is in is named.
    """
    config = os.environ.get("VERTEX_ENV_CONFIG")
    settings = as_environ({**environ_layer(os.environ), **options_layer(options)})
    if config:
        settings["VERTEX_ENV_CONFIG"] = os.path.abspath(config)  # noqa: PTH100 -- no link is followed
    if "VERTEX_ENV_CREDENTIALS" in settings:
        named = os.path.expanduser(settings["VERTEX_ENV_CREDENTIALS"])  # noqa: PTH111 -- as `adc` does
        settings["VERTEX_ENV_CREDENTIALS"] = os.path.abspath(named)  # noqa: PTH100 -- no link is followed
    return settings


def _hand_over(system: str, environment: Environment, token: Token, options: Mapping[str, Any]) -> None:
    """Do what *system* needs to have the variables in later steps."""
    import shutil
    import stat

    from vertex_env.formats import ci

    job = ci.Job(
        # Where none can be unset it is made empty: only what is there.
        env={name: value for name, value in environment.items() if value is not None or name in os.environ},
        token=token,
        environ=os.environ,
        again=warm.own_argv("export", "--format", "sh"),
        settings=_settings_elsewhere(options),
        delimiter=f"ghadelimiter_{os.urandom(16).hex()}",
        agent=shutil.which("buildkite-agent") is not None,
    )
    plan = ci.plan(system, job)
    for call in plan.calls:
        _call(call)
    try:
        # Opened before anything is printed, so that a failure leaves stdout empty; written to when all is masked.
        # Nothing reads a pipe there before the step ends: that would be waiting for ever.
        access = os.O_RDWR if plan.once else os.O_WRONLY
        flags = access | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(plan.file or os.devnull, flags, 0o600), "r+b" if plan.once else "wb", 0) as file:
            if plan.file and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"{plan.file} is not a regular file", "check that the job may write there")
            _print(plan.stdout)
            text = plan.text.encode("utf-8", "surrogateescape")
            file.write(_make_room(file, text) if plan.once else text)
    except OSError as e:
        if isinstance(e, BrokenPipeError):
            raise
        raise SettingsError(f"cannot write to {plan.file}: {e.strerror}", "check that the job may write there") from e


def _make_room(file: BinaryIO, block: bytes) -> bytes:
    """Take the block of an earlier call out of *file*; return what to append now."""
    from vertex_env.formats import ci

    before = file.read() or b""
    if block in before:
        return b""  # a file that says the same keeps every byte
    kept = ci.without_block(before)
    gap = b"" if kept.endswith(b"\n") or not kept else b"\n"
    if kept == before:
        return gap + block
    file.truncate(0)
    return kept + gap + block


def _call(call: "Call") -> None:
    """Run a program that is told secrets. What it says is not repeated, for it might repeat them."""
    import subprocess

    name = " ".join(call.argv[:3])
    try:
        subprocess.run(call.argv, input=call.stdin.encode(), capture_output=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as e:
        reason = f"status {e.returncode}" if isinstance(e, subprocess.CalledProcessError) else type(e).__name__
        raise UnavailableError(
            f"{name} failed: {reason}", 'update the agent, or in a pre-command hook: eval "$(vertex-env export)"'
        ) from None


@app.command(cls=Command)
@click.option("--all-locations", is_flag=True, show_envvar=True, help="Look in every region.")
@table_or_json("VERTEX_ENV_ENDPOINTS_FORMAT")
@settings_options
def endpoints(all_locations: bool, format_name: str, **options: Any) -> None:  # noqa: FBT001
    """List self-deployed endpoints: ID, name, location, models and dedicated host."""
    import json
    from dataclasses import asdict

    found, failures = _list_endpoints(_session(options), all_locations=all_locations)
    for location, error in failures:
        _tell(f"warning: {location} is not in the list: {error.message}")
    if format_name == "json":
        _print(json.dumps([asdict(endpoint) for endpoint in found], indent=2) + "\n")
    else:
        rows = [(e.id, e.name, e.location, ", ".join(e.models) or "-", e.host or "-") for e in found]
        _print(_table(("ID", "NAME", "LOCATION", "MODELS", "DEDICATED HOST"), rows))


def _list_endpoints(session: Session, *, all_locations: bool) -> tuple[list[Any], list[tuple[str, VertexEnvError]]]:
    """Endpoints, and the locations that could not be asked; if none could, that is an error."""
    from concurrent.futures import ThreadPoolExecutor

    from vertex_env.vertex.endpoints import Endpoint, list_endpoints, list_locations

    project, location = session.urls.project, session.settings.location
    if not all_locations and location.value in NO_REGIONS:
        raise SettingsError(
            f"endpoints are in regions, but location is {location}", "add --location REGION, or --all-locations"
        )
    get = session.get()

    def ask(name: str) -> list[Endpoint] | VertexEnvError:
        try:
            return list(
                list_endpoints(get, f"{session.urls.root_for(name)}/v1", f"projects/{project}/locations/{name}")
            )
        except VertexEnvError as e:
            return e

    everywhere = f"{session.urls.root_for('global')}/v1"
    names = list_locations(get, everywhere, project) if all_locations else [location.value]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(ask, names)
        if all_locations and sys.stderr.isatty():
            with click.progressbar(answers, length=len(names), label="regions", file=sys.stderr) as bar:
                answers = iter(list(bar))
        results = list(zip(names, answers, strict=True))
    failures = [(name, answer) for name, answer in results if isinstance(answer, VertexEnvError)]
    if failures and len(failures) == len(results):
        raise failures[0][1]
    found = [endpoint for _, answer in results if isinstance(answer, list) for endpoint in answer]
    return found, failures


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    safe = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in safe) for i in range(len(head))]
    return "".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in safe)


@app.command(cls=Command)
@table_or_json("VERTEX_ENV_STATUS_FORMAT")
@settings_options
def status(format_name: str, **options: Any) -> None:
    """Show every setting and where it comes from, the identity, the stored token's expiry, and the store."""
    import json

    report = _without_secrets(status_facts(_session(options)))
    if format_name == "json":
        _print(json.dumps(report, indent=2, default=_plain) + "\n")
        return
    identity, stored, store = report["identity"], report["token"], report["store"]
    rows = [(name, _plain(s["value"]), s["source"]) for name, s in report["settings"].items()]
    rows += [
        ("identity", identity["principal"], identity["credentials"]),
        ("base URL", report["base_url"], ""),
        ("token", _lasts(stored) if stored else "none stored", stored["expiry"] if stored else ""),
        ("stored in", store["kind"], store["folder"] if store["kind"] != "none" else ""),
    ]
    _print(_table(("SETTING", "VALUE", "FROM"), [(a, b or "-", c) for a, b, c in rows]))
    if store["problem"]:
        _tell(f"warning: {store['problem']}")
    for name in report["unset"]:
        _tell(
            f"warning: {name} is set, and export and run unset it: "
            "it would go to Google, override the token, or have a client send the token elsewhere"
        )
    for name in report["kept"]:
        _tell(f"warning: {name} is set and stays: {_what_it_does(name)}")


def _what_it_does(name: str) -> str:
    from vertex_env.vertex.variables import SHARED

    if name not in SHARED:
        return "openai-agents sends the token and the prompts to api.openai.com; =1 stops that"
    clients = " and ".join(SHARED[name])
    return f"{clients} sends the token to its host; --client {SHARED[name][0]} sets it"


def _without_secrets(value: Any) -> Any:
    """*value* without what looks like a token, in a folder's name, say, or in a profile's."""
    if isinstance(value, Mapping):
        return {hide(name): _without_secrets(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_secrets, value))
    return hide(value) if isinstance(value, str) else value


def _plain(value: object) -> str:
    """A setting's value for reading: a list with commas, a duration in seconds."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={template}" for name, template in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


def _lasts(stored: Mapping[str, Any]) -> str:
    seconds = stored["expires_in"]
    if seconds <= 0:
        return "expired"
    return f"lasts {timedelta(seconds=seconds)}" + ("" if stored["fresh"] else ", to be renewed at the next use")


@app.command()
@click.argument("shell", type=click.Choice(list(HOOKS)))
def hook(shell: str) -> None:
    """Print the shell integration for SHELL: fresh variables at its start, at each prompt and on `use PROFILE`.

    \b
      bash, zsh   eval "$(vertex-env hook bash)"
      fish        status is-interactive; and vertex-env hook fish | source
      nushell     vertex-env hook nu | save -f ($nu.default-config-dir | path join vertex-env.nu)
      xonsh       exec($(vertex-env hook xonsh))
      PowerShell  vertex-env hook pwsh | Out-String | Invoke-Expression
      direnv      vertex-env hook direnv >~/.config/direnv/lib/vertex-env.sh
    """  # noqa: D301 -- Click wants the control character itself
    _print(read_shell_file(HOOKS[shell]))


@app.command(cls=Command)
@click.argument("profile", expose_value=False)
def use() -> None:
    """Take PROFILE in this shell, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@app.command(cls=Command)
def refresh() -> None:
    """Mint a new token for this shell, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@app.command(cls=Command)
def off() -> None:
    """Set this shell's variables back, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@app.command()
@click.argument("shell", type=click.Choice(list(COMPLETIONS)))
def completion(shell: str) -> None:
    """Print the completions for SHELL."""
    _print(read_shell_file(COMPLETIONS[shell]))


@app.command(hidden=True)
@settings_options
def keep_fresh(**options: Any) -> None:
    """Wait until the stored token is due, have it renewed, and end: what `use vertex --keep-fresh` starts."""
    _session(options, again="this renews the token").keep_fresh()


@app.command(cls=Command)
@click.option(
    "--all", "everything", is_flag=True, envvar="VERTEX_ENV_LOGOUT_ALL", show_envvar=True, help="Of every identity."
)
@settings_options
def logout(everything: bool, **options: Any) -> None:  # noqa: FBT001
    """Delete the stored token, the answers and keychain items of this identity, or of all."""
    from vertex_env.tokens.keychain import KeyringStore

    if everything:
        folder = warm.cache_dir(os.environ)
        if folder is not None:
            KeyringStore(Path(folder)).forget(None)
        return
    try:
        session = _session(options)
    except CredentialsError as e:
        raise CredentialsError(e.message, "vertex-env logout --all needs none") from e
    if session.folder is not None:
        KeyringStore(session.folder).forget(session.identity.key)


Texts = tuple[str, ...]
_DURATION: Mapping[str, Any] = {"type": Duration(), "show_default": True, "show_envvar": True, "metavar": "DURATION"}
_FAULTS: Mapping[str, Any] = {"multiple": True, "show_envvar": True, "metavar": "[N]xSTATUS"}


@app.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.option("--lifetime", default="1h", help="How long its tokens live.", **_DURATION)
@click.option("--fail", help="Fail N requests for a token, such as 3x503.", **_FAULTS)
@click.option("--refuse", help="Fail N chat completions, such as 2x429.", **_FAULTS)
@click.option("--array-401", is_flag=True, show_envvar=True, help="Put a chat's 401 in a JSON array, too.")
@click.option("--delay", default="0s", help="Wait before each token.", **_DURATION)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def sandbox(
    lifetime: timedelta, fail: Texts, refuse: Texts, delay: timedelta, command: Texts, *, array_401: bool
) -> None:
    """Run COMMAND against an embedded loopback Google: no account, no network."""
    import tempfile

    from vertex_env.run import start as run
    from vertex_env.run.child import die_like
    from vertex_env.sandbox.server import Fault, Sandbox

    run.check_command(command)
    if lifetime < timedelta(seconds=1):
        raise click.BadParameter("a token lives for a second at least", param_hint="'--lifetime'")
    faults = {}
    for name, texts in (("--fail", fail), ("--refuse", refuse)):
        try:
            faults[name] = [Fault.parse(text) for text in texts]
        except ValueError as e:
            raise click.BadParameter(str(e), param_hint=f"'{name}'") from e
    with (
        tempfile.TemporaryDirectory(prefix="vertex-env-sandbox-") as folder,
        Sandbox(
            lifetime=lifetime, faults=faults["--fail"], delay=delay, refusals=faults["--refuse"], array_401=array_401
        ) as google,
    ):
        status = _run_child(command, google.environ(folder, os.environ))
    die_like(status)


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    from vertex_env.run import start as run

    try:
        return run.run_once(command, environ)
    except VertexEnvError as e:
        tell_error(e)
        sys.exit(run.failure(e))


@app.command(cls=Command)
def demo() -> None:
    """See it all in 20 seconds, on the sandbox: mint, export, chat, a restart before expiry."""
    from vertex_env.sandbox.demo import tell

    tell(os.environ, lambda line: _print(line + "\n"))


# --- what every command shares ---


def main() -> NoReturn:
    """Entry point: run the command line and exit."""
    sys.exit(execute(sys.argv[1:]))


def execute(args: list[str]) -> int:
    """Run the command line; the exit status."""
    try:
        # Not app.main, which ends with status 1 where the reader of stdout has gone.
        with app.make_context("vertex-env", list(args)) as context:
            app.invoke(context)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.ctx.get_help(), err=True)
        return USAGE
    except click.UsageError as e:
        command = e.ctx.command_path if e.ctx else "vertex-env"
        hint = f"see {command} --help"
        if isinstance(e, NeedsHookError):
            hint = 'load it: eval "$(vertex-env hook bash)"; vertex-env hook --help has it for other shells'
        return _fail(args, VertexEnvError(_sentence(e.format_message()), hint), USAGE)
    except VertexEnvError as e:
        return _fail(args, e, e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail(args, None, INTERRUPTED)
    except BrokenPipeError:
        _abandon_stdout()  # the reader has gone; there is nobody to tell
        return 0
    except Exception as e:  # noqa: BLE001 -- the last line of defence
        return _fail(args, *_unexpected(e))
    return 0


def _fail(args: list[str], error: VertexEnvError | None, status: int) -> int:
    if error is not None and not (args == _HOOKS_CALL and isinstance(error, UnavailableError)):
        tell_error(error)
    if _is_evaluated(args, os.environ):
        with suppress(VertexEnvError, BrokenPipeError):
            _print("false\n")
    return status


def _is_evaluated(args: list[str], environ: Mapping[str, str]) -> bool:
    """Whether a shell evaluates what *args* print, so that printing nothing would pass for success."""
    words = [word for word in args if not word.startswith("-")]
    if words[:1] == ["ci"]:
        from vertex_env.formats import ci

        return ci.detect(environ) in CI_EVALUATED
    if words[:1] != ["export"]:
        return False
    name = environ.get("VERTEX_ENV_EXPORT_FORMAT", "")
    rest = iter(args)
    for word in rest:
        if word == "--format":
            name = next(rest, "")
        elif word.startswith("--format="):
            name = word.removeprefix("--format=")
        elif word.startswith("--") and "=" not in word and word not in ("--refresh", "--help"):
            next(rest, "")  # its value, which may look like anything
    return name not in DATA_FORMATS and (name not in CI_SYSTEMS or name in CI_EVALUATED)


def _unexpected(error: Exception) -> tuple[VertexEnvError, int]:
    """What to say of an exception that is not one of ours, and the status."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # Click writes help and version by itself; everything else goes through _print.
        _abandon_stdout()
        full = UnavailableError("cannot write to stdout: no space left", "free space, or redirect stdout elsewhere")
        return full, full.exit_code
    return _bug(error), BUG


def _bug(error: Exception) -> VertexEnvError:
    """What to say of an exception that nobody expected. Its text is left out: it might hold a token."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = next((f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames) if "vertex_env" in f.filename), "?")
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return VertexEnvError(
        f"this is a bug: {type(error).__name__} at {where} ({last}), vertex-env {__version__}, "
        f"Python {sys.version.split()[0]}",
        "please report this line to the project, with what you ran",
    )


def _session(
    options: Mapping[str, Any],
    *,
    refreshes: bool = False,
    inputs: Inputs | None = None,
    again: str = "",
    anonymous: bool = False,
) -> Session:
    return open_session(
        options,
        Inputs(os.environ) if inputs is None else inputs,
        _now,
        warn=lambda line: None if sys.argv[1:] == _HOOKS_CALL else _tell(f"warning: {line}"),
        behind=(lambda: warm.refresh_behind(sys.argv[1:], os.environ)) if refreshes else None,
        again=again,
        anonymous=anonymous,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _shells(environ: Mapping[str, str]) -> list[str]:
    """Names that may tell the calling shell, the most telling first."""
    names = [environ.get("VERTEX_ENV_SHELL", "")]
    with suppress(OSError, UnicodeDecodeError):
        names.append(Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8"))
    names.append(environ.get("SHELL", ""))
    if os.name == "nt":
        names.append("pwsh")
    return names


def _print(text: str) -> None:
    """Write *text* to stdout as a whole.

    Raises:
        UnavailableError: It could not be written, so that nobody takes what arrived for all of it.
    """
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    except (OSError, AttributeError) as e:
        _abandon_stdout()
        if isinstance(e, BrokenPipeError):
            raise
        reason = e.strerror if isinstance(e, OSError) else "it is closed"
        raise UnavailableError(f"cannot write to stdout: {reason}", "free space, or redirect stdout elsewhere") from e


def _abandon_stdout() -> None:
    """Keep Python from trying again, and complaining with status 120, when it closes stdout."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _tell(line: str) -> None:
    _say(f"vertex-env: {line}\n")


def _say(text: str) -> None:
    """Write *text* to stderr; a token that was pasted in the wrong place is not repeated there."""
    text = of_environ(os.environ).redact(hide(text))
    with suppress(OSError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def tell_error(error: VertexEnvError) -> None:
    """Say what failed and what cures it."""
    error.rewrite(of_environ(os.environ).redact)  # before line breaks are escaped
    for kind, text in (("error", error.message), ("hint", error.hint)):
        # A path may have a line break in it, or what a terminal takes for a command.
        _tell(f"{kind}: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _sentence(text: str) -> str:
    """Click's message in our form: lower case, one line, no full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line[:1].lower() + line[1:]
