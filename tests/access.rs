//! Access to servers: proxies, logins, certificates and credentials, with servers as they exist in practice.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use fetchfs::internals::events;

use crate::common::files::{advise_random, assert_same, sha256, sha256_of, try_pread, write_file};
use crate::common::mount::{Plan, mount_line};
use crate::common::process::{Ran, assert_refuses};
use crate::common::proxies::Proxy;
use crate::common::servers::{Certificates, Guard, PASSWORD, USER, WebServer};
use crate::common::{Mount, fetchfs, run, temporary_directory};
use crate::origin::{Content, Fault, Origin};

const MIB: u64 = 1 << 20;

/// A directory with one file, and the file's content.
fn one_file() -> (tempfile::TempDir, Content) {
    let (root, content) = (temporary_directory(), Content::noise(2 * MIB + 11, 61));
    write_file(&root.path().join("f"), &content);
    (root, content)
}

/// Asserts that the file of [`one_file`] exists and has the right bytes.
#[track_caller]
fn shows_it(plan: Plan, content: &Content) -> Mount {
    let mount = plan.start();
    let names: Vec<_> = fs::read_dir(mount.root())
        .expect("to list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["f"]);
    assert_eq!(sha256(&mount.path("f")), sha256_of(content));
    mount
}

/// Runs `fetchfs mount` for a source that can't be mounted.
#[track_caller]
fn refusal(source: &str, arguments: &[&str]) -> Ran {
    let home = temporary_directory();
    let (mountpoint, cache) = (home.path().join("mnt"), home.path().join("cache"));
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let mut command = fetchfs();
    command.args(["mount", "--retries", "0", "--cache-dir"]).arg(&cache);
    let ran = run(command.args(arguments).arg(source).arg(&mountpoint));
    assert_refuses(&ran, &[]);
    ran
}

/// A file with this text, in a new directory.
fn file_with(text: &str) -> (tempfile::TempDir, String) {
    let home = temporary_directory();
    let path = home.path().join("file");
    fs::write(&path, text).expect("to write");
    let path = path.to_str().expect("a path of the harness").to_owned();
    (home, path)
}

#[test]
fn certificates_need_a_named_ca_or_insecure() {
    let ((root, content), certificates) = (one_file(), Certificates::new());
    let server = WebServer::nginx_with_tls(root.path(), &certificates);
    let url = server.url("/");
    let error = refusal(&url, &[]).err;
    assert!(error.contains("not trusted") && error.contains("--ca-cert"), "{error}");
    drop(shows_it(
        Mount::of(&url).with("--ca-cert", &certificates.path("ca.pem")),
        &content,
    ));
    let mount = shows_it(Mount::of(&url).with("--insecure", ""), &content);
    assert_eq!(mount.events_with(events::CERTIFICATES_UNCHECKED, "WARN"), 1);
    // A name that the certificate does not cover.
    let other = url.replace("127.0.0.1", "127.0.0.2");
    refusal(&other, &["--ca-cert", &certificates.path("ca.pem")]);
}

#[test]
fn client_certificate_is_sent_on_request() {
    let ((root, content), certificates) = (one_file(), Certificates::new());
    let server = WebServer::nginx_for_certified_clients(root.path(), &certificates);
    let authority = certificates.path("ca.pem");
    refusal(&server.url("/"), &["--ca-cert", &authority]);
    let plan = Mount::of(&server.url("/")).with("--ca-cert", &authority);
    let plan = plan.with("--client-cert", &certificates.path("client.pem"));
    shows_it(plan.with("--client-key", &certificates.path("client.key")), &content);
}

#[test]
fn client_certificate_is_not_sent_to_redirect_targets() {
    let ((root, content), certificates) = (one_file(), Certificates::new());
    let elsewhere = WebServer::nginx_that_wants_nobody_s_certificate(root.path(), &certificates);
    let to = elsewhere.url("/f");
    let server = WebServer::nginx_for_certified_clients_that_leads(root.path(), &certificates, "/f", &to);
    let authority = certificates.path("ca.pem");
    let certified = |url: &str| {
        let plan = Mount::of(url).with("--ca-cert", &authority);
        let plan = plan.with("--client-cert", &certificates.path("client.pem"));
        plan.with("--client-key", &certificates.path("client.key"))
    };
    shows_it(certified(&server.url("/")), &content);
    assert!(elsewhere.data_bytes_for("/f") >= content.size(), "it came from there");
    // The other server would have noticed it.
    let error = refusal(
        &elsewhere.url("/"),
        &[
            "--ca-cert",
            &authority,
            "--client-cert",
            &certificates.path("client.pem"),
            "--client-key",
            &certificates.path("client.key"),
        ],
    );
    assert!(error.err.contains("HTTP 403"), "{error:?}");
}

#[test]
fn unusable_tls_files_are_named_in_the_error() {
    let (_home, empty) = file_with("");
    let url = "https://127.0.0.1:1/";
    for option in ["--ca-cert", "--client-cert"] {
        let error = refusal(url, &[option, &empty]).err;
        assert!(error.contains(&format!("{option} {empty}")), "{error}");
        let error = refusal(url, &[option, "/no/such/file"]).err;
        assert!(
            error.contains(&format!("{option} /no/such/file: No such file")),
            "{error}"
        );
    }
}

#[test]
fn nginx_with_basic_authentication() {
    let (root, content) = one_file();
    let server = WebServer::nginx_guarded(root.path());
    let error = refusal(&server.url("/"), &[]).err;
    assert!(error.contains("HTTP 401") && error.contains("--login"), "{error}");
    shows_it(
        Mount::of(&server.url("/")).with("--login", &format!("{USER}:{PASSWORD}")),
        &content,
    );
}

#[test]
fn apache_with_basic_and_with_digest_authentication() {
    let (root, content) = one_file();
    let (_home, password) = file_with(&format!("{PASSWORD}\n"));
    for guard in [Guard::Basic, Guard::Digest] {
        let server = WebServer::apache_guarded(root.path(), guard);
        let url = server.url("/");
        let error = refusal(&url, &[]).err;
        assert!(error.contains("HTTP 401") && error.contains("--login"), "{error}");
        refusal(&url, &["--login", "ann:wrong"]);
        let requests = server.requests().len();
        shows_it(
            Mount::of(&url).with("--login", USER).with("--password-file", &password),
            &content,
        );
        let refused = server.requests()[requests..]
            .iter()
            .filter(|line| line.status == 401)
            .count();
        assert_eq!(refused, 1, "what a server wants is asked for once");
        shows_it(
            Mount::of(&url.replace("http://", &format!("http://{USER}:{PASSWORD}@"))),
            &content,
        );
        let (_home, netrc) = file_with(&format!("machine 127.0.0.1\nlogin {USER}\npassword {PASSWORD}\n"));
        shows_it(Mount::of(&url).with("--netrc-file", &netrc), &content);
    }
}

/// The files below a directory that contain this text.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let ran = run(Command::new("grep").args(["-rlaF", "--", text]).arg(directory));
    ran.out.lines().map(str::to_owned).collect()
}

