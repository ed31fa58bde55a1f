//! Parses a source: a URL, a document or directory on this machine, or `@FILE` with one of these in each line.
//!
//! [`parse`] reads one; [`shown`] writes one without its secrets, for mount tables, logs and errors. Secrets are the
//! user part, and the values of the query, where signed URLs carry their signature.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::source::{SourceSpec, registry};

/// Maximum bytes of a file of sources. A larger file is something else, named by mistake.
const LARGEST_FILE: u64 = 1 << 20;

/// A source that can't be mounted. `{0}` never contains secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSource {
    /// It does not begin with a scheme of a source, and is no file.
    #[error("`{0}` is not a source; {advice}", advice = meant(.0).unwrap_or_else(all_kinds))]
    NoScheme(String),
    /// A document or directory on this machine that can't be read.
    #[error("can't read the source {file}: {reason}")]
    Document {
        /// The path as given, or `standard input`.
        file: String,
        /// The system's error.
        reason: String,
    },
    /// Not a URL.
    #[error("`{url}` is not a URL: {reason}")]
    Malformed {
        /// The source as given, without secrets.
        url: String,
        /// What is wrong with it.
        reason: url::ParseError,
    },
    /// With a fragment (`#...`), which browsers never send.
    #[error("`{0}` has a fragment (`#...`), which is never sent to a server; write %23 for a `#` in a name")]
    Fragment(String),
    /// `@FILE` that can't be read.
    #[error("can't read the sources in {file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's error.
        reason: String,
    },
    /// `@FILE` without a source in it.
    #[error("there is no source in {0}; a file of sources has a URL in each line")]
    Empty(String),
}

impl InvalidSource {
    /// Returns true if the source is wrong, false if a file can't be read.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(self, Self::Unreadable { .. } | Self::Document { .. })
    }
}

/// Reads the sources as given: URLs, and files of URLs.
pub(in crate::config) fn read_all(texts: &[String]) -> Result<Vec<SourceSpec>, InvalidSource> {
    let mut urls = Vec::new();
    for text in texts {
        let Some(file) = text.strip_prefix('@') else {
            urls.push(parse(text)?);
            continue;
        };
        let read = File::open(file).and_then(|opened| {
            let mut lines = String::new();
            opened.take(LARGEST_FILE).read_to_string(&mut lines).map(|_| lines)
        });
        let lines = read.map_err(|error| InvalidSource::Unreadable {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        let before = urls.len();
        let lines = lines.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            urls.push(parse(line)?);
        }
        if urls.len() == before {
            return Err(InvalidSource::Empty(file.to_owned()));
        }
    }
    Ok(urls)
}

/// The name of a source in messages: a URL without its secrets; a file as given, because its URLs may be secret.
pub(in crate::config) fn name(text: &str) -> String {
    match text {
        "-" => "stdin".to_owned(),
        local if local.starts_with('@') || !local.contains("://") => local.to_owned(),
        url => shown(url),
    }
}

/// Reads those sources that can be read only once: standard input and pipes. `most` is the maximum size of a document
/// in bytes.
///
/// # Errors
/// If one can't be read, or is larger.
pub(crate) fn load(specs: &mut [SourceSpec], most: u64) -> Result<(), InvalidSource> {
    for spec in specs.iter_mut().filter(|spec| spec.is_document()) {
        let path = spec.path();
        let file = path
            .as_ref()
            .map_or("standard input".to_owned(), |path| path.display().to_string());
        let fail = |reason: String| InvalidSource::Document {
            file: file.clone(),
            reason,
        };
        let once: Box<dyn Read> = match &path {
            None => Box::new(io::stdin().lock()),
            Some(path) if path.is_file() => continue,
            Some(path) => Box::new(File::open(path).map_err(|error| fail(error.to_string()))?),
        };
        let mut content = Vec::new();
        let read = once.take(most.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|error| fail(error.to_string()))?;
        if content.len() as u64 > most {
            let most = bytesize::ByteSize(most).display().iec();
            return Err(fail(format!("it is larger than {most}; raise --max-listing-size")));
        }
        *spec = SourceSpec::of_content(content);
    }
    Ok(())
}

/// Reads a source.
///
/// # Errors
/// If it is not a URL with a scheme of a source, or has a fragment.
pub(crate) fn parse(text: &str) -> Result<SourceSpec, InvalidSource> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if scheme.is_none() {
        return local(text);
    }
    if !scheme.is_some_and(|scheme| registry::schemes().contains(&scheme.as_str())) {
        return Err(InvalidSource::NoScheme(shown(text)));
    }
    let spec = SourceSpec::of(text).map_err(|reason| InvalidSource::Malformed {
        url: shown(text),
        reason,
    })?;
    if spec.url.fragment().is_some() {
        return Err(InvalidSource::Fragment(shown(text)));
    }
    match (spec.is_local(), spec.path()) {
        (true, None) => Err(InvalidSource::Document {
            file: shown(text),
            reason: "it is not on this machine".to_owned(),
        }),
        // A directory's URL may lack the `/` at its end.
        (true, Some(path)) => Ok(SourceSpec::of_file(&path).unwrap_or(spec)),
        (false, _) => Ok(spec),
    }
}

