//! A mount behaves as a read-only file system for `stat`, `find`, `du`, `df`, and for attempts to write. `names.rs`
//! tests names, `sizes.rs` tests sizes that no listing gives.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::common::{Mount, run};
use crate::origin::{Content, Origin};

/// Three files in two directories: 268, 100,000 and 1 bytes.
pub(crate) fn small_tree() -> Origin {
    let origin = Origin::start();
    origin.add("/top", Content::noise(268, 1));
    origin.add("/dir/middle", Content::noise(100_000, 2));
    origin.add("/dir/below/leaf", Content::noise(1, 3));
    origin.add_directory("/empty");
    origin
}

/// The attributes of a path.
pub(crate) fn stat(path: &Path) -> Metadata {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in a directory. Fails if one comes twice.
pub(crate) fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory)
        .expect("to list")
        .map(|entry| entry.expect("an entry"));
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.file_name().into_string().expect("UTF-8");
        assert!(names.insert(name.clone()), "{name:?} comes twice");
    }
    names
}

#[test]
fn every_write_operation_returns_erofs() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let (file, directory, new) = (mount.path("top"), mount.path("dir"), mount.path("new"));
    let c_file = CString::new(file.as_os_str().as_bytes()).expect("a path");
    let set_attribute = || {
        // SAFETY: three strings that end in NUL or come with their length.
        match unsafe { libc::setxattr(c_file.as_ptr(), c"user.x".as_ptr(), c"y".as_ptr().cast(), 1, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let changes: [(&str, io::Result<()>); 15] = [
        ("open for writing", File::options().write(true).open(&file).map(drop)),
        (
            "open for both",
            File::options().read(true).write(true).open(&file).map(drop),
        ),
        ("append", File::options().append(true).open(&file).map(drop)),
        (
            "truncate",
            File::options().write(true).truncate(true).open(&file).map(drop),
        ),
        (
            "create",
            File::options().write(true).create_new(true).open(&new).map(drop),
        ),
        ("mkdir", fs::create_dir(&new)),
        ("rmdir", fs::remove_dir(mount.path("empty"))),
        ("unlink", fs::remove_file(&file)),
        ("rename", fs::rename(&file, &new)),
        ("link", fs::hard_link(&file, &new)),
        ("symlink", std::os::unix::fs::symlink("top", &new)),
        ("chmod", fs::set_permissions(&file, Permissions::from_mode(0o600))),
        (
            "chmod a directory",
            fs::set_permissions(&directory, Permissions::from_mode(0o700)),
        ),
        (
            "chown",
            std::os::unix::fs::chown(&file, Some(nix::unistd::getuid().as_raw()), None),
        ),
        ("setxattr", set_attribute()),
    ];
    for (change, outcome) in changes {
        let errno = outcome.err().and_then(|error| error.raw_os_error());
        assert_eq!(errno, Some(libc::EROFS), "{change}");
    }
    let touch = run(Command::new("touch").arg(&file));
    assert!(
        touch.code != 0 && touch.err.contains("Read-only file system"),
        "{touch:?}"
    );
    assert_eq!(fs::read(&file).expect("to read"), Content::noise(268, 1).whole());
}

#[test]
fn stat_reports_type_size_owner_time_and_blocks() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let file = stat(&mount.path("dir/middle"));
    assert!(file.is_file());
    assert_eq!((file.mode() & 0o7777, file.nlink(), file.size()), (0o444, 1, 100_000));
    assert_eq!(
        (file.uid(), file.gid()),
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    );
    assert_eq!(file.modified().expect("a time"), origin.modified("/dir/middle"));
    assert_eq!(file.blocks(), 100_000u64.div_ceil(512), "du counts these");
    assert!(file.blksize() >= 4096, "cp reads so much at once: {}", file.blksize());
    let directory = stat(&mount.path("dir"));
    assert!(directory.is_dir());
    assert_eq!(directory.mode() & 0o7777, 0o555);
    // `find` expects 2 + the number of sub-directories, or 1 for "unknown".
    assert!([1, 3].contains(&directory.nlink()), "{} links", directory.nlink());
    assert!(directory.modified().is_ok());
    assert!(stat(&mount.root()).is_dir());
}

#[test]
fn owner_and_permissions_follow_options() {
    let origin = small_tree();
    let plan = Mount::of(&origin.url("/"))
        .with("--uid", "1234")
        .with("--gid", "2345")
        .with("--umask", "0077");
    let mount = plan.start();
    for (name, mode) in [("top", 0o400), ("dir", 0o500), ("", 0o500)] {
        let metadata = stat(&mount.path(name));
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (1234, 2345, mode),
            "{name:?}"
        );
    }
}

