//! In which form a server is asked for its listings.
//!
//! A server may have several: a page for people, which a script may fill in, a page without scripts, JSON. A [`Form`] is
//! what a request says to get one of them. The first answer of a server shows which ones it has
//! ([`Reading::others`](super::answer::Reading)); the best that works is used for its origin from then on.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;
use reqwest::header::{self, HeaderMap, HeaderValue};
use url::Url;

use crate::http::{Origin, Validator};
use crate::origin::DocumentRequest;

/// What a request says about the form of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// The query, if the form has one.
    pub(super) query: Option<String>,
    /// Another `User-Agent`, if needed.
    user_agent: Option<&'static str>,
    /// False if JSON must not be asked for by `Accept`.
    accepts_json: bool,
}

/// What is accepted. Servers that choose by preference choose HTML, as for a browser. Caddy sends JSON if it is named at
/// all, and so do few others.
const ACCEPT: &str = "text/html, application/xhtml+xml;q=0.9, application/json;q=0.8, */*;q=0.5";

/// The status of a server that has nothing of what `Accept` names, in its opinion.
pub(super) const NOT_ACCEPTABLE: u16 = 406;

impl Form {
    /// What an unknown server is asked for.
    pub(super) const FIRST: Form = Form {
        query: None,
        user_agent: None,
        accepts_json: true,
    };

    /// HTML, for servers that send other JSON than a listing for [`Form::FIRST`].
    pub(super) const HTML: Form = Form {
        accepts_json: false,
        ..Form::FIRST
    };

    /// The form that a query requests.
    pub(super) fn of_query(query: &str) -> Form {
        Form {
            query: Some(query.to_owned()),
            ..Form::FIRST
        }
    }

    /// The URL that is requested for a directory.
    pub(super) fn url(&self, directory: &Url) -> Url {
        let mut url = directory.clone();
        if let Some(query) = &self.query {
            url.set_query(Some(query));
        }
        url
    }

    /// The request for a directory, unless its listing has the validator `unless`.
    pub(super) fn request(&self, unless: &Validator) -> DocumentRequest {
        let mut headers = HeaderMap::new();
        if let Some(user_agent) = self.user_agent {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(user_agent));
        }
        if !self.accepts_json {
            return DocumentRequest {
                headers,
                unless: unless.clone(),
                ..DocumentRequest::default()
            };
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        DocumentRequest {
            headers,
            accepts: &[200, NOT_ACCEPTABLE],
            unless: unless.clone(),
            ..DocumentRequest::default()
        }
    }
}

impl fmt::Display for Form {
    /// `with ?json`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.query {
            Some(query) => write!(f, "with ?{query}"),
            None if self.accepts_json => f.write_str("as usual"),
            None => f.write_str("as HTML alone"),
        }
    }
}

/// The other forms of a server with this text in its page, the best first.
pub(super) fn known(page: &str) -> Vec<Form> {
    if page.contains(DUFS) {
        // Older versions have the one or the other.
        return vec![Form::of_query("json"), Form::of_query("noscript")];
    }
    if page.contains(COPYPARTY) {
        let without_scripts = Form {
            // It sends coloured text to programs whose names begin with `fetch`, because of FreeBSD's fetch.
            user_agent: Some("Mozilla/5.0 (compatible; fetchfs)"),
            ..Form::of_query("b")
        };
        return vec![Form::of_query("ls"), without_scripts];
    }
    Vec::new()
}

/// In dufs's page: the name of its script contains the version.
const DUFS: &str = "__dufs_v";

/// In copyparty's coloured text.
const COPYPARTY: &str = "# acct: ";

/// The form with exact sizes of a server that rounds them in its pages, by its `Server` header.
pub(super) fn exact(headers: &HeaderMap) -> Option<Form> {
    let server = headers.get(header::SERVER)?.to_str().ok()?;
    let version = server.strip_prefix("lighttpd/1.4.")?;
    let digits = version.split(|character: char| !character.is_ascii_digit()).next()?;
    (digits.parse::<u32>().ok()? >= LIGHTTPD_WITH_JSON).then(|| Form::of_query("json"))
}

/// The first version 1.4.x of lighttpd whose `?json` is JSON: 1.4.72 has it with a fault.
const LIGHTTPD_WITH_JSON: u32 = 77;

/// The forms that origins are known to have.
#[derive(Debug, Default)]
pub(super) struct KnownForms {
    /// Locked for a look-up only.
    by_origin: Mutex<HashMap<Origin, Form>>,
}

impl KnownForms {
    /// The best form that this origin was seen to have.
    pub(super) fn of(&self, origin: &Origin) -> Option<Form> {
        self.by_origin.lock().get(origin).cloned()
    }

    /// The best form that the origin of this URL was seen to have.
    pub(super) fn of_url(&self, url: &Url) -> Option<Form> {
        self.of(&Origin::of(url)?)
    }

    /// Remembers the form of an origin.
    pub(super) fn remember(&self, origin: Origin, form: Form) {
        self.by_origin.lock().insert(origin, form);
    }
}
