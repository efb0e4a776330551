# vertex-env's completions for bash; made by python -m tools.completions: do not edit
# shellcheck shell=bash disable=SC2207 # no word has a space in it, and bash 3.2 has no mapfile

# Names of the profiles in config.toml.
__vertex_env_profiles() {
  local line file=${VERTEX_ENV_CONFIG:-${XDG_CONFIG_HOME:-${HOME-}/.config}/vertex-env/config.toml}
  [[ -r $file ]] || return 0
  while read -r line; do
    case $line in
    '[profile.'*']')
      line=${line#*.}
      printf '%s\n' "${line%]}"
      ;;
    esac
  done <"$file"
}

_vertex_env() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    --)
      # What comes after is a command of the user's.
      if ((COMP_CWORD == i + 1)); then
        COMPREPLY=($(compgen -c -- "$current"))
      else
        COMPREPLY=($(compgen -f -- "$current"))
      fi
      return
      ;;
    -*) ;;
    *) [[ -n $command ]] || command=${COMP_WORDS[i]} ;;
    esac
  done
  case $command:$previous in
  *:--credentials)
    COMPREPLY=($(compgen -f -- "$current"))
    return
    ;;
  use:use | *:--profile) words=$(__vertex_env_profiles) ;;
  ci:--api) words='chat responses' ;;
  ci:--store) words='file keyring none' ;;
  ci:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  endpoints:--format) words='table json' ;;
  endpoints:--api) words='chat responses' ;;
  endpoints:--store) words='file keyring none' ;;
  endpoints:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  export:--format) words='sh fish nu pwsh xonsh elvish tcsh json dotenv github gitlab azure circleci buildkite teamcity jenkins' ;;
  export:--api) words='chat responses' ;;
  export:--store) words='file keyring none' ;;
  export:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  logout:--api) words='chat responses' ;;
  logout:--store) words='file keyring none' ;;
  logout:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  run:--on-expiry) words='auto restart ignore stop' ;;
  run:--on-refresh-failure) words='keep stop' ;;
  run:--api) words='chat responses' ;;
  run:--store) words='file keyring none' ;;
  run:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  status:--format) words='table json' ;;
  status:--api) words='chat responses' ;;
  status:--store) words='file keyring none' ;;
  status:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  token:--format) words='text json header' ;;
  token:--api) words='chat responses' ;;
  token:--store) words='file keyring none' ;;
  token:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  url:--api) words='chat responses' ;;
  url:--store) words='file keyring none' ;;
  url:--client) words='aider anything-llm fabric goose gptme open-webui promptfoo shell-gpt' ;;
  esac
  if [[ -z $words ]]; then
    case $previous in
    --allow-host | --api | --api-version | --base-url | --client | --delay | --endpoint | --fail | --format | --grace | --impersonate | --job-timeout | --lifetime | --location | --min-ttl | --mint-timeout | --model | --on-expiry | --on-refresh-failure | --project | --quota-project | --refuse | --scope | --set | --store) return ;;
    esac
    case $command in
    '') words='ci completion demo endpoints export hook logout off refresh run sandbox status token url use --help --version' ;;
    ci) words='--job-timeout --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    completion) words='--help bash zsh fish' ;;
    demo) words='--help' ;;
    endpoints) words='--all-locations --format --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    export) words='--format --refresh --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    hook) words='--help bash zsh fish nu xonsh pwsh direnv' ;;
    logout) words='--all --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    off) words='--help' ;;
    refresh) words='--help' ;;
    run) words='--on-expiry --grace --on-refresh-failure --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    sandbox) words='--lifetime --fail --refuse --array-401 --delay --help' ;;
    status) words='--format --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    token) words='--format --refresh --profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    url) words='--profile --project --location --endpoint --model --api --api-version --base-url --allow-host --credentials --impersonate --lifetime --scope --quota-project --store --min-ttl --mint-timeout --client --set --help' ;;
    use) words='--help' ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _vertex_env vertex-env
