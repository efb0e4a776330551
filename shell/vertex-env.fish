# vertex-env for fish 3.6 and newer, in ~/.config/fish/config.fish:
#   status is-interactive; and vertex-env hook fish | source
#
# Loads what is stored at the start, asks for what is not at the first prompt (scp has none), and renews at the prompt. One
# at which nothing is due costs a few builtins: no process, no file. Nothing that is read is ever evaluated. `builtin`
# keeps the user's functions, which aliases are, out; names that fish reserves need none.

# --- what time it is, without a process ---

# fish has no variable for it (https://github.com/fish-shell/fish-shell/issues/10093, 2026-11-22). When the root folder
# was changed and how long ago that was make the time together.
function __vertex_env_clock
    set -g __vertex_env_now (builtin math (builtin path mtime -- /) + (builtin path mtime --relative -- /))
end

# --- at each prompt, and before each command: after a night at the prompt, the first one has a fresh token ---

# fish itself sets $status and $pipestatus back after an event.
function __vertex_env_hook --on-event fish_prompt --on-event fish_preexec
    if set -q __vertex_env_first
        set -e __vertex_env_first
        __vertex_env_begin
    else if set -q VERTEX_ENV_REFRESH_AT
        __vertex_env_clock
        __vertex_env_is_after "$VERTEX_ENV_REFRESH_AT" $__vertex_env_now; or __vertex_env_renew
    end
end

# Whether $argv[1], which anybody may have set, is an instant after $argv[2].
function __vertex_env_is_after
    string match -qr '^[0-9]{1,15}$' -- $argv[1]; and test $argv[2] -lt $argv[1]
end

# The first prompt, or the first command: have what was not stored.
function __vertex_env_begin
    __vertex_env_clock
    __vertex_env_is_due; or return
    if __vertex_env_is_direnv
        __vertex_env_renew
        return
    end
    __vertex_env_untraced __vertex_env_get
    test $status -ne 75; and return
    builtin printf 'vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why\n' >&2
end

# Whether direnv sets the variables: it has a hook here, and VIA is not just inherited.
function __vertex_env_is_direnv
    test "$VERTEX_ENV_VIA" = direnv; and builtin functions -q __direnv_export_eval
end

# Whether there is no key, or one that is due.
function __vertex_env_is_due
    not __vertex_env_is_after "$VERTEX_ENV_REFRESH_AT" $__vertex_env_now; or test -z "$OPENAI_API_KEY"
end

# The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that can be.
function __vertex_env_renew
    set -l wait
    if test "$VERTEX_ENV_REFRESH_AT" != "$__vertex_env_at"
        # Others, or direnv, have set new ones.
        set -g __vertex_env_failed
        set -g __vertex_env_retry 0
    end
    if not __vertex_env_is_direnv
        if __vertex_env_is_ours "$VERTEX_ENV_STAMP"
            set -l at (string match -rg '^([0-9]+) ' <$VERTEX_ENV_STAMP)
            if test "$at" != "$VERTEX_ENV_REFRESH_AT"; and __vertex_env_is_after "$at" $__vertex_env_now
                __vertex_env_untraced __vertex_env_load
                test $status -eq 1; or return
                set wait 1
            end
        else if test -n "$__vertex_env_failed"
            __vertex_env_untraced __vertex_env_load; and return
        end
    end
    test $__vertex_env_now -lt $__vertex_env_retry; and return
    # There use_vertex says that the program is missing.
    __vertex_env_is_direnv; and set -g __vertex_env_missing 1
    __vertex_env_is_there; or return
    __vertex_env_pause
    # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
    __vertex_env_is_soon "$VERTEX_ENV_EXPIRES_AT"; and set wait 1
    test -n "$VERTEX_ENV_STAMP"; or set wait 1
    # Who is offline shall not wait at each prompt.
    if test -n "$wait"; and not __vertex_env_is_after "$__vertex_env_failed" $__vertex_env_now
        __vertex_env_untraced __vertex_env_ask; and set -g __vertex_env_retry 0
        return
    end
    if __vertex_env_is_direnv
        command vertex-env token </dev/null >/dev/null 2>&1 &
    else
        command vertex-env export --format lines </dev/null >/dev/null 2>&1 &
    end
    builtin disown $last_pid 2>/dev/null
