"""Static completions, made from the command line's own description: `python -m tools.completions` writes them.

Click's own completions start the program at each press of Tab. These are three files; a test tells when they no longer
say what `--help` does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from vertex_env.cli.main import app
from vertex_env.cli.options import SettingsOption
from vertex_env.formats.shellfiles import COMPLETIONS, shell_dir
from vertex_env.settings.options import OPTIONS

HEAD = "made by python -m tools.completions: do not edit"
RUNS_A_COMMAND = ("run", "sandbox")
KINDS = {option.field: option.kind for option in OPTIONS}


@dataclass(frozen=True)
class Option:
    """One long option.

    Args:
        name: Without dashes.
        help: What it says.
        values: What it takes; None for nothing.
        completes: What it takes besides: `files` or `profiles`.
        again: Whether it may be given more than once.
    """

    name: str
    help: str
    values: tuple[str, ...] | None
    completes: str | None
    again: bool


@dataclass(frozen=True)
class Command:
    """One command: its name, what it does, its options, and the words that it takes."""

    name: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...]


def commands() -> Iterator[Command]:
    """What there is, by name."""
    context = click.Context(app)
    for name in sorted(app.list_commands(context)):
        command = app.get_command(context, name)
        if command is None or command.hidden:
            continue
        options: list[Option] = []
        words: list[str] = []
        for parameter in command.get_params(context):
            kind = parameter.type
            choices = tuple(str(c) for c in kind.choices) if isinstance(kind, click.Choice) else ()
            if isinstance(parameter, click.Option):
                (long,) = (n for n in parameter.opts if n.startswith("--"))
                text = short(parameter.help or f"{parameter.metavar or 'choice'}")
                setting = (
                    KINDS[parameter.name or ""] if isinstance(parameter, SettingsOption) else None
                )
                values = None if parameter.is_flag else setting.choices if setting else choices
                completes = setting.completes if setting else None
                options.append(
                    Option(long.removeprefix("--"), text, values, completes, parameter.multiple)
                )
            else:
                words += choices
        yield Command(name, short(command.help or ""), tuple(options), tuple(words))


def short(text: str) -> str:
    """The first clause of a help text, without what shells would take for something else."""
    first = re.split(r"  \[env|\n\n|; |\. |: ", text.strip())[0]
    words = " ".join(first.split()).replace("'", "\u2019")
    return re.sub(r"[^A-Za-z0-9 ,()/._\u2019-]", "", words).rstrip(".")


def bash() -> str:
    """Completions for bash 3.2 and newer, with or without the package bash-completion."""
    cases, values = [], []
    for command in commands():
        words = [f"--{o.name}" for o in command.options] + list(command.words)
        if words:
            cases.append(f"  {command.name}) words='{' '.join(words)}' ;;")
        values += [
            f"  {command.name}:--{o.name}) words='{' '.join(o.values)}' ;;"
            for o in command.options
            if o.values
        ]
    options = {o for c in commands() for o in c.options}
    taking = sorted({o.name for o in options if o.values is not None and o.completes is None})
    files = " | ".join(sorted({f"*:--{o.name}" for o in options if o.completes == "files"}))
    profiles = " | ".join(sorted({f"*:--{o.name}" for o in options if o.completes == "profiles"}))
    return f"""\
# vertex-env's completions for bash; {HEAD}
# shellcheck shell=bash disable=SC2207 # no word has a space in it, and bash 3.2 has no mapfile

# Names of the profiles in config.toml.
__vertex_env_profiles() {{
  local line file=${{VERTEX_ENV_CONFIG:-${{XDG_CONFIG_HOME:-${{HOME-}}/.config}}/vertex-env/config.toml}}
  [[ -r $file ]] || return 0
  while read -r line; do
    case $line in
    '[profile.'*']')
      line=${{line#*.}}
      printf '%s\\n' "${{line%]}}"
      ;;
    esac
  done <"$file"
}}

_vertex_env() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
    --)
      # What comes after is a command of the user's.
      if ((COMP_CWORD == i + 1)); then
        COMPREPLY=($(compgen -c -- "$current"))
      else
        COMPREPLY=($(compgen -f -- "$current"))
      fi
      return
      ;;
    -*) ;;
    *) [[ -n $command ]] || command=${{COMP_WORDS[i]}} ;;
    esac
  done
  case $command:$previous in
  {files})
    COMPREPLY=($(compgen -f -- "$current"))
    return
    ;;
  use:use | {profiles}) words=$(__vertex_env_profiles) ;;
{chr(10).join(values)}
  esac
  if [[ -z $words ]]; then
    case $previous in
    {" | ".join("--" + name for name in taking)}) return ;;
    esac
    case $command in
    '') words='{" ".join(c.name for c in commands())} --help --version' ;;
{chr(10).join("  " + line for line in cases)}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _vertex_env vertex-env
"""


def zsh() -> str:
    """Completions for zsh, as a file of `fpath`."""
    names = "\n".join(f"    '{c.name}:{c.help}'" for c in commands())
    cases = []
    for command in commands():
        lines = []
        for o in command.options:
            star = "*" if o.again else ""
            action = "" if o.values is None else f":value:{_zsh_action(o)}"
            lines.append(f"'{star}--{o.name}[{o.help}]{action}'")
        if command.words:
            lines.append(f"':word:({' '.join(command.words)})'")
        if command.name == "use":
            lines.append("':profile:_vertex-env-profiles'")
        if command.name in RUNS_A_COMMAND:
            lines.append("'(-):command:_command_names -e' '*::arguments:_normal'")
        joined = " \\\n        ".join(lines)
        if not lines:
            continue
        cases.append(f"    ({command.name})\n      _arguments -S \\\n        {joined}\n      ;;")
    return f"""\
