//! Why there is no TLS connection, as texts for the user.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

/// Why no authority vouches for a certificate, and what the user can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Distrust(pub(super) &'static str);

/// Why a certificate is not trusted; `None` if the error is not about the certificate.
pub(super) fn distrust(error: &Error) -> Option<String> {
    let why = match error {
        Error::NoCertificatesPresented => return Some("the server sends none".to_owned()),
        Error::InvalidCertificate(why) => why,
        _ => return None,
    };
    let date = |time: &UnixTime| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs());
        humantime::format_rfc3339_seconds(time).to_string()
    };
    Some(match why {
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("it expired at {}", date(not_after)),
        CertificateError::NotValidYet => "it is not valid yet; is this machine's clock right?".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "it is valid only from {}; is this machine's clock right?",
                date(not_before)
            )
        }
        CertificateError::Other(OtherError(other)) if other.is::<Distrust>() => other.to_string(),
        CertificateError::NotValidForName => "it is for another host".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => names_of(presented),
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::BadEncoding => "it is malformed".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for servers".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its signature algorithm is insecure or not supported".to_owned()
        }
        CertificateError::UnhandledCriticalExtension => "it has extensions that are not supported".to_owned(),
        _ => "it can't be verified".to_owned(),
    })
}

fn names_of(presented: &[String]) -> String {
    // The library's format: `DnsName("host")`, `IpAddress(127.0.0.1)`.
    let name = |shown: &String| {
        let inner = shown
            .split_once('(')
            .map_or(shown.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    match presented {
        [] => "it names no host (a subjectAltName is needed)".to_owned(),
        many => {
            let mut names: Vec<_> = many.iter().take(5).map(name).collect();
            if many.len() > names.len() {
                names.push(format!("{} more", many.len() - names.len()));
            }
            format!("it is for {}", names.join(", "))
        }
    }
}

/// Why no TLS connection was made, for other reasons than a certificate.
pub(super) fn failure(error: &Error) -> String {
    match error {
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => "no common cipher suite: fetchfs supports only ECDHE with AES-GCM or ChaCha20-Poly1305".to_owned(),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "no common TLS version: the server offers only versions before 1.2".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => {
            "the server's TLS lacks the extended master secret (RFC 7627)".to_owned()
        }
        Error::PeerIncompatible(_) => "the server uses a variant of TLS that is not supported".to_owned(),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnrecognisedName => "the server does not serve this host name over TLS".to_owned(),
            AlertDescription::CertificateRequired => {
                "the server requires a client certificate (--client-cert)".to_owned()
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => "the server rejected the client certificate (--client-cert)".to_owned(),
            AlertDescription::NoApplicationProtocol => "the server speaks neither HTTP/1.1 nor HTTP/2 there".to_owned(),
            _ => "the server aborted the TLS handshake".to_owned(),
        },
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the server sent an invalid TLS message".to_owned()
        }
        Error::PeerMisbehaved(_) | Error::DecryptError | Error::PeerSentOversizedRecord => {
            "the server violated the TLS protocol".to_owned()
        }
        _ => "TLS failed".to_owned(),
    }
}