#[test]
fn secrets_are_never_visible() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 62));
    origin.add("/f", content.clone());
    let with_login = origin
        .url("/")
        .replace("http://", &format!("http://{USER}:{PASSWORD}@"));
    let plan = Mount::of(&with_login)
        .with("-vvv", "")
        .with("--header", &format!("X-Key: {PASSWORD}"))
        .with("-o", &format!("bearer_token={PASSWORD}"))
        .with("--proxy", &format!("http://proxy:{PASSWORD}@127.0.0.1:9"))
        .with("--proxy", "none");
    let mount = shows_it(plan, &content);
    // Failures are logged and shown.
    origin.on("/f").fault(Fault::Status(403));
    let file = File::open(mount.path("f"));
    drop(file.map(|file| try_pread(&file, 0..10)));
    fs::metadata(mount.path("nothing")).expect_err("there is no such name");
    let requests = origin.log().all().0;
    assert!(requests.iter().all(|request| request.header("x-key") == Some(PASSWORD)));
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization") == Some(&format!("Bearer {PASSWORD}")))
    );

    let line = fs::read(format!("/proc/{}/cmdline", mount.pid())).expect("a command line");
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.contains("bearer_token=***") && !line.contains(PASSWORD), "{line}");
    assert!(!mount_line(&mount.root()).expect("it is mounted").contains(PASSWORD));
    assert_eq!(files_with(&mount.home(), PASSWORD), [""; 0], "log, cache and index");
}

