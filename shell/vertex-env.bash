# vertex-env for bash 3.2 and newer, in ~/.bashrc:  eval "$(vertex-env hook bash)"
#
# Loads what is stored at the start, asks for what is not at the first prompt (scp has none), and renews at the prompt. One
# at which nothing is due costs one comparison of texts: no process, no file. Nothing that is read is ever evaluated.
#
# SC2016: PS0 is expanded later. SC2071: epochs are compared as texts, on purpose. SC2086: lists of names are split.
# SC2119, SC2120: further arguments are optional. SC2128, SC2178: PROMPT_COMMAND is a text in old versions and an array in
# new ones.
# shellcheck shell=bash disable=SC2016,SC2071,SC2086,SC2119,SC2120,SC2128,SC2178

# No alias changes what follows.
__vertex_env_aliases=''
\builtin shopt -q expand_aliases && \builtin shopt -u expand_aliases && __vertex_env_aliases=1

# --- what time it is, without a process, and at each prompt ---

# Seconds since 1970 have ten digits until 2286. As texts, because arithmetic would run what an inherited value says.
if [[ ${BASH_VERSINFO[0]} -ge 5 ]]; then
  __vertex_env_clock() { __vertex_env_now=$EPOCHSECONDS; }
  __vertex_env_hook() {
    local __vertex_env_status=$?
    [[ $EPOCHSECONDS < ${VERTEX_ENV_REFRESH_AT-9999999999} && -z ${__vertex_env_first-} ]] || __vertex_env_renew
    return "$__vertex_env_status"
  }
else
  if [[ ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 2 ]]; then
    __vertex_env_clock() { builtin printf -v __vertex_env_now '%(%s)T' -1; }
  else
    # In these SECONDS follows the clock on the wall.
    __vertex_env_epoch=$(($(command date +%s) - SECONDS))
    __vertex_env_clock() { __vertex_env_now=$((__vertex_env_epoch + SECONDS)); }
  fi
  __vertex_env_hook() {
    local __vertex_env_status=$?
    __vertex_env_clock
    [[ $__vertex_env_now < ${VERTEX_ENV_REFRESH_AT-9999999999} && -z ${__vertex_env_first-} ]] || __vertex_env_renew
    return "$__vertex_env_status"
  }
fi

# Whether direnv sets the variables: it has a hook here, and VIA is not just inherited.
__vertex_env_is_direnv() { [[ ${VERTEX_ENV_VIA-} == direnv ]] && builtin declare -F _direnv_hook >/dev/null; }

# Whether there is no key, or one that is due. Not which: this may be traced.
__vertex_env_is_due() {
  [[ ! $__vertex_env_now < ${VERTEX_ENV_REFRESH_AT-0} || ${VERTEX_ENV_REFRESH_AT-} == *[!0-9]* || -z ${OPENAI_API_KEY:+y} ]]
}

# The variables are due, or this is the first prompt: load what somebody has renewed already, or have it renewed, without
# waiting if that can be.
__vertex_env_renew() {
  local at='' wait='' left
  __vertex_env_clock
  if [[ -n ${__vertex_env_first-} ]]; then
    __vertex_env_first=''
    __vertex_env_register
    __vertex_env_is_due || return 0
    __vertex_env_is_direnv || {
      __vertex_env_untraced __vertex_env_get || [[ $? -ne 75 ]] ||
        builtin printf 'vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why\n' >&2
      return 0
    }
  fi
  # Others, or direnv, have set new ones.
  [[ ${VERTEX_ENV_REFRESH_AT-} == "${__vertex_env_at-}" ]] || __vertex_env_failed='' __vertex_env_retry=0
  if ! __vertex_env_is_direnv; then
    if [[ -O ${VERTEX_ENV_STAMP-} && -f $VERTEX_ENV_STAMP ]]; then
      IFS=' ' builtin read -rn 64 at _ <"$VERTEX_ENV_STAMP" 2>/dev/null || at=''
      if [[ $at != "$VERTEX_ENV_REFRESH_AT" && $__vertex_env_now < $at ]]; then
        __vertex_env_untraced __vertex_env_load || [[ $? -ne 1 ]] && return 0
        wait=1
      fi
    elif [[ -n $__vertex_env_failed ]]; then
      __vertex_env_untraced __vertex_env_load && return 0
    fi
  fi
  [[ $__vertex_env_now < $__vertex_env_retry ]] && return 0
  # There use_vertex says that the program is missing.
  ! __vertex_env_is_direnv || __vertex_env_missing=1
  __vertex_env_is_there || return 0
  __vertex_env_pause
  # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
  [[ -n ${VERTEX_ENV_STAMP-} && $left -gt 60 ]] || wait=1
  # Who is offline shall not wait at each prompt.
  if [[ -n $wait && ! $__vertex_env_now < ${__vertex_env_failed:-0} ]]; then
    __vertex_env_untraced __vertex_env_ask
  elif __vertex_env_is_direnv; then
    (command vertex-env token </dev/null >/dev/null 2>&1 &)
  else
    (command vertex-env export --format lines </dev/null >/dev/null 2>&1 &)
  fi
  return 0
}

