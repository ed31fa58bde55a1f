//! Servers that require a login or a client certificate, and servers with TLS certificates.

use std::fs;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use super::WebServer;
use crate::common::temporary_directory;

/// The user that may log in.
pub const USER: &str = "ann";

/// The user's password, which must not appear anywhere.
pub const PASSWORD: &str = "s3cret";

/// A certificate authority of the test, with a certificate for 127.0.0.1 and one for a client, as PEM files.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Creates the authority and its certificates.
    pub fn new() -> Certificates {
        Certificates::for_hosts(&["127.0.0.1", "localhost"])
    }

    /// The same with a server that has these names.
    pub fn for_hosts(hosts: &[&str]) -> Certificates {
        let folder = temporary_directory();
        let mut authority = CertificateParams::new([]).expect("no names");
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("to sign");
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("to write");
        write("ca.pem", authority.pem());
        let issue = |name: &str, names: &[&str], purpose| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("to sign");
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        };
        issue("server", hosts, ExtendedKeyUsagePurpose::ServerAuth);
        issue("client", &["ann"], ExtendedKeyUsagePurpose::ClientAuth);
        Certificates { folder }
    }

    /// `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its path as text.
    pub fn path(&self, name: &str) -> String {
        self.file(name).to_str().expect("a path of the harness").to_owned()
    }
}

/// The authentication scheme of Apache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// RFC 7617.
    Basic,
    /// RFC 7616.
    Digest,
}

impl WebServer {
    /// nginx with TLS.
    #[track_caller]
    pub fn nginx_with_tls(root: &Path, certificates: &Certificates) -> WebServer {
        WebServer::nginx_that(root, |port| tls_lines(port, certificates)).with_tls()
    }

    /// nginx with TLS that requires a client certificate.
    #[track_caller]
    pub fn nginx_for_certified_clients(root: &Path, certificates: &Certificates) -> WebServer {
        WebServer::nginx_for_certified_clients_that(root, certificates, "")
    }

    /// The same with these lines in its server block.
    #[track_caller]
    fn nginx_for_certified_clients_that(root: &Path, certificates: &Certificates, more: &str) -> WebServer {
        let lines = |port| {
            let authority = certificates.path("ca.pem");
            let asks = format!("ssl_client_certificate {authority}; ssl_verify_client on; {more}");
            tls_lines(port, certificates) + &asks
        };
        WebServer::nginx_that(root, lines).with_tls()
    }

    /// The same, with a redirect from `path` to another URL.
    #[track_caller]
    pub fn nginx_for_certified_clients_that_leads(
        root: &Path,
        certificates: &Certificates,
        path: &str,
        to: &str,
    ) -> WebServer {
        let line = format!("location = {path} {{ return 302 {to}; }}");
        WebServer::nginx_for_certified_clients_that(root, certificates, &line)
    }

    /// nginx with TLS that asks for a client certificate and rejects every client that sends one.
    #[track_caller]
    pub fn nginx_that_wants_nobody_s_certificate(root: &Path, certificates: &Certificates) -> WebServer {
        let lines = |port| {
            let authority = certificates.path("ca.pem");
            let asks = format!("ssl_client_certificate {authority}; ssl_verify_client optional;");
            tls_lines(port, certificates) + &asks + "if ($ssl_client_verify != NONE) { return 403; }"
        };
        WebServer::nginx_that(root, lines).with_tls()
    }

    /// nginx with Basic authentication of [`USER`] with [`PASSWORD`].
    #[track_caller]
    pub fn nginx_guarded(root: &Path) -> WebServer {
        let users = temporary_directory();
        let file = users.path().join("users");
        fs::write(&file, format!("{USER}:{{SHA}}{PASSWORD_SHA1}\n")).expect("to write the users");
        let mut server = WebServer::nginx_that(root, |port| {
            format!(
                "listen 127.0.0.1:{port}; auth_basic realm; auth_basic_user_file {};",
                file.display()
            )
        });
        server.kept.push(users);
        server
    }

    /// nginx with HTTP/2 alone, without TLS.
    #[track_caller]
    pub fn nginx_http2(root: &Path) -> WebServer {
        WebServer::nginx_that(root, |port| format!("listen 127.0.0.1:{port} http2;"))
    }

    /// Apache with authentication of [`USER`] with [`PASSWORD`].
    #[track_caller]
    pub fn apache_guarded(root: &Path, guard: Guard) -> WebServer {
        WebServer::apache_guarded_that(root, guard, &[], "IndexOptions FancyIndexing NameWidth=*")
    }

    /// The same with more modules, and with these lines for the directory that it serves.
    #[track_caller]
    pub(super) fn apache_guarded_that(root: &Path, guard: Guard, more: &[&str], lines: &str) -> WebServer {
        let users = temporary_directory();
        let file = users.path().join("users");
        let (line, module, options) = match guard {
            // {SHA}, as htpasswd -s writes it.
            Guard::Basic => (
                format!("{USER}:{{SHA}}{PASSWORD_SHA1}"),
                "auth_basic",
                "AuthBasicProvider file\nAuthUserFile",
            ),
            Guard::Digest => {
                let hash: String = Md5::digest(format!("{USER}:realm:{PASSWORD}"))
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let options = "AuthDigestProvider file\nAuthDigestDomain /\nAuthUserFile";
                (format!("{USER}:realm:{hash}"), "auth_digest", options)
            }
        };
        fs::write(&file, line).expect("to write the users");
        let lines = format!(
            "AuthType {guard:?}\nAuthName realm\n{options} {}\nRequire valid-user\n{lines}",
            file.display()
        );
        let modules = [&[module, "authn_core", "authn_file", "authz_user"], more].concat();
        let mut server = WebServer::apache_that(root, &modules, &lines);
        server.kept.push(users);
        server
    }

    fn with_tls(mut self) -> WebServer {
        self.scheme = "https";
        self
    }
}

/// Base64 of the SHA-1 of [`PASSWORD`].
const PASSWORD_SHA1: &str = "/vNB+F2HQ559kaLUZbmHHvZrXpg=";

fn tls_lines(port: u16, certificates: &Certificates) -> String {
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    format!("listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};")
}
