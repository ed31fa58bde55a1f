//! Combinations of the options about servers.

use std::fs;

use super::*;
use crate::config::ConfigError;
use crate::config::resolve::tests::config;

fn http(sources: &[&str], arguments: &[&str]) -> Result<HttpConfig, ConfigError> {
    let all: Vec<_> = arguments.iter().chain(sources).chain(&["/"]).copied().collect();
    config(&all).map(|config| config.engine.http)
}

fn access(arguments: &[&str]) -> AccessConfig {
    http(&["https://host/"], arguments).unwrap().access
}

fn wrong(sources: &[&str], arguments: &[&str]) -> String {
    let error = http(sources, arguments).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    error.to_string()
}

#[test]
fn no_credentials_are_sent_by_default() {
    let plain = http(&["https://host/"], &[]).unwrap();
    assert_eq!(plain, HttpConfig::default());
}

#[test]
fn a_password_comes_from_the_option_a_file_or_netrc() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (password, netrc) = (
        file("p", "two words\nrest"),
        file("n", "machine host login ann password net"),
    );
    let login = |arguments: &[&str]| access(arguments).login.map(|login| (login.user, login.password));
    let is = |user: &str, password: &str| Some((user.to_owned(), Secret::new(password)));
    assert_eq!(login(&["--login=ann:a:b"]), is("ann", "a:b"));
    assert_eq!(
        login(&["--login=ann", "--password-file", &password]),
        is("ann", "two words")
    );
    assert_eq!(login(&["--login=ann", "--netrc-file", &netrc]), is("ann", "net"));
    assert_eq!(
        login(&["--netrc-file", &netrc]),
        None,
        "what netrc says depends on the source"
    );
    assert_ne!(access(&["--netrc-file", &netrc]).netrc, Netrc::default());
    let by_url = http(&["https://b%40b@host/"], &["--password-file", &password]).unwrap();
    assert_eq!(by_url.access.login.unwrap().user, "b@b");
    assert!(wrong(&["https://host/"], &["--password-file", &password]).contains("the user name is missing"));
    assert!(wrong(&["https://host/"], &["--login=eve", "--netrc-file", &netrc]).contains("the password is missing"));
}

#[test]
fn headers_come_one_by_one_or_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "# mine\nX-Key: hunter2\n\nX-Key:two\n").unwrap();
    let from_file = format!("@{}", file.path().display());
    let headers = access(&["--header", "Accept-Language: de, en", "--header", &from_file]).headers;
    assert_eq!(headers["accept-language"], "de, en");
    assert_eq!(headers.get_all("x-key").iter().collect::<Vec<_>>(), ["hunter2", "two"]);
    assert!(!format!("{headers:?}").contains("hunter2"));
    for header in ["hunter2", "a b: hunter2", "X: hunter2\u{7f}x"] {
        assert!(
            wrong(&["https://host/"], &["--header", header]).contains("not a header"),
            "{header}"
        );
    }
    assert!(wrong(&["https://host/"], &["--header", "Range: hunter2"]).contains("`range` is set by fetchfs"));
}

#[test]
fn what_is_for_one_server_is_not_given_to_two() {
    let two = ["https://host/a", "https://host:8443/b"];
    for secret in ["--login=ann:hunter2", "--header=X: hunter2", "--bearer-token=hunter2"] {
        assert!(
            wrong(&two, &[secret]).contains("https://host:443 and https://host:8443"),
            "{secret}"
        );
        http(&["https://host/a", "https://host/b"], &[secret]).unwrap();
    }
    http(&two, &["--insecure", "--user-agent=x"]).unwrap();
}

#[test]
fn a_token_comes_from_one_place() {
    assert!(matches!(
        access(&["--bearer-token=t"]).token,
        Some(TokenSource::Given(_))
    ));
    assert_eq!(
        access(&["--bearer-token-file=/t"]).token,
        Some(TokenSource::File("/t".into()))
    );
    assert!(matches!(
        access(&["--bearer-token-command=echo t"]).token,
        Some(TokenSource::Command(_))
    ));
}

#[test]
fn mirrors_have_no_login_and_need_one_source() {
    let one = ["https://host/pub/"];
    let mirrors = http(&one, &["--mirror=http://b/", "--mirror", "https://c/x"])
        .unwrap()
        .mirrors;
    let urls: Vec<_> = mirrors.urls.iter().map(url::Url::as_str).collect();
    assert_eq!(mirrors.source.unwrap().as_str(), one[0]);
    assert_eq!(urls, ["http://b/", "https://c/x"]);
    insta::assert_snapshot!(wrong(&one, &["--mirror=ftp://b/?k=hunter2"]), @"--mirror: `ftp://b/?k=...` is not a URL that begins with http:// or https://");
    insta::assert_snapshot!(wrong(&one, &["--mirror=http://ann:hunter2@b/"]), @"--mirror: http://b/: credentials are never sent to a mirror; write its URL without a user");
    insta::assert_snapshot!(wrong(&["http://a/", "http://b/"], &["--mirror=http://c/"]), @"--mirror needs exactly one source, but there are 2; mount them separately");
}

#[test]
fn dns_does_not_say_who_gets_credentials() {
    let one = ["https://host/"];
    let by_url = ["--tier=https://a:8080", "--tier-private"];
    assert!(http(&one, &by_url).unwrap().tier.is_private);
    assert!(!http(&one, &["--tier=dns:tier"]).unwrap().tier.is_private);
    insta::assert_snapshot!(wrong(&one, &["--tier=https://a|dns:tier", "--tier-private"]), @"--tier-private: `dns:tier` would let DNS say which machine gets the credentials; name the nodes by their URLs in --tier");
}
