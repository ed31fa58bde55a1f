//! TLS: trusted certificates and the client certificate.
//!
//! The system's authorities and those in `--ca-cert` are trusted. **A certificate that is itself in `--ca-cert` is
//! trusted for the hosts that it names, whatever its issuer and key usage.** The reason: `openssl req -x509` for a
//! server at home makes a certificate that is its own authority, and the rules forbid a server to present an
//! authority's certificate (RFC 5280 §4.2.1.9).

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use super::setup_error::{SetupError, content, read};
use super::tls_sessions::Sessions;
use crate::http::config::TlsConfig;
use crate::http::tls_failure::Distrust;

/// TLS configurations, with and without the client certificate.
pub(crate) struct Tls {
    without_identity: ClientConfig,
    with_identity: Option<ClientConfig>,
}

impl Tls {
    pub(super) fn new(config: &TlsConfig) -> Result<Tls, SetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if config.insecure {
            Arc::new(Anybody(provider.clone()))
        } else {
            let own = config
                .ca_cert
                .as_deref()
                .map(authorities)
                .transpose()?
                .unwrap_or_default();
            let roots = Verifier::new_with_extra_roots(own.clone(), provider.clone());
            let system = roots.map_err(|error| SetupError::Tls(error.to_string()))?;
            Arc::new(Trust { system, own })
        };
        let builder = || {
            let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
            let builder = builder.map_err(|error| SetupError::Tls(error.to_string()))?;
            Ok(builder.dangerous().with_custom_certificate_verifier(verifier.clone()))
        };
        let with_identity = match &config.client_cert {
            Some(path) => {
                let wrong = "and its key are not a certificate and a key in PEM; a key must not be encrypted";
                let wrong = || content("--client-cert", path, wrong);
                let (chain, key) = identity(path, config.client_key.as_deref(), wrong)?;
                Some(noticed(
                    builder()?.with_client_auth_cert(chain, key).map_err(|_| wrong())?,
                ))
            }
            None => None,
        };
        Ok(Tls {
            without_identity: noticed(builder()?.with_no_client_auth()),
            with_identity,
        })
    }

    /// The configuration for a connection with one of these protocols (RFC 7301). All share their TLS sessions.
    pub(super) fn config(&self, shows_identity: bool, protocols: &[&str]) -> ClientConfig {
        let identity = self.with_identity.as_ref().filter(|_| shows_identity);
        let mut config = identity.unwrap_or(&self.without_identity).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// With sessions of its own, and handshakes that are noticed.
fn noticed(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    config
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let pem = read("--ca-cert", path)?;
    let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let own = own.map_err(|_| content("--ca-cert", path, "is not a PEM file of certificates"))?;
    let is_one = |own: &CertificateDer<'_>| rustls::RootCertStore::empty().add(own.clone().into_owned()).is_ok();
    match own.as_slice() {
        [] => Err(content(
            "--ca-cert",
            path,
            "has no certificate in it; a PEM file is needed",
        )),
        all if all.iter().all(is_one) => Ok(own),
        _ => Err(content("--ca-cert", path, "is not a PEM file of certificates")),
    }
}

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(path: &Path, key: Option<&Path>, wrong: impl Fn() -> SetupError) -> Result<Chain, SetupError> {
    let pem = read("--client-cert", path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(&wrong)?;
    let pem = key.map_or(Ok(pem), |key| read("--client-key", key))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong())?;
    Ok((chain, key))
}

/// Verifies server certificates, with the exception for certificates that are themselves in `--ca-cert`.
#[derive(Debug)]
struct Trust {
    system: Verifier,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refusal = match self.system.verify_server_cert(shown, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(refusal)) => refusal,
            verdict => return verdict,
        };
        // Dates and names were checked before the key usage.
        let is_of_its_use = matches!(
            refusal,
            CertificateError::UnknownIssuer
                | CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. }
                | CertificateError::Other(_)
        );
        if is_of_its_use && self.own.iter().any(|own| own == shown) {
            verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let is_authority = is_authority_as_server(&refusal);
        // A wrong signature means a different authority with the same name, for example one that was created anew.
        if is_authority
            || matches!(
                refusal,
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            )
        {
            let is_self_signed = intermediates.is_empty() && is_its_own_issuer(shown);
            let distrust = Distrust(match (is_self_signed, self.own.is_empty()) {
                (false, true) if is_authority => {
                    "it is a CA certificate, not a server certificate; if it is your own, name it with --ca-cert"
                }
                (false, false) if is_authority => {
                    "it is a CA certificate, not a server certificate, and is not in the file that --ca-cert names"
                }
                (true, true) => "it is self-signed; if it is your own, name it with --ca-cert",
                (true, false) => "it is self-signed, and is not in the file that --ca-cert names",
                (false, true) => "its CA is unknown; if the CA is your own, name its certificate with --ca-cert",
                (false, false) => {
                    "its CA is neither one of the system's nor in the file that --ca-cert names; does the server \
                     send its intermediate certificates?"
                }
            });
            return Err(CertificateError::Other(OtherError(Arc::new(distrust))).into());
        }
        Err(Error::InvalidCertificate(refusal))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.system.verify_tls12_signature(message, shown, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.system.verify_tls13_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.system.supported_verify_schemes()
    }
}

/// `--insecure`: accepts any certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns true if a server presents an authority's certificate as its own (RFC 5280 §4.2.1.9). The library does not
/// export that error's type.
fn is_authority_as_server(refusal: &CertificateError) -> bool {
    matches!(refusal, CertificateError::Other(other) if format!("{:?}", other.0).contains("CaUsedAsEndEntity"))
}

/// Returns true if issuer and subject are the same name: as a trust anchor, the certificate would then verify itself.
fn is_its_own_issuer(shown: &CertificateDer<'_>) -> bool {
    let mut alone = rustls::RootCertStore::empty();
    if alone.add(shown.clone().into_owned()).is_err() {
        return false;
    }
    // Then the certificate contains the name twice.
    let subject = alone.roots[0].subject.as_ref();
    shown
        .windows(subject.len().max(1))
        .filter(|window| *window == subject)
        .count()
        >= 2
}
