//! Tests of how servers are reached: addresses, HTTP versions, connections.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use super::*;
use crate::http::Protocol;
use crate::http::testing::{Server, says};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A TLS server that speaks only HTTP/2 and responds "ok".
async fn http2_only() -> (Url, tempfile::NamedTempFile) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), cert.pem()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Clients without HTTP/2 are refused here.
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Default::default(), false).unwrap();
                    body.send_data("ok".into(), true).unwrap();
                }
            });
        }
    });
    (url, authority)
}

#[tokio::test]
async fn http2_only_server_is_detected() {
    let (url, authority) = http2_only().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut config = HttpConfig {
            protocol,
            ..HttpConfig::default()
        };
        config.tls.ca_cert = Some(authority.path().to_owned());
        let client = Client::new(config).unwrap();
        for _ in 0..2 {
            assert_eq!(client.page(&url).await.unwrap().body, b"ok", "{protocol:?}");
        }
    }
    let stranger = Client::new(HttpConfig::default()).unwrap();
    let kind = stranger.page(&url).await.unwrap_err().kind;
    assert!(matches!(kind, HttpErrorKind::Untrusted(_)), "{kind:?}");
}

#[tokio::test]
async fn connections_come_from_the_address_that_was_chosen() {
    let server = Server::start(|_| says(OK)).await;
    let client = Client::new(HttpConfig {
        bind_address: Some("127.0.0.3".parse().unwrap()),
        ..HttpConfig::default()
    });
    client.unwrap().page(&server.url).await.unwrap();
    assert_eq!(server.peers()[0].ip().to_string(), "127.0.0.3");
}

#[tokio::test]
async fn servers_are_reached_by_ipv6() {
    let Ok(server) = Server::start_at("[::1]:0", |_| says(OK)).await else {
        eprintln!("this machine has no IPv6: not tested");
        return;
    };
    let client = Client::new(HttpConfig::default()).unwrap();
    assert_eq!(client.page(&server.url).await.unwrap().body, b"ok");
    assert!(server.requests()[0].contains(&format!("\r\nhost: [::1]:{}\r\n", server.url.port().unwrap())));
}

#[tokio::test]
async fn a_refusal_does_not_cost_the_connection() {
    let server = Server::start(|request| match request {
        _ if request.contains(" /no ") => {
            let page = "x".repeat(60_000);
            says(format!(
                "HTTP/1.1 404 No\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            ))
        }
        _ => says(OK),
    })
    .await;
    let client = Client::new(HttpConfig::default()).unwrap();
    for _ in 0..3 {
        let refusal = client.range(&server.at("no"), 0..1, None).await.unwrap_err();
        assert_eq!(refusal.kind, HttpErrorKind::NotFound(404));
        client.page(&server.url).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (6, 1));
}

/// A server of `https://localhost/` with a certificate, and that certificate's PEM file.
async fn secure(parameters: rcgen::CertificateParams) -> (Url, tempfile::NamedTempFile) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://localhost:{}/", listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = [0; 1000];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await;
            });
        }
    });
    (url, file)
}

fn certificate_for(hosts: &[&str]) -> rcgen::CertificateParams {
    rcgen::CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn trusting(file: &tempfile::NamedTempFile) -> Client {
    let mut config = HttpConfig::default();
    config.tls.ca_cert = Some(file.path().to_owned());
    Client::new(config).unwrap()
}

/// What `openssl req -x509` makes is an authority, which a server may not be.
#[tokio::test]
async fn named_certificate_is_trusted_for_its_hosts() {
    let mut authority = certificate_for(&["localhost"]);
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for parameters in [certificate_for(&["localhost"]), authority] {
        let (url, file) = secure(parameters).await;
        assert_eq!(trusting(&file).page(&url).await.unwrap().body, b"ok");
        let stranger = Client::new(HttpConfig::default())
            .unwrap()
            .page(&url)
            .await
            .unwrap_err();
        assert!(matches!(stranger.kind, HttpErrorKind::Untrusted(_)), "{stranger}");
    }
}

#[tokio::test]
async fn certificate_errors_are_explained() {
    let authority = |mut parameters: rcgen::CertificateParams| {
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters
    };
    let mut expired = authority(certificate_for(&["localhost"]));
    expired.not_after = rcgen::date_time_ymd(2001, 2, 3);
    let mut early = authority(certificate_for(&["localhost"]));
    early.not_before = rcgen::date_time_ymd(2999, 2, 3);
    for (parameters, words) in [
        (
            authority(certificate_for(&["other.example", "127.0.0.9"])),
            "it is for other.example, 127.0.0.9",
        ),
        (authority(certificate_for(&[])), "it names no host"),
        (expired, "it expired at 2001-02-03"),
        (early, "it is valid only from 2999-02-03"),
    ] {
        let (url, file) = secure(parameters).await;
        let error = trusting(&file).page(&url).await.unwrap_err();
        assert!(
            matches!(&error.kind, HttpErrorKind::Untrusted(why) if why.contains(words)),
            "{error}"
        );
    }
    for parameters in [
        certificate_for(&["localhost"]),
        authority(certificate_for(&["localhost"])),
    ] {
        let (url, _) = secure(parameters).await;
        let (_, other) = secure(certificate_for(&["localhost"])).await;
        for (client, words) in [
            (
                Client::new(HttpConfig::default()).unwrap(),
                "if it is your own, name it with",
            ),
            (trusting(&other), "is not in the file that --ca-cert names"),
        ] {
            let error = client.page(&url).await.unwrap_err().to_string();
            assert!(error.contains("self-signed") && error.contains(words), "{error}");
        }
    }
}