/// A document or directory on this machine, by its path; `-` for standard input.
fn local(text: &str) -> Result<SourceSpec, InvalidSource> {
    if text == "-" {
        return Ok(SourceSpec::of_stdin());
    }
    let fail = |reason: String| InvalidSource::Document {
        file: text.to_owned(),
        reason,
    };
    let is_path = [".", "/"].iter().any(|begin| text.starts_with(begin));
    match std::fs::metadata(text) {
        Ok(_) => {
            let path = absolute(text.as_ref()).map_err(|error| fail(error.to_string()))?;
            SourceSpec::of_file(&path).ok_or_else(|| InvalidSource::NoScheme(text.to_owned()))
        }
        Err(error) if is_path => Err(fail(error.to_string())),
        // A URL without its scheme is mistyped more often than a path.
        Err(_) => Err(InvalidSource::NoScheme(shown(text))),
    }
}

/// An absolute path without `..`, which a URL can't have. Symbolic links stay: they may lead elsewhere later.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match path.components().any(|part| part == Component::ParentDir) {
        true => path.canonicalize(),
        false => Ok(path),
    }
}

/// A question about a URL that lacks its scheme: `example.org/pub`, `localhost:8080`.
fn meant(text: &str) -> Option<String> {
    let host = text.split(['/', '?']).next().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let is_host = (name.contains('.') || !port.is_empty())
        && !name.starts_with('.')
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let is_meant = is_host && url::Host::parse(name).is_ok();
    is_meant.then(|| format!("did you mean https://{text}?"))
}

/// What a source may be.
fn all_kinds() -> String {
    format!(
        "a source is a URL that begins with {}, a directory, list, playlist or Metalink on this machine, `-` for standard \
         input, or @FILE with one source in each line",
        schemes()
    )
}

/// The schemes of sources, as in `http:// or https://`.
fn schemes() -> String {
    let schemes: Vec<_> = registry::schemes()
        .iter()
        .map(|scheme| format!("{scheme}://"))
        .collect();
    let (last, others) = schemes
        .split_last()
        .map_or(("", Vec::new()), |(last, others)| (last.as_str(), others.to_vec()));
    format!("{} or {last}", others.join(", "))
}

