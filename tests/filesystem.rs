//! A mount behaves as a read-only file system does: to `ls`, `stat`, `find`, `du`, `df`, and to those who try to write.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::common::files::{sha256, sha256_of};
use crate::common::{Mount, run};
use crate::origin::{Content, Fault, Framing, Gate, IndexStyle, Origin};

/// Three files in two directories: 268, 100,000 and 1 bytes.
fn small_tree() -> Origin {
    let origin = Origin::start();
    origin.add("/top", Content::noise(268, 1));
    origin.add("/dir/middle", Content::noise(100_000, 2));
    origin.add("/dir/below/leaf", Content::noise(1, 3));
    origin.add_directory("/empty");
    origin
}

fn stat(path: &Path) -> Metadata {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in a directory; fails when one comes twice.
fn names(directory: &Path) -> BTreeSet<String> {
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
fn every_change_is_refused_as_on_any_read_only_file_system() {
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
fn stat_tells_type_size_owner_time_and_room() {
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
    // `find` believes 2 + the number of directories inside, or 1 for "don't count on it".
    assert!([1, 3].contains(&directory.nlink()), "{} links", directory.nlink());
    assert!(directory.modified().is_ok());
    assert!(stat(&mount.root()).is_dir());
}

#[test]
fn owner_and_permissions_are_as_asked_for() {
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
fn files_are_executable_only_if_that_is_asked_for() {
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
fn inode_numbers_are_stable_distinct_and_the_same_in_listings() {
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
fn df_shows_a_read_only_file_system_of_some_size() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let status = statvfs(&mount.root()).expect("statvfs");
    assert!(status.flags().contains(FsFlags::ST_RDONLY));
    assert_eq!(status.name_max(), 255);
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

#[test]
fn names_are_what_they_are_on_the_server() {
    let long = "n".repeat(251) + ".txt";
    let utf8 = "é".repeat(127);
    let nasty = [
        "with space",
        " leading",
        "trailing ",
        "100%",
        "%41",
        "a%2Fb",
        "#hash",
        "what?",
        "a=b&c=d",
        "plus+plus",
        "it's",
        "\"quoted\"",
        "<b>bold<b>",
        "semi;colon",
        "co:lon",
        "http:",
        "back\\slash",
        "-dash",
        "~tilde",
        ".hidden",
        "...",
        "..a",
        "*",
        "[x]",
        "{y}",
        "|",
        "^",
        "`",
        "$HOME",
        "!",
        "@",
        ",",
        "größe",
        "Ελληνικά",
        "日本語",
        "🎬.mkv",
        "e\u{301}",
        "é",
        "\u{202e}rtl",
        "&amp;",
        "&#65;",
        &long,
        &utf8,
    ];
    let origin = Origin::start();
    for name in nasty {
        origin.add(&format!("/{name}"), name);
        origin.add(&format!("/in/{name} too/file"), name);
    }
    for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
        origin.set_index_style(style);
        let mount = Mount::start_of(&origin.url("/"));
        let expected: BTreeSet<String> = nasty
            .iter()
            .map(|name| (*name).to_owned())
            .chain(["in".to_owned()])
            .collect();
        assert_eq!(names(&mount.root()), expected, "{style:?}");
        for name in nasty {
            let read = fs::read(mount.path(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
            assert_eq!(read, name.as_bytes(), "{name:?}");
            assert_eq!(stat(&mount.path(name)).len(), name.len() as u64);
            if name.len() <= 250 {
                let below = fs::read(mount.path(format!("in/{name} too/file")));
                assert_eq!(
                    below.unwrap_or_else(|error| panic!("{name:?}: {error}")),
                    name.as_bytes()
                );
            }
        }
    }
}

#[test]
fn a_name_that_is_not_there_is_not_found() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let errno = |name: &str| {
        fs::metadata(mount.path(name))
            .err()
            .and_then(|error| error.raw_os_error())
    };
    assert_eq!(errno("nothing"), Some(libc::ENOENT));
    assert_eq!(errno("dir/nothing"), Some(libc::ENOENT));
    assert_eq!(errno("empty/nothing"), Some(libc::ENOENT));
    assert_eq!(errno("top/below"), Some(libc::ENOTDIR));
    assert_eq!(errno(&"n".repeat(256)), Some(libc::ENAMETOOLONG));
    assert_eq!(fs::read_dir(mount.path("empty")).expect("to list").count(), 0);
}

#[test]
fn a_large_directory_is_listed_whole_and_each_name_once() {
    let origin = Origin::start();
    let expected: BTreeSet<String> = (0..3000).map(|number| format!("file number {number}")).collect();
    expected.iter().for_each(|name| origin.add(&format!("/{name}"), "x"));
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(names(&mount.root()), expected);
    let ls = run(Command::new("ls").arg("-l").arg(mount.root())).succeeded();
    assert_eq!(ls.out.lines().count(), 1 + expected.len());
    let heads = origin
        .log()
        .all()
        .0
        .iter()
        .filter(|request| request.method == "HEAD")
        .count();
    assert_eq!(heads, 0, "the page tells the sizes");
    assert!(
        origin.log().all().gets("/").len() <= 3,
        "one page, asked for once and perhaps at the start"
    );
}

#[test]
fn names_are_shown_while_the_server_is_still_asked_for_sizes_and_these_come_side_by_side() {
    const FILES: usize = 40;
    /// Of the 16 connections that there may be; the rest is for others.
    const SIDE_BY_SIDE: usize = 4;
    let origin = Origin::start();
    origin.set_index_style(IndexStyle::NamesOnly);
    let gate = Gate::new();
    for file in 0..FILES {
        origin.add(&format!("/{file}"), Content::noise(1000 + file as u64, 1));
        origin.on(&format!("/{file}")).fault(Fault::Hold(gate.clone()));
    }
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(names(&mount.root()).len(), FILES, "the names need no sizes");
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| run(Command::new("ls").arg("-l").arg(mount.root())).succeeded());
        gate.wait_for_arrivals(SIDE_BY_SIDE);
        gate.open();
        let out = listing.join().expect("ls").out;
        let sizes: BTreeSet<u64> = out
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(4)?.parse().ok())
            .collect();
        assert_eq!(sizes, (1000..1000 + FILES as u64).collect());
    });
}

#[test]
fn sizes_are_found_where_head_is_refused_or_tells_none() {
    let mute = [
        Fault::RefuseHead(405),
        Fault::RefuseHead(403),
        Fault::RefuseHead(501),
        Fault::Framed(Framing::Chunked),
        Fault::Framed(Framing::UntilClose),
    ];
    for fault in mute {
        let origin = Origin::start();
        origin.set_index_style(IndexStyle::NamesOnly);
        origin.on_any().fault(fault.clone());
        let sizes = [0, 1, 70_000, 5_000_000];
        sizes
            .iter()
            .for_each(|&size| origin.add(&format!("/{size}"), Content::noise(size, size)));
        let mount = Mount::start_of(&origin.url("/"));
        for size in sizes {
            assert_eq!(stat(&mount.path(size.to_string())).len(), size, "{fault:?}");
            assert_eq!(
                fs::read(mount.path(size.to_string())).expect("to read"),
                Content::noise(size, size).whole(),
                "{fault:?}"
            );
        }
    }
}

#[test]
fn a_single_file_is_called_by_its_url_or_as_its_server_calls_it() {
    let (origin, content) = (Origin::start(), Content::noise(70_000, 44));
    origin.add("/download", content.clone());
    let disposition = "attachment; filename=\"../x\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%231.pdf";
    origin
        .on("/download")
        .fault(Fault::Header("Content-Disposition", disposition));
    let source = origin.url("/download") + "?id=7";
    let mount = Mount::start_of(&source);
    assert_eq!(names(&mount.root()), BTreeSet::from(["download".to_owned()]));
    let mount = Mount::of(&source).with("--content-disposition", "").start();
    assert_eq!(names(&mount.root()), BTreeSet::from(["größe #1.pdf".to_owned()]));
    assert_eq!(sha256(&mount.path("größe #1.pdf")), sha256_of(&content));
}

#[test]
fn a_file_without_a_size_is_read_in_sequence_to_its_end() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let (origin, content) = (Origin::start(), Content::noise(5 * (1 << 20) + 7, 42));
        origin.set_index_style(IndexStyle::NamesOnly);
        origin.add("/f", content.clone());
        origin.on("/f").fault(Fault::IgnoreRange(framing));
        let mount = Mount::start_of(&origin.url("/"));
        assert_eq!(stat(&mount.path("f")).len(), 0, "no size is made up");
        for _ in 0..2 {
            assert_eq!(sha256(&mount.path("f")), sha256_of(&content), "{framing:?}");
        }
        let copy = mount.home().join("copy");
        run(Command::new("cp").arg(mount.path("f")).arg(&copy)).succeeded();
        assert_eq!(sha256(&copy), sha256_of(&content));
        let mut file = File::open(mount.path("f")).expect("to open");
        let seek = file
            .seek(std::io::SeekFrom::Start(9))
            .map_err(|error| error.raw_os_error());
        assert_eq!(seek, Err(Some(libc::ESPIPE)), "there is no going elsewhere");
        let mut start = [0; 1000];
        file.read_exact(&mut start).expect("the beginning");
        assert_eq!(start.as_slice(), content.read(0..1000));
    }
}

