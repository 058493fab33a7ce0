package client

// The scripts ask the program itself, so what they know never grows old. Its
// answer is one word per line; the first line is ":" where file names are no
// answer.

const bashScript = `# bash completion of nutshell and of the cps- commands
_nutshell() {
  local cur words=("${COMP_WORDS[@]:1:COMP_CWORD}") line answers=() files=yes
  cur="${COMP_WORDS[COMP_CWORD]}"
  # bash splits words at = and :, the program wants them whole
  if declare -F _get_comp_words_by_ref >/dev/null; then
    local cword list
    _get_comp_words_by_ref -n "=:" -w list -i cword -c cur
    words=("${list[@]:1:cword}")
  fi
  [ "${#words[@]}" -gt 0 ] || words=("")
  while IFS= read -r line; do
    if [ "$line" = ":" ]; then files=no; continue; fi
    answers+=("$(printf '%q' "$line")")
  done < <("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
  COMPREPLY=("${answers[@]}")
  if [ "$files" = yes ] && [ "${#answers[@]}" -eq 0 ]; then
    compopt -o default 2>/dev/null
  fi
  case "${COMPREPLY[0]}" in *=) [ "${#COMPREPLY[@]}" -eq 1 ] && compopt -o nospace 2>/dev/null ;; esac
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _nutshell nutshell cps-tools cps-application cps-service cps-cloud cps-user cps-director \
  $(nutshell __complete cps- 2>/dev/null | grep '^cps-')
`

const zshScript = `#compdef nutshell cps-tools
# zsh completion of nutshell and of the cps- commands
_nutshell() {
  local -a answers
  local line files=yes
  while IFS= read -r line; do
    if [[ "$line" == ":" ]]; then files=no; continue; fi
    answers+=("$line")
  done < <("${words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)
  if [[ $files == yes && ${#answers} -eq 0 ]]; then _files; return; fi
  if [[ ${#answers} -eq 1 && "${answers[1]}" == *= ]]; then compadd -S '' -- "${answers[@]}"; return; fi
  compadd -- "${answers[@]}"
}
compdef _nutshell nutshell cps-tools $(nutshell __complete cps- 2>/dev/null | grep '^cps-')
`

const fishScript = `# fish completion of nutshell and of the cps- commands
function __nutshell_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l answers ($words[1] __complete $words[2..-1] 2>/dev/null)
  if test "$answers[1]" = ":"
    set -e answers[1]
    printf '%s\n' $answers
  else
    __fish_complete_path (commandline -ct)
  end
end
for program in nutshell cps-tools (nutshell __complete cps- 2>/dev/null | string match 'cps-*')
  complete -c $program -f -a '(__nutshell_complete)'
end
`
