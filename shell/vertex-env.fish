# vertex-env for fish 3.6 and newer, in ~/.config/fish/config.fish:
#   status is-interactive; and vertex-env hook fish | source
#
# Loads the variables when the shell starts and renews them at the prompt before they expire. A prompt at which nothing
# is due costs a few builtins: no process, no file. Nothing that is read is ever evaluated.

# --- what time it is, without a process ---

# fish has no variable for it (https://github.com/fish-shell/fish-shell/issues/10093, 2026-11-22). When the root folder
# was changed and how long ago that was make the time together.
function __vertex_env_clock
    set -g __vertex_env_now (math (path mtime -- /) + (path mtime --relative -- /))
end

# --- at each prompt, and before each command: after a night at the prompt, the first one has a fresh token ---

# fish itself sets $status and $pipestatus back after an event.
function __vertex_env_hook --on-event fish_prompt --on-event fish_preexec
    set -q VERTEX_ENV_REFRESH_AT; or return
    __vertex_env_clock
    __vertex_env_is_after "$VERTEX_ENV_REFRESH_AT" $__vertex_env_now; or __vertex_env_renew
end

# Whether $argv[1], which anybody may have set, is an instant after $argv[2].
function __vertex_env_is_after
    string match -qr '^[0-9]{1,15}$' -- $argv[1]; and test $argv[2] -lt $argv[1]
end

# The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that can be.
function __vertex_env_renew
    set -l wait
    if test "$VERTEX_ENV_VIA" != direnv
        if __vertex_env_is_ours "$VERTEX_ENV_STAMP"
            set -l at (string match -rg '^([0-9]+) ' <$VERTEX_ENV_STAMP)
            if test "$at" != "$VERTEX_ENV_REFRESH_AT"; and __vertex_env_is_after "$at" $__vertex_env_now
                __vertex_env_untraced __vertex_env_load; and return
                set wait 1
            end
        else if test -n "$__vertex_env_failed"
            __vertex_env_untraced __vertex_env_load; and return
        end
    end
    test $__vertex_env_now -lt $__vertex_env_retry; and return
    set -g __vertex_env_retry (math $__vertex_env_now + 30)
    # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
    __vertex_env_is_soon "$VERTEX_ENV_EXPIRES_AT"; and set wait 1
    test -n "$VERTEX_ENV_STAMP"; or set wait 1
    # Who is offline shall not wait at each prompt.
    if test -n "$wait"; and not __vertex_env_is_after "$__vertex_env_failed" $__vertex_env_now
        __vertex_env_untraced __vertex_env_ask; and set -g __vertex_env_retry 0
        return
    end
    command -q vertex-env; or return
    if test "$VERTEX_ENV_VIA" = direnv
        command vertex-env token </dev/null >/dev/null 2>&1 &
    else
        command vertex-env export --format lines </dev/null >/dev/null 2>&1 &
    end
    disown $last_pid 2>/dev/null
end

# Whether the instant $argv[1] is less than a minute away, or is no instant.
function __vertex_env_is_soon
    not __vertex_env_is_after "$argv[1]" (math $__vertex_env_now + 60)
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
    set -g __vertex_env_failed (math $__vertex_env_now + 300)
    if test "$VERTEX_ENV_VIA" = direnv
        # direnv watches the stamp: it takes the new token by itself, and at once if its hook has run already.
        command vertex-env token $argv </dev/null >/dev/null; or return
        # Where nothing is stored, no file that direnv watches has changed.
        test -n "$VERTEX_ENV_STAMP"; or command direnv reload </dev/null 2>/dev/null
        functions -q __direnv_export_eval; and __direnv_export_eval
        # If that has failed, not again at the next prompt.
        test "$VERTEX_ENV_REFRESH_AT" = 0; or set -g __vertex_env_failed
        return 0
    end
    set -l lines (command vertex-env export --format lines $argv </dev/null)
    set -l failed $status
    if test $failed -ne 0
        # Nothing to begin with: it is due until there is something.
        set -q VERTEX_ENV_REFRESH_AT; or __vertex_env_set set VERTEX_ENV_REFRESH_AT 0
        return $failed
    end
    set -g __vertex_env_failed
    __vertex_env_do $lines
    return 0