/// A URL without its secrets: no user part, and only the names of the query.
///
/// Works on text, so that it also accepts invalid URLs, and leaves the rest unchanged. A mount table then shows the URL
/// as in fstab, by which `mount -a` recognises the line as mounted.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (location, query) = rest
        .split_once('?')
        .map_or((rest, None), |(location, query)| (location, Some(query)));
    let (host, path) = location.split_at(location.find(['/', '#', '\\']).unwrap_or(location.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let mut text = String::with_capacity(url.len());
    if !scheme.is_empty() {
        text.push_str(scheme);
        text.push_str("://");
    }
    text.push_str(host);
    text.push_str(path);
    if let Some(query) = query {
        let names: Vec<_> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=')
                    .map_or_else(|| pair.to_owned(), |(name, _)| format!("{name}=..."))
            })
            .collect();
        text.push('?');
        text.push_str(&names.join("&"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_http_urls_are_sources() {
        assert_eq!(
            parse("https://ann:pw@example.org/a%20b/").unwrap().url.username(),
            "ann"
        );
        assert_eq!(parse("HTTP://example.org").unwrap().url.as_str(), "http://example.org/");
        for text in ["ftp://example.org/", "example.org/pub", "stdin:///stdin", "", "http:/x"] {
            assert!(matches!(parse(text), Err(InvalidSource::NoScheme(_))), "{text}");
        }
        for text in ["http://", "http://a b/", "http://host:99999/", "http://[::1/"] {
            assert!(matches!(parse(text), Err(InvalidSource::Malformed { .. })), "{text}");
        }
        assert!(matches!(parse("http://host/a#b"), Err(InvalidSource::Fragment(_))));
    }

    #[test]
    fn file_on_this_machine_is_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a list?.txt");
        std::fs::write(&path, "http://h/a").unwrap();
        let spec = parse(path.to_str().unwrap()).unwrap();
        assert!(spec.is_local() && spec.content.is_none());
        assert_eq!(spec.url.to_file_path().as_ref(), Ok(&path));
        assert_eq!(parse(spec.url.as_str()), Ok(spec.clone()));
        assert_eq!(name(path.to_str().unwrap()), path.to_str().unwrap());
        let mut specs = [spec.clone()];
        load(&mut specs, 1).unwrap();
        assert_eq!(specs, [spec], "it is read later, and again");
        for written in [
            dir.path().to_str().unwrap(),
            &format!("file://{}", dir.path().display()),
        ] {
            let directory = parse(written).unwrap();
            assert_eq!(
                (directory.is_document(), directory.path().as_deref()),
                (false, Some(dir.path()))
            );
            assert!(directory.url.path().ends_with('/'), "{written}");
        }
        for wrong in ["/no/such/file", "./none.txt", "file://elsewhere/x"] {
            let error = parse(wrong).unwrap_err();
            assert!(
                matches!(error, InvalidSource::Document { .. }) && !error.is_usage(),
                "{error}"
            );
        }
    }

    #[test]
    fn pipe_is_read_when_it_is_named() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let mut specs = [parse(&path).unwrap()];
        io::Write::write_all(&mut writer, b"http://h/a").unwrap();
        drop(writer);
        load(&mut specs, 10).unwrap();
        assert_eq!(
            specs[0].content.as_ref().map(|content| &*content.0),
            Some(&b"http://h/a"[..])
        );
        let other = SourceSpec::of_content(b"http://h/b".to_vec());
        assert!(specs[0].url != other.url && specs[0].is_local());
        assert!(load(&mut [parse("/dev/zero").unwrap()], 10).is_err(), "too large");
        assert_eq!(
            (parse("-").unwrap(), name("-")),
            (SourceSpec::of_stdin(), "stdin".to_owned())
        );
    }

    #[test]
    fn url_without_its_scheme_is_recognised() {
        for text in [
            "example.org/pub",
            "example.org",
            "localhost:8080/x?a",
            "127.0.0.1",
            "a.b-c.de:1",
        ] {
            assert_eq!(meant(text), Some(format!("did you mean https://{text}?")));
        }
        for text in [
            "",
            "films",
            "./films.txt",
            "a:b/c",
            "ftp://example.org/",
            "my list.txt",
            "a_b.c",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_what_was_typed_without_secrets() {
        assert_eq!(shown("https://example.org/a%20b"), "https://example.org/a%20b");
        assert_eq!(shown("https://ann:p@ss@example.org:8/x@y"), "https://example.org:8/x@y");
        assert_eq!(shown("http://h/f?a=1&sig=s3cret&flag"), "http://h/f?a=...&sig=...&flag");
        assert_eq!(shown("http://ann:pw@h#x"), "http://h#x");
    }

    #[test]
    fn source_file_has_one_source_per_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let typed = format!("@{}", file.path().display());
        let all = || read_all(&["http://a/".to_owned(), typed.clone()]);
        std::fs::write(file.path(), "# mine\n\n").unwrap();
        assert!(matches!(all(), Err(InvalidSource::Empty(_))));
        std::fs::write(file.path(), "# mine\n http://h/f?sig=s3cret \n\nhttp://b/\n").unwrap();
        let urls: Vec<String> = all().unwrap().into_iter().map(|source| source.url.into()).collect();
        assert_eq!(urls, ["http://a/", "http://h/f?sig=s3cret", "http://b/"]);
        assert_eq!(
            (name(&typed), name("http://u:p@h/")),
            (typed.clone(), "http://h/".to_owned())
        );
        let none = read_all(&["@/no/such/file".to_owned()]).unwrap_err();
        assert!(!none.is_usage() && none.to_string().contains("/no/such/file"), "{none}");
    }

    #[test]
    fn errors_have_no_secrets() {
        for text in [
            "ftp://ann:hunter2@host/",
            "http://ann:hunter2@host:99999/",
            "http://ann:hunter2@host/#x",
        ] {
            assert!(!parse(text).unwrap_err().to_string().contains("hunter2"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_password_of_a_valid_url_is_shown(password in "[a-zA-Z0-9:!$*,;=._~-]{6,12}", path in "[a-z@:/?&=]{0,10}") {
            let url = format!("http://ann:{password}@host/{path}");
            prop_assume!(url::Url::parse(&url).is_ok());
            prop_assert!(!shown(&url).contains(&password));
        }

        #[test]
        fn nothing_that_can_be_typed_panics(text in ".{0,20}") {
            let _ = (parse(&text), shown(&text));
        }
    }
}
