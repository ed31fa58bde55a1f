//! The beginning of a mount: output and exit status of the commands, and the ways to request a mount.
//!
//! Here `fetchfs mount` goes to the background, as for users. `unmounting.rs` tests the end of a mount,
//! `unprivileged.rs` the permissions.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use fetchfs::internals::events;

use crate::common::ground::{Ground, hello, in_namespace};
use crate::common::process::assert_refuses;
use crate::common::{fetchfs, run, temporary_directory};
use crate::origin::{Fault, Gate, Origin};

#[test]
fn mount_returns_ready_and_unmount_returns_clean() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(&origin.url("/"), &[]);
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("to read"),
        b"hello\n"
    );
    assert_eq!(ground.processes().len(), 1, "one daemon");
    let ran = ground.unmount(&[]).succeeded();
    ground.assert_nothing_is_left();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "nothing to say");
    assert_eq!(
        fs::read_dir(ground.mountpoint()).expect("the mountpoint stays").count(),
        0
    );
}

#[test]
fn mount_table_has_the_source_without_secrets() {
    let (origin, ground) = (hello(), Ground::new());
    let with_secret = origin.url("/").replace("http://", "http://ann:s3cret@");
    ground.mount(&with_secret, &[]);
    let findmnt = run(Command::new("findmnt")
        .args(["-n", "-o", "FSTYPE,SOURCE,OPTIONS"])
        .arg(ground.mountpoint()));
    let line = findmnt.succeeded().out;
    assert!(line.starts_with("fuse.fetchfs "), "{line}");
    assert!(
        line.contains(&origin.address().to_string()) && line.contains("ro,"),
        "{line}"
    );
    fs::read(ground.mountpoint().join("hello.txt")).expect("to read");
    assert!(!line.contains("s3cret"), "{line}");
    ground.log().assert_hides("s3cret");
}

#[test]
fn o_options_work_as_in_mount() {
    let (origin, ground) = (hello(), Ground::new());
    ground.mount(
        &origin.url("/"),
        &["-o", "uid=1234,umask=0037,_netdev,noauto,max_connections=2"],
    );
    let metadata = fs::metadata(ground.mountpoint().join("hello.txt")).expect("to stat");
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (1234, 0o440));
}

#[test]
fn mount_failure_is_one_sentence() {
    let (origin, ground) = (hello(), Ground::new());
    let home = ground.home.path();
    let url = origin.url("/");
    let on = |mountpoint: &Path| {
        run(fetchfs()
            .arg("mount")
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg(&url)
            .arg(mountpoint))
    };
    assert_refuses(&on(&home.join("nowhere")), &["does not exist", "nowhere"]);
    fs::write(home.join("file"), "").expect("a file");
    assert_refuses(&on(&home.join("file")), &["not a directory"]);
    fs::create_dir_all(home.join("full/of")).expect("a directory");
    assert_refuses(&on(&home.join("full")), &["not empty"]);
    ground.mount(&url, &[]);
    assert_refuses(&on(&ground.mountpoint()), &["busy", "fetchfs unmount"]);
    assert_eq!(
        fs::read(ground.mountpoint().join("hello.txt")).expect("the first is unharmed"),
        b"hello\n"
    );
}

#[test]
fn source_error_is_one_sentence() {
    let (origin, ground) = (hello(), Ground::new());
    let of = |source: &str| run(&mut ground.command(source, &["--retries", "0", "--timeout", "5s"]));
    assert_refuses(&of("ftp://example.org/"), &["ftp://example.org/", "http"]);
    assert_refuses(&of("http://[broken/"), &["http://[broken/"]);
    assert_refuses(&of("http://no-such-host.invalid/"), &["no-such-host.invalid"]);
    assert_refuses(&of(&origin.url("/nothing/")), &["404", "/nothing/"]);
    let with_login = origin.url("/").replace("http://", "http://ann:wrong@");
    for (status, url, advice) in [
        (401, origin.url("/"), "give a user name and password"),
        (401, with_login, "check the user name and password"),
        (403, origin.url("/"), "a login is wanted"),
        (400, origin.url("/"), "https://"),
        (451, origin.url("/"), "check the URL"),
        (500, origin.url("/"), "try again later"),
    ] {
        let switch = origin.on("/").fault(Fault::Status(status));
        assert_refuses(&of(&url), &[&status.to_string(), advice]);
        switch.lift();
    }
    let no_tls = run(&mut ground.command(&speaks_no_tls(), &["--retries", "0"]));
    assert_refuses(&no_tls, &["does not speak TLS", "http://"]);
    let by_proxy = run(&mut ground.command(&origin.url("/"), &["--retries", "0", "--proxy", "http://127.0.0.1:9"]));
    assert_refuses(&by_proxy, &["refused the connection", "the proxy", "--proxy"]);
    let switch = origin.on("/").fault(Fault::LoginPage);
    assert_refuses(&of(&origin.url("/")), &["index"]);
    switch.lift();
    let switch = origin.on("/").fault(Fault::Hold(Gate::new()));
    assert_refuses(
        &run(&mut ground.command(&origin.url("/"), &["--retries", "0", "--timeout", "1s"])),
        &["no response"],
    );
    switch.lift();
    origin.go_down();
    assert_refuses(&of(&origin.url("/")), &["refused"]);
    ground.assert_nothing_is_left();
}

