"""Names that `--set` refuses, because a shell, a loader or an interpreter acts on their values."""

from collections.abc import Mapping

# Patterns end in `*`; every other name is exact. All sources were read on 2026-11-24.
ACTED_ON: Mapping[str, str] = {
    # https://man7.org/linux/man-pages/man8/ld.so.8.html, with the variables that ld.so
    # drops for set-user-ID programs;
    # https://keith.github.io/xcode-man-pages/dyld.1.html
    "the loader and the C library": """
        LD_* DYLD_* LIBPATH SHLIB_PATH GCONV_PATH GETCONF_DIR GLIBC_TUNABLES HOSTALIASES
        LOCALDOMAIN LOCPATH MALLOC_* NLSPATH RESOLV_HOST_CONF RES_OPTIONS OPENSSL_* TERMCAP
        TERM TERMINFO TERMINFO_DIRS TERMPATH LANG LANGUAGE LC_* COLUMNS LINES
        """,
    # https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_05_03,
    # https://www.gnu.org/software/bash/manual/bash.html#Shell-Variables,
    # https://man.archlinux.org/man/ksh93.1#Variables,
    # https://www.mirbsd.org/htman/i386/man1/mksh.htm
    "a shell": """
        _ PATH IFS ENV CDPATH FCEDIT FPATH HOME HISTFILE INPUTRC MAIL MAILPATH OLDPWD OPTARG
        OPTIND PPID PS0 PS1 PS2 PS3 PS4 PWD SHELL TMOUT UID EUID GID EGID USERNAME RANDOM
        SECONDS LINENO XDG_* BASH* SHELLOPTS PROMPT_* COMP_* COMPREPLY CHILD_MAX COPROC DIRSTACK
        EPOCH* EXECIGNORE FIGNORE FUNCNAME FUNCNEST GLOBIGNORE GLOBSORT GROUPS HISTCMD
        HISTCONTROL HISTIGNORE HISTTIMEFORMAT MAPFILE PIPESTATUS POSIXLY_CORRECT READLINE_*
        REPLY SRANDOM TIMEFORMAT auto_resume histchars KSH_* KSHEGID KSHGID KSHUID KSHEUID PGRP
        SH_OPTIONS PATHSEP HISTSIZE HISTFILESIZE HISTCHARS SHLVL IGNOREEOF HOSTFILE MAILCHECK OPTERR
        USER USER_ID LOGNAME HOSTNAME HOSTTYPE MACHTYPE OSTYPE JOBMAX
        """,
    # https://zsh.sourceforge.io/Doc/Release/Parameters.html and
    # https://zsh.sourceforge.io/Doc/Release/Zsh-Modules.html#The-zsh_002fparameter-Module
    "zsh": """
        ZDOTDIR ZSH* ZLE_* ZBEEP ARGC ARGV0 ERRNO KEYBOARD_HACK KEYTIMEOUT LISTMAX LOGCHECK
        MANPATH MODULE_PATH NULLCMD READNULLCMD POSTEDIT PROMPT PROMPT2 PROMPT3 PROMPT4 RPROMPT
        RPROMPT2 RPS1 RPS2 SPROMPT PSVAR REPORTTIME SAVEHIST STTY TRY_BLOCK_ERROR
        TRY_BLOCK_INTERRUPT TTY TTYIDLE TIMEFMT BAUD DIRSTACKSIZE REPORTMEMORY CPUTYPE VENDOR
        epochtime langinfo mapfile WATCH WATCHFMT WORDCHARS argv path fpath cdpath fignore
        mailpath manpath module_path pipestatus prompt psvar reply signals status watch zsh_*
        zle_* chpwd_functions periodic_functions precmd_functions preexec_functions
        zshaddhistory_functions zshexit_functions aliases builtins commands dirstack dis_*
        errnos funcfiletrace funcsourcetrace funcstack functions functions_source functrace
        galiases history historywords jobdirs jobstates jobtexts keymaps modules nameddirs
        options parameters patchars reswords saliases sysparams termcap terminfo userdirs
        usergroups widgets
        """,
    # https://fishshell.com/docs/current/language.html#special-variables
    "fish": "fish_* __fish_* FISH_VERSION CMD_DURATION hostname status_generation umask version",
    # https://www.nushell.sh/book/special_variables.html, https://xon.sh/envvars.html,
    # https://learn.microsoft.com/en-us/powershell/module/microsoft.powershell.core/about/about_environment_variables
    "nushell, xonsh or PowerShell": """
        ENV_CONVERSIONS NU_* TRANSIENT_PROMPT_* XONSH* XONTRIB* AUTO_CD DIRS DIRSTACK_SIZE
        RIGHT_PROMPT BOTTOM_TOOLBAR TITLE POWERSHELL_* __PSLockdownPolicy
        PSExecutionPolicyPreference
        """,
    # https://docs.python.org/3/using/cmdline.html#environment-variables,
    # https://nodejs.org/api/cli.html,
    # https://bun.com/docs/runtime/environment-variables,
    # https://docs.npmjs.com/cli/using-npm/config,
    # https://perldoc.perl.org/perlrun#ENVIRONMENT,
    # https://docs.ruby-lang.org/en/master/ruby/options_md.html,
    # https://bundler.io/man/bundle-config.1.html,
    # https://docs.oracle.com/en/java/javase/25/docs/specs/man/java.html,
    # https://www.php.net/manual/en/configuration.file.php,
    # https://www.lua.org/manual/5.4/manual.html#7,
    # https://www.gnu.org/software/gawk/manual/gawk.html#Environment-Variables,
    # https://docs.julialang.org/en/v1/manual/environment-variables/,
    # https://learn.microsoft.com/en-us/dotnet/core/tools/dotnet-environment-variables,
    # https://github.com/elixir-lang/elixir/blob/main/man/elixir.1.in,
    # https://ipython.readthedocs.io/en/stable/development/config.html
    "an interpreter": """
        PYTHON* __PYVENV_LAUNCHER__ NODE_OPTIONS NODE_PATH NODE_REPL_* NODE_EXTRA_CA_CERTS
        NODE_TLS_REJECT_UNAUTHORIZED NODE_CHANNEL_FD NODE_V8_COVERAGE NODE_COMPILE_CACHE*
        NODE_ICU_DATA ELECTRON_RUN_AS_NODE BUN_* DENO_* NPM_CONFIG_* npm_config_* PERL5* PERLLIB
        PERLIO* PERL_* RUBY* GEM_HOME GEM_PATH BUNDLE_* JAVA_TOOL_OPTIONS _JAVA_OPTIONS
        JDK_JAVA_OPTIONS JAVA_OPTS MAVEN_OPTS GRADLE_OPTS SBT_OPTS PYENV_* CLASSPATH PHPRC
        PHP_INI_SCAN_DIR LUA_* AWKPATH AWKLIBPATH TCLLIBPATH TCL_LIBRARY R_HOME R_LIBS*
        R_PROFILE* R_ENVIRON* JULIA_* GUILE_* ERL_* OCAMLRUNPARAM CAML_LD_LIBRARY_PATH
        EMACSLOADPATH DOTNET_* CORECLR_* COMPlus_* COR_*
        GODEBUG GOFLAGS ELIXIR_ERL_OPTIONS IPYTHONDIR JUPYTER_* RUSTC_WRAPPER
        RUSTC_WORKSPACE_WRAPPER
        """,
    # https://git-scm.com/docs/git#_environment_variables,
    # https://man7.org/linux/man-pages/man1/less.1.html,
    # https://man7.org/linux/man-pages/man1/man.1.html, https://vimhelp.org/starting.txt.html,
    # https://www.gnu.org/software/make/manual/html_node/Environment.html,
    # https://man.openbsd.org/ssh.1#ENVIRONMENT,
    # https://direnv.net/man/direnv.1.html, https://mise.jdx.dev/configuration.html,
    # https://cloud.google.com/sdk/gcloud/reference/topic/startup
    "a program that starts other programs": """
        GIT_* EDITOR VISUAL PAGER MANPAGER MANOPT SYSTEMD_PAGER SYSTEMD_EDITOR BROWSER LESS*
        EXINIT VIMINIT VIM VIMRUNTIME MYVIMRC GVIMINIT MAKEFILES MAKEFLAGS GNUMAKEFLAGS MFLAGS
        SSH_ASKPASS SSH_ASKPASS_REQUIRE SSH_SK_* SUDO_ASKPASS SUDO_EDITOR RSYNC_RSH CVS_RSH
        SVN_EDITOR SVN_SSH TAR_OPTIONS BAT_PAGER DELTA_PAGER FZF_DEFAULT_* TMPPREFIX DIRENV_* MISE_* CLOUDSDK_PYTHON*
        GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES
        """,
    "vertex-env itself": "VERTEX_ENV_* _VERTEX_ENV_* __vertex_env_*",
}
"""Names that `--set` refuses, grouped by the program that acts on them.

Such a program would run the value, or would take from it the name of a program or file
to run. `APP_ENV`, `NODE_ENV` and similar names are harmless.
"""

_WINDOWS = frozenset(
    "PATH PATHEXT COMSPEC PSMODULEPATH SYSTEMROOT SYSTEMDRIVE WINDIR APPDATA LOCALAPPDATA".split()  # noqa: SIM905
)
"""Names that Windows and PowerShell recognize in any mix of upper and lower case
(https://learn.microsoft.com/en-us/windows/win32/procthread/environment-variables, 2026-11-24)."""
_EXACT, _STARTS = (
    {
        name.removesuffix("*"): by
        for by, names in ACTED_ON.items()
        for name in names.split()
        if name.endswith("*") == pattern
    }
    for pattern in (False, True)
)


def acted_on_by(name: str) -> str | None:
    """Return the key of `ACTED_ON` that has *name*, such as `a shell` for `IFS`; else None."""
    if name.upper() in _WINDOWS:
        return "the system"
    started = (by for start, by in _STARTS.items() if name.startswith(start))
    return _EXACT.get(name) or next(started, None)
