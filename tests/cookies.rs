//! Cookies that servers set, and sign-on over a login host (`sign-on.py`).

use std::fs::{self, File};
use std::process::Command;

use crate::common::files::{advise_random, assert_same, try_pread};
use crate::common::mount::Plan;
use crate::common::process::assert_refuses;
use crate::common::servers::WebServer;
use crate::common::{Mount, fetchfs, run, temporary_directory};

const SERVER: &str = "127.0.0.1";
const LOGIN_HOST: &str = "127.0.0.2";

/// A request that the server has printed.
struct Asked {
    host: String,
    path: String,
    status: u16,
    authorization: String,
    cookies: String,
}

fn asked(server: &WebServer) -> Vec<Asked> {
    let printed = server.printed();
    let lines = printed
        .lines()
        .map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|fields| {
            let [host, _method, path, status, authorization, cookies] = &fields[..] else {
                panic!("a line of the server: {fields:?}");
            };
            Asked {
                host: host.clone(),
                path: path.clone(),
                status: status.parse().expect("a status"),
                authorization: authorization.clone(),
                cookies: cookies.clone(),
            }
        })
        .collect()
}

/// A netrc file with this text.
fn netrc(text: &str) -> (tempfile::TempDir, String) {
    let home = temporary_directory();
    let path = home.path().join("netrc");
    fs::write(&path, text).expect("to write");
    let path = path.to_str().expect("a path of the harness").to_owned();
    (home, path)
}

fn login_at(host: &str) -> (tempfile::TempDir, String) {
    netrc(&format!("machine {host} login ann password s3cret\n"))
}

/// Small chunks, so that reads at random places are many requests.
fn plan(server: &WebServer) -> Plan {
    Mount::of(&server.url("/")).with("--chunk-size", "64KiB")
}