end

# --- setting variables, and setting them back ---

# Do what the lines say that are `set NAME=VALUE` or `unset NAME`.
function __vertex_env_do
    for line in $argv
        __vertex_env_set (string match -rg '^(set|unset) ([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?$' -- $line)
    end
end

# Set or unset the variable $argv[2], to $argv[3], and remember what there was before. Without variables of its own, to
# whose names that could be.
function __vertex_env_set
    set -q argv[2]; or return 1
    if not contains -- $argv[2] $__vertex_env_names
        set -ga __vertex_env_names $argv[2]
        # What another shell of ours has left in the environment is nothing to set back to.
        if test -z "$__vertex_env_inherited"; and set -qg $argv[2]
            if set -qgx $argv[2]
                set -g __vertex_env_before_$argv[2] -gx $$argv[2]
            else
                set -g __vertex_env_before_$argv[2] -gu $$argv[2]
            end
        end
    end
    if test $argv[1] = set
        set -gx $argv[2] "$argv[3]"
        return
    end
    set -eg $argv[2]
    # A universal variable belongs to every session: that one is covered by an empty one instead.
    set -q $argv[2]; and set -gx $argv[2] ''
    return 0
end

function __vertex_env_off
    for name in $__vertex_env_names
        set -eg $name
        set -l before __vertex_env_before_$name
        if set -qg $before
            set -l flag_and_value $$before
            set $flag_and_value[1] $name $flag_and_value[2..-1]
            set -eg $before
        end
    end
    set -g __vertex_env_names
    set -g __vertex_env_inherited
    set -g __vertex_env_failed
    set -g __vertex_env_retry 0
    return 0 # `set` leaves the status as it was
end

# --- the stored answer ---

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; 1 if not.
function __vertex_env_load
    string match -qr '[^A-Za-z0-9._-]' -- "$VERTEX_ENV_PROFILE"; and return 1
    set -l folder $HOME/.cache/vertex-env
    if test -n "$VERTEX_ENV_CACHE_DIR"
        set folder $VERTEX_ENV_CACHE_DIR
    else if string match -q '/*' -- "$XDG_CACHE_HOME"
        set folder $XDG_CACHE_HOME/vertex-env
    else if test -d /System/Library/CoreServices
        set folder $HOME/Library/Caches/vertex-env
    end
    # begin: made by python -m tests.hooknames
    set -l keys 'AIDER_OPENAI_API_KEY|GENERIC_OPEN_AI_API_KEY|OPENAI_API_KEY'
    set -l urls 'AIDER_OPENAI_API_BASE|API_BASE_URL|GENERIC_OPEN_AI_BASE_PATH|OPENAI_API_BASE|OPENAI_API_BASE_URL|OPENAI_BASE_URL|OPENAI_HOST'
    set -l words 'OPENAI_AGENTS_DISABLE_TRACING|OPENAI_BASE_PATH|OPENAI_MODEL'
    # end
    set -l file $folder/shell.snapshot
    test -n "$VERTEX_ENV_PROFILE"; and set file $folder/shell-$VERTEX_ENV_PROFILE.snapshot
    test -O $folder; and __vertex_env_is_ours $file; or return 1
    set -l lines (string split \n <$file)
    test "$lines[1]" = 'vertex-env-snapshot 1'; and test "$lines[-1]" = end; or return 1
    # Then it is one of these lines, and the names are names.
    set -l known '^(until [0-9]{1,15}|file -?[0-9]+ \S+ /.*|(none|token|stamp) /.*' \
        '|(same|set) [A-Za-z_][A-Za-z0-9_]*=.*|gone( [A-Za-z_][A-Za-z0-9_]*)+|unset [A-Za-z_][A-Za-z0-9_]*)$'
    string match -qvr (string join '' $known) -- $lines[2..-2]; and return 1
    for line in $lines[2..-2]
        switch $line
            case 'gone *'
                for name in (string split ' ' -- $line)[2..]
                    set -qx $name; and return 1
                end
            case 'same *'
                set -l name (string match -rg '^same ([^=]*)' -- $line)
                set -qx $name; and contains -- $line "same $name=$$name"; or return 1
            case 'none *'
                test -e (string sub -s 6 -- $line); and return 1
            case 'file *'
                set -l parts (string match -rg '^file \S+ (\S+) (.*)' -- $line)
                set -l mark $folder/$parts[1]
                test -e $parts[2]; and test -e $mark; or return 1
                test $parts[2] -nt $mark; or test $parts[2] -ot $mark; and return 1
            case 'until *'
                test $__vertex_env_now -lt (string sub -s 7 -- $line); or return 1
        end
    end
    set -l token_file (string replace -rf '^token ' '' -- $lines)
    set -l stamp_file (string replace -rf '^stamp ' '' -- $lines)
    __vertex_env_is_ours "$token_file"; and __vertex_env_is_ours "$stamp_file"; or return 1
    set -l stored (string split \n <$token_file)
    test "$stored[1]" = 'vertex-env-token 1'; and string match -q 'issued *' -- "$stored[3]"; or return 1
    set -l ends (string match -rg '^expiry ([0-9]+)(?:\.[0-9]*)?$' -- "$stored[4]"); or return 1
    set -l token (string match -rg '^token ([A-Za-z0-9._~+/=-]+)$' -- "$stored[5]"); or return 1
    set -l stamp (string match -rg '^([0-9]+) ([0-9]+) [0-9]+$' <$stamp_file); or return 1
    # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
    test "$stamp[2]" = $ends; and not __vertex_env_is_soon $ends; or return 1
    __vertex_env_set set VERTEX_ENV_STAMP $stamp_file
    __vertex_env_set set VERTEX_ENV_EXPIRES_AT $ends
    __vertex_env_set set VERTEX_ENV_REFRESH_AT $stamp[1]
    set -l changes (string match -r '^(?:set|unset) .*' -- $lines)
    __vertex_env_do (string replace -a \x1f $token -- $changes)
    set -g __vertex_env_failed
    set -g __vertex_env_retry 0
    return 0
