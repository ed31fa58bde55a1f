//! The store of TLS sessions, which also notices when a handshake begins.
//!
//! `reqwest` makes a connection in one step: name, TCP and TLS. The TLS library asks its store at the beginning of each
//! handshake, on the task of the request: that is where the phase changes from connecting to TLS.

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::stats::Phase;

/// Servers whose sessions are kept: the library's default.
const MOST: usize = 256;

/// The TLS sessions of one configuration, in memory.
#[derive(Debug)]
pub(super) struct Sessions(ClientSessionMemoryCache);

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions(ClientSessionMemoryCache::new(MOST))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    /// Called before the first message of each handshake is made.
    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        Phase::Tls.enter_from(Phase::Connecting);
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}
