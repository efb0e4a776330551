# vertex-env for xonsh 0.19 and newer, in ~/.xonshrc:  exec($(vertex-env hook xonsh))
#
# Loads what is stored at the start, asks for what is not at the first prompt (scp has none), and renews at the prompt. One
# at which nothing is due costs a comparison: no process, no file. Nothing that is read is ever evaluated. Processes start
# without xonsh: no job, no trace, no alias, and the last command's status stays what it was.
#
# It is plain Python, which takes xonsh's own parser, that of execx, a tenth of a second longer to read.
#
# direnv has no hook for xonsh that we could call: it takes a new token at the next prompt.


def _vertex_env_setup():
    import contextlib
    import io
    import os
    import re
    import shutil
    import stat
    import subprocess
    import sys
    import time

    from xonsh.built_ins import XSH

    env = XSH.env
    change = re.compile(r"(set|unset) ([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.ASCII)

    # Whether a text, which anybody may have set, is an instant after another.
    def is_after(text, than):
        return re.fullmatch(r"[0-9]{1,15}", str(text), re.ASCII) is not None and int(text) > than

    class Hook:
        def __init__(self):
            self.failed = self.retry = 0
            # At which VERTEX_ENV_REFRESH_AT that was, whether the missing program was told, and whether a prompt was.
            self.at, self.missing, self.first = "", False, True
            self.names = []
            self.before = {}
            self.inherited = "VERTEX_ENV_EXPIRES_AT" in env
            if self.inherited:
                # Another shell of ours has set these: that is what there is to take away.
                self.names += self.theirs()

        # The names of what others have set, for `off`. Another value than ours is the user's own.
        def theirs(self):
            names = ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"]
            names += ["VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP"]
            if str(env.get("OPENAI_AGENTS_DISABLE_TRACING", "")) == "1":
                names.append("OPENAI_AGENTS_DISABLE_TRACING")
            return names

        # Whether direnv sets the variables: it has a handler here, as xontrib-direnv has, and VIA is not just inherited.
        def is_direnv(self):
            if env.get("VERTEX_ENV_VIA") != "direnv":
                return False
            events = XSH.builtins.events
            known = (events.on_pre_prompt, events.on_postcommand, events.on_chdir)
            return any("direnv" in f"{f.__module__} {f.__name__}" for event in known for f in event)

        def is_due(self, now):
            return not is_after(env.get("VERTEX_ENV_REFRESH_AT", ""), now) or not env.get("OPENAI_API_KEY")

        # --- at each prompt, and before each command: after a night at the prompt, the first has a fresh token ---

        def hook(self):
            now = int(time.time())
            if self.first:
                self.first = False
                if not self.is_direnv():
                    if self.is_due(now) and self.load(now) is None and self.ask(now) == 75:
                        print(
                            "vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why",
                            file=sys.stderr,
                        )
                    return
            if "VERTEX_ENV_REFRESH_AT" not in env:
                return
            if not is_after(env["VERTEX_ENV_REFRESH_AT"], now):
                self.renew(now)

        # The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that
        # can be.
        def renew(self, now):
            wait = False
            direnv = self.is_direnv()
            # Others, or direnv, have set new ones.
            if self.at != str(env["VERTEX_ENV_REFRESH_AT"]):
                self.failed = self.retry = 0
            stamp = str(env.get("VERTEX_ENV_STAMP", ""))
            if not direnv:
                at = (self.read(stamp) or [""])[0].partition(" ")[0]
                if at and at != env["VERTEX_ENV_REFRESH_AT"] and is_after(at, now):
                    if self.load(now) is not None:
                        return
                    wait = True
                elif not at and self.failed and self.load(now) is not None:
                    return
            if now < self.retry:
                return
            # There use_vertex says that the program is missing.
            self.missing = self.missing or self.is_direnv()
            if not self.is_there():
                return
            self.pause(now)
            # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
            if not stamp or not is_after(env.get("VERTEX_ENV_EXPIRES_AT", ""), now + 60):
                wait = True
            # Who is offline shall not wait at each prompt.
            if wait and now >= self.failed:
                if self.ask(now) == 0:
                    self.retry = 0
                return
            command = ["vertex-env", "token"] if direnv else ["vertex-env", "export", "--format", "lines"]
            null = subprocess.DEVNULL
            try:
                # Kept, so that the next one finds out that it has ended.
                self.child = subprocess.Popen(
                    command, stdin=null, stdout=null, stderr=null, start_new_session=True, env=env.detype()
                )
            except OSError:
                pass

        # Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it
        # is due.
        def pause(self, now):
            self.at, ends = (str(env.get(name, "")) for name in ("VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_EXPIRES_AT"))
            at = int(self.at) if is_after(self.at, 0) else 0
            self.retry = now + (min(30, int(ends) - at) if is_after(ends, at) else 30)

        # Whether the program is there; if not, says so once.
        def is_there(self):
            # On xonsh's own PATH: subprocess would look on that of the process.
            if shutil.which("vertex-env", path=env.detype().get("PATH", "")):
                self.missing = False
                return True
            if not self.missing:
                print("vertex-env: error: there is no vertex-env on PATH", file=sys.stderr)
                print("vertex-env: hint: put its folder on PATH, or install it", file=sys.stderr)
            self.missing = True
            return False

        # Have vertex-env say what the variables are, and wait for that; gives its status.
        def ask(self, now, *more):
            # direnv watches the stamp: it takes the new token by itself.
            direnv = self.is_direnv()
            # Nothing to begin with: it is due until there is something.
            if "VERTEX_ENV_REFRESH_AT" not in env and not direnv and not self.do(["set VERTEX_ENV_REFRESH_AT=0"]):
                return 1
            if not self.is_there():
                return 127
            self.failed = now + 300
            self.pause(now)
            command = ["token"] if direnv else ["export", "--format", "lines"]
            status, text = self.run(*command, *more)
            if status:
                return status
            if direnv and not env.get("VERTEX_ENV_STAMP"):
                # Where nothing is stored, no file that direnv watches has changed.
                return self.run("reload", program="direnv")[0]
            self.failed = 0
            return 0 if direnv or self.do(text.split("\n")) else 1

        def run(self, *args, program="vertex-env", **more):
            environ = {**env.detype(), **more}
            try:
                done = subprocess.run(
                    [program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environ
                )
            except OSError as error:
                print(f"vertex-env: error: {program} cannot be started: {error.strerror}", file=sys.stderr)
                return 126, ""
            except KeyboardInterrupt:
                return 130, ""
            return done.returncode, done.stdout.decode("utf-8", "surrogateescape")

        # --- setting variables, and setting them back ---

        # Do what the lines say, `set NAME=VALUE` or `unset NAME`, and remember what there was before. All of it or
        # nothing: where xonsh refuses a value, a key beside another host's URL must not stay.
        def do(self, lines):
            name = ""
            try:
                for verb, name, value in (found.groups() for found in map(change.fullmatch, lines) if found):
                    if name not in self.names:
                        self.names.append(name)
                        # Values that another shell's hook has left in the environment are not restored by `off`.
                        if not self.inherited and name in env:
                            self.before[name] = env[name]
                    if verb == "set":
                        env[name] = value or ""
                    else:
                        env.pop(name, None)
            except Exception as error:
                self.off()
                print(f"vertex-env: error: {name} cannot be set, so none is: {type(error).__name__}", file=sys.stderr)
                print(f"vertex-env: hint: del ${name}, and what registers it, then vertex-env refresh", file=sys.stderr)
                return False
            return True

        def off(self):
            for name in self.names:
                env.pop(name, None)
            for name, value in self.before.items():
                env[name] = value
            self.names, self.before, self.inherited = [], {}, False
            self.failed = self.retry = 0

        # --- the stored answer ---

        # Load what vertex-env has kept for shells, if everything that it depended on is as it was. None if that is not
        # so; False if it cannot be set.
        def load(self, now):
            try:
                lines = self.stored(now)
            except (OSError, ValueError, TypeError, IndexError, AttributeError):
                lines = None
            if lines is None:
                return None
            self.failed = self.retry = 0
            return self.do(lines)

        # What it says to do; None, or an error, if anything is not as it was, or is not what vertex-env writes.
        def stored(self, now):
            environ = env.detype()
            profile = environ.get("VERTEX_ENV_PROFILE", "")
            folder = self.folder(environ)
            if folder is None or re.search(r"[^A-Za-z0-9._-]", profile):
                return None
            lines = self.read(os.path.join(folder, f"shell-{profile}.snapshot" if profile else "shell.snapshot"))
            if not lines or lines[0] != "vertex-env-snapshot 2" or lines[-2:] != ["end", ""]:
                return None
            changes = []
            token = stamp = None
            for line in lines[1:-2]:
                verb, _, rest = line.partition(" ")
                if verb == "set":
                    changes.append(line)
                elif verb == "unset":
                    changes += [f"unset {name}" for name in rest.split(" ")]
                elif verb == "gone":
                    if any(name in environ for name in rest.split(" ")):
                        return None
                elif verb == "same":
                    name, _, value = rest.partition("=")
                    if environ.get(name) != value:
                        return None
                elif verb in ("fits", "lacks"):
                    name, _, value = rest.partition("=")
                    has = environ.get(name)
                    if has is not None and (has != value if verb == "fits" else value in has.lower()):
                        return None
                elif verb == "none":
                    if os.path.exists(rest):
                        return None
                elif verb == "file":
                    _, name, path = rest.split(" ", 2)
                    mark = os.path.join(folder, name)
                    if not re.fullmatch(r"[0-9a-f]+\.mark", name) or not self.is_ours(mark, stat.S_ISREG):
                        return None
                    if not os.path.isabs(path) or os.stat(path).st_mtime_ns != os.stat(mark).st_mtime_ns:
                        return None
                elif verb == "until":
                    if not is_after(rest, now):
                        return None
                elif verb == "token":
                    first, _, issued, expiry, token, *_ = self.within(folder, rest, "token")
                    issued = re.fullmatch(r"issued ([0-9]{1,15})(\.[0-9]*)?", issued, re.ASCII)[1]
                    ends = re.fullmatch(r"expiry ([0-9]{1,15})(\.[0-9]*)?", expiry, re.ASCII)[1]
                    token = re.fullmatch(r"token ([A-Za-z0-9._~+/=-]+)", token, re.ASCII)[1]
                    # Issued later than now, by more than clocks disagree: the clock was set back, and the expiry means
                    # nothing.
                    if first != "vertex-env-token 1" or is_after(issued, now + 300):
                        return None
                elif verb == "stamp":
                    stamp = rest
                    found = self.within(folder, rest, "stamp")[0]
                    found = re.fullmatch(r"([0-9]{1,15}) ([0-9]{1,15}) [0-9]+", found, re.ASCII)
                else:
                    return None
            # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
            if token is None or stamp is None or found[2] != ends or not is_after(ends, now + 60):
                return None
            if not self.is_harmless(changes, environ):
                return None
            # Where to, and until when, before the key.
            keys = [line for line in changes if "\x1f" in line]
            first = [f"VERTEX_ENV_STAMP={stamp}", f"VERTEX_ENV_EXPIRES_AT={ends}", f"VERTEX_ENV_REFRESH_AT={found[1]}"]
            rest = sorted((line for line in changes if line not in keys), key=lambda line: line.startswith("set "))
            return rest + [f"set {line}" for line in first] + [line.replace("\x1f", token) for line in keys]

        # The folder where vertex-env keeps things; None if there is none.
        def folder(self, environ):
            folder, home = environ.get("VERTEX_ENV_CACHE_DIR"), environ.get("HOME") or os.path.expanduser("~")
            if not folder and os.path.isabs(environ.get("XDG_CACHE_HOME", "")):
                folder = os.path.join(environ["XDG_CACHE_HOME"], "vertex-env")
            elif not folder and sys.platform == "darwin":
                folder = os.path.join(home, "Library", "Caches", "vertex-env")
            elif not folder and os.name == "nt" and environ.get("LOCALAPPDATA"):
                folder = os.path.join(environ["LOCALAPPDATA"], "vertex-env", "Cache")
            elif not folder:
                folder = os.path.join(home, ".cache", "vertex-env")
            # With a slash at the end, a link would be what it leads to.
            return folder.rstrip("/") if os.path.isabs(folder) else None

        # Whether the changes are harmless even if the file is forged: they set only vertex-env's
        # names, the token only as a key, and each URL on one of Google's hosts or on one that this
        # shell itself allows.
        def is_harmless(self, changes, environ):
            # begin: made by python -m tools.hooknames
            keys = "AIDER_OPENAI_API_KEY GENERIC_OPEN_AI_API_KEY OPENAI_API_KEY".split()
            urls = "AIDER_OPENAI_API_BASE API_BASE_URL GENERIC_OPEN_AI_BASE_PATH OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_BASE_URL OPENAI_HOST".split()
            words = "AIDER_MODEL DEFAULT_MODEL MODEL OPENAI_AGENTS_DISABLE_TRACING OPENAI_BASE_PATH OPENAI_MODEL".split()
            # end
            tracing = "OPENAI_AGENTS_DISABLE_TRACING"
            found = [change.fullmatch(line).groups() for line in changes]
            for verb, name, value in found:
                if verb == "unset":
                    known = name in urls or (name.startswith("OPENAI_") and name != tracing)
                elif name in keys:
                    known = value == "\x1f"
                elif name in urls:
                    known = self.is_allowed(value, environ.get("VERTEX_ENV_ALLOW_HOST", ""))
                elif name == tracing:
                    known = value == "1"
                else:
                    known = name in words and re.fullmatch("[A-Za-z0-9][A-Za-z0-9._/-]*", value, re.ASCII)
                if not known:
                    return False
            # One of them missing, and clients that read that one would take the key to its default, which is OpenAI. The
            # last one keeps openai-agents from doing so at each run, unless the user wants that.
            given = {name for verb, name, _ in found if verb == "set"}
            if tracing not in given and not environ.get(tracing):
                return False
            return given.issuperset(("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"))

        # Whether a URL is one that a token may be sent to.
        def is_allowed(self, url, allowed):
            plain = r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~:@%+=,/-]*)?"
            scheme, host, port = re.fullmatch(plain, url, re.ASCII).group(1, 2, 3)
            google = re.fullmatch(r"([a-z0-9-]+\.)+(googleapis\.com|vertexai\.goog)", host)
            if scheme == "https" and google and not port:
                return True
            local = host in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host)
            return host in re.split(r"[,\s]+", allowed.lower()) and (scheme == "https" or bool(local))

        # The lines of a file whose path has to be that of one directly in the folder.
        def within(self, folder, path, kind):
            name = os.path.basename(path)
            if path != os.path.join(folder, name) or not re.fullmatch(rf"[0-9a-f]{{32,64}}\.{kind}", name):
                raise ValueError(path)
            return self.read(path)

        # The lines of a file that is for this user alone, and no link to one, in a folder that is so as well; None if
        # it is not.
        def read(self, path):
            try:
                if not self.is_ours(os.path.dirname(path), stat.S_ISDIR) or not self.is_ours(path, stat.S_ISREG):
                    return None
                with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                    return file.read(65536).split("\n")
            except (OSError, ValueError):
                return None

        def is_ours(self, path, is_kind):
            status = os.lstat(path)
            mine = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
            return mine and os.path.isabs(path) and is_kind(status.st_mode)

        # --- commands that act on this shell ---

        # What to run for `vertex-env ARGS`.
        def command(self, args):
            ours = args[:1] in (["use"], ["refresh"], ["off"])
            # The program itself has the help, and refuses other options.
            ours = ours and not "".join(args[1:2]).startswith("-")
            return ["__vertex_env_main" if ours else "vertex-env", *args]

        def main(self, args, stdin=None, stdout=None, stderr=None):
            def fail(*lines):
                print(*lines, sep="\n", file=stderr or sys.stderr)
                return len(lines) - 1

            self.missing = False
            if args[:1] == ["use"] and self.is_direnv():
                return fail(
                    "vertex-env: error: in this folder direnv sets the variables",
                    "vertex-env: hint: say it in .envrc: use vertex --profile NAME",
                )
            now = int(time.time())
            if args[:1] == ["use"] and len(args) == 2:
                return self.use(now, args[1])
            if args == ["refresh"]:
                return self.ask(now, "--refresh")
            if args == ["off"]:
                if self.is_direnv():
                    # What there was before is direnv's to set back, and ours to keep for outside of this folder.
                    for name in self.theirs():
                        env.pop(name, None)
                    hint = "vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc"
                    print(hint, file=stderr or sys.stderr)
                else:
                    self.off()
                return 0
            fail(
                f"vertex-env: error: wrong number of arguments for {' '.join(args[:1])}",
                "vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off",
            )
            return 2

        # Take another profile, if that works.
        def use(self, now, profile):
            if not self.is_there():
                return 127
            status, _ = self.run("export", "--format", "lines", VERTEX_ENV_PROFILE=profile)
            if status:
                return status
            self.off()
            self.do([f"set VERTEX_ENV_PROFILE={profile}"])
            worked = self.load(now)
            return self.ask(now) if worked is None else int(not worked)

        # --- now ---

        def start(self):
            now = int(time.time())
            if not self.is_direnv() and self.is_due(now):
                # What fails now is said at the first prompt.
                with contextlib.redirect_stderr(io.StringIO()):
                    self.load(now)

    hook = Hook()
    XSH.aliases["vertex-env"] = XSH.aliases.return_command(lambda args, **_: hook.command(args))
    # In this thread, because in another one xonsh would keep what is set to the command.
    XSH.aliases["__vertex_env_main"] = XSH.aliases.unthreadable(
        lambda args, stdin=None, stdout=None, stderr=None: hook.main(args, stderr=stderr)
    )

    def vertex_env_hook(**_):
        hook.hook()

    XSH.builtins.events.on_pre_prompt(vertex_env_hook)
    XSH.builtins.events.on_precommand(vertex_env_hook)
    hook.start()


# Not twice: the first one knows what there was before.
if "__vertex_env_main" not in aliases:
    _vertex_env_setup()
