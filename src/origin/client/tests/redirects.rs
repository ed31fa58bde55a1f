//! Tests of redirect chains: where credentials, ranges and cached targets go.

use super::*;

fn moved(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn with_login(url: &Url) -> Url {
    Url::parse(&url.as_str().replace("http://", "http://us%20er:pa%3Ass@")).unwrap()
}

const DATA: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ASKS: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n";
/// "us er:pa:ss"
const LOGIN: &str = "authorization: Basic dXMgZXI6cGE6c3M=";

#[tokio::test]
async fn cross_origin_redirect_drops_credentials() {
    let away = Server::start(|_| says(DATA)).await;
    let target = away.at("data").to_string();
    let home = Server::start(move |request| match request {
        _ if !request.contains(LOGIN) => says(ASKS),
        _ if request.starts_with("GET /deep ") => says(moved(&target)),
        _ => says(moved("/deep")),
    })
    .await;
    let client = client();
    let url = client.adopt(with_login(&home.at("f")));
    assert_eq!(url, home.at("f"), "no URL has them any more");
    let page = client.page(&url).await.unwrap();
    assert_eq!((page.url, page.body.as_slice()), (away.at("data"), b"ok".as_slice()));
    assert_eq!(
        home.requests().len(),
        3,
        "one of them before it was asked for the login"
    );
    assert!(!away.requests()[0].to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn credentials_in_a_location_are_ignored() {
    let away = Server::start(|_| says(DATA)).await;
    let target = with_login(&away.at("data"));
    let link = target.clone();
    let home = Server::start(move |_| says(moved(target.as_str()))).await;
    let client = client();
    assert_eq!(client.page(&home.at("f")).await.unwrap().url, away.at("data"));
    client.page(&link).await.unwrap();
    client.page(&away.at("data")).await.unwrap();
    assert!(
        away.requests()
            .iter()
            .all(|request| !request.to_lowercase().contains("authorization"))
    );
}

#[tokio::test]
async fn a_redirect_keeps_the_range() {
    let away =
        Server::start(|_| says("HTTP/1.1 206 P\r\nContent-Range: bytes 2-3/9\r\nContent-Length: 2\r\n\r\ncd")).await;
    let target = away.at("data?signature=1").to_string();
    let home = Server::start(move |_| says(moved(&target))).await;
    client().range(&home.at("f"), 2..4, None).await.unwrap();
    assert!(away.requests()[0].starts_with("GET /data?signature=1 "));
    assert!(away.requests()[0].contains("\r\nrange: bytes=2-3\r\n"));
}

#[tokio::test]
async fn redirects_without_end_end() {
    let number = std::sync::atomic::AtomicUsize::new(0);
    let elsewhere = move |_: &str| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        says(moved(&format!("/{number}?token=secret")))
    };
    let circle = Server::start(|_| says(moved("/again?token=secret"))).await;
    for (server, what) in [
        (circle, "in a circle"),
        (Server::start(elsewhere).await, "10 redirects"),
    ] {
        let error = client().metadata(&server.url).await.unwrap_err();
        assert!(
            matches!(&error.kind, HttpErrorKind::BadAnswer(why) if why.contains(what)),
            "{error}"
        );
        assert!(!error.to_string().contains("secret"));
        assert_eq!(server.requests().len(), HttpConfig::default().max_redirects + 1);
    }
}

/// Regression: a download site answers with a redirect to a signed link, which is valid for some minutes.
#[tokio::test]
async fn signed_url_is_reused_until_it_fails() {
    let good = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let number = Arc::clone(&good);
    let away = Server::start(move |request| {
        let number = number.load(std::sync::atomic::Ordering::Relaxed);
        match request.contains(&format!("?signature={number} ")) {
            true => says(part("2-5/10", "cdef")),
            false => says("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
        }
    })
    .await;
    let (link, number) = (away.at("data").to_string(), Arc::clone(&good));
    let home = Server::start(move |_| {
        let number = number.load(std::sync::atomic::Ordering::Relaxed);
        says(format!(
            "HTTP/1.1 302 F\r\nLocation: {link}?signature={number}\r\nContent-Length: 0\r\n\r\n"
        ))
    })
    .await;
    let client = client();
    for (signature, asked) in [(1, 1), (1, 1), (2, 2), (2, 2)] {
        good.store(signature, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(read_range(&client, &home).await.unwrap(), b"cdef");
        assert_eq!(home.requests().len(), asked);
    }
    assert_eq!(away.requests().len(), 5, "one of them was refused");
}

#[tokio::test]
async fn each_status_that_redirects_is_followed_and_chains_are() {
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start(move |request| match request {
            _ if request.starts_with("GET /f ") => says(format!(
                "HTTP/1.1 {status} R\r\nLocation: /two\r\nContent-Length: 3\r\n\r\nbye"
            )),
            _ if request.starts_with("GET /two ") => {
                says("HTTP/1.1 302 R\r\nLocation: /three\r\nContent-Length: 0\r\n\r\n")
            }
            _ => says(part("2-5/10", "cdef")),
        })
        .await;
        assert_eq!(read_range(&client(), &server).await.unwrap(), b"cdef", "{status}");
        assert_eq!(
            (server.requests().len(), server.connections()),
            (3, 1),
            "{status}: over one connection"
        );
    }
}
