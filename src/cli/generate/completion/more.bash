
# What the lists above can't have: names after -o, options of `set` and `get`, and mountpoints.

# The mountpoints of fetchfs, one a line. From the mount table, so no mount is asked.
_fetchfs_mounts() {
    local _ directory type
    while read -r _ directory type _; do
        [[ $type != fuse.fetchfs ]] || printf '%b\n' "${directory//\\/\\0}"
    done </proc/self/mounts
}

# _fetchfs_offer BEFORE TYPED CANDIDATE...: offers the candidates that begin with TYPED, each after BEFORE.
_fetchfs_offer() {
    local before=$1 typed=$2 candidate
    shift 2
    for candidate; do
        [[ $candidate != "$typed"* ]] || COMPREPLY+=("$before$candidate")
    done
    # A value or a path follows.
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[=/] ]] || compopt -o nospace 2>/dev/null
}

_fetchfs_complete() {
    # Bash splits words at = and :, so the words are those of the line. $2 is what will be replaced.
    local line=${COMP_LINE:0:COMP_POINT} replaced=${2:-} command=${COMP_WORDS[1]:-} list mountpoint
    local word=${line##*[[:space:]]}
    local -a words=() found=()
    read -ra words <<<"${line%"$word"}"
    local previous=${words[${#words[@]} - 1]:-}
    COMPREPLY=()
    case $command,$previous,$word in
        mount,-o,* | mount,--options,* | doctor,-o,* | doctor,--options,*) list=$word ;;
        mount,*,-o?* | doctor,*,-o?*) list=${word#-o} ;;
        mount,*,--options=* | doctor,*,--options=*) list=${word#--options=} ;;
        *,*,-* | *,-*,*)
            _fetchfs "$@"
            return
            ;;
        mount,*) return ;;
    esac
    if [[ -n ${list+is set} ]]; then
        # After = follows a value: bash offers files.
        list=${list##*,}
        [[ $list == *=* ]] || _fetchfs_offer "${replaced%"$list"}" "$list" OPTIONS
        return
    fi
    if ((${#words[@]} < 2)); then
        _fetchfs "$@"
        return
    fi
    case $command in
        set | get)
            if ((${#words[@]} > 2)); then
                if [[ $command == get ]]; then
                    _fetchfs_offer "" "$word" NAMES
                elif [[ $word != *=* ]]; then
                    _fetchfs_offer "" "$word" SETTABLE
                fi
                return
            fi
            ;;
        MOUNT_COMMANDS) ;;
        PATH_COMMANDS) [[ -z $word ]] || return ;;
        *)
            _fetchfs "$@"
            return
            ;;
    esac
    while read -r mountpoint; do
        case $command in
            PATH_COMMANDS) mountpoint=$mountpoint/ ;;
        esac
        found+=("$(printf %q "$mountpoint")")
    done < <(_fetchfs_mounts)
    _fetchfs_offer "" "$replaced" "${found[@]}"
}

complete -F _fetchfs_complete -o bashdefault -o default fetchfs