end

# Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it is due.
function __vertex_env_pause
    set -g __vertex_env_at $VERTEX_ENV_REFRESH_AT
    set -l pause 30
    if __vertex_env_is_after "$VERTEX_ENV_REFRESH_AT" 0; and __vertex_env_is_after "$VERTEX_ENV_EXPIRES_AT" $VERTEX_ENV_REFRESH_AT
        set pause (builtin math "min(30, $VERTEX_ENV_EXPIRES_AT - $VERTEX_ENV_REFRESH_AT)")
    end
    set -g __vertex_env_retry (builtin math $__vertex_env_now + $pause)
end

# Whether the program is there; if not, says so once.
function __vertex_env_is_there
    if command -q vertex-env
        set -g __vertex_env_missing
        return 0
    end
    if test -z "$__vertex_env_missing"
        builtin printf '%s\n' 'vertex-env: error: there is no vertex-env on PATH' \
            'vertex-env: hint: put its folder on PATH, or install it' >&2
    end
    set -g __vertex_env_missing 1
    return 127
end

# Whether the instant $argv[1] is less than a minute away, or is no instant.
function __vertex_env_is_soon
    not __vertex_env_is_after "$argv[1]" (builtin math $__vertex_env_now + 60)
end

# Whether $argv[1] is a file of this user's, and no link.
function __vertex_env_is_ours
    test -n "$argv[1]"; and test -O $argv[1]; and test -f $argv[1]; and test -r $argv[1]; and not test -L $argv[1]
end

# Tokens do not belong into the trace of fish_trace.
function __vertex_env_untraced
    set -l fish_trace
    $argv
end

# Have vertex-env say what the variables are, and wait for that.
function __vertex_env_ask
    # Nothing to begin with: it is due until there is something.
    if not set -q VERTEX_ENV_REFRESH_AT; and not __vertex_env_is_direnv
        __vertex_env_set VERTEX_ENV_REFRESH_AT 0; or return
    end
    __vertex_env_is_there; or return
    set -g __vertex_env_failed (builtin math $__vertex_env_now + 300)
    __vertex_env_pause
    if __vertex_env_is_direnv
        # direnv watches the stamp: it takes the new token by itself, and at once if its hook has run already.
        command vertex-env token $argv </dev/null >/dev/null; or return
        # Where nothing is stored, no file that direnv watches has changed.
        test -n "$VERTEX_ENV_STAMP"; or command direnv reload </dev/null 2>/dev/null
        __direnv_export_eval
        # If that has failed, not again at the next prompt.
        test "$VERTEX_ENV_REFRESH_AT" = 0; or set -g __vertex_env_failed
        return 0
    end
    set -l lines (command vertex-env export --format lines $argv </dev/null); or return
    set -g __vertex_env_failed
    set -g __vertex_env_retry 0
    __vertex_env_do $lines; or return
    return 0 # `set` leaves the status as it was
end

# Load what is stored; if that cannot be, ask.
function __vertex_env_get
    __vertex_env_load
    set -l result $status
    test $result -eq 1; or return $result
    __vertex_env_ask
end

# --- setting variables, and setting them back ---

# Do what the lines say that are `set NAME=VALUE` or `unset NAME`. If one cannot be done all is undone, because a client
# would send the key to another host; 3 then.
function __vertex_env_do
    for line in $argv
        set -l parts (string match -rg '^(?:set|unset) ([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?$' -- $line); or continue
        if string match -q 'set *' -- $line
            __vertex_env_set $parts[1] "$parts[2]"; or return
        else
            __vertex_env_set $parts[1]; or return
        end
    end
end