#[test]
fn credentials_are_not_sent_to_redirect_targets() {
    let (origin, elsewhere, content) = (Origin::start(), Origin::start(), Content::noise(MIB, 63));
    origin.add("/f", content.clone());
    elsewhere.add("/moved", content.clone());
    origin.on("/f").fault(Fault::Redirect(302, elsewhere.url("/moved")));
    let (_home, cookies) = file_with("# Netscape HTTP Cookie File\nlocalhost\tFALSE\t/\tFALSE\t0\tid\ts3cret\n");
    let source = origin.url("/").replace("127.0.0.1", "localhost");
    let plan = Mount::of(&source)
        .with("--header", "X-Key: s3cret")
        .with("--bearer-token", "s3cret")
        .with("--cookie-file", &cookies);
    shows_it(plan.with("--user-agent", "test/1"), &content);
    for request in origin.log().all().0 {
        let header = |name| request.header(name);
        assert_eq!(
            (header("x-key"), header("authorization")),
            (Some("s3cret"), Some("Bearer s3cret"))
        );
        assert_eq!(
            (header("cookie"), header("user-agent")),
            (Some("id=s3cret"), Some("test/1"))
        );
    }
    let away = elsewhere.log().all().0;
    assert!(
        !away.is_empty()
            && away
                .iter()
                .all(|request| request.header("user-agent") == Some("test/1"))
    );
    assert!(
        away.iter()
            .all(|request| request.headers.iter().all(|(_, value)| !value.contains("s3cret")))
    );
}

#[test]
fn expired_token_is_renewed_while_files_are_open() {
    let (origin, content) = (Origin::start(), Content::noise(8 * MIB, 64));
    origin.add("/f", content.clone());
    let (_home, token) = file_with("first\n");
    let demand = |value: &str| {
        origin
            .on_any()
            .fault(Fault::Demand("authorization", format!("Bearer {value}")))
    };
    let before = demand("first");
    let mount = Mount::of(&origin.url("/")).with("--bearer-token-file", &token).start();
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, 0..10).expect("to read"),
        &content.read(0..10),
        "with the first token",
    );
    before.lift();
    let _after = demand("second");
    assert!(
        try_pread(&file, 4 * MIB..4 * MIB + 10).is_err(),
        "the file still has the first token"
    );
    fs::write(&token, "second\n").expect("to write");
    let place = 4 * MIB..4 * MIB + 10;
    assert_same(
        &try_pread(&file, place.clone()).expect("to read"),
        &content.read(place),
        "with the second",
    );
}

#[test]
fn token_comes_from_a_command_or_the_environment() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 65));
    origin.add("/f", content.clone());
    origin
        .on_any()
        .fault(Fault::Demand("authorization", "Bearer t-1".into()));
    shows_it(
        Mount::of(&origin.url("/")).with("--bearer-token-command", "echo t-$((3 - 2))"),
        &content,
    );
    shows_it(
        Mount::of(&origin.url("/")).with_env("FETCHFS_BEARER_TOKEN", "t-1"),
        &content,
    );
    let error = refusal(&origin.url("/"), &["--bearer-token-command", "echo locked >&2; false"]).err;
    assert!(
        error.contains("the token command failed (exit status: 1): locked"),
        "{error}"
    );
}

