//! `Set-Cookie` headers: which cookie a response sets, and for whom (RFC 6265 §5.1 to §5.3).

use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use url::{Host, Url};

use super::cookie::Cookie;
use super::is_below;
use crate::http::Secret;

/// Maximum bytes of a cookie's name and value together (RFC 6265 §6.1). A longer one is ignored.
const LONGEST: usize = 4096;

/// Maximum bytes of an attribute's value. A longer attribute is ignored, as in browsers.
const LONGEST_ATTRIBUTE: usize = 1024;

/// The cookie that a response of `url` sets with this header. `None` if it must be ignored. `now` is in seconds since
/// 1970. One that expires now or earlier removes the cookie.
pub(super) fn parse(header: &str, url: &Url, now: u64) -> Option<Cookie> {
    if header
        .bytes()
        .any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
    {
        return None;
    }
    let mut parts = header.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || name.len() + value.len() > LONGEST || value.contains('\t') || name.contains('\t') {
        return None;
    }
    let mut attributes = Attributes::default();
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if value.trim().len() <= LONGEST_ATTRIBUTE {
            attributes.set(key.trim(), value.trim(), now);
        }
    }
    let (domain, has_subdomains) = whose(attributes.domain, url)?;
    let is_tls = url.scheme() == "https";
    if attributes.is_secure && !is_tls {
        return None;
    }
    let path = match attributes.path {
        Some(path) if path.starts_with('/') => path.to_owned(),
        _ => default_path(url).to_owned(),
    };
    let has_prefix = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_for_host_alone = !has_subdomains && attributes.path == Some("/");
    if (has_prefix("__Secure-") && !attributes.is_secure)
        || (has_prefix("__Host-") && !(attributes.is_secure && is_for_host_alone))
    {
        return None;
    }
    Some(Cookie {
        domain,
        has_subdomains,
        path,
        is_secure: attributes.is_secure,
        expires: attributes.max_age.or(attributes.expires),
        name: name.to_owned(),
        value: Secret::new(value),
    })
}

/// The attributes of a cookie that count. The last one of a name counts.
#[derive(Default)]
struct Attributes<'a> {
    domain: Option<&'a str>,
    path: Option<&'a str>,
    is_secure: bool,
    /// In seconds since 1970, as `Max-Age` says; it goes before `Expires`.
    max_age: Option<u64>,
    expires: Option<u64>,
}

impl<'a> Attributes<'a> {
    fn set(&mut self, key: &str, value: &'a str, now: u64) {
        match &*key.to_ascii_lowercase() {
            "domain" => self.domain = Some(value),
            "path" => self.path = Some(value),
            "secure" => self.is_secure = true,
            "max-age" => self.max_age = max_age(value, now).or(self.max_age),
            "expires" => self.expires = date(value).or(self.expires),
            _ => {}
        }
    }
}

/// When a cookie with this `Max-Age` expires.
fn max_age(value: &str, now: u64) -> Option<u64> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than a number holds are a long time.
    let seconds = digits.parse().unwrap_or(u64::MAX);
    Some(if sign < 0 || seconds == 0 {
        0
    } else {
        now.saturating_add(seconds)
    })
}

/// The domain of a cookie with this `Domain`, and whether hosts below it receive the cookie. `None` if the host of
/// `url` may not set it.
fn whose(domain: Option<&str>, url: &Url) -> Option<(String, bool)> {
    let own = || Some((url.host()?.to_string(), false));
    let Some(domain) = domain.map(|domain| domain.strip_prefix('.').unwrap_or(domain)) else {
        return own();
    };
    if domain.is_empty() {
        return own();
    }
    let Some(Host::Domain(host)) = url.host() else {
        // An address may only name itself.
        return if domain == url.host_str()? { own() } else { None };
    };
    let Ok(Host::Domain(domain)) = Host::parse(domain) else {
        return None;
    };
    let is_own = domain == host;
    // All hosts of a public suffix (`com`, `co.uk`, `github.io`), or of a whole network (`lan`), have nothing in common.
    if psl::suffix(domain.as_bytes()).is_none_or(|suffix| suffix.as_bytes() == domain.as_bytes()) {
        return if is_own { own() } else { None };
    }
    (is_own || is_below(host, &domain)).then_some((domain, true))
}

/// The path of a cookie that names none (RFC 6265 §5.1.4).
fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(slash) => &url.path()[..slash],
    }
}

/// A date in one of the many forms that servers write (RFC 6265 §5.1.1), in seconds since 1970. Earlier ones are 0.
fn date(text: &str) -> Option<u64> {
    let is_delimiter = |c: char| matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~');
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for word in text.split(is_delimiter).filter(|word| !word.is_empty()) {
        if time.is_none()
            && let Some(found) = clock(word)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(word, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(word)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(word, 2, 4)
        {
            year = Some(found);
        }
    }
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if year < 1601 {
        return None;
    }
    let day = Date::new(year.try_into().ok()?, month?, day?.try_into().ok()?).ok()?;
    let at = Offset::UTC.to_timestamp(day.to_datetime(time?)).ok()?;
    Some(at.as_second().try_into().unwrap_or(0))
}

/// The number at the beginning of a word, if it has so many digits.
fn number(word: &str, least: usize, most: usize) -> Option<u16> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    (least..=most).contains(&digits).then(|| word[..digits].parse().ok())?
}

/// `hh:mm:ss`, each with one or two digits.
fn clock(word: &str) -> Option<Time> {
    let mut fields = word.splitn(3, ':');
    let mut field = || -> Option<i8> { number(fields.next()?, 1, 2)?.try_into().ok() };
    let (hour, minute, second) = (field()?, field()?, field()?);
    Time::new(hour, minute, second, 0).ok()
}

fn month_of(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = word.get(..3)?;
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(start))?;
    i8::try_from(at + 1).ok()
}
