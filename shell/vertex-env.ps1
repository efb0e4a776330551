# UNTESTED: written without a PowerShell at hand. Please tell how it does.
#
# vertex-env for PowerShell 7.2 and newer, in $PROFILE:  vertex-env hook pwsh | Out-String | Invoke-Expression
#
# Loads what is stored at the start, asks for what is not at the first prompt (scp has none), and renews at the prompt. One
# at which nothing is due costs a comparison: no process, no file. Nothing that is read is ever evaluated.
#
# There is nothing to call before each command: after a night at the prompt, press Enter once. On Windows the files'
# owner and mode are not looked at: the user's own profile folder is not for others. Whoever sets `prompt` anew after
# this takes the hook away; load it last. direnv's hook is its prompt function: it takes a new token at the next prompt.

# --- what time it is, without a process ---

function global:__vertex_env_clock { [DateTimeOffset]::UtcNow.ToUnixTimeSeconds() }

# --- at each prompt ---

function global:__vertex_env_hook {
    $first = $global:__vertex_env.First
    if (-not $first -and $null -eq $env:VERTEX_ENV_REFRESH_AT) { return }
    $now = __vertex_env_clock
    if (-not $first -and (__vertex_env_is_after $env:VERTEX_ENV_REFRESH_AT $now)) { return }
    $before = $global:LASTEXITCODE
    try {
        if ($first) { __vertex_env_begin $now } else { __vertex_env_renew $now }
    } finally {
        $global:LASTEXITCODE = $before
    }
}

# The first prompt: have what was not stored.
function global:__vertex_env_begin([long] $now) {
    $global:__vertex_env.First = $false
    if (-not (__vertex_env_is_due $now)) { return }
    if (__vertex_env_is_direnv) {
        if ($null -ne $env:VERTEX_ENV_REFRESH_AT) { __vertex_env_renew $now }
        return
    }
    if (__vertex_env_load $now) { return }
    if ((__vertex_env_ask $now) -eq 75) {
        [Console]::Error.WriteLine('vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why')
    }
}

# Whether direnv sets the variables: its hook, a text with its name, acts here, and VIA is not just inherited.
function global:__vertex_env_is_direnv {
    if ($env:VERTEX_ENV_VIA -cne 'direnv') { return $false }
    $moved = $ExecutionContext.SessionState.InvokeCommand.LocationChangedAction
    return $null -ne $moved -or "$global:__vertex_env_prompt $function:prompt" -cmatch 'direnv'
}

# Whether there is no key, or one that is due.
function global:__vertex_env_is_due([long] $now) {
    (-not (__vertex_env_is_after $env:VERTEX_ENV_REFRESH_AT $now)) -or (-not $env:OPENAI_API_KEY)
}

# Whether a text, which anybody may have set, is an instant after another.
function global:__vertex_env_is_after([string] $at, [long] $than) {
    ($at -cmatch '\A[0-9]{1,15}\z') -and ([long] $at -gt $than)
}

# The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that can be.
function global:__vertex_env_renew([long] $now) {
    $state = $global:__vertex_env
    $direnv = __vertex_env_is_direnv
    $wait = $false
    # Others, or direnv, have set new ones.
    if ($state.At -cne $env:VERTEX_ENV_REFRESH_AT) { $state.Failed = $state.Retry = [long] 0 }
    if (-not $direnv) {
        $stamp = __vertex_env_stamp $env:VERTEX_ENV_STAMP
        if ($null -ne $stamp) {
            if ($stamp[0] -cne $env:VERTEX_ENV_REFRESH_AT -and (__vertex_env_is_after $stamp[0] $now)) {
                if (__vertex_env_load $now) { return }
                $wait = $true
            }
        } elseif ($state.Failed -gt 0) {
            if (__vertex_env_load $now) { return }
        }
    }
    if ($now -lt $state.Retry) { return }
    # There use_vertex says that the program is missing.
    if (__vertex_env_is_direnv) { $state.Missing = $true }
    if (-not (__vertex_env_is_there)) { return }
    __vertex_env_pause $now
    # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
    if (-not (__vertex_env_is_after $env:VERTEX_ENV_EXPIRES_AT ($now + 60))) { $wait = $true }
    if (-not $env:VERTEX_ENV_STAMP) { $wait = $true }
    # Who is offline shall not wait at each prompt.
    if ($wait -and $now -ge $state.Failed) {
        if ((__vertex_env_ask $now) -eq 0) { $state.Retry = 0 }
        return
    }
    # Neither Start-Job, which is listed, nor Start-Process, which cannot be told to be silent on every system.
    [string[]] $command = if ($direnv) { @('token') } else { @('export', '--format', 'lines') }
    $process = __vertex_env_start $command
    if ($null -ne $process) {
        # What it prints is read and dropped, or it would wait for a reader one day.
        $process.BeginOutputReadLine()
        $process.BeginErrorReadLine()
    }
}

# Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it is due.
function global:__vertex_env_pause([long] $now) {
    $state = $global:__vertex_env
    $at = [long] 0
    $pause = [long] 30
    if (__vertex_env_is_after $env:VERTEX_ENV_REFRESH_AT 0) { $at = [long] $env:VERTEX_ENV_REFRESH_AT }
    if (__vertex_env_is_after $env:VERTEX_ENV_EXPIRES_AT $at) { $pause = [long] $env:VERTEX_ENV_EXPIRES_AT - $at }
    $state.Retry = $now + [Math]::Min(30, $pause)
    $state.At = $env:VERTEX_ENV_REFRESH_AT
}

# Whether the program is there; if not, says so once.
function global:__vertex_env_is_there {
    $state = $global:__vertex_env
    $there = $null -ne (Get-Command -Name vertex-env -CommandType Application -ErrorAction Ignore)
    if (-not $there -and -not $state.Missing) {
        [Console]::Error.WriteLine('vertex-env: error: there is no vertex-env on PATH')
        [Console]::Error.WriteLine('vertex-env: hint: put its folder on PATH, or install it')
    }
    $state.Missing = -not $there
    return $there
}

# Start vertex-env with nothing on its stdin; $null if there is none.
function global:__vertex_env_start([string[]] $arguments, [hashtable] $variables = @{}, [bool] $quiet = $true) {
    $program = Get-Command -Name vertex-env -CommandType Application -ErrorAction Ignore | Select-Object -First 1
    if ($null -eq $program) { return $null }
    $info = [Diagnostics.ProcessStartInfo]::new($program.Source)
    foreach ($argument in $arguments) { $info.ArgumentList.Add($argument) }
    foreach ($name in $variables.Keys) { $info.Environment[$name] = $variables[$name] }
    $info.UseShellExecute = $false
    $info.RedirectStandardInput = $true
    $info.RedirectStandardOutput = $true
    $info.RedirectStandardError = $quiet
    $info.StandardOutputEncoding = [Text.UTF8Encoding]::new($false)
    try {
        $process = [Diagnostics.Process]::Start($info)
        $process.StandardInput.Close()
        return $process
    } catch {
        return $null
    }
}

# Run vertex-env and wait for it; gives its status, and what it has printed.
function global:__vertex_env_run([string[]] $arguments, [hashtable] $variables = @{}) {
    $process = __vertex_env_start $arguments $variables $false
    if ($null -eq $process) {
        [Console]::Error.WriteLine('vertex-env: error: vertex-env cannot be started')
        return @(126, '')
    }
    $text = $process.StandardOutput.ReadToEnd()
    $process.WaitForExit()
    return @($process.ExitCode, $text)
}

# Have vertex-env say what the variables are, and wait for that; gives its status.
function global:__vertex_env_ask([long] $now, [string[]] $more = @()) {
    $state = $global:__vertex_env
    # direnv watches the stamp: it takes the new token by itself.
    $direnv = __vertex_env_is_direnv
    # Nothing to begin with: it is due until there is something.
    if ($null -eq $env:VERTEX_ENV_REFRESH_AT -and -not $direnv) { $null = __vertex_env_do @('set VERTEX_ENV_REFRESH_AT=0') }
    if (-not (__vertex_env_is_there)) { return 127 }
    $state.Failed = $now + 300
    __vertex_env_pause $now
    [string[]] $command = if ($direnv) { @('token') } else { @('export', '--format', 'lines') }
    $status, $text = __vertex_env_run ($command + $more)
    if ($status -ne 0) { return $status }
    $state.Failed = 0
    if (-not $direnv -and -not (__vertex_env_do ($text -split '\r?\n'))) { return 1 }
    return 0
}

# --- setting variables, and setting them back ---

# Do what the lines say, `set NAME=VALUE` or `unset NAME`, and remember what there was before; gives whether that worked.
# All of it or nothing: a key beside another host's URL must not stay. PowerShell's own variables can be read-only, those
# of the environment cannot; what the system may refuse is a value that is too long.
function global:__vertex_env_do([string[]] $lines) {
    try { __vertex_env_set $lines } catch {
        __vertex_env_off
        [Console]::Error.WriteLine("vertex-env: error: a variable cannot be set, so none is: $($_.Exception.Message)")
        [Console]::Error.WriteLine('vertex-env: hint: see which one with vertex-env export, then vertex-env refresh')
        return $false
    }
    return $true
}