/// Reads the file from its end, so that each part is a request of its own.
#[track_caller]
fn read_backwards(mount: &Mount) -> Vec<u8> {
    let file = File::open(mount.path("f.bin")).expect("to open");
    advise_random(&file);
    let parts = (0..32).rev().map(|part| {
        let begin = part * (128 << 10);
        (begin, try_pread(&file, begin..begin + 4096).expect("a part"))
    });
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

#[track_caller]
fn read_all(mount: &Mount) -> Vec<u8> {
    let bytes = fs::read(mount.path("f.bin")).expect("its bytes");
    assert_eq!(bytes.len(), 4 << 20);
    bytes
}

/// Runs `fetchfs mount`, which must be refused, and returns the error.
#[track_caller]
fn refusal(server: &WebServer, arguments: &[&str]) -> String {
    let home = temporary_directory();
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let mut command = fetchfs();
    command
        .args(["mount", "--retries", "0", "--cache-dir"])
        .arg(home.path().join("cache"));
    let ran = run(command.args(arguments).arg(server.url("/")).arg(&mountpoint));
    assert_refuses(&ran, &[]);
    ran.err
}

/// As NASA's Earthdata: the server leads to a login host, which leads back with a cookie.
#[test]
fn sign_on_over_a_login_host_needs_one_login() {
    let server = WebServer::case("sign-on.py", &["plain", "PORT"]);
    let (_home, netrc) = login_at(LOGIN_HOST);
    let mount = plan(&server).with("--netrc-file", &netrc).with("-vvv", "").start();
    read_backwards(&mount);
    let asked = asked(&server);
    let logins = asked
        .iter()
        .filter(|asked| asked.status == 302 && asked.host == LOGIN_HOST);
    assert_eq!(logins.count(), 1, "one session for all requests");
    for asked in &asked {
        if asked.host == SERVER {
            assert_eq!(asked.authorization, "-", "{}", asked.path);
            assert!(!asked.cookies.contains("sso"), "{}", asked.cookies);
        } else {
            assert!(!asked.cookies.contains("session"), "{}", asked.cookies);
        }
        for hidden in ["sso=2", "other=", "secure="] {
            assert!(!asked.cookies.contains(hidden), "{}", asked.cookies);
        }
    }
    let files = run(Command::new("grep")
        .args(["-rlaE", "--", "session=s|sso=1|s3cret"])
        .arg(mount.home()));
    assert_eq!(files.out, "", "neither the log nor the cache has a secret");
}

#[test]
fn expired_session_is_renewed_while_a_file_is_read() {
    let server = WebServer::case("sign-on.py", &["expires", "PORT"]);
    let (_home, netrc) = login_at(LOGIN_HOST);
    let mount = plan(&server)
        .with("--netrc-file", &netrc)
        .with("--max-connections", "1")
        .start();
    let bytes = read_backwards(&mount);
    let renewed = asked(&server).iter().filter(|asked| asked.path == "/back").count();
    assert!(renewed > 2, "{renewed} sessions");
    let plain = WebServer::case("sign-on.py", &["public", "PORT"]);
    assert_same(&bytes, &read_backwards(&plan(&plain).start()), "the same file");
}

/// A login that is for another host, or for any host, is none for the login host.
#[test]
fn login_host_receives_only_its_own_login() {
    let server = WebServer::case("sign-on.py", &["plain", "PORT"]);
    let url = format!("http://{LOGIN_HOST}");
    for text in [
        "machine 127.0.0.3 login ann password s3cret\n",
        "default login ann password s3cret\n",
        "",
    ] {
        let (_home, netrc) = netrc(text);
        let error = refusal(&server, &["--netrc-file", &netrc]);
        assert!(
            error.contains(&url) && error.contains("HTTP 401") && error.contains("--netrc-file"),
            "{error}"
        );
    }
    let error = refusal(&server, &["--login", "ann:s3cret"]);
    assert!(error.contains("HTTP 401"), "{error}");
    let there = asked(&server);
    let mut there = there.iter().filter(|asked| asked.host == LOGIN_HOST);
    assert!(there.all(|asked| asked.authorization == "-"));
}

#[test]
fn sign_on_without_an_end_is_an_error() {
    let (_home, netrc) = login_at(LOGIN_HOST);
    let server = WebServer::case("sign-on.py", &["loop", "PORT"]);
    let error = refusal(&server, &["--netrc-file", &netrc]);
    assert!(error.contains("a circle") && error.contains("--cookie-file"), "{error}");
    let server = WebServer::case("sign-on.py", &["plain", "PORT"]);
    let error = refusal(&server, &["--netrc-file", &netrc, "--no-cookies"]);
    assert!(error.contains("a circle") && error.contains("--no-cookies"), "{error}");
    assert!(asked(&server).iter().all(|asked| asked.cookies == "-"));
}

/// Basic authentication once, then the session's cookie: with the login, so that the server may choose.
#[test]
fn session_cookie_of_a_server_with_a_login_is_sent() {
    let server = WebServer::case("sign-on.py", &["basic", "PORT"]);
    let mount = plan(&server).with("--login", "ann:s3cret").start();
    read_backwards(&mount);
    let asked = asked(&server);
    let first = asked.iter().position(|asked| asked.status == 200).expect("the index");
    assert!(asked.len() > first + 3);
    for asked in &asked[first + 1..] {
        assert_eq!(asked.cookies, "session=s0", "{}", asked.path);
    }
}

/// The cache of a public server is the same one with and without its cookies.
#[test]
fn cookies_of_a_server_do_not_change_where_its_files_are_cached() {
    let server = WebServer::case("sign-on.py", &["public", "PORT"]);
    let mut mount = plan(&server).start();
    let bytes = read_all(&mount);
    mount.unmount();
    mount.add_option("--no-cookies", "");
    mount.add_option("--offline", "");
    mount.start();
    assert_same(&read_all(&mount), &bytes, "from the cache");
}

/// What a login host's login has brought is not shown to a mount without that login.
#[test]
fn cache_of_a_sign_on_is_for_that_login() {
    let server = WebServer::case("sign-on.py", &["plain", "PORT"]);
    let (_home, netrc) = login_at(LOGIN_HOST);
    let mut mount = plan(&server).with("--netrc-file", &netrc).start();
    let bytes = read_all(&mount);
    mount.unmount();
    mount.add_option("--offline", "");
    mount.start();
    assert_same(&read_all(&mount), &bytes, "the same login, from the cache");
    let cache = mount.cache();
    let mountpoint = temporary_directory();
    let mut command = fetchfs();
    command
        .args(["mount", "--offline", "--cache-dir"])
        .arg(&cache)
        .arg(server.url("/"));
    let ran = run(command.arg(mountpoint.path()));
    assert_refuses(&ran, &[]);
}

/// The user's cookie is sent with those of the server, and the server may replace it.
#[test]
fn cookie_file_seeds_the_jar() {
    let server = WebServer::case("sign-on.py", &["public", "PORT"]);
    let (_home, file) =
        netrc("127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tmine\n127.0.0.1\tFALSE\t/\tFALSE\t0\tlanguage\ten\n");
    for (option, later) in [("", "language=en"), ("--no-cookies", "session=mine;language=en")] {
        let before = asked(&server).len();
        let mount = plan(&server).with("--cookie-file", &file).with(option, "").start();
        read_backwards(&mount);
        drop(mount);
        let asked = &asked(&server)[before..];
        assert_eq!(asked[0].cookies, "session=mine;language=en");
        for asked in &asked[1..] {
            assert!(asked.cookies.contains(later), "{option}: {}", asked.cookies);
            assert_eq!(asked.cookies.contains("session=mine"), !option.is_empty(), "{option}");
        }
    }
}
