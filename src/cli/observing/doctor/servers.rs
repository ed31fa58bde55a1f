//! What the sources' servers offer, by a few small requests, as a mount would send them.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytesize::ByteSize;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

use super::{Finding, Section};
use crate::config::MountConfig;
use crate::http::{HttpErrorKind, Validator, redact};
use crate::origin::{Client, Metadata, RangeAnswer};
use crate::source::{EntryKind, Found, ListedSize, Listing, SourceConfig, SourceSpec, Sources};
use crate::util::plural::count;

/// Maximum time to resolve a host's name.
const RESOLVING: Duration = Duration::from_secs(10);

/// An answer that takes longer makes each jump in a film felt.
const SLOW: Duration = Duration::from_millis(500);

/// All sources of a mount.
///
/// # Errors
/// If no request can be sent at all: a file that the options name can't be read, for example.
pub(super) fn all(config: &MountConfig) -> anyhow::Result<Vec<Section>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the network")?;
    runtime.block_on(async {
        let client = Client::new(config.engine.http.clone())?;
        let source_config = SourceConfig {
            listings: config.listings,
            ttl: config.attr_ttl.into(),
            metalink_locations: config.metalink_locations.clone(),
            s3: config.s3.clone(),
        };
        let sources = Sources::new(&client, &source_config, config.kind.as_deref());
        let mut sections = Vec::new();
        for spec in &config.sources {
            let of = redact(&spec.url).to_string();
            let (url, client, sources) = (&spec.url, &client, &sources);
            let adopt = |url: Url| match &config.library {
                Some(_) => client.adopt_for(&spec.url, url),
                None => client.adopt(url),
            };
            let findings = match sources.resolve(spec.clone()) {
                Ok(resolved) => {
                    let url = adopt(resolved.url.clone());
                    let mut examination = Examination {
                        client,
                        sources,
                        spec: SourceSpec { url, ..resolved },
                        findings: Vec::new(),
                    };
                    // It ends at the first obstacle.
                    examination.run().await;
                    examination.findings
                }
                Err(error) => vec![Finding::failed("source", &format!("{}: {error}", redact(url)))],
            };
            sections.push(Section { of, findings });
        }
        Ok(sections)
    })
}