function global:__vertex_env_set([string[]] $lines) {
    $state = $global:__vertex_env
    foreach ($line in $lines) {
        if ($line -cnotmatch '\A(set|unset) ([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?\z') { continue }
        $verb, $name, $value = $Matches[1], $Matches[2], [string] $Matches[3]
        if (-not $state.Names.Contains($name)) {
            $state.Names.Add($name)
            # Values that another shell's hook has left in the environment are not restored by `off`.
            $old = [Environment]::GetEnvironmentVariable($name)
            if (-not $state.Inherited -and $null -ne $old) { $state.Before[$name] = $old }
        }
        # Before 7.5 an empty value unsets the variable, which no client tells from an empty one.
        if ($verb -ceq 'set') { [Environment]::SetEnvironmentVariable($name, $value) }
        else { Remove-Item -LiteralPath "Env:$name" -ErrorAction Ignore }
    }
}

function global:__vertex_env_off {
    $state = $global:__vertex_env
    foreach ($name in $state.Names) { Remove-Item -LiteralPath "Env:$name" -ErrorAction Ignore }
    foreach ($name in $state.Before.Keys) { [Environment]::SetEnvironmentVariable($name, $state.Before[$name]) }
    $first = $global:__vertex_env.First
    $global:__vertex_env = __vertex_env_state
    $global:__vertex_env.First = $first
}

# The names of what others have set, for `off`. Another value than ours is the user's own.
function global:__vertex_env_theirs {
    'OPENAI_API_KEY', 'OPENAI_BASE_URL', 'OPENAI_API_BASE'
    'VERTEX_ENV_EXPIRES_AT', 'VERTEX_ENV_REFRESH_AT', 'VERTEX_ENV_STAMP'
    if ($env:OPENAI_AGENTS_DISABLE_TRACING -ceq '1') { 'OPENAI_AGENTS_DISABLE_TRACING' }
}

function global:__vertex_env_state {
    @{
        Names = [Collections.Generic.List[string]]::new()
        Before = [Collections.Generic.Dictionary[string, string]]::new()
        Inherited = $false
        Failed = [long] 0
        Retry = [long] 0
        # At which VERTEX_ENV_REFRESH_AT that was, whether a prompt was, and whether the missing program was told.
        At = [string] $null
        First = $true
        Missing = $false
    }
}

# --- the stored answer ---

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; $false if not.
function global:__vertex_env_load([long] $now) {
    try { $lines = __vertex_env_stored $now } catch { $lines = $null }
    if ($null -eq $lines) { return $false }
    $global:__vertex_env.Failed = 0
    $global:__vertex_env.Retry = 0
    # Where it cannot be set, that has been said, and asking anew is no use.
    $null = __vertex_env_do $lines
    return $true
}

