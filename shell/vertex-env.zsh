# vertex-env for zsh, in ~/.zshrc:  eval "$(vertex-env hook zsh)"
#
# Loads the variables when the shell starts and renews them at the prompt, and before a command, before they expire. A
# prompt at which nothing is due costs one comparison of texts: no process, no file. Nothing that is read is ever
# evaluated. Each function begins with `emulate`, so that it works under any options, and with no trace of `set -x`,
# where tokens do not belong.

zmodload -F zsh/datetime p:EPOCHSECONDS

# --- at each prompt and before each command ---

__vertex_env_hook() {
  # Seconds since 1970 have ten digits until 2286. As texts, because arithmetic would run what an inherited value says.
  [[ $EPOCHSECONDS < "${VERTEX_ENV_REFRESH_AT-9999999999}" ]] || __vertex_env_renew
}

# The variables are due: load what somebody has renewed already, or have it renewed, without waiting if that can be.
__vertex_env_renew() {
  emulate -L zsh
  unsetopt xtrace
  local at='' wait=''
  if [[ ${VERTEX_ENV_VIA-} != direnv ]]; then
    if [[ -O ${VERTEX_ENV_STAMP-} && -f $VERTEX_ENV_STAMP ]]; then
      { IFS=' ' read -r at _ <$VERTEX_ENV_STAMP; } 2>/dev/null || at=''
      if [[ $at != $VERTEX_ENV_REFRESH_AT && $EPOCHSECONDS < $at ]]; then
        __vertex_env_load && return 0
        wait=1
      fi
    elif [[ -n $__vertex_env_failed ]]; then
      __vertex_env_load && return 0
    fi
  fi
  [[ $EPOCHSECONDS < $__vertex_env_retry ]] && return 0
  __vertex_env_retry=$((EPOCHSECONDS + 30))
  # Only in the last minute is it worth waiting for, or where nothing is stored for us to load later.
  __vertex_env_is_soon "${VERTEX_ENV_EXPIRES_AT-0}" && wait=1
  [[ -n ${VERTEX_ENV_STAMP-} ]] || wait=1
  # Who is offline shall not wait at each prompt.
  if [[ -n $wait && ! $EPOCHSECONDS < ${__vertex_env_failed:-0} ]]; then
    __vertex_env_ask
  elif [[ ${VERTEX_ENV_VIA-} == direnv ]]; then
    (command vertex-env token </dev/null >/dev/null 2>&1 &)
  else
    (command vertex-env export --format lines </dev/null >/dev/null 2>&1 &)
  fi
  return 0
}

# Whether the instant $1 is less than a minute away, or is no instant.
__vertex_env_is_soon() {
  emulate -L zsh
  [[ -z $1 || $1 == *[^0-9]* || ! $((EPOCHSECONDS + 60)) < $1 ]]
}

# Have vertex-env say what the variables are, and wait for that.
__vertex_env_ask() {
  emulate -L zsh
  unsetopt xtrace
  local lines line
  integer result
  __vertex_env_failed=$((EPOCHSECONDS + 300)) __vertex_env_retry=$((EPOCHSECONDS + 30))
  if [[ ${VERTEX_ENV_VIA-} == direnv ]]; then
    # direnv watches the stamp: it takes the new token by itself, and at once if its hook has run already.
    command vertex-env token "$@" </dev/null >/dev/null || return
    # Where nothing is stored, no file that direnv watches has changed.
    [[ -n ${VERTEX_ENV_STAMP-} ]] || command direnv reload </dev/null 2>/dev/null || :
    (( ! ${+functions[_direnv_hook]} )) || _direnv_hook
    # If that has failed, not again at the next prompt.
    [[ ${VERTEX_ENV_REFRESH_AT-} == 0 ]] || __vertex_env_failed='' __vertex_env_retry=0
    return 0
  fi
  lines=$(command vertex-env export --format lines "$@" </dev/null) || {
    result=$?
    # Nothing to begin with: it is due until there is something.
    [[ -n ${VERTEX_ENV_REFRESH_AT-} ]] || __vertex_env_set 'set VERTEX_ENV_REFRESH_AT=0'
    return result
  }
  __vertex_env_failed='' __vertex_env_retry=0
  for line in "${(@f)lines}"; do __vertex_env_set "$line"; done
  return 0
}