/// One source, while it is examined.
struct Examination<'a> {
    client: &'a Client,
    sources: &'a Sources,
    spec: SourceSpec,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    /// Each step needs the one before; `None` ends it.
    async fn run(&mut self) -> Option<()> {
        if !self.spec.is_local() {
            self.resolve().await?;
        }
        let found = self.open().await?;
        let file = match found {
            Found::File(_) => self.spec.url.clone(),
            Found::Directory(_, listing) => match first_file(&listing) {
                Some(url) => url,
                None => {
                    let text = "there is no file in this directory, so neither ranges nor versions were tried";
                    self.findings
                        .push(Finding::note("ranges", text, "name a directory with files, or a file"));
                    return None;
                }
            },
        };
        let metadata = self.ask(&file).await?;
        self.version(&metadata);
        self.ranges(&file, &metadata).await
    }

    async fn resolve(&mut self) -> Option<()> {
        const SUBJECT: &str = "name";
        let host = self.spec.url.host_str()?.to_owned();
        let port = self.spec.url.port_or_known_default().unwrap_or(443);
        if self.client.may_use_a_proxy() {
            self.findings
                .push(Finding::good(SUBJECT, format!("{host} is for the proxy to find")));
            return Some(());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let why = match timeout(RESOLVING, lookup_host((bare.as_str(), port))).await {
            Ok(Ok(addresses)) => {
                let addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                if !addresses.is_empty() {
                    let text = if addresses == [bare.as_str()] {
                        format!("{host} is an address")
                    } else {
                        format!("{host} is {}", addresses.join(", "))
                    };
                    self.findings.push(Finding::good(SUBJECT, text));
                    return Some(());
                }
                "it has no address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer for {}", humantime::format_duration(RESOLVING)),
        };
        self.findings.push(Finding::bad(
            SUBJECT,
            format!("{host} can't be resolved: {why}"),
            "check its spelling, and this machine's name servers (/etc/resolv.conf)",
        ));
        None
    }

    /// Finds out what the source is.
    async fn open(&mut self) -> Option<Found> {
        let url = self.spec.url.clone();
        self.client.call_directory(&url);
        match self.sources.open(self.client, &self.spec, &url).await {
            Ok(opened) => {
                let text = match &opened.found {
                    Found::Directory(_, listing) => format!("{}: {}", opened.kind, names(listing)),
                    Found::File(metadata) => format!("{}: {}", opened.kind, size(metadata)),
                };
                self.findings.push(Finding::good("source", text));
                if let Found::Directory(_, listing) = &opened.found
                    && !listing.left_out.is_nothing()
                {
                    let advice = "nothing, if these are links to other places; an option in brackets shows them";
                    self.findings
                        .push(Finding::note("names", listing.left_out.to_string(), advice));
                }
                Some(opened.found)
            }
            Err(error) => {
                let advice = error.http().and_then(|error| advice_on(&error.kind));
                self.findings.push(match advice {
                    Some(advice) => Finding::bad("source", error.to_string(), advice),
                    None => Finding::failed("source", &error.to_string()),
                });
                None
            }
        }
    }

    /// What the server says of a file, and how long that takes.
    async fn ask(&mut self, file: &Url) -> Option<Metadata> {
        let begun = Instant::now();
        match self.client.metadata(file).await {
            Ok(metadata) => {
                let took = begun.elapsed();
                let text = format!("it answers within {} ms", took.as_millis().max(1));
                self.findings.push(if took < SLOW {
                    Finding::good("latency", text)
                } else {
                    let advice = "reading on is fast all the same; each jump to another place waits that long";
                    Finding::note("latency", text, advice)
                });
                Some(metadata)
            }
            Err(error) => {
                self.findings.push(match advice_on(&error.kind) {
                    Some(advice) => Finding::bad("file", error.to_string(), advice),
                    None => Finding::failed("file", &error.to_string()),
                });
                None
            }
        }
    }

    /// By what changes of a file are noticed.
    fn version(&mut self, metadata: &Metadata) {
        const SUBJECT: &str = "versions";
        self.findings.push(match &metadata.validator {
            Validator::Strong(_) => Finding::good(SUBJECT, "files have ETags: no change is missed"),
            Validator::Dated(_) => Finding::good(
                SUBJECT,
                "files have dates: a change within the same second can be missed",
            ),
            Validator::Weak(_) => Finding::note(
                SUBJECT,
                "the ETag is weak: the server does not promise that equal tags mean equal bytes",
                "often a proxy that compresses makes it so; without it, the server's own ETag is strong",
            ),
            Validator::None => Finding::note(
                SUBJECT,
                "files have neither ETag nor date: a changed file of the same size is not noticed",
                "let the server send one of them; after a change: `fetchfs refresh FILE`, or `fetchfs evict FILE`",
            ),
        });
        if metadata.size.is_none() {
            self.findings.push(Finding::note(
                "size",
                "the server does not say how long the file is",
                "it is known when the file was read to its end; until then programs may see it as empty",
            ));
        }
    }

    /// Whether parts of a file can be had.
    async fn ranges(&mut self, file: &Url, metadata: &Metadata) -> Option<()> {
        const SUBJECT: &str = "ranges";
        let size = metadata.size.filter(|size| *size > 0)?;
        let at = size / 2;
        self.findings.push(match self.client.range(file, at..at + 1, None).await {
            Ok(RangeAnswer::Partial { range, .. }) if range.contains(&at) => {
                Finding::good(SUBJECT, format!("a byte in the middle of {} was sent by itself", redact(file)))
            }
            Ok(RangeAnswer::Whole { .. }) => Finding::note(
                SUBJECT,
                "the server ignores them, so each file is downloaded from its beginning, and a jump waits for what is before",
                "turn on byte ranges in the server, or in the proxy in front of it",
            ),
            Ok(_) => Finding::bad(
                SUBJECT,
                "the answer to a request for one byte contradicts the answer before",
                "see whether several servers with different files are behind one name",
            ),
            Err(error) => Finding::failed(SUBJECT, &error.to_string()),
        });
        Some(())
    }
}

/// The URL of the first file that is not empty.
fn first_file(listing: &Listing) -> Option<Url> {
    const EMPTY: EntryKind = EntryKind::File(ListedSize::Exact(0));
    let entries = &listing.entries;
    let has_bytes = |position: &usize| !matches!(entries.kind(*position), EntryKind::Directory | EMPTY);
    (0..entries.len()).find(has_bytes).map(|position| entries.url(position))
}

fn names(listing: &Listing) -> String {
    let entries = &listing.entries;
    let directories = (0..entries.len())
        .filter(|&position| entries.is_directory(position))
        .count();
    let files = entries.len() - directories;
    format!(
        "{} and {}",
        count(files as u64, "file"),
        count(directories as u64, "directory")
    )
}

fn size(metadata: &Metadata) -> String {
    match metadata.size {
        Some(size) => format!("a file of {}", ByteSize(size)),
        None => "a file of unknown size".to_owned(),
    }
}

/// What to do about a failed request, where its sentence does not say it.
fn advice_on(kind: &HttpErrorKind) -> Option<&'static str> {
    Some(match kind {
        HttpErrorKind::Denied(401) => "log in: --login, --password-file, --bearer-token-file, --netrc",
        HttpErrorKind::Denied(407) => "write the proxy as http://USER:PASSWORD@HOST:PORT",
        HttpErrorKind::Denied(_) => "log in, or ask the administrator; a directory may forbid its listing only",
        HttpErrorKind::NotFound(_) => "check the URL; it is written as in a browser",
        HttpErrorKind::Refused => "see whether the server runs, and whether the port is right",
        HttpErrorKind::TimedOut(_) => {
            "see whether a firewall drops packets; --connect-timeout and --timeout allow more time"
        }
        HttpErrorKind::NoTls => "use http:// there",
        HttpErrorKind::Untrusted(_) => "give the authority's certificate with --ca-cert; --insecure trusts anybody",
        HttpErrorKind::Unanswered => "a proxy or balancer answers, and the server behind it does not: look there",
        _ => return None,
    })
}