# What it says to do; $null if anything is not as it was, or is not what vertex-env writes.
function global:__vertex_env_stored([long] $now) {
    $vertexEnvProfile = [string] $env:VERTEX_ENV_PROFILE
    if ($vertexEnvProfile -cmatch '[^A-Za-z0-9._-]') { return $null }
    $folder = __vertex_env_folder
    if ($null -eq $folder) { return $null }
    $name = if ($vertexEnvProfile) { "shell-$vertexEnvProfile.snapshot" } else { 'shell.snapshot' }
    $lines = __vertex_env_read ([IO.Path]::Combine($folder, $name))
    if ($null -eq $lines -or $lines[0] -cne 'vertex-env-snapshot 2' -or $lines[-1] -cne 'end') { return $null }
    $stored = $stamp = $stampFile = $null
    $changes = [Collections.Generic.List[string]]::new()
    foreach ($line in $lines[1..($lines.Count - 2)]) {
        $verb, $rest = $line.Split([char[]] ' ', 2)
        switch -CaseSensitive -Exact ($verb) {
            'set' { $changes.Add($line); break }
            'unset' { foreach ($key in $rest.Split([char[]] ' ')) { $changes.Add("unset $key") }; break }
            { $_ -cin 'fits', 'lacks' } {
                $key, $value = $rest.Split([char[]] '=', 2)
                $has = [Environment]::GetEnvironmentVariable($key)
                if ($null -eq $has) { break }
                if ($verb -ceq 'fits' -and $has -cne $value) { return $null }
                if ($verb -ceq 'lacks' -and $has.ToLowerInvariant().Contains($value)) { return $null }
                break
            }
            'gone' {
                foreach ($key in $rest.Split([char[]] ' ')) {
                    if ($null -ne [Environment]::GetEnvironmentVariable($key)) { return $null }
                }
                break
            }
            'same' {
                $key, $value = $rest.Split([char[]] '=', 2)
                if ([Environment]::GetEnvironmentVariable($key) -cne $value) { return $null }
                break
            }
            'none' { if ([IO.File]::Exists($rest) -or [IO.Directory]::Exists($rest)) { return $null }; break }
            'file' {
                $null, $mark, $path = $rest.Split([char[]] ' ', 3)
                if ($mark -cnotmatch '\A[0-9a-f]+\.mark\z') { return $null }
                $mark = [IO.Path]::Combine($folder, $mark)
                if (-not (__vertex_env_is_ours $mark '-')) { return $null }
                if (-not ([IO.Path]::IsPathFullyQualified($path) -and [IO.File]::Exists($path))) { return $null }
                # What a link leads to is not looked at here: whoever has one for a file asks the program each time.
                if ([IO.File]::GetLastWriteTimeUtc($path) -ne [IO.File]::GetLastWriteTimeUtc($mark)) { return $null }
                break
            }
            'until' { if (-not (__vertex_env_is_after $rest $now)) { return $null }; break }
            'token' {
                if (-not (__vertex_env_is_within $folder $rest 'token')) { return $null }
                $stored = __vertex_env_read $rest
                break
            }
            'stamp' {
                if (-not (__vertex_env_is_within $folder $rest 'stamp')) { return $null }
                $stampFile = $rest
                $stamp = __vertex_env_stamp $rest
                break
            }
            default { return $null }
        }
    }
    if ($null -eq $stored -or $null -eq $stamp -or $stored.Count -lt 5) { return $null }
    if (-not (__vertex_env_is_harmless $changes.ToArray())) { return $null }
    if ($stored[0] -cne 'vertex-env-token 1') { return $null }
    if ($stored[2] -cnotmatch '\Aissued ([0-9]{1,15})(\.[0-9]*)?\z') { return $null }
    # Issued later than now, by more than clocks disagree: the clock was set back, and the expiry means nothing.
    if (__vertex_env_is_after $Matches[1] ($now + 300)) { return $null }
    if ($stored[3] -cnotmatch '\Aexpiry ([0-9]{1,15})(\.[0-9]*)?\z') { return $null }
    $ends = $Matches[1]
    if ($stored[4] -cnotmatch '\Atoken ([A-Za-z0-9._~+/=-]+)\z') { return $null }
    $token = $Matches[1]
    # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
    if ($stamp[1] -cne $ends -or -not (__vertex_env_is_after $ends ($now + 60))) { return $null }
    # Where to, and until when, before the key.
    $place = [string] [char] 0x1F
    foreach ($line in $changes) { if ($line -clike 'unset *') { $line } }
    foreach ($line in $changes) { if ($line -clike 'set *' -and -not $line.Contains($place)) { $line } }
    "set VERTEX_ENV_STAMP=$stampFile"
    "set VERTEX_ENV_EXPIRES_AT=$ends"
    "set VERTEX_ENV_REFRESH_AT=$($stamp[0])"
    foreach ($line in $changes) { if ($line.Contains($place)) { $line.Replace($place, $token) } }
}

# The folder where vertex-env keeps things; $null if there is none.
function global:__vertex_env_folder {
    $userHome = if ($env:HOME) { $env:HOME } else { [Environment]::GetFolderPath('UserProfile') }
    $folder = if ($env:VERTEX_ENV_CACHE_DIR) {
        $env:VERTEX_ENV_CACHE_DIR
    } elseif ($env:XDG_CACHE_HOME -and [IO.Path]::IsPathFullyQualified($env:XDG_CACHE_HOME)) {
        [IO.Path]::Combine($env:XDG_CACHE_HOME, 'vertex-env')
    } elseif ($IsMacOS) {
        [IO.Path]::Combine($userHome, 'Library', 'Caches', 'vertex-env')
    } elseif ($IsWindows -and $env:LOCALAPPDATA) {
        [IO.Path]::Combine($env:LOCALAPPDATA, 'vertex-env', 'Cache')
    } else {
        [IO.Path]::Combine($userHome, '.cache', 'vertex-env')
    }
    if (-not [IO.Path]::IsPathFullyQualified($folder)) { return $null }
    # With a slash at the end, a link would be what it leads to.
    return [IO.Path]::TrimEndingDirectorySeparator($folder)
}