# Export the variable $argv[1] with the value $argv[2], or unset it where there is none, and remember what there was
# before. Without variables of its own, to whose names that could be.
function __vertex_env_set
    if not builtin contains -- $argv[1] $__vertex_env_names
        set -ga __vertex_env_names $argv[1]
        # Values that another shell's hook has left in the environment are not restored by `off`.
        if test -z "$__vertex_env_inherited"; and set -qg $argv[1]
            if set -qgx $argv[1]
                set -gu __vertex_env_before_$argv[1] -gx $$argv[1]
            else
                set -gu __vertex_env_before_$argv[1] -gu $$argv[1]
            end
        end
    end
    if set -q argv[2]
        set -gx $argv[1] $argv[2]
        # A local variable of the same name, exported by a caller, would cover it.
        test "$$argv[1]" = $argv[2]; and return
    else
        set -eg $argv[1]
        # A universal variable belongs to every session: that one is covered by an empty one instead.
        set -q $argv[1]; and set -gx $argv[1] ''
        test -z "$$argv[1]"; and return
    end
    __vertex_env_off
    builtin printf '%s\n' "vertex-env: error: a local variable $argv[1] covers the one to set, so no variable is set" \
        'vertex-env: hint: call this where no `set -lx` covers it, or use: vertex-env run -- COMMAND' >&2
    return 3
end

function __vertex_env_off
    for name in $__vertex_env_names
        set -eg $name
        set -l before __vertex_env_before_$name
        # The environment may have one of that name: not ours.
        if set -qgu $before
            set -l flag_and_value $$before
            set $flag_and_value[1] $name $flag_and_value[2..-1]
        end
        set -eg $before
    end
    set -gu __vertex_env_names
    set -g __vertex_env_inherited
    set -g __vertex_env_failed
    set -g __vertex_env_retry 0
    return 0 # `set` leaves the status as it was
end