# --- setting variables, and setting them back ---

# Do what a line says, `set NAME=VALUE` or `unset NAME`, and remember what there was before.
__vertex_env_set() {
  emulate -L zsh
  unsetopt xtrace
  local name=${${1#* }%%=*}
  [[ $name == [A-Za-z_]* && $name != *[^A-Za-z0-9_]* ]] || return 1
  if (( ! ${+__vertex_env_before[$name]} )); then
    # What another shell of ours has left in the environment is nothing to set back to.
    if [[ -z $__vertex_env_inherited && -n ${(P)name+set} ]]; then
      __vertex_env_before[$name]="=${(P)name}"
    else
      __vertex_env_before[$name]=''
    fi
  fi
  case $1 in
    ('set '*) typeset -gx "$name=${1#*=}" ;;
    (*) unset "$name" ;;
  esac
}

__vertex_env_off() {
  emulate -L zsh
  unsetopt xtrace
  local name
  for name in "${(@k)__vertex_env_before}"; do
    unset "$name"
    [[ -z ${__vertex_env_before[$name]} ]] || typeset -gx "$name${__vertex_env_before[$name]}"
  done
  __vertex_env_before=() __vertex_env_inherited='' __vertex_env_failed='' __vertex_env_retry=0
}

# --- the stored answer ---

# Load what vertex-env has kept for shells, if everything that it depended on is as it was; 1 if not.
__vertex_env_load() {
  emulate -L zsh
  unsetopt xtrace
  local folder file line name rest header issued ends='' token='' at='' expires='' mark=$'\037'
  local -a lines
  [[ ${VERTEX_ENV_PROFILE-} != *[^A-Za-z0-9._-]* ]] || return 1
  if [[ -n ${VERTEX_ENV_CACHE_DIR-} ]]; then
    folder=$VERTEX_ENV_CACHE_DIR
  elif [[ ${XDG_CACHE_HOME-} == /* ]]; then
    folder=$XDG_CACHE_HOME/vertex-env
  elif [[ $OSTYPE == darwin* ]]; then
    folder=${HOME-}/Library/Caches/vertex-env
  else
    folder=${HOME-}/.cache/vertex-env
  fi
  # begin: made by python -m tests.hooknames
  local keys=' AIDER_OPENAI_API_KEY GENERIC_OPEN_AI_API_KEY OPENAI_API_KEY '
  local urls=' AIDER_OPENAI_API_BASE API_BASE_URL GENERIC_OPEN_AI_BASE_PATH OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_BASE_URL OPENAI_HOST '
  local words=' OPENAI_AGENTS_DISABLE_TRACING OPENAI_BASE_PATH OPENAI_MODEL '
  # end
  file=$folder/shell${VERTEX_ENV_PROFILE:+-$VERTEX_ENV_PROFILE}.snapshot
  [[ -O $folder && -O $file && -f $file && ! -L $file ]] || return 1
  while IFS= read -r line; do
    rest=${line#* }
    case $line in
      ('set '*|'unset '*)
        [[ -n $token && -n $at ]] || return 1
        lines+=("${line//$mark/$token}")
        ;;
      ('gone '*)
        case " $rest" in (*' '[0-9]*|*[^A-Za-z0-9_\ ]*) return 1 ;; esac
        for name in ${(s: :)rest}; do [[ -z ${(P)name+set} ]] || return 1; done
        ;;
      ('same '*)
        name=${rest%%=*}
        [[ $name == [A-Za-z_]* && $name != *[^A-Za-z0-9_]* ]] || return 1
        [[ -n ${(P)name+set} && ${(P)name} == "${rest#*=}" ]] || return 1
        ;;
      ('file '*)
        rest=${rest#* }
        name=$folder/${rest%% *} rest=${rest#* }
        [[ -e $rest && -e $name && ! $rest -nt $name && ! $rest -ot $name ]] || return 1
        ;;
      ('none '*) [[ ! -e $rest ]] || return 1 ;;
      ('until '*) [[ $EPOCHSECONDS < $rest ]] || return 1 ;;
      ('token '*)
        [[ -O $rest && -f $rest && ! -L $rest ]] || return 1
        {
          IFS= read -r header && IFS= read -r name && IFS= read -r issued &&
            IFS=' ' read -r name ends && IFS=' ' read -r name token
        } <$rest 2>/dev/null || return 1
        [[ $header == 'vertex-env-token 1' && $issued == issued* ]] || return 1
        [[ -n $token && $token != *[^A-Za-z0-9._~+/=-]* ]] || return 1
        ;;
      ('stamp '*)
        [[ -O $rest && -f $rest && ! -L $rest ]] || return 1
        IFS=' ' read -r at expires name <$rest 2>/dev/null || return 1
        [[ -n $at && $at != *[^0-9]* ]] || return 1
        # The token has to be the one that the stamp is about, and the last minute is no time to begin with.
        [[ ${ends%%.*} == $expires ]] || return 1
        ! __vertex_env_is_soon $expires || return 1
        lines=("set VERTEX_ENV_STAMP=$rest" "set VERTEX_ENV_EXPIRES_AT=$expires" "set VERTEX_ENV_REFRESH_AT=$at")
        ;;
      ('vertex-env-snapshot 1') ;;
      (end)
        (( $#lines > 3 )) || return 1
        for line in "$lines[@]"; do __vertex_env_set "$line" || return 1; done
        __vertex_env_failed='' __vertex_env_retry=0
        return 0
        ;;
      (*) return 1 ;;
    esac
  done <$file
  return 1
}

# --- commands that act on this shell ---

vertex-env() {
  emulate -L zsh
  case ${1-} in
    (use|refresh|off) ;;
    (*)
      command vertex-env "$@"
      return
      ;;
  esac
  if [[ ${VERTEX_ENV_VIA-} == direnv && $1 != refresh ]]; then
    print -ru2 -l -- 'vertex-env: error: in this folder direnv sets the variables' \
      'vertex-env: hint: say it in .envrc: use vertex --profile NAME'
    return 1
  fi
  case $1,$# in
    (use,2) __vertex_env_use "$2" ;;
    (refresh,1) __vertex_env_ask --refresh ;;
    (off,1) __vertex_env_off ;;
    (*)
      print -ru2 -l -- "vertex-env: error: wrong number of arguments for $1" \
        'vertex-env: hint: vertex-env use PROFILE, vertex-env refresh, vertex-env off'
      return 2
      ;;
  esac
}

# Take another profile, if that works.
__vertex_env_use() {
  emulate -L zsh
  unsetopt xtrace
  VERTEX_ENV_PROFILE=$1 command vertex-env export --format lines </dev/null >/dev/null || return
  __vertex_env_off
  __vertex_env_set "set VERTEX_ENV_PROFILE=$1"
  __vertex_env_load || __vertex_env_ask
}

# --- now ---

if (( ! ${+__vertex_env_before} )); then
  typeset -gA __vertex_env_before
  typeset -g __vertex_env_failed='' __vertex_env_retry=0 __vertex_env_inherited=${VERTEX_ENV_EXPIRES_AT-}
  if [[ -n $__vertex_env_inherited ]]; then
    # For `off`, as they are not ours to set back.
    __vertex_env_before=(
      OPENAI_API_KEY '' OPENAI_BASE_URL '' OPENAI_API_BASE ''
      VERTEX_ENV_EXPIRES_AT '' VERTEX_ENV_REFRESH_AT '' VERTEX_ENV_STAMP ''
    )
  fi
fi

typeset -ga precmd_functions preexec_functions
(( ${precmd_functions[(Ie)__vertex_env_hook]} )) || precmd_functions+=(__vertex_env_hook)
(( ${preexec_functions[(Ie)__vertex_env_hook]} )) || preexec_functions+=(__vertex_env_hook)

# Whether there is a key, and not which: this may be traced.
if [[ ${VERTEX_ENV_VIA-} != direnv ]] &&
  [[ ! $EPOCHSECONDS < "${VERTEX_ENV_REFRESH_AT-0}" || ${VERTEX_ENV_REFRESH_AT-} == *[^0-9]* || -z ${OPENAI_API_KEY:+y} ]]; then
  __vertex_env_load || __vertex_env_ask || true
fi
