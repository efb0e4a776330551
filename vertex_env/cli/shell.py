"""Commands for shells: print the integration and the completions, and serve the loaded hook."""

from typing import Any

import click

from vertex_env.cli.invocation import session_for
from vertex_env.cli.options import Command, NeedsHookError, settings_options
from vertex_env.cli.output import write
from vertex_env.formats.shellfiles import COMPLETIONS, HOOKS, read_shell_file


@click.command()
@click.argument("shell", type=click.Choice(list(HOOKS)))
def hook(shell: str) -> None:
    """Print the shell integration for SHELL: fresh variables at its start, at each prompt
    and on `use PROFILE`.

    \b
      bash, zsh   eval "$(vertex-env hook bash)"
      fish        status is-interactive; and vertex-env hook fish | source
      nushell     vertex-env hook nu | save -f ($nu.default-config-dir | path join vertex-env.nu)
      xonsh       exec($(vertex-env hook xonsh))
      PowerShell  vertex-env hook pwsh | Out-String | Invoke-Expression
      direnv      vertex-env hook direnv >~/.config/direnv/lib/vertex-env.sh
    """  # noqa: D301 -- Click needs the control character
    write(read_shell_file(HOOKS[shell]))


@click.command(cls=Command)
@click.argument("profile", expose_value=False)
def use() -> None:
    """Take PROFILE in this shell, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@click.command(cls=Command)
def refresh() -> None:
    """Mint a new token for this shell, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@click.command(cls=Command)
def off() -> None:
    """Set this shell's variables back, by its hook.

    Without the hook this fails: see vertex-env hook --help.
    """
    raise NeedsHookError


@click.command()
@click.argument("shell", type=click.Choice(list(COMPLETIONS)))
def completion(shell: str) -> None:
    """Print the completions for SHELL."""
    write(read_shell_file(COMPLETIONS[shell]))


@click.command(hidden=True)
@settings_options
def keep_fresh(**options: Any) -> None:
    """Wait until the stored token is due, have it renewed, and end: what
    `use vertex --keep-fresh` starts.
    """
    session_for(options, again="this renews the token").keep_fresh()
