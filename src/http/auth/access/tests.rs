//! Which credentials each origin receives.

use super::*;
use crate::http::HttpConfig;
use crate::http::testing::{Server, says};
use crate::origin::Client;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn login(user: &str, password: &str) -> Login {
    Login {
        user: user.to_owned(),
        password: Secret::new(password),
    }
}

/// The Authorization header that a request to this URL would have.
async fn sent(access: &Access, to: &str) -> Option<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().get(url(to));
    let (request, _) = access.authorize(&Method::GET, &url(to), request).await.unwrap();
    let request = request.build().unwrap();
    let value = request.headers().get("authorization")?;
    assert!(value.is_sensitive(), "else it is shown by Debug");
    Some(value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_login_goes_to_its_own_origin_only() {
    let access = Access::new(AccessConfig::default());
    assert_eq!(
        access.adopt(url("https://u:p@host/d?q=1#f")),
        url("https://host/d?q=1#f")
    );
    for home in ["https://host/", "https://host:443/other", "https://HOST/d"] {
        assert_eq!(sent(&access, home).await.as_deref(), Some("Basic dTpw"), "{home}");
    }
    for away in [
        "http://host/",
        "https://host:8080/",
        "https://host.example/",
        "https://sub.host/",
        "https://host./",
    ] {
        assert_eq!(sent(&access, away).await, None, "{away}");
    }
}

#[tokio::test]
async fn a_url_without_a_login_takes_none_away() {
    let access = Access::new(AccessConfig::default());
    access.adopt(url("https://user@host/"));
    access.adopt(url("https://host/again"));
    let shown = sent(&access, "https://host/").await;
    assert_eq!(shown.as_deref(), Some("Basic dXNlcjo="), "no password is an empty one");
}

#[tokio::test]
async fn credentials_are_sent_only_to_the_sources() {
    let netrc = "machine a login ann password 1 machine a login bob password 2 default login any password 3";
    let access = Access::new(AccessConfig {
        netrc: Netrc::parse(netrc, None).unwrap(),
        ..AccessConfig::default()
    });
    assert_eq!(sent(&access, "https://b/").await, None, "no source is there");
    access.adopt(url("https://a/"));
    access.adopt(url("https://bob@a:81/"));
    access.adopt(url("https://b/"));
    let basic = async |to| sent(&access, to).await.unwrap();
    assert_eq!(basic("https://a/").await, "Basic YW5uOjE=");
    assert_eq!(
        basic("https://a:81/").await,
        "Basic Ym9iOjI=",
        "the password of the user that the URL names"
    );
    assert_eq!(basic("https://b/").await, "Basic YW55OjM=");
    assert_eq!(sent(&access, "https://a:82/").await, None);

    let access = Access::new(AccessConfig {
        login: Some(login("ann", "4")),
        token: None,
        netrc: Netrc::parse(netrc, None).unwrap(),
        ..AccessConfig::default()
    });
    access.adopt(url("https://a/"));
    assert_eq!(
        sent(&access, "https://a/").await.as_deref(),
        Some("Basic YW5uOjQ="),
        "an option goes before netrc"
    );
}

/// A host that a redirect leads to receives the login of its own netrc entry, and nothing else.
#[tokio::test]
async fn login_host_receives_its_own_netrc_entry() {
    let netrc =
        "machine login.example login ann password 1 machine a login cat password 2 default login any password 3";
    let config = AccessConfig {
        token: Some(TokenSource::Given(Secret::new("t0k"))),
        headers: HeaderMap::from_iter([(header::REFERER, HeaderValue::from_static("x"))]),
        netrc: Netrc::parse(netrc, None).unwrap(),
        ..AccessConfig::default()
    };
    let access = Access::new(config.clone());
    access.adopt(url("https://a/"));
    assert_eq!(
        sent(&access, "https://login.example/x").await.as_deref(),
        Some("Basic YW5uOjE=")
    );
    assert_eq!(
        sent(&access, "https://login.example:8443/").await.as_deref(),
        Some("Basic YW5uOjE=")
    );
    for other in [
        "http://login.example/",
        "https://b.login.example/",
        "https://other.example/",
        "https://a:81/",
    ] {
        assert_eq!(sent(&access, other).await, None, "{other}");
    }
    let login_host = url("https://login.example/x");
    assert!(
        !access.is_home(&login_host),
        "it receives no header and no client certificate"
    );
    assert_eq!(access.header_at(&login_host, &header::REFERER), None);
    assert!(access.header_at(&url("https://a/"), &header::REFERER).is_some());
    // A source may be there later.
    access.adopt(login_host.clone());
    assert_eq!(sent(&access, login_host.as_str()).await.as_deref(), Some("Bearer t0k"));

    let access = Access::new(AccessConfig { token: None, ..config });
    access.adopt(url("http://a/"));
    assert_eq!(
        access.login_at(&url("http://login.example/")),
        Some(login("ann", "1")),
        "where nothing is encrypted; it is sent when the server asks for it"
    );
    for number in 0..2 * MOST_ORIGINS {
        access.login_at(&url(&format!("https://login.example:{}/", 1000 + number)));
    }
    assert!(access.homes.lock().len() <= MOST_ORIGINS);
}

#[tokio::test]
async fn a_token_goes_before_a_login_and_a_header_before_both() {
    let mut config = AccessConfig {
        login: Some(login("u", "p")),
        token: Some(TokenSource::Given(Secret::new("t0k"))),
        ..AccessConfig::default()
    };
    let access = Access::new(config.clone());
    access.adopt(url("http://h/"));
    assert_eq!(sent(&access, "http://h/").await.as_deref(), Some("Bearer t0k"));
    let mut value = HeaderValue::from_static("Custom x");
    value.set_sensitive(true);
    config.headers.insert(header::AUTHORIZATION, value);
    let access = Access::new(config);
    access.adopt(url("http://h/"));
    assert_eq!(sent(&access, "http://h/").await.as_deref(), Some("Custom x"));
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn refuses(challenge: &str) -> String {
    format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno")
}

fn client(access: AccessConfig) -> Client {
    let config = HttpConfig {
        access,
        ..HttpConfig::default()
    };
    Client::new(config).unwrap()
}

#[tokio::test]
async fn password_over_http_waits_for_a_challenge() {
    for (challenge, scheme) in [
        ("Basic realm=r", "Basic dTpw"),
        ("Basic realm=r, Digest realm=r, nonce=1", "Digest username=\"u\""),
        ("Digest realm=r, nonce=1, Basic realm=r", "Digest username=\"u\""),
    ] {
        let server = Server::start(move |request| match request.contains("authorization: ") {
            true => says(OK),
            false => says(refuses(challenge)),
        })
        .await;
        let client = client(AccessConfig {
            login: Some(login("u", "p")),
            ..AccessConfig::default()
        });
        client.adopt(server.url.clone());
        for path in ["a", "b"] {
            assert_eq!(client.page(&server.at(path)).await.unwrap().body, b"ok");
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "the question is asked once: {requests:?}");
        assert!(!requests[0].contains("authorization: "));
        let told = format!("authorization: {scheme}");
        assert!(
            requests[1..].iter().all(|request| request.contains(&told)),
            "{requests:?}"
        );
    }
}

#[tokio::test]
async fn no_credentials_over_http_without_a_challenge() {
    let server = Server::start(|_| says(OK)).await;
    let client = client(AccessConfig {
        login: Some(login("u", "p")),
        ..AccessConfig::default()
    });
    client.adopt(server.url.clone());
    client.page(&server.url).await.unwrap();
    assert!(!server.requests()[0].contains("authorization"));
}

#[tokio::test]
async fn digest_is_reused_after_the_first_challenge() {
    let server = Server::start(|request| match request {
        _ if request.contains("nonce=\"2\"") => says(OK),
        _ if request.contains("nonce=\"1\", uri=\"/old\"") => says(refuses("Digest realm=r, nonce=\"2\", stale=true")),
        _ if request.contains("nonce=\"1\"") => says(OK),
        _ => says(refuses("Digest realm=r, nonce=\"1\"")),
    })
    .await;
    let client = client(AccessConfig {
        login: Some(login("u", "p")),
        ..AccessConfig::default()
    });
    client.adopt(server.url.clone());
    for (path, requests) in [("a", 2), ("b", 3), ("old", 5), ("c", 6)] {
        assert_eq!(client.page(&server.at(path)).await.unwrap().body, b"ok");
        assert_eq!(server.requests().len(), requests, "{path}");
    }
    assert_eq!(server.connections(), 1, "a short refusal is read to its end");
}

#[tokio::test]
async fn a_wrong_login_is_refused_and_not_tried_again() {
    for (challenge, requests) in [("Basic realm=r", 2), ("Digest realm=r, nonce=1", 2), ("Negotiate", 1)] {
        let server = Server::start(move |_| says(refuses(challenge))).await;
        let client = client(AccessConfig {
            login: Some(login("u", "p")),
            ..AccessConfig::default()
        });
        client.adopt(server.url.clone());
        let error = client.page(&server.url).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::Denied(401), "{challenge}");
        assert_eq!(server.requests().len(), requests, "{challenge}");
    }
}

#[tokio::test]
async fn missing_token_is_an_error() {
    let server = Server::start(|_| says(OK)).await;
    let client = client(AccessConfig {
        token: Some(TokenSource::File("/no/such/file".into())),
        ..AccessConfig::default()
    });
    client.adopt(server.url.clone());
    let error = client.page(&server.url).await.unwrap_err();
    assert!(
        error.to_string().contains("the token file /no/such/file can't be read"),
        "{error}"
    );
    assert_eq!(server.requests(), [""; 0], "nothing is asked for without it");
}

#[tokio::test]
async fn what_is_of_one_request_is_not_passed_on() {
    let with = |source: &str, config: AccessConfig| {
        let access = Access::new(config);
        access.adopt(url(source));
        access
    };
    let here = url("http://host/f");
    let challenged = async |challenge: &'static str| {
        let access = with("http://u:p@host/", AccessConfig::default());
        assert!(!access.can_be_passed_on(&here), "the origin has not asked for it");
        let answer = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]);
        assert!(access.renew(&here, &SentCredentials::Unasked, &answer).await.unwrap());
        access.passed_on(&here).await.unwrap()
    };
    let basic = challenged("Basic realm=\"r\"").await.unwrap();
    assert_eq!(basic[header::AUTHORIZATION], "Basic dTpw");
    assert_eq!(challenged("Digest realm=\"r\", nonce=\"n\", qop=\"auth\"").await, None);
    let token = with(
        "http://host/",
        AccessConfig {
            token: Some(TokenSource::Given(Secret::new("t0k"))),
            ..AccessConfig::default()
        },
    );
    let passed = token.passed_on(&here).await.unwrap().unwrap();
    assert_eq!(passed[header::AUTHORIZATION], "Bearer t0k");
    assert!(
        token
            .passed_on(&url("http://other/f"))
            .await
            .unwrap()
            .unwrap()
            .is_empty()
    );
}
