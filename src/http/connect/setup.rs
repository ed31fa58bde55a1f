//! Builds connections from [`HttpConfig`]: proxy, addresses and HTTP versions.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use reqwest::{ClientBuilder, NoProxy, Proxy, redirect::Policy};
use url::Url;

use super::setup_error::SetupError;
use super::tls::Tls;
use super::wire::{HttpVersion, Speech, Wire};
use crate::http::config::{HttpConfig, PROXY_VARIABLES, Protocol, ProxyChoice};
use crate::http::origin::Origin;
use crate::util::events;

/// How long an idle connection is kept. Shorter than the 60 to 75 s after which nginx and most load balancers close
/// theirs, so that few requests meet a connection that the server is closing.
pub(crate) const IDLE: Duration = Duration::from_secs(50);

/// Maximum header lines of a response. Object stores that send a file's properties as headers send some hundred.
const MOST_HEADERS: usize = 500;

/// Supported proxy schemes.
const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// How connections are made.
pub(crate) struct Connections {
    /// Different for any two that are configured differently.
    number: u32,
    config: HttpConfig,
    tls: Tls,
    /// The `https` origins that speak only HTTP/2. **No other lock is taken under it, and it is never held over an
    /// await.**
    only_http2: Mutex<HashSet<Origin>>,
}

impl Connections {
    pub(crate) fn new(config: &HttpConfig) -> Result<Connections, SetupError> {
        // An error means that another thread has installed the same provider first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if config.tls.insecure {
            log::warn!(
                event = events::CERTIFICATES_UNCHECKED;
                "--insecure: certificates are not checked; an attacker on the network can read and change what is \
                 mounted, and steal its passwords"
            );
        }
        if config.proxy == ProxyChoice::Environment {
            warn_of_proxies_in_the_environment();
        }
        static MADE: AtomicU32 = AtomicU32::new(0);
        let connections = Connections {
            number: MADE.fetch_add(1, Ordering::Relaxed),
            config: config.clone(),
            tls: Tls::new(&config.tls)?,
            only_http2: Mutex::default(),
        };
        // Building a client finds what else is wrong with the configuration.
        connections.wire(Speech {
            maker: connections.number,
            shows_identity: false,
            version: HttpVersion::Agreed,
        })?;
        Ok(connections)
    }

    /// The protocol for a URL's origin. `is_home`: the origin may see the client certificate.
    pub(crate) fn speech(&self, url: &Url, is_home: bool) -> Speech {
        let is_only_http2 = || Origin::of(url).is_some_and(|origin| self.only_http2.lock().contains(&origin));
        let version = match (url.scheme(), self.config.protocol) {
            ("https", Protocol::Http1) if !is_only_http2() => HttpVersion::Http1,
            ("https", _) => HttpVersion::Agreed,
            (_, Protocol::Http1) => HttpVersion::Http1,
            (_, Protocol::Http2) => HttpVersion::Http2,
        };
        Speech {
            maker: self.number,
            shows_identity: is_home && self.config.tls.client_cert.is_some(),
            version,
        }
    }

    /// Records that an origin refused HTTP/1.1. Returns false if that was known already, so that no protocol is left to
    /// try.
    pub(crate) fn has_only_http2(&self, url: &Url) -> bool {
        Origin::of(url).is_some_and(|origin| {
            log::info!(event = events::HTTP2_ONLY; "{origin} supports only HTTP/2");
            self.only_http2.lock().insert(origin)
        })
    }

    /// A new connection, not established yet.
    pub(crate) fn wire(&self, speech: Speech) -> Result<Wire, SetupError> {
        let config = &self.config;
        let builder = reqwest::Client::builder()
            .tcp_nodelay(true)
            // Skips a line that is not a header, allows a space before the colon, and joins continuation lines (RFC
            // 9112 §5.1, §5.2). curl and browsers read heads in this way, and a proxy's warning among the headers must
            // not make a file unreadable.
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_max_headers(MOST_HEADERS)
            .connect_timeout(config.connect_timeout)
            .local_address(config.bind_address)
            .pool_idle_timeout(IDLE)
            .redirect(Policy::none())
            .user_agent(&config.user_agent);
        let (builder, protocols) = match speech.version {
            HttpVersion::Http1 => (builder.http1_only(), &["http/1.1"][..]),
            HttpVersion::Agreed => (builder, &["h2", "http/1.1"][..]),
            HttpVersion::Http2 => (builder.http2_prior_knowledge(), &["h2"][..]),
        };
        let builder = builder.tls_backend_preconfigured(self.tls.config(speech.shows_identity, protocols));
        let builder = with_proxy(builder, &config.proxy)?;
        Wire::new(speech, builder, |builder| {
            builder.build().map_err(|error| SetupError::Tls(innermost(&error)))
        })
    }
}

fn with_proxy(builder: ClientBuilder, choice: &ProxyChoice) -> Result<ClientBuilder, SetupError> {
    Ok(match choice {
        // Tests use servers of their own.
        ProxyChoice::Environment if cfg!(test) => builder.no_proxy(),
        ProxyChoice::Environment => builder,
        ProxyChoice::Direct => builder.no_proxy(),
        ProxyChoice::Url(url) => {
            if !is_a_proxy(url.expose()) {
                return Err(SetupError::Proxy);
            }
            let proxy = Proxy::all(url.expose()).map_err(|_| SetupError::Proxy)?;
            builder.proxy(proxy.no_proxy(NoProxy::from_env()))
        }
    })
}

/// Returns true if the address has a supported proxy scheme; without a scheme, `http` is assumed. The HTTP library
/// takes any other scheme for no proxy at all and connects directly to the server, which the proxy may be there to
/// prevent.
fn is_a_proxy(address: &str) -> bool {
    let Some((scheme, _)) = address.split_once("://") else {
        return true;
    };
    PROXY_SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Warns of environment variables that should name a proxy but have an unsupported scheme. `all_proxy=socks://HOST`, as
/// some desktops set it, means `socks5://`. The mount goes on without them, as other programs do.
fn warn_of_proxies_in_the_environment() {
    for name in PROXY_VARIABLES {
        if std::env::var(name).is_ok_and(|address| !is_a_proxy(&address)) {
            log::warn!(
                event = events::PROXY_IGNORED;
                "{name} in the environment is ignored, because its type of proxy is not supported: it must begin \
                 with one of {}",
                PROXY_SCHEMES.join("://, ") + "://"
            );
        }
    }
}

/// The library's own text says only "builder error"; the innermost cause says why.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_proxies_are_rejected() {
        for address in [
            "http://h:1",
            "HTTPS://h",
            "socks5://ann:pw@h:1",
            "socks5h://h",
            "h:3128",
            "h",
            "",
        ] {
            assert!(is_a_proxy(address), "{address}");
        }
        for address in ["socks://h:1", "foo://h", "://h", "htttp://h"] {
            assert!(!is_a_proxy(address), "{address}");
        }
    }
}