#[test]
fn a_file_without_a_size_that_breaks_off_is_an_error_and_no_short_file() {
    let (origin, content) = (Origin::start(), Content::noise(1 << 20, 43));
    origin.set_index_style(IndexStyle::NamesOnly);
    origin.add("/f", content);
    origin.on("/f").fault(Fault::IgnoreRange(Framing::Chunked));
    origin.on("/f").fault(Fault::CloseAfter(300_000));
    let mount = Mount::start_of(&origin.url("/"));
    let read = fs::read(mount.path("f")).map_err(|error| error.raw_os_error());
    assert_eq!(read.map(|bytes| bytes.len()), Err(Some(libc::EIO)));
}

#[test]
fn a_new_name_appears_and_an_old_one_goes_once_the_listing_is_too_old() {
    let origin = small_tree();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "0").start();
    assert!(!names(&mount.root()).contains("new"));
    origin.add("/new", "hello");
    origin.remove("/top");
    assert_eq!(
        names(&mount.root()),
        BTreeSet::from(["dir", "empty", "new"].map(str::to_owned))
    );
    assert_eq!(fs::read(mount.path("new")).expect("to read"), b"hello");
    assert!(fs::metadata(mount.path("top")).is_err());
}

#[test]
fn a_listing_that_cannot_be_had_is_an_error_and_not_an_empty_directory() {
    let origin = small_tree();
    let mount = Mount::of(&origin.url("/"))
        .with("--retries", "0")
        .with("--attr-ttl", "0")
        .start();
    origin.on("/dir/").fault(Fault::Status(500));
    let errno = fs::read_dir(mount.path("dir")).and_then(|mut entries| entries.next().transpose());
    assert_eq!(
        errno.map(|entry| entry.is_some()).map_err(|error| error.raw_os_error()),
        Err(Some(libc::EIO))
    );
}