#[test]
fn files_are_executable_only_with_exec() {
    let origin = Origin::start();
    origin.add("/program", "#!/bin/sh\necho it runs\n");
    let runs = |options: &str| {
        let plan = Mount::of(&origin.url("/"));
        let plan = if options.is_empty() {
            plan
        } else {
            plan.with("-o", options)
        };
        let mount = plan.start();
        let mode = stat(&mount.path("program")).mode() & 0o7777;
        let out = Command::new(mount.path("program")).output().map(|output| output.stdout);
        (mode, out.map_err(|error| error.raw_os_error()))
    };
    assert_eq!(runs("exec"), (0o555, Ok(b"it runs\n".to_vec())));
    assert_eq!(runs("exec,umask=0077"), (0o500, Ok(b"it runs\n".to_vec())));
    for options in ["", "noexec", "exec,noexec"] {
        assert_eq!(runs(options), (0o444, Err(Some(libc::EACCES))), "{options:?}");
    }
}

#[test]
fn inode_numbers_are_stable_and_unique() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let all = ["", "top", "dir", "dir/middle", "dir/below", "dir/below/leaf", "empty"];
    let numbers = || all.map(|name| stat(&mount.path(name)).ino());
    let before = numbers();
    assert_eq!(
        before.iter().collect::<BTreeSet<_>>().len(),
        all.len(),
        "each its own: {before:?}"
    );
    fs::read(mount.path("dir/middle")).expect("to read");
    names(&mount.path("dir"));
    assert_eq!(numbers(), before);
    for entry in fs::read_dir(mount.root()).expect("to list").flatten() {
        assert_eq!(entry.ino(), stat(&entry.path()).ino(), "{:?}", entry.file_name());
        assert_eq!(entry.file_type().expect("a type"), stat(&entry.path()).file_type());
    }
}

#[test]
fn df_shows_a_read_only_file_system() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let status = statvfs(&mount.root()).expect("statvfs");
    assert!(status.flags().contains(FsFlags::ST_RDONLY));
    assert_eq!(status.name_max(), 1023, "names may be as long as FUSE takes them");
    assert!(
        status.fragment_size() > 0 && status.blocks() > 0,
        "df leaves file systems without blocks out"
    );
    let df = run(Command::new("df").arg(mount.root())).succeeded();
    assert!(
        df.out.contains(mount.root().to_str().expect("a path of the harness")),
        "{}",
        df.out
    );
}

#[test]
fn find_and_du_see_the_whole_tree() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let find = run(Command::new("find")
        .args([".", "-printf", "%y %s %p\n"])
        .current_dir(mount.root()))
    .succeeded();
    let files: BTreeSet<&str> = find.out.lines().filter(|line| line.starts_with('f')).collect();
    assert_eq!(
        files,
        BTreeSet::from(["f 268 ./top", "f 100000 ./dir/middle", "f 1 ./dir/below/leaf"])
    );
    let directories: BTreeSet<&str> = find
        .out
        .lines()
        .filter_map(|line| line.strip_prefix('d')?.split(' ').nth(2))
        .collect();
    assert_eq!(directories, BTreeSet::from([".", "./dir", "./dir/below", "./empty"]));
    let du = run(Command::new("du")
        .args(["--block-size=512", "-s", "dir/middle"])
        .current_dir(mount.root()))
    .succeeded();
    assert_eq!(du.out, "196\tdir/middle\n");
    assert!(
        origin.log().all().data("/dir/middle").is_empty(),
        "nobody read a byte, so none was fetched"
    );
}