/// The `https://` URL of a server that takes every request for plain HTTP.
fn speaks_no_tls() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The response is the same for any request, and also after the client has closed.
            let _ = stream.read(&mut [0; 16 << 10]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    format!("https://{address}/")
}

#[test]
fn page_unlike_an_index_mounts_with_a_warning() {
    let (origin, ground) = (Origin::start(), Ground::new());
    origin.add("/", "<title>Welcome</title><a href=\"film.mkv\">The film</a>");
    origin.add("/film.mkv", "a film");
    let switch = origin.on("/").fault(Fault::Header("Content-Type", "text/html"));
    ground.mount(&origin.url("/"), &[]);
    assert_eq!(
        fs::read(ground.mountpoint().join("film.mkv")).expect("to read"),
        b"a film"
    );
    assert_eq!(ground.log().events(events::NOT_AN_INDEX), 1);
    switch.lift();

    let (indexed, other) = (hello(), Ground::new());
    other.mount(&indexed.url("/"), &[]);
    assert_eq!(other.log().events(events::NOT_AN_INDEX), 0);
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(run(fetchfs().args(["mount", "--no-such-option"])).code, 2);
    assert_eq!(
        run(fetchfs().args(["mount", "http://example.org/"])).code,
        2,
        "no mountpoint"
    );
    assert_eq!(run(fetchfs().args(["unmount"])).code, 2);
    let ran = run(fetchfs().args(["http://example.org/", "/mnt"]));
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("fetchfs mount URL"), "{ran:?}");
    for help in [
        vec!["--help"],
        vec!["mount", "--help"],
        vec!["unmount", "--help"],
        vec!["--version"],
    ] {
        assert!(!run(fetchfs().args(help)).succeeded().out.is_empty());
    }
}

#[test]
fn invalid_variable_is_named_in_the_error() {
    let with = |value: &str, arguments: &[&str]| {
        let mut command = fetchfs();
        command.env("FETCHFS_BWLIMIT", value).arg("mount").args(arguments);
        run(command.args(["http://127.0.0.1:9/", "/nonexistent"]))
    };
    let ran = with("abc", &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let told = "FETCHFS_BWLIMIT in the environment: abc: not a rate";
    assert!(ran.err.contains(told), "{ran:?}");
    for (value, flag) in [
        ("abc", &["--bwlimit", "abc"][..]),
        ("abc", &["--bwlimit=abc"]),
        ("5M", &["-o", "bwlimit=abc"]),
    ] {
        let ran = with(value, flag);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("--bwlimit abc: not a rate"), "{ran:?}");
    }
}