# Whether a path is that of a file of some kind directly in the folder.
function global:__vertex_env_is_within([string] $folder, [string] $path, [string] $kind) {
    $name = [IO.Path]::GetFileName($path)
    return $name -cmatch "\A[0-9a-f]{32,64}\.$kind\z" -and $path -ceq [IO.Path]::Combine($folder, $name)
}

# Whether the changes are harmless even if the file is forged: they set only vertex-env's names, the
# token only as a key, and each URL on one of Google's hosts or on one that this shell itself allows.
function global:__vertex_env_is_harmless([string[]] $changes) {
    # begin: made by python -m tools.hooknames
    $keys = 'AIDER_OPENAI_API_KEY GENERIC_OPEN_AI_API_KEY OPENAI_API_KEY' -split ' '
    $urls = 'AIDER_OPENAI_API_BASE API_BASE_URL GENERIC_OPEN_AI_BASE_PATH OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_BASE_URL OPENAI_HOST' -split ' '
    $words = 'AIDER_MODEL DEFAULT_MODEL MODEL OPENAI_AGENTS_DISABLE_TRACING OPENAI_BASE_PATH OPENAI_MODEL' -split ' '
    # end
    $tracing = 'OPENAI_AGENTS_DISABLE_TRACING'
    $given = [Collections.Generic.List[string]]::new()
    foreach ($line in $changes) {
        if ($line -cnotmatch '\A(set|unset) ([A-Z_]+)(?:=(.*))?\z') { return $false }
        $verb, $name, $value = $Matches[1], $Matches[2], [string] $Matches[3]
        $known = if ($verb -ceq 'unset') {
            $name -cne $tracing -and ($name -cin $urls -or $name -cmatch '\AOPENAI_')
        } elseif ($name -cin $keys) {
            $value -ceq [string] [char] 0x1F
        } elseif ($name -cin $urls) {
            __vertex_env_is_allowed $value
        } elseif ($name -ceq $tracing) {
            $value -ceq '1'
        } else {
            $name -cin $words -and $value -cmatch '\A[A-Za-z0-9][A-Za-z0-9._/-]*\z'
        }
        if (-not $known) { return $false }
        if ($verb -ceq 'set') { $given.Add($name) }
    }
    # One of them missing, and clients that read that one would take the key to its default, which is OpenAI. The last
    # one keeps openai-agents from doing so at each run, unless the user wants that.
    if ($tracing -cnotin $given -and -not [Environment]::GetEnvironmentVariable($tracing)) { return $false }
    foreach ($name in 'OPENAI_API_KEY', 'OPENAI_BASE_URL', 'OPENAI_API_BASE') {
        if ($name -cnotin $given) { return $false }
    }
    return $true
}

# Whether a URL is one that a token may be sent to.
function global:__vertex_env_is_allowed([string] $url) {
    $plain = '\A(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~:@%+=,/-]*)?\z'
    if ($url -cnotmatch $plain) { return $false }
    $scheme, $server, $port = $Matches[1], $Matches[2], [string] $Matches[3]
    $google = $server -cmatch '\A([a-z0-9-]+\.)+(googleapis\.com|vertexai\.goog)\z'
    if ($scheme -ceq 'https' -and $google -and -not $port) { return $true }
    $local = $server -cin 'localhost', '[::1]' -or $server -cmatch '\A127(\.[0-9]{1,3}){3}\z'
    $allowed = ([string] $env:VERTEX_ENV_ALLOW_HOST).ToLowerInvariant() -split '[,\s]+'
    return $server -cin $allowed -and ($scheme -ceq 'https' -or $local)
}

# REFRESH_AT and EXPIRES_AT of the stamp in a file; $null if there is none.
function global:__vertex_env_stamp([string] $file) {
    $lines = __vertex_env_read $file
    if ($null -eq $lines -or [string] $lines[0] -cnotmatch '\A([0-9]{1,15}) ([0-9]{1,15}) [0-9]+\z') { return $null }
    return @($Matches[1], $Matches[2])
}

