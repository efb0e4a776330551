# vertex-env for direnv:  vertex-env hook direnv >~/.config/direnv/lib/vertex-env.sh
#
# In .envrc:  use vertex [--keep-fresh] [SETTINGS...], such as  use vertex --profile work --client aider
#
# direnv reloads by itself at the next prompt after the token, the credentials or a file with settings has changed. Who
# renews the token in time is the hook of vertex-env in your shell, or, with --keep-fresh, a process that waits for that.
# shellcheck shell=bash

use_vertex() {
  local statements expires keep=''
  if [[ ${1-} == --keep-fresh ]]; then
    keep=1
    shift
  fi
  statements=$(command vertex-env export --format direnv "$@" </dev/null) || {
    # What is left is to watch the files whose change may cure it. A hook of ours tries again as well.
    eval "$statements" || :
    export VERTEX_ENV_VIA=direnv VERTEX_ENV_REFRESH_AT=0 VERTEX_ENV_EXPIRES_AT=0
    log_error 'vertex-env: no token for now'
    return 1
  }
  eval "$statements"
  # What changed between the answer and the watch would never be noticed.
  if [[ -n ${VERTEX_ENV_STAMP-} ]]; then
    { read -r _ expires _ <"$VERTEX_ENV_STAMP"; } 2>/dev/null || expires=$VERTEX_ENV_EXPIRES_AT
    if [[ $expires != "$VERTEX_ENV_EXPIRES_AT" ]]; then
      statements=$(command vertex-env export --format direnv "$@" </dev/null) && eval "$statements"
    fi
  fi
  if [[ -n $keep ]]; then
    # direnv waits until its descriptor 3 is closed by everybody.
    (command vertex-env keep-fresh "$@" </dev/null >/dev/null 2>&1 3>&- &)
  fi
  return 0
}