#[test]
fn proxy_follows_options_and_environment() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 66));
    origin.add("/f", content.clone());
    let (url, target) = (origin.url("/"), origin.address().to_string());
    let by = |proxy: &Proxy, scheme: &str| format!("{scheme}://{}", proxy.address());
    let all = |proxy: &Proxy, kind: &str| {
        let seen = proxy.seen();
        assert!(
            !seen.is_empty() && seen.iter().all(|one| *one == format!("{kind} {target}")),
            "{seen:?}"
        );
    };
    for (scheme, kind) in [("http", "http"), ("socks5", "socks"), ("socks5h", "socks")] {
        let proxy = Proxy::start();
        shows_it(Mount::of(&url).with("--proxy", &by(&proxy, scheme)), &content);
        all(&proxy, kind);
    }
    let proxy = Proxy::start();
    shows_it(Mount::of(&url).with_env("http_proxy", &by(&proxy, "http")), &content);
    all(&proxy, "http");
    let proxy = Proxy::start();
    let plan = || Mount::of(&url).with_env("http_proxy", &by(&proxy, "http"));
    shows_it(plan().with_env("no_proxy", "127.0.0.1"), &content);
    shows_it(plan().with("--proxy", "none"), &content);
    assert_eq!(proxy.seen(), [""; 0]);
}

#[test]
fn unknown_proxy_option_is_an_error_and_variable_a_warning() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 69));
    origin.add("/f", content.clone());
    let error = refusal(&origin.url("/"), &["--proxy", "socks://ann:secret@127.0.0.1:9"]).err;
    assert!(
        error.contains("--proxy: not the address of a proxy") && !error.contains("secret"),
        "{error}"
    );
    assert_eq!(
        origin.log().all().0.len(),
        0,
        "nothing goes past the proxy that was meant"
    );
    // Other programs also read the variable and ignore such values.
    let plan = Mount::of(&origin.url("/")).with_env("all_proxy", "socks://ann:secret@127.0.0.1:9");
    let mount = shows_it(plan, &content);
    assert_eq!(mount.events_with(events::PROXY_IGNORED, "all_proxy"), 1);
    mount.log().assert_hides("secret");
}

#[test]
fn proxy_receives_its_credentials() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 67));
    origin.add("/f", content.clone());
    // "ann:pw"
    let proxy = Proxy::start_for(Some("Basic YW5uOnB3"));
    let error = refusal(&origin.url("/"), &["--proxy", &format!("http://{}", proxy.address())]).err;
    assert!(
        error.contains("HTTP 407") && error.contains("--proxy http://USER:PASSWORD@"),
        "{error}"
    );
    shows_it(
        Mount::of(&origin.url("/")).with("--proxy", &format!("http://ann:pw@{}", proxy.address())),
        &content,
    );
}

#[test]
fn missing_proxy_credentials_for_tls_fail_at_once() {
    let proxy = Proxy::start_for(Some("Basic YW5uOnB3"));
    let arguments = ["--proxy", &format!("http://{}", proxy.address())];
    // The client never connects, so no proxy needs to listen.
    let error = refusal("https://127.0.0.1:9/", &arguments).err;
    assert!(
        error.contains("HTTP 407") && error.contains("--proxy http://USER:PASSWORD@"),
        "{error}"
    );
    assert_eq!(proxy.seen(), [""; 0]);
}

#[test]
fn tls_is_tunnelled_through_a_proxy() {
    let ((root, content), certificates, proxy) = (one_file(), Certificates::new(), Proxy::start());
    let server = WebServer::nginx_with_tls(root.path(), &certificates);
    let plan = Mount::of(&server.url("/")).with("--ca-cert", &certificates.path("ca.pem"));
    shows_it(plan.with("--proxy", &format!("http://{}", proxy.address())), &content);
    assert!(!proxy.seen().is_empty() && proxy.seen().iter().all(|one| one.starts_with("connect 127.0.0.1:")));
}

#[test]
fn http2_without_tls_is_used_on_request() {
    let (root, content) = one_file();
    let server = WebServer::nginx_http2(root.path());
    refusal(&server.url("/"), &[]);
    shows_it(Mount::of(&server.url("/")).with("--http2", ""), &content);
}
