
# What the lists above can't have: names after -o, options of `set` and `get`, and mountpoints.

# The mountpoints of fetchfs, one a line. From the mount table, so no mount is asked.
function __fetchfs_mounts
    while read -l source directory type rest
        if test "$type" = fuse.fetchfs
            printf '%b\n' (string replace --all '\\' '\\0' -- $directory)
        end
    end </proc/self/mounts
end

# The names that may follow what is typed of -o already.
function __fetchfs_options
    set -l typed (commandline -ct | string replace --regex '^(-o|--options=)' '')
    set -l before (string replace --regex '[^,]*$' '' -- $typed)
    for name in OPTIONS
        echo $before$name
    end
end

function __fetchfs_has_mountpoint
    test (count (commandline -opc)) -gt 2
end

for command in mount doctor
    complete -c fetchfs -n "__fish_fetchfs_using_subcommand $command" -s o -l options -x -a '(__fetchfs_options)'
end
for command in MOUNT_COMMANDS get set
    complete -c fetchfs -n "__fish_fetchfs_using_subcommand $command; and not __fetchfs_has_mountpoint" -a '(__fetchfs_mounts)'
end
for command in PATH_COMMANDS
    complete -c fetchfs -n "__fish_fetchfs_using_subcommand $command" -a '(__fetchfs_mounts)/'
end
complete -c fetchfs -n '__fish_fetchfs_using_subcommand get; and __fetchfs_has_mountpoint' -f -a 'NAMES'
complete -c fetchfs -n '__fish_fetchfs_using_subcommand set; and __fetchfs_has_mountpoint' -f -a 'SETTABLE'
