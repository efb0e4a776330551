# vertex-env for zsh, in ~/.zshrc:  eval "$(vertex-env hook zsh)"
#
# Loads what is stored at the start, asks for what is not at the first prompt (scp has none), and renews at the prompt and
# before a command. A prompt at which nothing is due costs one comparison of texts: no process, no file. Nothing that is
# read is ever evaluated. Each function begins with `emulate`, so that it works under any options, and with no trace of
# `set -x`, where tokens do not belong. `builtin` keeps the user's aliases and functions out.

builtin zmodload -F zsh/datetime p:EPOCHSECONDS

# --- at each prompt and before each command ---

__vertex_env_hook() {
  # Seconds since 1970 have ten digits until 2286. As texts, because arithmetic would run what an inherited value says.
  [[ $EPOCHSECONDS < "${VERTEX_ENV_REFRESH_AT-9999999999}" && -z ${__vertex_env_first-} ]] || __vertex_env_renew
}

# Whether direnv sets the variables: it has a hook here, and VIA is not just inherited.
__vertex_env_is_direnv() {
  builtin emulate -L zsh
  [[ ${VERTEX_ENV_VIA-} == direnv ]] && (( ${+functions[_direnv_hook]} ))
}

# Whether there is no key, or one that is due. Not which: this may be traced.
__vertex_env_is_due() {
  builtin emulate -L zsh
  [[ ! $EPOCHSECONDS < "${VERTEX_ENV_REFRESH_AT-0}" || ${VERTEX_ENV_REFRESH_AT-} == *[^0-9]* || -z ${OPENAI_API_KEY:+y} ]]
}

# powerlevel10k's instant prompt is on the screen, and takes what is said now for a mistake in ~/.zshrc: wait until the
# line editor reads, which it does after the prompt is drawn.
__vertex_env_later() {
  builtin emulate -L zsh
  builtin local fd=$1
  if [[ -z $fd ]]; then
    builtin exec {fd}</dev/null
    builtin zle -F $fd __vertex_env_later
    return
  fi
  builtin zle -F $fd
  builtin exec {fd}<&-
  builtin zle -I
  __vertex_env_hook
}