# The lines of a file that is for this user alone, and no link to one, in a folder that is so as well; $null if it is
# not. Always a list.
function global:__vertex_env_read([string] $path) {
    if (-not $path -or -not [IO.Path]::IsPathFullyQualified($path)) { return $null }
    if (-not (__vertex_env_is_ours ([IO.Path]::GetDirectoryName($path)) 'd')) { return $null }
    if (-not (__vertex_env_is_ours $path '-')) { return $null }
    try { $lines = [IO.File]::ReadAllLines($path) } catch { return $null }
    if ($lines.Count -eq 0) { return $null }
    return , $lines
}

# Whether a file ('-') or folder ('d'), and no link to one, is for this user alone.
function global:__vertex_env_is_ours([string] $path, [string] $kind) {
    $item = Get-Item -LiteralPath $path -Force -ErrorAction Ignore
    if ($null -eq $item -or $item.LinkType) { return $false }
    if ($item.PSIsContainer -ne ($kind -ceq 'd')) { return $false }
    if ($kind -ceq '-' -and $item.Length -gt 65536) { return $false }
    if ($IsWindows) { return $true }
    # A user without a name could be any.
    return $item.User -and $item.User -ceq [Environment]::UserName -and $item.UnixMode -cin '-rw-------', 'drwx------'
}

# --- commands that act on this shell ---

function global:vertex-env {
    # The program itself has the help, and refuses other options.
    $option = $args.Count -gt 1 -and "$($args[1])" -clike '-*'
    if ($args.Count -eq 0 -or $option -or $args[0] -cnotin 'use', 'refresh', 'off') {
        $program = Get-Command -Name vertex-env -CommandType Application -ErrorAction Stop | Select-Object -First 1
        if ($MyInvocation.ExpectingInput) { $input | & $program @args } else { & $program @args }
        return
    }
    $global:LASTEXITCODE = __vertex_env_main $args
}

# Gives the status.
function global:__vertex_env_main([string[]] $arguments) {
    $global:__vertex_env.Missing = $false
    if ($arguments[0] -ceq 'use' -and (__vertex_env_is_direnv)) {
        [Console]::Error.WriteLine('vertex-env: error: in this folder direnv sets the variables')
        [Console]::Error.WriteLine('vertex-env: hint: say it in .envrc: use vertex --profile NAME')
        return 1
    }
    $now = __vertex_env_clock
    switch -CaseSensitive -Exact ("$($arguments[0]),$($arguments.Count)") {
        'use,2' { return __vertex_env_use $now $arguments[1] }
        'refresh,1' { return __vertex_env_ask $now @('--refresh') }
        'off,1' {
            if (__vertex_env_is_direnv) {
                # What there was before is direnv's to set back, and ours to keep for outside of this folder.
                foreach ($name in (__vertex_env_theirs)) { Remove-Item -LiteralPath "Env:$name" -ErrorAction Ignore }
                [Console]::Error.WriteLine(
                    'vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc')
            } else {
                __vertex_env_off
            }
            return 0
        }
    }
    [Console]::Error.WriteLine("vertex-env: error: wrong number of arguments for $($arguments[0])")
    [Console]::Error.WriteLine('vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off')
    return 2
}

# Take another profile, if that works.
function global:__vertex_env_use([long] $now, [string] $name) {
    if (-not (__vertex_env_is_there)) { return 127 }
    $status, $null = __vertex_env_run @('export', '--format', 'lines') @{ VERTEX_ENV_PROFILE = $name }
    if ($status -ne 0) { return $status }
    __vertex_env_off
    $null = __vertex_env_do @("set VERTEX_ENV_PROFILE=$name")
    if (__vertex_env_load $now) { return 0 }
    return __vertex_env_ask $now
}

# --- now ---

if (-not (Test-Path -LiteralPath variable:global:__vertex_env)) {
    $global:__vertex_env = __vertex_env_state
    if ($null -ne $env:VERTEX_ENV_EXPIRES_AT) {
        # Another shell of ours has set these: that is what there is to take away.
        $global:__vertex_env.Inherited = $true
        $global:__vertex_env.Names.AddRange([string[]] @(__vertex_env_theirs))
    }

    # Once only, around what there is: that one runs last, and finds $? as the last command has left it.
    $global:__vertex_env_prompt = $function:prompt
    function global:prompt {
        $worked = $?
        __vertex_env_hook
        # Only a failure sets $? so.
        if (-not $worked) { Write-Error '' -ErrorAction Ignore }
        & $global:__vertex_env_prompt
    }
}

& {
    $now = __vertex_env_clock
    if (-not (__vertex_env_is_direnv) -and (__vertex_env_is_due $now)) { $null = __vertex_env_load $now }
}
