# vertex-env for direnv:  vertex-env hook direnv >~/.config/direnv/lib/vertex-env.sh
#
# In .envrc:  use vertex [--keep-fresh] [SETTINGS...], such as  use vertex --profile work --client aider
#
# direnv reloads by itself at the next prompt after the token, the credentials or a file with settings has changed. Who
# renews the token in time is the hook of vertex-env in your shell, or, with --keep-fresh, a process that waits for that.
# shellcheck shell=bash

use_vertex() {
  local status=0
  case $- in
  *[xv]*)
    # Tokens do not belong into what set -x and set -v print.
    local options=$-
    set +xv
    __vertex_env_direnv "$@" || status=$?
    case $options in *x*) set -x ;; esac
    case $options in *v*) set -v ;; esac
    return "$status"
    ;;
  esac
  __vertex_env_direnv "$@"
}

__vertex_env_direnv() {
  local word statements expires='' keep='' folder there=1
  # Should this fail: what the shell has outside of this folder may be for another account.
  if ! unset OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE VERTEX_ENV_STAMP; then
    __vertex_env_direnv_readonly
    return 1
  fi
  for word in "$@"; do
    shift
    case $word in
    --keep-fresh) keep=1 ;;
    --format | --format=* | --help | -h)
      # What these print is not for bash to evaluate.
      log_error "vertex-env: use vertex takes settings, not $word: see vertex-env export --help"
      return 1
      ;;
    *) set -- "$@" "$word" ;;
    esac
  done
  type -P vertex-env >/dev/null || there=''
  statements=$([[ -n $there ]] && command vertex-env export --format direnv "$@" </dev/null) || {
    # What is left is to watch the files whose change may cure it. A hook of ours tries again as well.
    eval "$statements" || :
    export VERTEX_ENV_VIA=direnv VERTEX_ENV_REFRESH_AT=0 VERTEX_ENV_EXPIRES_AT=0
    if [[ -n $there ]]; then
      log_error 'vertex-env: no token for now'
    else
      # The hook looks again at each prompt.
      log_error 'vertex-env: error: there is no vertex-env on PATH'
      log_error 'vertex-env: hint: put its folder on PATH, or install it'
    fi
    return 1
  }
  eval "$statements" || {
    __vertex_env_direnv_readonly
    return 1
  }
  # What changed between the answer and the watch would never be noticed.
  folder=${VERTEX_ENV_STAMP-}
  folder=${folder%/*}
  if [[ $folder == /* && -O $folder && ! -L $folder ]] &&
    [[ -f $VERTEX_ENV_STAMP && -O $VERTEX_ENV_STAMP && ! -L $VERTEX_ENV_STAMP ]]; then
    { IFS=' ' read -r _ expires _ <"$VERTEX_ENV_STAMP"; } 2>/dev/null || expires=$VERTEX_ENV_EXPIRES_AT
    if [[ $expires != "$VERTEX_ENV_EXPIRES_AT" ]]; then
      statements=$(command vertex-env export --format direnv "$@" </dev/null) || statements=''
      eval "$statements" || {
        __vertex_env_direnv_readonly
        return 1
      }
    fi
  fi
  if [[ -n $keep ]]; then
    # direnv waits until its descriptor 3 is closed by everybody.
    (command vertex-env keep-fresh "$@" </dev/null >/dev/null 2>&1 3>&- &)
  fi
  return 0
}

# A key beside the URL of another host must not stay.
__vertex_env_direnv_readonly() {
  local name
  for name in OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE VERTEX_ENV_STAMP; do
    unset "$name" 2>/dev/null || :
  done
  log_error 'vertex-env: a variable is read-only, so no token is set'
  log_error 'vertex-env: hint: take the readonly out of .envrc and direnvrc; this shows them: readonly -p'
}