# Not again for half a minute, or for a quarter of the life of a token that lives shorter: that is how early it is due.
__vertex_env_pause() {
  local ends=${VERTEX_ENV_EXPIRES_AT-} at=${VERTEX_ENV_REFRESH_AT-} pause
  ends=$((10#0${ends//[!0-9]/})) at=$((10#0${at//[!0-9]/}))
  left=$((ends - __vertex_env_now)) pause=$((ends - at))
  [[ $pause -gt 0 && $pause -lt 30 ]] || pause=30
  __vertex_env_retry=$((__vertex_env_now + pause)) __vertex_env_at=${VERTEX_ENV_REFRESH_AT-}
}

# Whether the program is there; if not, says so once. What bash remembers may be gone.
__vertex_env_is_there() {
  {
    builtin hash -d vertex-env
    builtin type -P vertex-env && __vertex_env_missing='' && return
  } >/dev/null 2>&1 || [[ -n ${__vertex_env_missing-} ]] || builtin printf '%s\n' \
    'vertex-env: error: there is no vertex-env on PATH' 'vertex-env: hint: put its folder on PATH, or install it' >&2
  __vertex_env_missing=1
  return 127
}

# Before each command as well where that can be: after a night at the prompt, the first one has a fresh token. At the
# first prompt, as bash-preexec and ble.sh may be loaded later than this.
__vertex_env_preexec() { __vertex_env_hook || :; }
__vertex_env_register() {
  if [[ -n ${BLE_VERSION-} ]]; then
    blehook PREEXEC!=__vertex_env_preexec
  elif [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
    case " ${preexec_functions[*]-} " in
    *' __vertex_env_preexec '*) ;;
    *) preexec_functions+=(__vertex_env_preexec) ;;
    esac
  elif [[ ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -ge 53 && ${PS0-} != *__vertex_env_* ]] && builtin shopt -q promptvars; then
    # Since 5.3 what is shown before a command can run a function, in this very shell; it shows nothing. Not where another
    # shell would inherit that, without the function.
    [[ ${PS0+${PS0@a}} == *x* ]] || PS0=${PS0-}'${| __vertex_env_preexec; }'
  fi
}

# Run "$@" without the trace of set -x, in which tokens do not belong, and with `nocasematch` off, so that names and values
# are compared as they are.
__vertex_env_untraced() {
  local status=0 options=$-
  builtin set +x
  if builtin shopt -q nocasematch; then
    builtin shopt -u nocasematch
    "$@" || status=$?
    builtin shopt -s nocasematch
  else
    "$@" || status=$?
  fi
  [[ $options != *x* ]] || builtin set -x
  return "$status"
}

# Have vertex-env say what the variables are, and wait for that.
__vertex_env_ask() {
  local lines line name names='' left
  # Nothing to begin with: it is due until there is something.
  [[ -n ${VERTEX_ENV_REFRESH_AT-} ]] || __vertex_env_is_direnv ||
    __vertex_env_set VERTEX_ENV_REFRESH_AT VERTEX_ENV_REFRESH_AT=0 || return
  __vertex_env_is_there || return
  __vertex_env_failed=$((__vertex_env_now + 300))
  __vertex_env_pause
  if __vertex_env_is_direnv; then
    # direnv watches the stamp: it takes the new token by itself, and at once if its hook has run already.
    command vertex-env token "$@" </dev/null >/dev/null || return
    # Where nothing is stored, no file that direnv watches has changed.
    [[ -n ${VERTEX_ENV_STAMP-} ]] || command direnv reload </dev/null 2>/dev/null || :
    _direnv_hook || :
    # If that has failed, not again at the next prompt.
    [[ ${VERTEX_ENV_REFRESH_AT-} == 0 ]] || __vertex_env_failed='' __vertex_env_retry=0
    return 0
  fi
  lines=$(\command vertex-env export --format lines "$@" </dev/null) || return
  __vertex_env_failed='' __vertex_env_retry=0
  builtin set --
  while [[ -n $lines ]]; do
    line=${lines%%$'\n'*}
    lines=${lines#"$line"}
    lines=${lines#$'\n'}
    name=${line#* }
    name=${name%%=*}
    case $name in '' | [0-9]* | *[!A-Za-z0-9_]*) continue ;; esac
    names="$names $name"
    case $line in 'set '*) builtin set -- "$@" "$name=${line#*=}" ;; esac
  done
  __vertex_env_set "$names" "$@"
}

# Load what is stored; if that cannot be, ask.
__vertex_env_get() {
  local status=0
  __vertex_env_load || status=$?
  [[ $status -eq 1 ]] || return "$status"
  __vertex_env_ask
}

# --- setting variables, and setting them back ---

# Unset the variables that $1 names, then export the others of "$@", each NAME=VALUE, and remember what there was before.
# If one of them is read-only, none stays, because a client would send the key to another host, and this says so.
#
# By `builtin`, because in POSIX mode a failure would end the shell. All are unset before one is set: an array is not
# exported, a reference sets another variable, and what is read-only shows. bash before 4.3 has no -n.
__vertex_env_set() {
  local __vertex_env_name IFS=' '
  # Values that another shell's hook has left in the environment are not restored by `off`.
  [[ -n $__vertex_env_inherited ]] || for __vertex_env_name in $1; do
    [[ -z ${!__vertex_env_name+set} || " $__vertex_env_names " == *" $__vertex_env_name "* ]] ||
      __vertex_env_before[${#__vertex_env_before[@]}]="$__vertex_env_name=${!__vertex_env_name}"
  done
  [[ " $__vertex_env_names " == *" $1 "* ]] || __vertex_env_names="$__vertex_env_names $1"
  {
    builtin unset -n $1 || :
    if builtin unset -v $1; then
      [[ $# -gt 1 ]] || return 0
      builtin export "${@:2}" && return
    fi
    for __vertex_env_name in $1; do builtin unset -v "$__vertex_env_name" || break; done
  } 2>/dev/null
  __vertex_env_off
  builtin printf '%s\n' "vertex-env: error: $__vertex_env_name is read-only in this shell, so no variable is set" \
    'vertex-env: hint: remove the line that makes it read-only, or use: vertex-env run -- COMMAND' >&2
  return 3
}

__vertex_env_off() {
  local entry IFS=' '
  for entry in $__vertex_env_names; do
    case $entry in [0-9]* | *[!A-Za-z0-9_]*) ;; *) builtin unset -v "$entry" || : ;; esac
  done 2>/dev/null
  for entry in ${__vertex_env_before[@]+"${__vertex_env_before[@]}"}; do
    builtin export "${entry?}" || :
  done 2>/dev/null
  __vertex_env_names='' __vertex_env_before=() __vertex_env_inherited='' __vertex_env_failed='' __vertex_env_retry=0
}

# --- the stored answer ---

# Read the file $1 into the variable `stored` of the caller. Half as long as line by line, which bash 3.2 has to.
if [[ ${BASH_VERSINFO[0]} -ge 4 ]]; then
  __vertex_env_read() { builtin mapfile -t stored <"$1"; }
else
  __vertex_env_read() {
    local line
    stored=()
    while IFS= builtin read -r line; do stored[${#stored[@]}]=$line; done <"$1"
  }
fi

# Whether the token may go to the URL $1: to a host of Google's, or to one that this shell's VERTEX_ENV_ALLOW_HOST names.
__vertex_env_is_url() {
  local host=${1#*://}
  host=${host%%/*}
  case $1,$host in
  *[!]A-Za-z0-9._~:@%+=,/[-]*) return 1 ;;
  https://*,*[!a-z0-9.-]*) ;;
  https://*,*.googleapis.com | https://*,*.vertexai.goog) return 0 ;;
  esac
  case $1,$host in
  *,*[!]a-z0-9.:[-]* | *,*:*[!]0-9:]*) return 1 ;;
  https://* | http://*,localhost:* | http://*,127.*:* | http://*,\[::1\]:*) ;;
  *) return 1 ;;
  esac
  case $host in *']') ;; *) host=${host%:*} ;; esac
  [[ -n $host && " ${VERTEX_ENV_ALLOW_HOST//,/ } " == *" $host "* ]]
}

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; 1 if not. Others may have
# written to it, which bash cannot see: it may set our names only, and to what cannot hurt.
__vertex_env_load() {
  # Bytes take less time than letters. An LC_ALL that is set stays: if it is wrong, bash would say so again at the end.
  [[ -n ${LC_ALL-} ]] || local LC_ALL=C
  local folder file line name kind ends='' token='' at='' url='' drop='' names=' ' stored=() values=() IFS=' '
  case ${VERTEX_ENV_PROFILE-} in *[!A-Za-z0-9._-]*) return 1 ;; esac
  folder=${HOME-}/.cache
  [[ $OSTYPE != darwin* ]] || folder=${HOME-}/Library/Caches
  [[ ${XDG_CACHE_HOME-} != /* ]] || folder=${XDG_CACHE_HOME%/}
  folder=${VERTEX_ENV_CACHE_DIR:-$folder/vertex-env}
  folder=${folder%/}
  file=$folder/shell${VERTEX_ENV_PROFILE:+-$VERTEX_ENV_PROFILE}.snapshot
  [[ $folder == /* && -O $folder && ! -L $folder && -O $file && -f $file && -r $file && ! -L $file ]] || return 1
  __vertex_env_read "$file"
  [[ ${#stored[@]} -gt 5 && ${stored[0]} == 'vertex-env-snapshot 2' && ${stored[${#stored[@]} - 1]} == end ]] || return 1
  for line in "${stored[@]:1:${#stored[@]}-2}"; do
    case $line in
    'same '* | 'fits '* | 'lacks '*)
      name=${line#* } name=${name%%=*}
      case $name in '' | [0-9]* | *[!A-Za-z0-9_]*) return 1 ;; esac
      case $line in
      "same $name=${!name-$line}" | "fits $name=${!name-${line:${#name}+6}}") ;;
      [sf]*) return 1 ;;
      *)
        name=${!name-}
        [[ -z $name ]] || [[ ${BASH_VERSINFO[0]} -ge 4 && ${name,,} != *"${line#*=}"* ]]
        ;;
      esac
      ;;
    'none '*) [[ ! -e ${line#none } ]] ;;
    'file '*)
      line=${line#file * }
      name=$folder/${line%% *} line=${line#* }
      [[ ${name%/*} == "$folder" && -e $line && -e $name && ! $line -nt $name && ! $line -ot $name ]]
      ;;
    'gone '* | 'unset '*)
      case $line in *[!A-Za-z0-9_\ ]* | *\ [0-9]*) return 1 ;; esac
      for name in ${line#* }; do
        [[ -z ${!name+set} ]] || {
          [[ $line == 'unset '* && $name == OPENAI_* ]] || return 1
          drop="$drop $name"
        }
      done
      ;;
    'set '*)
      name=${line:4} name=${name%%=*}
      line=${line:${#name}+5}
      case $name in
      # begin: made by python -m tools.hooknames
      AIDER_OPENAI_API_KEY | GENERIC_OPEN_AI_API_KEY | OPENAI_API_KEY) kind=keys ;;
      AIDER_OPENAI_API_BASE | API_BASE_URL | GENERIC_OPEN_AI_BASE_PATH | OPENAI_API_BASE | OPENAI_API_BASE_URL | OPENAI_BASE_URL | OPENAI_HOST) kind=urls ;;
      AIDER_MODEL | DEFAULT_MODEL | MODEL | OPENAI_AGENTS_DISABLE_TRACING | OPENAI_BASE_PATH | OPENAI_MODEL) kind=words ;;
      # end
      *) return 1 ;;
      esac
      case $kind in
      urls)
        [[ -n $url && $line == "$url" ]] || __vertex_env_is_url "$line" || return 1
        url=$line
        ;;
      keys)
        [[ $line == $'\037' && -n $token ]] || return 1
        line=$token
        ;;
      words)
        [[ $line == [A-Za-z0-9]* && $line != *[!A-Za-z0-9._/-]* ]] || return 1
        [[ $name != OPENAI_AGENTS_DISABLE_TRACING || $line == 1 ]] || return 1
        ;;
      esac
      names="$names$name " values[${#values[@]}]=$name=$line
      ;;
    'token '* | 'stamp '*)
      file=${line#* }
      [[ ${file%/*} == "$folder" && -O $file && -f $file && -r $file && ! -L $file ]] || return 1
      case $line in
      token*)
        __vertex_env_read "$file"
        [[ -z $at && ${#stored[@]} -eq 6 && ${stored[0]} == 'vertex-env-token 1' ]] || return 1
        name=${stored[2]#issued } ends=${stored[3]#expiry } token=${stored[4]#token }
        name=${name%%.*} ends=${ends%%.*}
        # Issued in the future: the clock was set back since, and nobody knows when it ends.
        [[ $name == ?????????? && $name != *[!0-9]* && ! $((__vertex_env_now + 300)) < $name ]] || return 1
        [[ -n $token && $token != *[!A-Za-z0-9._~+/=-]* ]]
        ;;
      *)
        # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
        builtin read -rn 64 at name _ <"$file" &&
          [[ -n $at && $at$ends != *[!0-9]* && $ends == "$name" && $((__vertex_env_now + 60)) < $ends ]]
        ;;
      esac
      ;;
    'until '*) [[ $__vertex_env_now < ${line#until } ]] ;;
    *) false ;;
    esac || return 1
  done
  [[ -n $at && $names == *' OPENAI_BASE_URL '* && $names == *' OPENAI_API_BASE '* && $names == *' OPENAI_API_KEY '* ]] || return 1
  # Without this one, openai-agents takes the key to OpenAI; the user's own value is the user's choice.
  name=OPENAI_AGENTS_DISABLE_TRACING
  [[ $names == *" $name "* || -n ${!name-} && $drop != *" $name"* ]] || return 1
  # The key is the last of `values`: without the others it would go to another host.
  __vertex_env_set "VERTEX_ENV_STAMP VERTEX_ENV_EXPIRES_AT VERTEX_ENV_REFRESH_AT$names$drop" "VERTEX_ENV_STAMP=$file" \
    "VERTEX_ENV_EXPIRES_AT=$ends" "VERTEX_ENV_REFRESH_AT=$at" "${values[@]}" || return
  __vertex_env_failed='' __vertex_env_retry=0
}

# --- commands that act on this shell ---

__vertex_env_main() {
  case ${1-},${2-} in
  # The program itself has the help, and refuses other options.
  use,-* | refresh,-* | off,-*)
    command vertex-env "$@"
    return
    ;;
  esac
  __vertex_env_missing=''
  [[ ${1-} == off ]] || __vertex_env_is_there || return
  case ${1-} in
  use | refresh | off) ;;
  *)
    command vertex-env "$@"
    return
    ;;
  esac
  if [[ $1 == use ]] && __vertex_env_is_direnv; then
    builtin printf '%s\n' 'vertex-env: error: in this folder direnv sets the variables' \
      'vertex-env: hint: say it in .envrc: use vertex --profile NAME' >&2
    return 1
  fi
  __vertex_env_clock
  case $1,$# in
  use,2) __vertex_env_untraced __vertex_env_use "$2" ;;
  refresh,1) __vertex_env_untraced __vertex_env_ask --refresh ;;
  off,1)
    if __vertex_env_is_direnv; then
      # What there was before is direnv's to set back, and ours to keep for outside of this folder.
      local __vertex_env_names __vertex_env_before=()
      __vertex_env_adopt
      builtin printf 'vertex-env: hint: direnv sets them again when it reloads: take use vertex out of .envrc\n' >&2
    fi
    __vertex_env_untraced __vertex_env_off
    ;;
  *)
    builtin printf '%s\n' "vertex-env: error: wrong number of arguments for $1" \
      'vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off' >&2
    return 2
    ;;
  esac
}

# Take another profile, if that works.
__vertex_env_use() {
  VERTEX_ENV_PROFILE=$1 command vertex-env export --format lines </dev/null >/dev/null || return
  __vertex_env_off
  __vertex_env_set VERTEX_ENV_PROFILE "VERTEX_ENV_PROFILE=$1" || return
  __vertex_env_get
}

# What others have set, for `off`.
__vertex_env_adopt() {
  __vertex_env_names='OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE'
  __vertex_env_names+=' VERTEX_ENV_EXPIRES_AT VERTEX_ENV_REFRESH_AT VERTEX_ENV_STAMP'
  # Another value than ours is the user's own.
  [[ ${OPENAI_AGENTS_DISABLE_TRACING-} != 1 ]] || __vertex_env_names+=' OPENAI_AGENTS_DISABLE_TRACING'
}

# In POSIX mode a function cannot have this name.
if [[ :${SHELLOPTS-}: != *:posix:* ]]; then
  vertex-env() { __vertex_env_main "$@"; }
fi

# --- now ---

# What has been kept here since a first time. The environment could have such variables too, but no array.
if [[ -z ${__vertex_env_here[1]+set} ]]; then
  builtin unset -v __vertex_env_here __vertex_env_names __vertex_env_before __vertex_env_failed __vertex_env_retry \
    __vertex_env_inherited
  __vertex_env_here=(. .) __vertex_env_names='' __vertex_env_before=() __vertex_env_failed='' __vertex_env_retry=0
  __vertex_env_inherited=${VERTEX_ENV_EXPIRES_AT-}
  # They are not ours to set back.
  [[ -z $__vertex_env_inherited ]] || __vertex_env_adopt
fi
__vertex_env_first=1

# After the others: who is behind a hook that was put in front finds PIPESTATUS changed. With `&&`, a status that is
# handed on is nothing that set -e or an ERR trap would mind.
case ";${PROMPT_COMMAND[*]-};" in
*__vertex_env_hook*) ;;
*)
  if [[ ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -ge 51 && -n ${PROMPT_COMMAND[*]+set} && ${PROMPT_COMMAND@a} == *a* ]]; then
    PROMPT_COMMAND+=('__vertex_env_hook && :')
  else
    while [[ ${PROMPT_COMMAND-} == *[[:space:]\;] ]]; do PROMPT_COMMAND=${PROMPT_COMMAND%?}; done
    PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND;}__vertex_env_hook && :"
  fi
  ;;
esac

__vertex_env_clock
if ! __vertex_env_is_direnv && __vertex_env_is_due; then
  # What fails now is said at the first prompt. `bash -ic` has none.
  __vertex_env_untraced __vertex_env_load 2>/dev/null || [[ $- != *i* || $- != *c* ]] || __vertex_env_untraced __vertex_env_ask || :
fi

[[ -z $__vertex_env_aliases ]] || builtin shopt -s expand_aliases
