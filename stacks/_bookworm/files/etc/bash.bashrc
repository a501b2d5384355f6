# Every interactive bash of a sandbox; ~/.bashrc comes after it.
[ -z "$PS1" ] && return

shopt -s checkwinsize histappend
HISTSIZE=10000
HISTFILESIZE=20000
HISTCONTROL=ignoreboth

# green directory, and the exit code in red when the last command failed
repld_prompt() {
    local code=$?
    PS1='\[\e[32m\]\w\[\e[0m\]'
    [ $code -ne 0 ] && PS1+=' \[\e[31m\]'$code'\[\e[0m\]'
    PS1+=' \$ '
    # the title of the terminal
    PS1="\[\e]0;\w\a\]$PS1"
}
PROMPT_COMMAND=repld_prompt

alias ls='ls --color=auto'
alias ll='ls -alF'
alias grep='grep --color=auto'

if [ -r /usr/share/bash-completion/bash_completion ]; then
    . /usr/share/bash-completion/bash_completion
fi
