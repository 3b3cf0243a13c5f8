# Types each line into an interactive zsh with our completions, presses Tab and prints the list that zsh shows.
# usage: complete.zsh PROGRAM LINE…, or complete.zsh FOLDER LINE… for a folder of $fpath with the completions.
zmodload zsh/zpty
zpty z zsh -f -i
if [[ -d $1 ]]; then zpty -w z "PROMPT=; fpath=('$1' \$fpath); autoload -Uz compinit; compinit -u -D"
else zpty -w z "PROMPT=; autoload -Uz compinit; compinit -u -D; eval \"\$('$1' completions zsh)\""
fi
zpty -w z "unsetopt LIST_AMBIGUOUS; LISTMAX=1000; bindkey '^I' list-choices; print ready"
read_list() {
    local more
    out=
    # Until zsh has written nothing for 0.6 s.
    for ((i = 0; i < 6; i++)); do
        if zpty -r -t z more; then out+=$more i=0; else sleep 0.1; fi
    done
}
until read_list; [[ $out == *ready* ]]; do :; done
shift
for line; do
    zpty -w -n z "$line"$'\t'
    read_list
    print -r -- "== $line"
    print -r -- "$out"
    zpty -w -n z $'\x15'
done
