//! Authentication: credentials, bound to the origins that may receive them.
//!
//! Passwords, tokens and headers come from URLs that the user gave (`https://user:password@host/`), from options and
//! from netrc files. [`Access::adopt`] is the only place that binds them to an origin. It is called for the mount's
//! sources, never for a URL from a server. So neither a redirect nor a link in a listing can send them elsewhere
//! (docs/semantics.md, promise 9). An adopted URL contains no credentials. One kind of login may be for a host that only
//! a server has named: that of a netrc entry, which names the host itself (a login host of a sign-on).
//!
//! - Over https, the first request carries the login as Basic authentication (RFC 7617), which costs no extra round
//!   trip.
//! - Over http, that would show the password to every listener on the network, even if the server never wanted it. So
//!   the first request carries no login; later ones answer the server's 401 with the strongest supported scheme: Digest
//!   (RFC 7616), else Basic.
//! - A token is sent as Bearer (RFC 6750).
//! - After a 401, [`Access::renew`] finds out whether there are better credentials to send.

mod access;
mod challenge;
mod command;
mod digest;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod login;
mod netrc;
mod token;

pub(crate) use access::AccessConfig;
pub(crate) use access::{Access, SentCredentials};
pub(crate) use command::run_command;
pub(crate) use login::Login;
pub(crate) use netrc::{Netrc, NetrcError};
pub(crate) use token::TokenSource;