# The variables are due, or this is the first prompt: load what somebody has renewed already, or have it renewed, without
# waiting if that can be.
__vertex_env_renew() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  if [[ -n ${__vertex_env_first-} ]]; then
    if [[ -n ${__p9k_instant_prompt_active-} && $__vertex_env_first == 1 ]] && __vertex_env_is_due; then
      __vertex_env_first=2
      __vertex_env_later ''
      return 0
    fi
    __vertex_env_first=''
    __vertex_env_is_due || return 0
    if ! __vertex_env_is_direnv; then
      __vertex_env_get
      (( $? != 75 )) ||
        builtin print -ru2 'vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why'
      return 0
    fi
  fi
  # Others, or direnv, have set new ones.
  [[ ${VERTEX_ENV_REFRESH_AT-} == "${__vertex_env_at-}" ]] || __vertex_env_failed='' __vertex_env_retry=0
  # A file of our own, no link, and no more than a stamp has: zsh would read all of it.
  builtin local at='' wait='' small='(N.UL-256)'
  builtin local -a stamp
  [[ -z ${VERTEX_ENV_STAMP-} ]] || stamp=($VERTEX_ENV_STAMP$~small)
  if ! __vertex_env_is_direnv; then
    if (( $#stamp )); then
      { IFS=' ' builtin read -r at _ <$VERTEX_ENV_STAMP; } 2>/dev/null || at=''
      if [[ $at != $VERTEX_ENV_REFRESH_AT && $EPOCHSECONDS < $at ]]; then
        __vertex_env_load
        (( $? == 1 )) || return 0
        wait=1
      fi
    elif [[ -n $__vertex_env_failed ]]; then
      __vertex_env_load && return 0
    fi
  fi
  [[ $EPOCHSECONDS < $__vertex_env_retry ]] && return 0
  # There use_vertex says that the program is missing.
  ! __vertex_env_is_direnv || __vertex_env_missing=1
  __vertex_env_is_there || return 0
  __vertex_env_pause
  # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
  __vertex_env_is_soon "${VERTEX_ENV_EXPIRES_AT-0}" && wait=1
  [[ -n ${VERTEX_ENV_STAMP-} ]] || wait=1
  # Who is offline shall not wait at each prompt.
  if [[ -n $wait && ! $EPOCHSECONDS < ${__vertex_env_failed:-0} ]]; then
    __vertex_env_ask
  elif __vertex_env_is_direnv; then
    (builtin command vertex-env token </dev/null >/dev/null 2>&1 &)
  else
    (builtin command vertex-env export --format lines </dev/null >/dev/null 2>&1 &)
  fi
  return 0
}

# Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it is due.
__vertex_env_pause() {
  builtin emulate -L zsh
  builtin local ends=${VERTEX_ENV_EXPIRES_AT//[^0-9]/} at=${VERTEX_ENV_REFRESH_AT//[^0-9]/}
  builtin integer pause=$((10#0$ends - 10#0$at))
  (( pause > 0 && pause < 30 )) || pause=30
  __vertex_env_retry=$((EPOCHSECONDS + pause)) __vertex_env_at=${VERTEX_ENV_REFRESH_AT-}
}

# Whether the program is there; if not, says so once.
__vertex_env_is_there() {
  builtin emulate -L zsh
  if builtin whence -p vertex-env >/dev/null; then
    __vertex_env_missing=''
    return 0
  fi
  [[ -n ${__vertex_env_missing-} ]] || builtin print -ru2 -l -- \
    'vertex-env: error: there is no vertex-env on PATH' 'vertex-env: hint: put its folder on PATH, or install it'
  __vertex_env_missing=1
  return 127
}

# Whether the instant $1 is less than a minute away, or is no instant.
__vertex_env_is_soon() {
  builtin emulate -L zsh
  [[ -z $1 || $1 == *[^0-9]* || ! $((EPOCHSECONDS + 60)) < $1 ]]
}

# Have vertex-env say what the variables are, and wait for that.
__vertex_env_ask() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  builtin local lines line name
  # Nothing to begin with: it is due until there is something.
  [[ -n ${VERTEX_ENV_REFRESH_AT-} ]] || __vertex_env_is_direnv || __vertex_env_set VERTEX_ENV_REFRESH_AT= 0 || return
  __vertex_env_is_there || return
  __vertex_env_failed=$((EPOCHSECONDS + 300))
  __vertex_env_pause
  if __vertex_env_is_direnv; then
    # direnv watches the stamp: it takes the new token by itself, and at once if its hook has run already.
    builtin command vertex-env token "$@" </dev/null >/dev/null || return
    # Where nothing is stored, no file that direnv watches has changed.
    [[ -n ${VERTEX_ENV_STAMP-} ]] || builtin command direnv reload </dev/null 2>/dev/null || :
    _direnv_hook
    # If that has failed, not again at the next prompt.
    [[ ${VERTEX_ENV_REFRESH_AT-} == 0 ]] || __vertex_env_failed='' __vertex_env_retry=0
    return 0
  fi
  lines=$(builtin command vertex-env export --format lines "$@" </dev/null) || return
  __vertex_env_failed='' __vertex_env_retry=0
  builtin local -a changes
  for line in "${(@f)lines}"; do
    name=${${line#* }%%=*}
    [[ $name == [A-Za-z_]* && $name != *[^A-Za-z0-9_]* ]] || continue
    case $line in
      ('set '*) changes+=("$name=" "${line#*=}") ;;
      (*) changes+=("$name" '') ;;
    esac
  done
  __vertex_env_set "$changes[@]"
}

# Load what is stored; if that cannot be, ask.
__vertex_env_get() {
  builtin emulate -L zsh
  __vertex_env_load
  builtin local result=$?
  (( result != 1 )) || { __vertex_env_ask; result=$? }
  return result
}

# --- setting variables, and setting them back ---

# Export variables, or unset them, and remember what there was before: pairs of `NAME=` and a value, or of `NAME` and
# nothing. If one of them is read-only all is undone, because a client would send the key to another host; 3 then.
__vertex_env_set() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  builtin local name value
  for name value in "$@"; do
    name=${name%=}
    [[ ${(Pt)name} == *readonly* ]] || continue
    __vertex_env_off
    builtin print -ru2 -l -- "vertex-env: error: $name is read-only in this shell, so no variable is set" \
      'vertex-env: hint: remove the line that makes it read-only, or use: vertex-env run -- COMMAND'
    return 3
  done
  for name value in "$@"; do
    if (( ! ${+__vertex_env_before[${name%=}]} )); then
      # Values that another shell's hook has left in the environment are not restored by `off`.
      if [[ -z $__vertex_env_inherited && -n ${(P)${name%=}+set} ]]; then
        __vertex_env_before[${name%=}]="=${(P)${name%=}}"
      else
        __vertex_env_before[${name%=}]=''
      fi
    fi
    # The attributes go first: an array is not exported, and an integer evaluates the text.
    builtin unset "${name%=}"
    [[ $name != *= ]] || builtin typeset -gx "$name$value"
  done
  return 0
}

__vertex_env_off() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  builtin local name
  for name in "${(@k)__vertex_env_before}"; do
    # It would end this function half way.
    [[ ${(Pt)name} != *readonly* ]] || continue
    builtin unset "$name"
    [[ -z ${__vertex_env_before[$name]} ]] || builtin typeset -gx "$name${__vertex_env_before[$name]}"
  done
  __vertex_env_before=() __vertex_env_inherited='' __vertex_env_failed='' __vertex_env_retry=0
}

# --- the stored answer ---

# Whether the token may go to the URL $1: to a host of Google's, or to one that this shell's VERTEX_ENV_ALLOW_HOST names.
__vertex_env_is_url() {
  builtin emulate -L zsh
  builtin setopt extendedglob
  # In variables, because under `setopt sh_glob` zsh does not read such patterns.
  builtin local host=${${1#*://}%%/*} google='*.(googleapis.com|vertexai.goog)'
  builtin local loopback='http://(localhost|127.[0-9.]#|\[::1\])(:[0-9]##|)/*'
  [[ $1 != *[^]A-Za-z0-9._~:@%+=,/[-]* ]] || return 1
  [[ $1 != https://* || $host == *[^a-z0-9.-]* || $host != $~google ]] || return 0
  [[ $host != *[^]a-z0-9.:[-]* && $host != *:*[^]0-9:]* ]] || return 1
  [[ $1 == https://* || $1 == $~loopback ]] || return 1
  [[ $host == *\] ]] || host=${host%:*}
  [[ -n $host && " ${VERTEX_ENV_ALLOW_HOST//,/ } " == *" $host "* ]]
}

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; 1 if not. It may set our names
# only, and to what cannot hurt.
__vertex_env_load() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  builtin setopt extendedglob
  # begin: made by python -m tools.hooknames
  builtin local keys=' AIDER_OPENAI_API_KEY GENERIC_OPEN_AI_API_KEY OPENAI_API_KEY '
  builtin local urls=' AIDER_OPENAI_API_BASE API_BASE_URL GENERIC_OPEN_AI_BASE_PATH OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_BASE_URL OPENAI_HOST '
  builtin local words=' AIDER_MODEL DEFAULT_MODEL MODEL OPENAI_AGENTS_DISABLE_TRACING OPENAI_BASE_PATH OPENAI_MODEL '
  # end
  builtin local folder file line name token='' at='' expires='' url='' mark=$'\037'
  builtin local -a lines stored changes
  [[ ${VERTEX_ENV_PROFILE-} != *[^A-Za-z0-9._-]* ]] || return 1
  if [[ -n ${VERTEX_ENV_CACHE_DIR-} ]]; then
    folder=${VERTEX_ENV_CACHE_DIR%/}
  elif [[ ${XDG_CACHE_HOME-} == /* ]]; then
    folder=${XDG_CACHE_HOME%/}/vertex-env
  elif [[ $OSTYPE == darwin* ]]; then
    folder=${HOME-}/Library/Caches/vertex-env
  else
    folder=${HOME-}/.cache/vertex-env
  fi
  file=$folder/shell${VERTEX_ENV_PROFILE:+-$VERTEX_ENV_PROFILE}.snapshot
  # A folder and files of our own, no links, closed to others, and none of more than 64 KiB.
  builtin local issued='issued [0-9](#c10).*' closed='(N/Uf-77)' private='(N.Uf-77Lk-65)'
  [[ $folder == /* && -r $file ]] || return 1
  stored=($folder$~closed $file$~private)
  (( $#stored == 2 )) || return 1
  lines=("${(@f)$(<$file)}")
  [[ $lines[1] == 'vertex-env-snapshot 2' && $lines[-1] == end ]] || return 1
  for line in "${(@)lines[2,-2]}"; do
    name=${${line#* }%%=*}
    case $line in
      ('same '*)
        [[ $name == [A-Za-z_]* && $name != *[^A-Za-z0-9_]* ]] || return 1
        [[ -n ${(P)name+set} && ${(P)name} == "${line#*=}" ]] || return 1
        ;;
      ('none '*) [[ ! -e ${line#none } ]] || return 1 ;;
      ('set '*)
        line=${line#*=}
        if [[ $name == *' '* ]]; then
          return 1
        elif [[ $urls == *" $name "* ]]; then
          [[ -n $url && $line == "$url" ]] || __vertex_env_is_url "$line" || return 1
          url=$line
        elif [[ $words == *" $name "* ]]; then
          [[ $line == [A-Za-z0-9]* && $line != *[^A-Za-z0-9._/-]* ]] || return 1
          [[ $name != OPENAI_AGENTS_DISABLE_TRACING || $line == 1 ]] || return 1
        else
          [[ $keys == *" $name "* && $line == $mark && -n $token ]] || return 1
          line=$token
        fi
        changes+=("$name=" "$line")
        ;;
      ('gone '*)
        [[ $line != *[^A-Za-z0-9_\ ]* && $line != *\ [0-9]* ]] || return 1
        for name in ${(s: :)line#gone }; do [[ -z ${(P)name+set} ]] || return 1; done
        ;;
      ('unset '*)
        [[ $line != *[^A-Za-z0-9_\ ]* && $line != *\ [0-9]* ]] || return 1
        for name in ${(s: :)line#unset }; do
          [[ $name == OPENAI_* || $urls == *" $name "* ]] || return 1
          [[ $name != OPENAI_AGENTS_DISABLE_TRACING ]] || return 1
          [[ -z ${(P)name+set} ]] || changes=("$name" '' "$changes[@]")
        done
        ;;
      ('file '*)
        line=${line#file * }
        name=$folder/${line%% *} line=${line#* }
        [[ ${name%/*} == $folder && -e $line && -e $name && ! $line -nt $name && ! $line -ot $name ]] || return 1
        ;;
      ('fits '*|'lacks '*)
        [[ $name == [A-Za-z_]* && $name != *[^A-Za-z0-9_]* ]] || return 1
        if [[ -z ${(P)name+set} ]]; then
        elif [[ $line == fits* ]]; then
          [[ ${(P)name} == "${line#*=}" ]] || return 1
        else
          [[ ${(PL)name} != *"${line#*=}"* ]] || return 1
        fi
        ;;
      ('until '*) [[ $EPOCHSECONDS < ${line#until } ]] || return 1 ;;
      ('token '*)
        file=${line#token }
        [[ ${file%/*} == $folder && -r $file ]] || return 1
        stored=($file$~private)
        (( $#stored == 1 )) || return 1
        stored=("${(@f)$(<$file)}")
        [[ $#stored == 6 && $stored[1] == 'vertex-env-token 1' && $stored[3] == $~issued ]] || return 1
        # Issued in the future: the clock was set back since, and nobody knows when it ends.
        [[ ! $((EPOCHSECONDS + 300)) < ${${stored[3]#issued }%%.*} ]] || return 1
        expires=${${stored[4]#expiry }%%.*} token=${stored[5]#token }
        [[ -n $token && $token != *[^A-Za-z0-9._~+/=-]* ]] || return 1
        ;;
      ('stamp '*)
        file=${line#stamp }
        [[ ${file%/*} == $folder && -r $file ]] || return 1
        stored=($file$~private)
        (( $#stored == 1 )) || return 1
        stored=(${(s: :)$(<$file)})
        at=$stored[1]
        [[ $#stored == 3 && -n $at && $at != *[^0-9]* ]] || return 1
        # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
        [[ $expires == $stored[2] ]] || return 1
        ! __vertex_env_is_soon $expires || return 1
        ;;
      (*) return 1 ;;
    esac
  done
  [[ -n $at ]] || return 1
  for name in OPENAI_BASE_URL= OPENAI_API_BASE= OPENAI_API_KEY=; do (( ${changes[(Ie)$name]} )) || return 1; done
  # Without this one, openai-agents takes the key to OpenAI; the user's own value is the user's choice.
  (( ${changes[(Ie)OPENAI_AGENTS_DISABLE_TRACING=]} )) || [[ -n ${OPENAI_AGENTS_DISABLE_TRACING-} ]] || return 1
  __vertex_env_set VERTEX_ENV_STAMP= $file VERTEX_ENV_EXPIRES_AT= $expires VERTEX_ENV_REFRESH_AT= $at "$changes[@]" || return
  __vertex_env_failed='' __vertex_env_retry=0
}

# --- commands that act on this shell ---

# What others have set, for `off`.
__vertex_env_adopt() {
  builtin emulate -L zsh
  __vertex_env_before=(
    OPENAI_API_KEY '' OPENAI_BASE_URL '' OPENAI_API_BASE ''
    VERTEX_ENV_EXPIRES_AT '' VERTEX_ENV_REFRESH_AT '' VERTEX_ENV_STAMP ''
  )
  # Another value than ours is the user's own.
  [[ ${OPENAI_AGENTS_DISABLE_TRACING-} != 1 ]] || __vertex_env_before[OPENAI_AGENTS_DISABLE_TRACING]=''
}

vertex-env() {
  builtin emulate -L zsh
  __vertex_env_missing=''
  case ${1-},${2-} in
    # The program itself has the help, and refuses other options.
    (use,-*|refresh,-*|off,-*)
      builtin command vertex-env "$@"
      return
      ;;
  esac
  [[ ${1-} == off ]] || __vertex_env_is_there || return
  case ${1-} in
    (use|refresh|off) ;;
    (*)
      builtin command vertex-env "$@"
      return
      ;;
  esac
  if [[ $1 == use ]] && __vertex_env_is_direnv; then
    builtin print -ru2 -l -- 'vertex-env: error: in this folder direnv sets the variables' \
      'vertex-env: hint: say it in .envrc: use vertex --profile NAME'
    return 1
  fi
  case $1,$# in
    (use,2) __vertex_env_use "$2" ;;
    (refresh,1) __vertex_env_ask --refresh ;;
    (off,1)
      if __vertex_env_is_direnv; then
        # What there was before is direnv's to set back, and ours to keep for outside of this folder.
        builtin local -A __vertex_env_before
        __vertex_env_adopt
        builtin print -ru2 'vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc'
      fi
      __vertex_env_off
      ;;
    (*)
      builtin print -ru2 -l -- "vertex-env: error: wrong number of arguments for $1" \
        'vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off'
      return 2
      ;;
  esac
}

# Take another profile, if that works.
__vertex_env_use() {
  builtin emulate -L zsh
  builtin unsetopt xtrace
  VERTEX_ENV_PROFILE=$1 builtin command vertex-env export --format lines </dev/null >/dev/null || return
  __vertex_env_off
  __vertex_env_set VERTEX_ENV_PROFILE= "$1" || return
  __vertex_env_get
}

# --- now ---

# What has been kept here since a first time. The environment could have such variables too, but no associative array.
if [[ ${(t)__vertex_env_before-} != association* ]]; then
  builtin unset __vertex_env_before __vertex_env_failed __vertex_env_retry __vertex_env_inherited __vertex_env_at
  builtin typeset -gA __vertex_env_before
  builtin typeset -g __vertex_env_failed='' __vertex_env_retry=0 __vertex_env_at='' __vertex_env_missing='' \
    __vertex_env_inherited=${VERTEX_ENV_EXPIRES_AT-}
  if [[ -n $__vertex_env_inherited ]]; then
    # They are not ours to set back.
    __vertex_env_adopt
  fi
fi
builtin typeset -g __vertex_env_first=1

builtin typeset -ga precmd_functions preexec_functions
(( ${precmd_functions[(Ie)__vertex_env_hook]} )) || precmd_functions+=(__vertex_env_hook)
(( ${preexec_functions[(Ie)__vertex_env_hook]} )) || preexec_functions+=(__vertex_env_hook)

if ! __vertex_env_is_direnv && __vertex_env_is_due; then
  # What fails now is said at the first prompt. `zsh -ic` has none.
  __vertex_env_load 2>/dev/null || [[ ! -o interactive || -z ${ZSH_EXECUTION_STRING-} ]] || __vertex_env_ask || true
fi