#[test]
fn missing_dev_fuse_is_explained() {
    let (origin, ground) = (hello(), Ground::new());
    let script = r#"
        cd "$1"; mkdir dev; mount -t tmpfs none dev
        for device in null zero random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
        mount --rbind dev /dev
        exec "$FETCHFS" mount --cache-dir cache "$2" mnt
    "#;
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&origin.url("/"))]);
    assert_refuses(&ran, &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn read_ahead_of_fetchfs_mounts_only_is_raised_by_udev() {
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-helpers/udev/fetchfs-readahead");
    let dir = temporary_directory();
    let table = dir.path().join("mountinfo");
    let lines = "30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                 41 30 0:52 / /mnt/pub ro,nosuid,nodev - fuse.fetchfs https://example.org/ ro\n";
    fs::write(&table, lines).expect("to write");
    let raised = |device: &str| run(Command::new(&helper).arg(device).arg(&table));
    assert_eq!(raised("0:52").succeeded().out.trim(), "512");
    for other in ["8:1", "0:99"] {
        assert_eq!(raised(other).code, 1, "{other}");
    }
}

#[test]
fn mount_t_fetchfs_and_fstab_work() {
    let (origin, ground) = (hello(), Ground::new());
    let helpers = ground.home.path().join("helpers");
    fs::create_dir(&helpers).expect("a directory");
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-helpers/mount.fetchfs");
    fs::copy(&helper, helpers.join("mount.fetchfs")).expect("mount-helpers/mount.fetchfs");
    fs::set_permissions(helpers.join("mount.fetchfs"), Permissions::from_mode(0o755)).expect("to make it executable");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fetchfs"), helpers.join("fetchfs")).expect("a link");
    std::os::unix::fs::symlink("mount.fetchfs", helpers.join("mount.fuse.fetchfs")).expect("a link");
    // mount(8) looks for helpers in /sbin, so this one appears there, for the script alone.
    let script = r#"
        cd "$1"; url=$2; sbin=$(readlink -f /sbin); PATH=$1/helpers:$PATH
        mount -t overlay overlay -o "lowerdir=$1/helpers:$sbin" "$sbin"
        mount -f -t fetchfs -o "ro,cache_dir=$1/cache" "$url" "$1/mnt"
        if mount -f -t fetchfs -o bogus "$url" "$1/mnt" 2>/dev/null; then exit 3; fi
        if findmnt -n "$1/mnt"; then exit 4; fi
        mount -t fetchfs -o "ro,cache_dir=$1/cache,cache_size=1G,_netdev" "$url" "$1/mnt"
        findmnt -n -o FSTYPE,SOURCE "$1/mnt"; cat mnt/hello.txt
        umount "$1/mnt"
        echo "$url $1/mnt fetchfs noauto,_netdev,x-systemd.automount,cache_dir=$1/cache 0 0" >fstab
        mount --fstab fstab "$1/mnt"
        cat mnt/hello.txt
        umount "$1/mnt"
        echo "foreground = true" >config
        FETCHFS_CONFIG=$1/config mount -t fuse.fetchfs -o "cache_dir=$1/cache" "$url" "$1/mnt"
        cat mnt/hello.txt
        mount -o remount,attr_ttl=21s "$1/mnt"; fetchfs get "$1/mnt" attr_ttl
        mount -o remount,ro "$1/mnt"
        if mount -o remount,rw "$1/mnt" 2>/dev/null; then exit 5; fi
        if mount -o remount,attr_ttl=22s,umask=077 "$1/mnt" 2>/dev/null; then exit 6; fi
        echo "$url $1/mnt fetchfs noauto,cache_dir=$1/cache,attr_ttl=23s 0 0" >fstab
        mount --fstab fstab -o remount "$1/mnt"; fetchfs get "$1/mnt" attr_ttl
        mount --fstab fstab -o remount,attr_ttl=24s "$1/mnt"; fetchfs get "$1/mnt" attr_ttl
        cat mnt/hello.txt
        umount "$1/mnt"
    "#;
    let url = origin.url("/");
    let ran = in_namespace(script, &[ground.home.path(), Path::new(&url)]).succeeded();
    let words: Vec<&str> = ran.out.split_whitespace().collect();
    assert_eq!(words[..2], ["fuse.fetchfs", &url], "{ran:?}");
    let expected = ["hello", "hello", "hello", "21s", "23s", "24s", "hello"];
    assert_eq!(words[2..], expected, "{ran:?}");
    ground.wait_for_the_end();
    ground.assert_nothing_is_left();
}

/// What is installed is removed again, and mount(8) finds each of its helpers.
#[test]
fn uninstall_removes_what_install_wrote() {
    let (root, program) = (temporary_directory(), env!("CARGO_BIN_EXE_fetchfs"));
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.args(["--no-print-directory", "-C", env!("CARGO_MANIFEST_DIR"), target]);
        make.arg(format!("BINARY={program}"))
            .arg(format!("DESTDIR={}", root.path().display()));
        run(&mut make).succeeded();
    };
    let installed = || {
        let found = run(Command::new("find")
            .arg(root.path())
            .args(["!", "-type", "d", "-printf", "%P\n"]));
        found.succeeded().out
    };
    make("install");
    let files = installed();
    for helper in ["mount.fetchfs", "mount.fuse.fetchfs", "umount.fuse.fetchfs"] {
        assert!(files.lines().any(|file| file == format!("sbin/{helper}")), "{files}");
    }
    make("uninstall");
    assert_eq!(installed(), "");
}
