# What the lists above can't have: names after -o, options of `set` and `get`, and mountpoints.

# From the mount table, so no mount is asked.
_fetchfs_mounts() {
    local -a found
    local source directory type rest
    while read -r source directory type rest; do
        [[ $type != fuse.fetchfs ]] || found+=("$(printf %b "${directory//\\/\\0}")")
    done </proc/self/mounts
    _wanted mountpoints expl mountpoint compadd -a found || _files -/
}
_fetchfs_paths() {
    _files
    [[ -n $PREFIX ]] || _fetchfs_mounts
}
_fetchfs_options() {
    _values -s , option VALUES
}
_fetchfs_names() {
    _values option NAMES
}
_fetchfs_settings() {
    _values option SETTINGS
}

