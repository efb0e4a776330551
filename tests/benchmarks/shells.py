"""What a hook costs a shell: at its start, beside `direnv hook` and mise, and at a prompt at which nothing is due."""

import shutil
import statistics
import subprocess
import time
from pathlib import Path

from tests.benchmarks.timing import Bench, Command, row

CALLS = 20_000
"""How often a hook is called in a row to time one call; a program, which takes longer, a hundredth of that."""


def rows(bench: Bench) -> None:
    """Print the lines of bash, zsh and fish."""
    env = bench.environ("shells")
    env["PATH"] = f"{bench.installed[0].programs}:{env['PATH']}"
    time.sleep(2.5)  # until the files are old enough to be remembered for shells
    subprocess.run(
        ["vertex-env", "export", "--format", "lines"],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for shell in ("bash", "zsh", "fish"):
        if shutil.which(shell) is None:
            print(f"({shell} is not installed)")
            continue
        starts(bench, env, shell)
        if shell != "fish":
            prompts(bench, env, shell)


def starts(bench: Bench, env: dict[str, str], shell: str) -> None:
    """A shell's start with the sourced hook, less that without; the same for the partners."""
    folder = bench.folder / f"{shell}-starts"
    hook = subprocess.run(
        ["vertex-env", "hook", shell], env=env, check=True, capture_output=True, text=True
    ).stdout
    (folder / "files").mkdir(parents=True)
    file = folder / "files" / f"hook.{shell}"
    file.write_text(hook)
    evaluate = "{} | source" if shell == "fish" else 'eval "$({})"'
    commands = {
        "nothing": start(env, shell, folder / "nothing", ""),
        "hook": start(
            env, shell, folder / "hook", f". {file}" if shell != "fish" else f"source {file}"
        ),
        "direnv": start(env, shell, folder / "direnv", evaluate.format(f"direnv hook {shell}")),
        "mise": start(env, shell, folder / "mise", evaluate.format(f"mise activate {shell}")),
        "eval": start(env, shell, folder / "eval", evaluate.format(f"vertex-env hook {shell}")),
    }
    for partner, goal in (("direnv", "<= 0.6"), ("mise", "< 1")):
        if shutil.which(partner, path=env["PATH"]) is None:
            print(f"({partner} is not installed)")
            continue
        ours, bare, theirs = medians(commands, ("hook", "nothing", partner), bench.rounds)
        row(
            f"{shell} starts: what the sourced hook adds",
            f"{partner}'s",
            ((ours - bare) / (theirs - bare), ours - bare, theirs - bare),
            f"{goal}, <= 3 ms",
        )
    ours, bare, theirs = medians(commands, ("hook", "nothing", "eval"), bench.rounds)
    row(
        "    the same",
        "evaluated, not sourced",
        ((ours - bare) / (theirs - bare), ours - bare, theirs - bare),
        "",
    )


def start(env: dict[str, str], shell: str, folder: Path, text: str) -> Command:
    """An interactive shell that reads *text* at its start and ends."""
    folder.mkdir()
    path = shutil.which(shell) or shell
    if shell == "bash":
        (folder / "rc").write_text(text + "\n")
        return Command((path, "--noprofile", "--rcfile", str(folder / "rc"), "-i", "-c", ":"), env)
    if shell == "zsh":
        (folder / ".zshrc").write_text(text + "\n")
        return Command(
            (path, "-o", "no_global_rcs", "-i", "-c", ":"), {**env, "ZDOTDIR": str(folder)}
        )
    return Command((path, "--no-config", "-i", "-C", text or "true", "-c", "true"), env)


def medians(commands: dict[str, Command], names: tuple[str, ...], rounds: int) -> list[float]:
    """Median milliseconds of each of *names*; they take turns."""
    runs = [[commands[name].time() * 1000 for name in names] for _ in range(rounds + 2)][2:]
    return [statistics.median(run[i] for run in runs) for i in range(len(names))]


def prompts(bench: Bench, env: dict[str, str], shell: str) -> None:
    """One call of the hook when nothing is due, against an empty function, and against what direnv and mise do."""
    folder = bench.folder / f"{shell}-prompts"
    folder.mkdir()
    hook = subprocess.run(
        ["vertex-env", "hook", shell], env=env, check=True, capture_output=True, text=True
    ).stdout
    (folder / "hook").write_text(hook)

    def loop(name: str, call: str, calls: int) -> Command:
        (folder / name).write_text(
            f". {folder / 'hook'}\nempty() {{ local s=$?; return $s; }}\n"
            f"i=0; while (( i < {calls} )); do {call}; (( i += 1 )); done\n"
        )
        return Command((shutil.which(shell) or shell, str(folder / name)), env)

    few = CALLS // 100
    none, none_few = loop("none", ":", CALLS), loop("none-few", ":", few)
    calls = {
        "an empty function": ("empty", CALLS, "<= 3"),
        "direnv export": (f'eval "$(direnv export {shell} 2>/dev/null)"', few, "< 1"),
        "mise hook-env": (f'eval "$(mise hook-env -s {shell} 2>/dev/null)"', few, "< 1"),
    }
    ours = loop("ours", "__vertex_env_hook", CALLS)
    for name, (call, count, goal) in calls.items():
        if " " in name and count == few and shutil.which(name.split()[0], path=env["PATH"]) is None:
            print(f"({name.split()[0]} is not installed)")
            continue
        theirs = loop(name.replace(" ", "-"), call, count)
        commands = {"ours": ours, "theirs": theirs, "none": none, "none-few": none_few}
        a, b, zero, zero_few = medians(
            commands, ("ours", "theirs", "none", "none-few"), max(3, bench.rounds // 4)
        )
        each, other = (a - zero) / CALLS, (b - (zero if count == CALLS else zero_few)) / count
        print(
            f"{shell + ' prompt, nothing due':<44} {name:<34} {each / other:>7.4f} x  {goal:<9} "
            f"({each * 1000:.1f} / {other * 1000:.1f} us)",
            flush=True,
        )
