//! The parts of a tier's configuration for requests that carry credentials (`--private`).
//!
//! A mount with `--tier-private` sends the credentials of a source with a hash of them in `X-Fetchfs-Credentials`, and the
//! names of headers beside [`PASSED_ALWAYS`] in `X-Fetchfs-Headers`. Such a request is passed on in a location of
//! its own, whose cache keys begin with the hash. A node that does not pass on all of a request's credentials refuses it
//! with 421, so that no origin is asked without them.

use crate::origin::tier::{PASSED_ALWAYS, is_passable};

/// The location, after nginx.conf.
const LOCATION: &str = include_str!("nginx_private.conf");

/// A refusal by a node that passes no credentials on.
const REFUSAL: &str = "            # Credentials are for a node with --private.
            if ($http_x_fetchfs_credentials != \"\") {
                return 421;
            }
";

/// The choice of the location.
const CHOICE: &str = "            if ($fetchfs_private = refused) {
                return 421;
            }
            if ($fetchfs_private != \"\") {
                rewrite ^ $fetchfs_private last;
            }
";

/// A header that a tier may pass on, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassedHeader(String);

impl PassedHeader {
    /// # Errors
    /// Why the header can't be passed on.
    pub(super) fn parse(text: &str) -> Result<PassedHeader, String> {
        let name = text.to_ascii_lowercase();
        if PASSED_ALWAYS.contains(&name.as_str()) {
            return Err("it is passed on in any case".to_owned());
        }
        match is_passable(&name) {
            true => Ok(PassedHeader(name)),
            false => Err(
                "a tier can't pass this header on; write the name of one that a source wants, as X-Api-Key".to_owned(),
            ),
        }
    }

    /// The name of nginx's variable for it.
    fn variable(&self) -> String {
        format!("$http_{}", self.0.replace('-', "_"))
    }
}

/// The placeholders of nginx.conf for requests with credentials, and their values. `headers` are those that are passed
/// on beside [`PASSED_ALWAYS`]; `None` if nothing is. `template` is nginx.conf.
pub(super) fn values(headers: Option<&[PassedHeader]>, template: &str) -> [(&'static str, String); 3] {
    let (map, choice, location) = match headers {
        None => (String::new(), REFUSAL.to_owned(), String::new()),
        Some(headers) => (map(headers), CHOICE.to_owned(), location(headers, template)),
    };
    [
        ("@PRIVATE_MAP@", map),
        ("@PRIVATE_CHOICE@", choice),
        ("@PRIVATE_LOCATION@", location),
    ]
}

/// The map that decides whether all credentials of a request are passed on.
fn map(headers: &[PassedHeader]) -> String {
    let names: Vec<&str> = headers.iter().map(|header| header.0.as_str()).collect();
    let name = format!("({})", names.join("|"));
    let list = match names.is_empty() {
        true => String::new(),
        false => format!("({name}(,{name})*)?"),
    };
    format!(
        "    # Whether the request has credentials, and whether all of them are passed on.
    map \"$http_x_fetchfs_credentials|$http_x_fetchfs_headers|$fetchfs_is_versioned\" $fetchfs_private {{
        default refused;
        \"~^\\|\\|[01]$\" \"\";
        \"~^[0-9a-f]{{64}}\\|{list}\\|1$\" /private;
        \"~^[0-9a-f]{{64}}\\|{list}\\|0$\" /private_first_touch;
    }}
"
    )
}

/// The location of such requests. What else goes to an origin is as in nginx.conf: nginx inherits none of these lines
/// where there are others.
fn location(headers: &[PassedHeader], template: &str) -> String {
    let line = |name: &'static str| template.lines().filter(move |line| line.trim_start().starts_with(name));
    let request_headers: Vec<String> = line("proxy_set_header ").map(|line| format!("    {line}")).collect();
    let key = line("proxy_cache_key ")
        .find_map(|line| line.split('"').nth(1))
        .unwrap_or_default();
    let more = headers
        .iter()
        .map(|header| format!("            proxy_set_header {} {};\n", header.0, header.variable()));
    LOCATION
        .replace("@REQUEST_HEADERS@", &request_headers.join("\n"))
        .replace("@PRIVATE_HEADERS@", &more.collect::<String>())
        .replace("@KEY@", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_that_means_something_to_nginx_is_refused() {
        for name in ["X-Api-Key", "PRIVATE-TOKEN", "Accept-Language"] {
            assert!(PassedHeader::parse(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "Authorization",
            "cookie",
            "Host",
            "If-Match",
            "X-Fetchfs-Headers",
            "X_Key",
            "a;b",
            "X-Key: 1",
        ] {
            assert!(PassedHeader::parse(name).is_err(), "{name}");
        }
    }
}