# --- the stored answer ---

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; 1 if not. Others may have
# written to it, which fish cannot see: it may set our names only, and to what cannot hurt. One look at all lines at once
# takes as long as at one of them.
function __vertex_env_load
    # begin: made by python -m tools.hooknames
    set -l keys 'AIDER_OPENAI_API_KEY|GENERIC_OPEN_AI_API_KEY|OPENAI_API_KEY'
    set -l urls 'AIDER_OPENAI_API_BASE|API_BASE_URL|GENERIC_OPEN_AI_BASE_PATH|OPENAI_API_BASE|OPENAI_API_BASE_URL|OPENAI_BASE_URL|OPENAI_HOST'
    set -l words 'AIDER_MODEL|DEFAULT_MODEL|MODEL|OPENAI_AGENTS_DISABLE_TRACING|OPENAI_BASE_PATH|OPENAI_MODEL'
    # end
    string match -qr '[^A-Za-z0-9._-]' -- "$VERTEX_ENV_PROFILE"; and return 1
    set -l folder $HOME/.cache/vertex-env
    if test -n "$VERTEX_ENV_CACHE_DIR"
        set folder $VERTEX_ENV_CACHE_DIR
    else if string match -q '/*' -- "$XDG_CACHE_HOME"
        set folder $XDG_CACHE_HOME/vertex-env
    else if test -d /System/Library/CoreServices
        set folder $HOME/Library/Caches/vertex-env
    end
    string match -qr '^/.*[^/]$' -- $folder; or return 1
    set -l file $folder/shell.snapshot
    test -n "$VERTEX_ENV_PROFILE"; and set file $folder/shell-$VERTEX_ENV_PROFILE.snapshot
    # Files and a folder of our own, and no links.
    builtin path is -v --perm user,read -- $folder $file; and return 1
    builtin path is -l -- $folder $file; and return 1
    builtin path is -f -- $file; or return 1
    set -l text
    set -l pairs
    set -l same
    set -l gone
    set -l none
    set -l paths
    set -l marks
    set -l drop
    set -l names
    set -l values
    set -l decided
    set -l until
    set -l stored
    set -l at
    set -l ends
    set -l issued
    set -l expiry
    set -l token
    set -l token_file
    set -l stamp_file
    read -z text <$file
    # Then it is one of these lines, the names are names, and a URL is on a host of Google's.
    set -l name '[A-Za-z_][A-Za-z0-9_]*'
    set -l tail '(?:/[A-Za-z0-9._~:@%+=,/-]*)?'
    set -l hosts 'https://[a-z0-9.-]+\.(?:googleapis\.com|vertexai\.goog)'
    # Or on one that this shell's own variable names.
    for host in (string match -r '[^, ]+' -a -- "$VERTEX_ENV_ALLOW_HOST")
        set host (string escape --style=regex -- $host)
        set hosts "$hosts|https://$host(?::[0-9]+)?"
        string match -qr '^(?:localhost|127[0-9\\\\.]*|\\\\\[::1\\\\\])$' -- $host; and set hosts "$hosts|http://$host(?::[0-9]+)?"
    end
    set -l known "(?:until [0-9]{1,15}|file \S+ [^/ ]+ /.*|none /.*|(?:same|fits|lacks) $name=.*|gone(?: $name)*" \
        "|(?:token|stamp) /.*|set (?:$keys)=\x1f|set (?:$urls)=(?:$hosts)$tail|set OPENAI_AGENTS_DISABLE_TRACING=1|set (?!OPENAI_AGENTS)(?:$words)=[A-Za-z0-9][A-Za-z0-9._/-]*" \
        "|unset(?: (?!OPENAI_AGENTS)OPENAI_[A-Z0-9_]+| (?:$urls))*)"
    string match -qr "\Avertex-env-snapshot 2\n(?:$known[1]$known[2]$known[3]\n)+end\n\z" -- $text; or return 1
    # Groups with names set variables: no command substitution, each of which takes as long as all of these.
    string match -arq '(?m)^set (?<names>\w+)=(?<values>.*)$' -- $text
    for name in OPENAI_BASE_URL OPENAI_API_BASE OPENAI_API_KEY
        builtin contains -- $name $names; or return 1
    end
    # Without this one, openai-agents takes the key to OpenAI; the user's own value is the user's choice.
    builtin contains -- OPENAI_AGENTS_DISABLE_TRACING $names; or test -n "$OPENAI_AGENTS_DISABLE_TRACING"; or return 1
    # What it depends on.
    string match -arq '(?m)(?:^gone|\G(?!^)) (?<gone>\w+)' -- $text
    set -qx $gone
    test $status -eq (builtin count $gone); or return 1
    string match -arq '(?m)^same (?<pairs>(?<same>\w+)=.*)$' -- $text
    set -qx $same; or return 1
    for name in $same
        builtin contains -- "$name=$$name" $pairs; or return 1
    end
    set pairs
    string match -arq '(?m)^(?<pairs>(?:fits|lacks) (?<decided>\w+)=.*)$' -- $text
    for name in $decided
        set -qx $name; or continue
        builtin contains -- "fits $name=$$name" $pairs; and continue
        set -l words (string match -rg "^lacks $name=(.*)" -- $pairs); or return 1
        string match -qi -- "*$words*" "$$name"; and return 1
    end
    string match -arq '(?m)^none (?<none>.*)$' -- $text
    builtin path is -- $none; and return 1
    string match -arq '(?m)^file \S+ (?<marks>\S+) (?<paths>.*)$' -- $text
    for file in $paths
        test -e $file -a -e $folder/$marks[1]; or return 1
        test $file -nt $folder/$marks[1] -o $file -ot $folder/$marks[1]; and return 1
        set -e marks[1]
    end
    if string match -rq '(?m)^until (?<until>.*)$' -- $text
        test $__vertex_env_now -lt $until; or return 1
    end
    # Token and stamp lie in the same folder.
    string match -rq '(?m)^token .*/(?<token_file>[^/\n]+)\nstamp .*/(?<stamp_file>[^/\n]+)$' -- $text; or return 1
    set token_file $folder/$token_file
    set stamp_file $folder/$stamp_file
    string match -q "*