#compdef vertex-env
# vertex-env's completions for zsh; {HEAD}

# Names of the profiles in config.toml.
_vertex-env-profiles() {{
  local file=${{VERTEX_ENV_CONFIG:-${{XDG_CONFIG_HOME:-$HOME/.config}}/vertex-env/config.toml}}
  local -a profiles
  [[ ! -r $file ]] || profiles=(${{${{(M)${{(f)"$(<$file)"}}:#\\[profile.*\\]}}#*.}})
  compadd -- ${{profiles%\\]}}
}}

_vertex-env() {{
  local -a commands
  commands=(
{names}
  )
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    _arguments '--help[Show the commands]' '--version[Show the version]'
    return
  fi
  (( CURRENT-- ))
  shift words
  case $words[1] in
{chr(10).join(cases)}
  esac
}}

if [[ $funcstack[1] == _vertex-env ]]; then
  _vertex-env "$@"
elif (( $+functions[compdef] )); then
  compdef _vertex-env vertex-env
fi
"""


def _zsh_action(option: Option) -> str:
    if option.completes is not None:
        return {"files": "_files", "profiles": "_vertex-env-profiles"}[option.completes]
    return f"({' '.join(option.values)})" if option.values else " "


FISH_PROFILES = """\
# Names of the profiles in config.toml.
function __vertex_env_profiles
    set -l file $HOME/.config/vertex-env/config.toml
    test -n "$XDG_CONFIG_HOME"; and set file $XDG_CONFIG_HOME/vertex-env/config.toml
    test -n "$VERTEX_ENV_CONFIG"; and set file $VERTEX_ENV_CONFIG
    test -r "$file"; and string match -rg '^\\[profile\\.(.+)\\]$' <$file
end
"""


def fish() -> str:
    """Completions for fish."""
    lines = [
        f"# vertex-env's completions for fish; {HEAD}\n",
        FISH_PROFILES,
        "complete -c vertex-env -f",
    ]
    begun = "complete -c vertex-env -n __fish_use_subcommand -a"
    lines += [f"{begun} {command.name} -d '{command.help}'" for command in commands()]
    having: dict[Option, list[str]] = {}
    for command in commands():
        for o in command.options:
            having.setdefault(o, []).append(command.name)
    seen = "complete -c vertex-env -n '__fish_seen_subcommand_from {}'"
    for o, names in having.items():
        takes = ""
        if o.values is not None:
            values = "(__vertex_env_profiles)" if o.completes == "profiles" else " ".join(o.values)
            takes = (
                " -r -F"
                if o.completes == "files"
                else " -x" + (f" -a '{values}'" if values else "")
            )
        lines.append(f"{seen.format(' '.join(names))} -l {o.name}{takes} -d '{o.help}'")
    for command in commands():
        head = seen.format(command.name)
        if command.words:
            lines.append(f"{head} -a '{' '.join(command.words)}'")
        if command.name in RUNS_A_COMMAND:
            lines.append(f"{head} -a '(__fish_complete_subcommand --fcs-skip=2)'")
        if command.name == "use":
            lines.append(f"{head} -a '(__vertex_env_profiles)'")
    return "\n".join(lines) + "\n"


TEXTS = {"bash": bash, "zsh": zsh, "fish": fish}


def path(shell: str) -> Path:
    """The file of *shell*'s completions in the checkout."""
    return shell_dir() / COMPLETIONS[shell]


def main() -> None:
    """Write the files."""
    for shell, text in TEXTS.items():
        path(shell).parent.mkdir(exist_ok=True)
        path(shell).write_text(text())


if __name__ == "__main__":
    main()