end

# --- commands that act on this shell ---

function vertex-env
    if not contains -- "$argv[1]" use refresh off
        command vertex-env $argv
        return
    end
    if test "$VERTEX_ENV_VIA" = direnv; and test $argv[1] != refresh
        printf '%s\n' 'vertex-env: error: in this folder direnv sets the variables' \
            'vertex-env: hint: say it in .envrc: use vertex --profile NAME' >&2
        return 1
    end
    __vertex_env_clock
    switch "$argv[1],"(count $argv)
        case use,2
            __vertex_env_untraced __vertex_env_use $argv[2]
        case refresh,1
            __vertex_env_untraced __vertex_env_ask --refresh
        case off,1
            __vertex_env_untraced __vertex_env_off
        case '*'
            printf '%s\n' "vertex-env: error: wrong number of arguments for $argv[1]" \
                'vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off' >&2
            return 2
    end
end

# Take another profile, if that works.
function __vertex_env_use
    VERTEX_ENV_PROFILE=$argv[1] command vertex-env export --format lines </dev/null >/dev/null; or return
    __vertex_env_off
    __vertex_env_set set VERTEX_ENV_PROFILE $argv[1]
    __vertex_env_load; or __vertex_env_ask
end

# --- now ---

if not set -q __vertex_env_names
    __vertex_env_off
    if set -q VERTEX_ENV_EXPIRES_AT
        # Another shell of ours has set these: that is what there is to take away.
        set -g __vertex_env_inherited $VERTEX_ENV_EXPIRES_AT
        set -g __vertex_env_names OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE \
            VERTEX_ENV_EXPIRES_AT VERTEX_ENV_REFRESH_AT VERTEX_ENV_STAMP
    end
end

__vertex_env_clock
if test "$VERTEX_ENV_VIA" != direnv
    if not __vertex_env_is_after "$VERTEX_ENV_REFRESH_AT" $__vertex_env_now; or test -z "$OPENAI_API_KEY"
        __vertex_env_untraced __vertex_env_load; or __vertex_env_untraced __vertex_env_ask
        # A failure has been told; what comes after the hook in config.fish shall not take it for its own.
        true
    end
end
