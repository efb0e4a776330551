# vertex-env for nushell 0.106 and newer, which reads a file and not a text:
#   vertex-env hook nu | save -f ($nu.user-autoload-dirs.0 | path join vertex-env.nu)
#
# Loads what is stored at the start, asks for what is not at the first prompt, and renews at the prompt. One at which
# nothing is due costs a comparison: no process, no file. Nothing that is read is ever evaluated.
#
# There is no function to wrap the program: `vertex-env use` and the like are commands of their own, and everything else
# is the program itself. direnv has no hook for nushell that we could call: it takes a new token at the next prompt.

# --- what time it is, without a process ---

def __vertex_env_clock []: nothing -> int { (date now | into int) // 1_000_000_000 }

# --- at each prompt, and before each command: after a night at the prompt, the first one has a fresh token ---

def --env __vertex_env_hook [] {
    if $env.__vertex_env.first {
        $env.__vertex_env.first = false
        let status = $env.LAST_EXIT_CODE?
        __vertex_env_begin (__vertex_env_clock)
        if $status != null { $env.LAST_EXIT_CODE = $status }
        return
    }
    let at = $env.VERTEX_ENV_REFRESH_AT?
    if ($at | is-empty) { return }
    let now = __vertex_env_clock
    if (__vertex_env_is_after $at $now) { return }
    let status = $env.LAST_EXIT_CODE?
    __vertex_env_renew $now
    if $status != null { $env.LAST_EXIT_CODE = $status }
}

# Whether a text, which anybody may have set, is an instant after another.
def __vertex_env_is_after [at: any, than: int]: nothing -> bool {
    let text = $at | default "" | into string
    ($text =~ '^[0-9]{1,15}$') and ($text | into int) > $than
}

# The first prompt, or the first command: have what was not stored.
def --env __vertex_env_begin [now: int] {
    if not (__vertex_env_is_due $now) { return }
    if (__vertex_env_is_direnv) {
        if $env.VERTEX_ENV_REFRESH_AT? != null { __vertex_env_renew $now }
        return
    }
    if (__vertex_env_load $now) { return }
    if not (__vertex_env_ask $now) and $env.__vertex_env.unavailable {
        print -e "vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why"
    }
}

# Whether direnv sets the variables: one of the hooks here calls it, and VIA is not just inherited.
def __vertex_env_is_direnv []: nothing -> bool {
    if $env.VERTEX_ENV_VIA? != "direnv" { return false }
    let hooks = $env.config.hooks? | default {}
    let events = [$hooks.pre_prompt? $hooks.pre_execution? $hooks.env_change?.PWD?]
    [$events] | flatten | flatten | any {|it|
        let code = if ($it | describe) =~ "^record" { $it.code? } else { $it }
        (try { view source $code } catch { $code | to text }) =~ "direnv export"
    }
}

# Whether there is no key, or one that is due.
def __vertex_env_is_due [now: int]: nothing -> bool {
    not (__vertex_env_is_after $env.VERTEX_ENV_REFRESH_AT? $now) or ($env.OPENAI_API_KEY? | is-empty)
}

# The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that can be.
def --env __vertex_env_renew [now: int] {
    mut wait = false
    let direnv = __vertex_env_is_direnv
    if $env.__vertex_env.at != $env.VERTEX_ENV_REFRESH_AT? {
        # Others, or direnv, have set new ones.
        $env.__vertex_env.failed = 0
        $env.__vertex_env.retry = 0
    }
    let stamp = $env.VERTEX_ENV_STAMP? | default ""
    if not $direnv {
        let at = __vertex_env_stamp ($stamp | path dirname) ($stamp | path basename) | get 0?
        if $at != null {
            if $at != $env.VERTEX_ENV_REFRESH_AT and (__vertex_env_is_after $at $now) {
                if (__vertex_env_load $now) { return }
                $wait = true
            }
        } else if $env.__vertex_env.failed > 0 {
            if (__vertex_env_load $now) { return }
        }
    }
    if $now < $env.__vertex_env.retry { return }
    # There use_vertex says that the program is missing.
    if (__vertex_env_is_direnv) { $env.__vertex_env.missing = true }
    if not (__vertex_env_is_there) { return }
    __vertex_env_pause $now
    # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later, or no sh is.
    if not (__vertex_env_is_after $env.VERTEX_ENV_EXPIRES_AT? ($now + 60)) { $wait = true }
    if $stamp == "" or not ("/bin/sh" | path exists) { $wait = true }
    # Who is offline shall not wait at each prompt.
    if $wait and $now >= $env.__vertex_env.failed {
        if (__vertex_env_ask $now) { $env.__vertex_env.retry = 0 }
        return
    }
    # Not by `job spawn`: those are listed, and end with the shell.
    try {
        if $direnv {
            ^/bin/sh -c '(vertex-env token </dev/null >/dev/null 2>&1 &)'
        } else {
            ^/bin/sh -c '(vertex-env export --format lines </dev/null >/dev/null 2>&1 &)'
        }
    }
}

# Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it is due.
def --env __vertex_env_pause [now: int] {
    let at = if (__vertex_env_is_after $env.VERTEX_ENV_REFRESH_AT? 0) { $env.VERTEX_ENV_REFRESH_AT | into int } else { 0 }
    let ends = $env.VERTEX_ENV_EXPIRES_AT?
    let pause = if (__vertex_env_is_after $ends $at) { [30 (($ends | into int) - $at)] | math min } else { 30 }
    $env.__vertex_env.retry = $now + $pause
    $env.__vertex_env.at = $env.VERTEX_ENV_REFRESH_AT?
}

# Whether the program is there; if not, says so once.
def --env __vertex_env_is_there []: nothing -> bool {
    let there = which --all vertex-env | any {|it| $it.type == "external" }
    if not $there and not $env.__vertex_env.missing {
        print -e "vertex-env: error: there is no vertex-env on PATH"
        print -e "vertex-env: hint: put its folder on PATH, or install it"
    }
    $env.__vertex_env.missing = not $there
    $there
}

# Have vertex-env say what the variables are, and wait for that.
def --env __vertex_env_ask [now: int, ...more: string]: nothing -> bool {
    let direnv = __vertex_env_is_direnv
    # Nothing to begin with: it is due until there is something.
    if $env.VERTEX_ENV_REFRESH_AT? == null and not $direnv { __vertex_env_do ["set VERTEX_ENV_REFRESH_AT=0"] | ignore }
    $env.__vertex_env.unavailable = false
    if not (__vertex_env_is_there) { return false }
    $env.__vertex_env.failed = $now + 300
    __vertex_env_pause $now
    let asked = try {
        if $direnv {
            # direnv watches the stamp: it takes the new token by itself.
            let token = "" | ^vertex-env token ...$more
            # Where nothing is stored, no file that direnv watches has changed.
            if ($env.VERTEX_ENV_STAMP? | is-empty) {
                ^direnv reload
                return true
            }
            []
        } else {
            let text = "" | ^vertex-env export --format lines ...$more
            $text | lines
        }
    } catch { null }
    if $asked == null {
        $env.__vertex_env.unavailable = $env.LAST_EXIT_CODE? == 75
        return false
    }
    $env.__vertex_env.failed = 0
    __vertex_env_do $asked
}

# --- setting variables, and setting them back ---

# hide-env uncovers the value that the line of the prompt began with, if there is another above it, so each is hidden
# twice. A command hides for its caller as well, but only once: `vertex-env use` and `off` take effect in full if they
# are alone on their line.

# Do what the lines say, `set NAME=VALUE` or `unset NAME`, and remember what there was before. All of it or nothing:
# where a variable cannot be set, such as PWD, a key beside another host's URL must not stay.
def --env __vertex_env_do [lines: list<string>]: nothing -> bool {
    let changes = $lines | parse --regex '^(?<verb>set|unset) (?<name>[A-Za-z_][A-Za-z0-9_]*)(?:=(?<value>.*))?$'
    for it in $changes {
        if $it.name not-in $env.__vertex_env.names {
            $env.__vertex_env.names ++= [$it.name]
            # Values that another shell's hook has left in the environment are not restored by `off`.
            if not $env.__vertex_env.inherited and $it.name in $env {
                $env.__vertex_env.before = $env.__vertex_env.before | upsert $it.name ($env | get $it.name)
            }
        }
    }
    try {
        for it in $changes {
            if $it.verb == "set" {
                load-env { $it.name: ($it.value | default "") }
            } else {
                for _ in 1..2 { hide-env --ignore-errors $it.name }
            }
        }
        $env.__vertex_env.hidden = $changes | where verb == unset | get name
    } catch {|e|
        __vertex_env_off
        print -e $"vertex-env: error: a variable cannot be set, so none is: ($e.msg)"
        print -e "vertex-env: hint: take the name out of --set and VERTEX_ENV_SET, then say vertex-env refresh"
        return false
    }
    true
}

def --env __vertex_env_off [] {
    for name in $env.__vertex_env.names {
        hide-env --ignore-errors $name
        # What is inherited, and was set here since, cannot be hidden. PWD and its like can be neither set nor set back.
        try { if $name in $env { load-env { $name: "" } } }
    }
    for it in ($env.__vertex_env.before | transpose name value) {
        try { load-env { $it.name: $it.value } }
    }
    $env.__vertex_env = $env.__vertex_env | merge { names: [], before: {}, hidden: [], inherited: false, failed: 0, retry: 0 }
}

# The names of what others have set, for `off`. Another value than ours is the user's own.
def __vertex_env_theirs []: nothing -> list<string> {
    let names = [
        OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE VERTEX_ENV_EXPIRES_AT VERTEX_ENV_REFRESH_AT VERTEX_ENV_STAMP
    ]
    if $env.OPENAI_AGENTS_DISABLE_TRACING? == "1" { $names ++ [OPENAI_AGENTS_DISABLE_TRACING] } else { $names }
}

# --- the stored answer ---

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; false if not.
def --env __vertex_env_load [now: int]: nothing -> bool {
    let lines = try { __vertex_env_stored $now } catch { null }
    if $lines == null { return false }
    $env.__vertex_env.failed = 0
    $env.__vertex_env.retry = 0
    # Where it cannot be set, that has been said, and asking anew is no use.
    __vertex_env_do $lines | ignore
    true
}

# What it says to do; null if anything is not as it was, or is not what vertex-env writes.
def __vertex_env_stored [now: int]: nothing -> any {
    let profile = $env.VERTEX_ENV_PROFILE? | default ""
    if $profile =~ '[^A-Za-z0-9._-]' { return null }
    let folder = __vertex_env_folder
    let lines = __vertex_env_read $folder (if $profile == "" { "shell.snapshot" } else { $"shell-($profile).snapshot" })
    if ($lines | first) != "vertex-env-snapshot 2" or ($lines | last) != "end" { return null }
    mut stored: list<string> = []
    mut stamp: list<string> = []
    mut stamp_file = ""
    mut changes: list<string> = []
    for line in ($lines | skip 1 | drop 1) {
        let verb = $line | split row -n 2 " " | first
        let rest = $line | split row -n 2 " " | get 1
        match $verb {
            "set" => { $changes ++= [$line] }
            "unset" => { $changes ++= ($rest | split row " " | each {|name| $"unset ($name)" }) }
            "gone" => { if ($rest | split row " " | any {|name| $name in $env }) { return null } }
            "same" => {
                let it = $rest | parse --regex '^(?<name>[A-Za-z_][A-Za-z0-9_]*)=(?<value>.*)$' | first
                if $it.name not-in $env or ($env | get $it.name | into string) != $it.value { return null }
            }
            "fits" | "lacks" => {
                let it = $rest | parse --regex '^(?<name>[A-Za-z_][A-Za-z0-9_]*)=(?<value>.+)$' | first
                if $it.name in $env {
                    let value = $env | get $it.name | into string
                    if $verb == "fits" and $value != $it.value { return null }
                    if $verb == "lacks" and $it.value in ($value | str downcase) { return null }
                }
            }
            "none" => { if ($rest | path exists) { return null } }
            "file" => {
                let it = $rest | parse --regex '^-?[0-9]+ (?<mark>[0-9a-f]+\.mark) (?<path>/.*)$' | first
                let mark = $folder | path join $it.mark
                if not (__vertex_env_is_ours $mark file) { return null }
                if (__vertex_env_changed $it.path) != (__vertex_env_changed $mark) { return null }
            }
            "until" => { if not (__vertex_env_is_after $rest $now) { return null } }
            "token" => { $stored = __vertex_env_read $folder (__vertex_env_within $folder $rest token) }
            "stamp" => {
                $stamp = __vertex_env_stamp $folder (__vertex_env_within $folder $rest stamp)
                $stamp_file = $rest
            }
            _ => { return null }
        }
    }
    if not (__vertex_env_is_harmless $changes) { return null }
    if $stored.0 != "vertex-env-token 1" { return null }
    let issued = $stored.2 | parse --regex '^issued (?<at>[0-9]{1,15})(?:\.[0-9]*)?$' | get 0.at
    let ends = $stored.3 | parse --regex '^expiry (?<at>[0-9]{1,15})(?:\.[0-9]*)?$' | get 0.at
    let token = $stored.4 | parse --regex '^token (?<text>[A-Za-z0-9._~+/=-]+)$' | get 0.text
    # Issued later than now, by more than clocks disagree: the clock was set back, and the expiry means nothing.
    if (__vertex_env_is_after $issued ($now + 300)) { return null }
    # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
    if $stamp.1 != $ends or not (__vertex_env_is_after $ends ($now + 60)) { return null }
    let mark = char --unicode "1f"
    # Where to, and until when, before the key.
    [
        ...($changes | where {|it| $it starts-with "unset " })
        ...($changes | where {|it| $it starts-with "set " and $mark not-in $it })
        $"set VERTEX_ENV_STAMP=($stamp_file)"
        $"set VERTEX_ENV_EXPIRES_AT=($ends)"
        $"set VERTEX_ENV_REFRESH_AT=($stamp.0)"
        ...($changes | where {|it| $mark in $it } | str replace --all $mark $token)
    ]
}

# The folder where vertex-env keeps things; an error if there is none.
def __vertex_env_folder []: nothing -> string {
    let home = $env.HOME? | default ""
    let folder = if ($env.VERTEX_ENV_CACHE_DIR? | is-not-empty) {
        $env.VERTEX_ENV_CACHE_DIR
    } else if ($env.XDG_CACHE_HOME? | default "" | str starts-with "/") {
        $env.XDG_CACHE_HOME | path join vertex-env
    } else if $home !~ '^/' {
        ""
    } else if $nu.os-info.name == "macos" {
        $home | path join Library Caches vertex-env
    } else {
        $home | path join .cache vertex-env
    }
    if $folder !~ '^/' { error make { msg: "no folder" } }
    # With a slash at the end, a link would be what it leads to.
    $folder | str trim --right --char "/"
}

# The name of a file whose path has to be that of one directly in the folder.
def __vertex_env_within [folder: string, path: string, kind: string]: nothing -> string {
    let name = $path | path basename
    if $name !~ ('^[0-9a-f]{32,64}\.' + $kind + '$') or $path != $"($folder)/($name)" { error make { msg: "not there" } }
    $name
}

# Whether the changes are harmless even if the file is forged: they set only vertex-env's names, the
# token only as a key, and each URL on one of Google's hosts or on one that this shell itself allows.
def __vertex_env_is_harmless [changes: list<string>]: nothing -> bool {
    # begin: made by python -m tools.hooknames
    let keys = [AIDER_OPENAI_API_KEY GENERIC_OPEN_AI_API_KEY OPENAI_API_KEY]
    let urls = [AIDER_OPENAI_API_BASE API_BASE_URL GENERIC_OPEN_AI_BASE_PATH OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_BASE_URL OPENAI_HOST]
    let words = [AIDER_MODEL DEFAULT_MODEL MODEL OPENAI_AGENTS_DISABLE_TRACING OPENAI_BASE_PATH OPENAI_MODEL]
    # end
    let mark = char --unicode "1f"
    let found = $changes | parse --regex '^(?<verb>set|unset) (?<name>[A-Z_]+)(?:=(?<value>.*))?$'
    if ($found | length) != ($changes | length) { return false }
    for it in $found {
        if $it.verb == "unset" {
            if $it.name not-in $urls and $it.name !~ '^OPENAI_' { return false }
            if $it.name == OPENAI_AGENTS_DISABLE_TRACING { return false }
        } else if $it.name in $keys {
            if $it.value != $mark { return false }
        } else if $it.name in $urls {
            if not (__vertex_env_is_allowed $it.value) { return false }
        } else if $it.name == OPENAI_AGENTS_DISABLE_TRACING {
            if $it.value != "1" { return false }
        } else if $it.name not-in $words or $it.value !~ '^[A-Za-z0-9][A-Za-z0-9._/-]*$' {
            return false
        }
    }
    # One of them missing, and clients that read that one would take the key to its default, which is OpenAI. The last
    # one keeps openai-agents from doing so at each run, unless the user wants that.
    let given = $found | where verb == "set" | get name
    let quiet = "set OPENAI_AGENTS_DISABLE_TRACING=1" in $changes or ($env.OPENAI_AGENTS_DISABLE_TRACING? | is-not-empty)
    $quiet and ([OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE] | all {|name| $name in $given })
}

# Whether a URL is one that a token may be sent to.
def __vertex_env_is_allowed [url: string]: nothing -> bool {
    let plain = [
        '^(?<scheme>https?)://(?<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(?<port>:[0-9]{1,5})?'
        '(?:/[A-Za-z0-9._~:@%+=,/-]*)?$'
    ] | str join
    let it = $url | parse --regex $plain | get --optional 0
    if $it == null { return false }
    let host = $it.host
    let google = $host =~ '^([a-z0-9-]+\.)+(googleapis\.com|vertexai\.goog)$'
    if $it.scheme == "https" and $google and ($it.port | is-empty) { return true }
    let allowed = $env.VERTEX_ENV_ALLOW_HOST? | default "" | split row --regex '[,\s]+' | str downcase
    let local = $host in [localhost "[::1]"] or $host =~ '^127(\.[0-9]{1,3}){3}$'
    $host in $allowed and ($it.scheme == "https" or $local)
}

# REFRESH_AT and EXPIRES_AT of the stamp in a file of a folder; nothing if there is none.
def __vertex_env_stamp [folder: string, name: string]: nothing -> list<string> {
    try {
        let it = __vertex_env_read $folder $name
            | first
            | parse --regex '^(?<at>[0-9]{1,15}) (?<expires>[0-9]{1,15}) [0-9]+$'
            | first
        [$it.at $it.expires]
    } catch { [] }
}

# The lines of a file in a folder, both for this user alone and no links; an error if they are not.
def __vertex_env_read [folder: string, name: string]: nothing -> list<string> {
    let file = $folder | path join $name
    if not (__vertex_env_is_ours $folder dir) or not (__vertex_env_is_ours $file file) {
        error make { msg: "not ours" }
    }
    open --raw $file | decode utf-8 | lines
}

# Whether a file or folder, and no link to one, is for this user alone.
def __vertex_env_is_ours [path: string, type: string]: nothing -> bool {
    if $path !~ '^/' { return false }
    let me = if ("/proc/self/" | path exists) { ls -lD "/proc/self/" | get 0.user } else { whoami }
    let it = ls -lD $path | get 0
    let known = $it.type == $type and $it.user == $me and $it.mode in ["rw-------" "rwx------"]
    $known and ($type == "dir" or $it.size <= 64KiB)
}

# When a file, or what a link leads to, was changed.
def __vertex_env_changed [path: string]: nothing -> datetime { ls -lD ($path | path expand --strict) | get 0.modified }

# --- commands that act on this shell ---

# Take another profile, if that works.
def --env "vertex-env use" [profile: string] {
    $env.__vertex_env.missing = false
    if (__vertex_env_is_direnv) {
        error make --unspanned {
            msg: "vertex-env: in this folder direnv sets the variables"
            help: "say it in .envrc: use vertex --profile NAME"
        }
    }
    # A variable, because `ignore` would ignore the failure as well.
    with-env { VERTEX_ENV_PROFILE: $profile } { let text = "" | ^vertex-env export --format lines }
    let now = __vertex_env_clock
    __vertex_env_off
    __vertex_env_do [$"set VERTEX_ENV_PROFILE=($profile)"] | ignore
    if not (__vertex_env_load $now) { __vertex_env_ask $now | ignore }
    # What has been set back above covers what is hidden now.
    for name in ($env.__vertex_env.hidden? | default []) {
        for _ in 1..2 { hide-env --ignore-errors $name }
    }
}

# Have a new token.
def --env "vertex-env refresh" [] {
    $env.__vertex_env.missing = false
    if not (__vertex_env_ask (__vertex_env_clock) "--refresh") {
        error make --unspanned { msg: "vertex-env could not renew the token" }
    }
}

# Set the variables back to what they were.
def --env "vertex-env off" [] {
    if (__vertex_env_is_direnv) {
        # What there was before is direnv's to set back, and ours to keep for outside of this folder.
        for name in (__vertex_env_theirs) {
            hide-env --ignore-errors $name
            if $name in $env { load-env { $name: "" } }
        }
        print -e "vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc"
    } else {
        __vertex_env_off
    }
}

# --- now ---

# What has come with the environment, which can only be a text, is no state of this shell's.
if ($env.__vertex_env? | describe) !~ "^record" {
    $env.__vertex_env = {
        names: [], before: {}, hidden: [], inherited: false, failed: 0, retry: 0
        # At which VERTEX_ENV_REFRESH_AT that was, whether a prompt was, whether the missing program was told, and whether
        # Google could not be reached.
        at: null, first: true, missing: false, unavailable: false
    }
    if $env.VERTEX_ENV_EXPIRES_AT? != null {
        # Another shell of ours has set these: that is what there is to take away.
        $env.__vertex_env.inherited = true
        $env.__vertex_env.names = __vertex_env_theirs
    }
}

for event in [pre_prompt pre_execution] {
    let others = [($env.config.hooks? | default {} | get --optional $event | default [])] | flatten
    if not ($others | any {|it| ($it | describe) starts-with "record" and "vertex_env" in ($it | columns) }) {
        let hooks = $others | append { vertex_env: true, code: {|| __vertex_env_hook } }
        $env.config.hooks = $env.config.hooks? | default {} | upsert $event $hooks
    }
}

def --env __vertex_env_start [] {
    let now = __vertex_env_clock
    if not (__vertex_env_is_direnv) and (__vertex_env_is_due $now) { __vertex_env_load $now | ignore }
}

__vertex_env_start