token $token_file
stamp $stamp_file
*" -- $text; or return 1
    builtin path is -v -f --perm user,read -- $token_file $stamp_file; and return 1
    builtin path is -l -- $token_file $stamp_file; and return 1
    read -z stored <$stamp_file
    string match -rq '\A(?<at>[0-9]+) (?<ends>[0-9]+) [0-9]+\n\z' -- $stored; or return 1
    read -z stored <$token_file
    string match -rq '\Avertex-env-token 1\nkey .*\nissued (?<issued>[0-9]{1,15})\.[0-9]+\nexpiry (?<expiry>[0-9]{1,15})\.[0-9]+\ntoken (?<token>[A-Za-z0-9._~+/=-]+)\nsum .*\n\z' -- $stored; or return 1
    # Issued in the future: the clock was set back since, and nobody knows when it ends.
    test $issued -le $__vertex_env_now; or test $issued -le (builtin math $__vertex_env_now + 300); or return 1
    # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
    test $ends = $expiry; and not __vertex_env_is_soon $expiry; or return 1
    string match -arq '(?m)(?:^unset|\G(?!^)) (?<drop>\w+)' -- $text
    for name in $drop
        set -q $name; or continue
        __vertex_env_set $name; or return
    end
    __vertex_env_set VERTEX_ENV_STAMP $stamp_file; or return
    __vertex_env_set VERTEX_ENV_EXPIRES_AT $ends; or return
    __vertex_env_set VERTEX_ENV_REFRESH_AT $at; or return
    # The key comes last: without the others it would go to another host.
    for name in $names
        test $values[1] = \x1f; and set values[1] $token
        __vertex_env_set $name $values[1]; or return
        set -e values[1]
    end
    set -g __vertex_env_failed
    set -g __vertex_env_retry 0
    return 0
end

# --- commands that act on this shell ---

function vertex-env
    set -g __vertex_env_missing
    if test "$argv[1]" != off
        __vertex_env_is_there; or return
    end
    # The program itself has the help, and refuses other options.
    if not builtin contains -- "$argv[1]" use refresh off; or builtin string match -q -- '-*' "$argv[2]"
        command vertex-env $argv
        return
    end
    if test $argv[1] = use; and __vertex_env_is_direnv
        builtin printf '%s\n' 'vertex-env: error: in this folder direnv sets the variables' \
            'vertex-env: hint: say it in .envrc: use vertex --profile NAME' >&2
        return 1
    end
    __vertex_env_clock
    switch "$argv[1],"(builtin count $argv)
        case use,2
            __vertex_env_untraced __vertex_env_use $argv[2]
        case refresh,1
            __vertex_env_untraced __vertex_env_ask --refresh
        case off,1
            if __vertex_env_is_direnv
                builtin printf 'vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc\n' >&2
                # What there was before is direnv's to set back, and ours to keep for outside of this folder.
                for name in (__vertex_env_theirs)
                    set -eg $name
                end
            else
                __vertex_env_untraced __vertex_env_off
            end
        case '*'
            builtin printf '%s\n' "vertex-env: error: wrong number of arguments for $argv[1]" \
                'vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off' >&2
            return 2
    end
end

# The names of what others have set, for `off`. Another value than ours is the user's own.
function __vertex_env_theirs
    builtin printf '%s\n' OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE \
        VERTEX_ENV_EXPIRES_AT VERTEX_ENV_REFRESH_AT VERTEX_ENV_STAMP
    test "$OPENAI_AGENTS_DISABLE_TRACING" != 1; or builtin printf '%s\n' OPENAI_AGENTS_DISABLE_TRACING
end

# Take another profile, if that works.
function __vertex_env_use
    VERTEX_ENV_PROFILE=$argv[1] command vertex-env export --format lines </dev/null >/dev/null; or return
    __vertex_env_off
    __vertex_env_set VERTEX_ENV_PROFILE $argv[1]; or return
    __vertex_env_get
end

# --- now ---

# What has been kept here since a first time is neither exported nor universal, as what is inherited would be.
if not set -qgu __vertex_env_names; or set -qgx __vertex_env_names
    set -eg __vertex_env_names __vertex_env_inherited __vertex_env_failed __vertex_env_retry __vertex_env_now \
        __vertex_env_at __vertex_env_missing
    __vertex_env_off
    if set -q VERTEX_ENV_EXPIRES_AT
        # Another shell of ours has set these: that is what there is to take away.
        set -g __vertex_env_inherited $VERTEX_ENV_EXPIRES_AT
        set -g __vertex_env_names (__vertex_env_theirs)
    end
end

set -g __vertex_env_first
__vertex_env_clock
if not __vertex_env_is_direnv; and __vertex_env_is_due
    # What fails now is said at the first prompt; the lines of config.fish after the hook must not see its status.
    __vertex_env_untraced __vertex_env_load 2>/dev/null
    builtin true
end
