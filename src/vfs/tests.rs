//! The seam between names and bytes: a source that lists a tree from memory, and a server that has the bytes. Nothing
//! here knows of index pages.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

use super::nodes::ino::ROOT;
use super::*;
use crate::cache::{Cache, CacheConfig};
use crate::http::testing::{Reply, Server, says};
use crate::http::{HttpConfig, Validator};
use crate::origin::{Client, MirrorTier};
use crate::source::{
    Asked, BoxFuture, Entries, Entry, EntryKind, Found, LeftOut, ListedSize, ListedTime, Listing, Name, Published,
    Source, SourceError, SourceSpec, Sources,
};

/// Directories by their URLs, each with its names: those of sub-directories end in `/`, those of files have a URL and
/// content.
struct InMemory {
    directories: Mutex<BTreeMap<&'static str, Vec<(&'static str, Url)>>>,
    /// Another server that has all files, named after the preferred one.
    alternate: Option<Url>,
    is_broken: AtomicBool,
}

const TOP: &str = "memory://tree/";
const BYTES: &[u8] = b"The bytes of a file, wherever it is listed.";

impl InMemory {
    /// `top`, and `a/b` in it, at these URLs.
    fn of(top: &Url, below: &Url) -> InMemory {
        let directory = Url::parse(TOP).unwrap().join("a/").unwrap();
        let tree = [
            (TOP, vec![("top", top.clone()), ("a/", directory)]),
            ("memory://tree/a/", vec![("b", below.clone())]),
        ];
        InMemory {
            directories: Mutex::new(tree.into()),
            alternate: None,
            is_broken: AtomicBool::new(false),
        }
    }
}

impl Source for InMemory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let listing = self.list(asked.url, asked.there).await?;
            Ok(Some(Found::Directory(asked.url.clone(), listing)))
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, _: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move {
            if self.is_broken.load(Ordering::Relaxed) {
                return Err(SourceError::not_a_listing(directory, "it is broken"));
            }
            let directories = self.directories.lock();
            let mut entries = Entries::of(directory);
            for (name, url) in &directories[directory.as_str()] {
                let kind = match name.ends_with('/') {
                    true => EntryKind::Directory,
                    false => EntryKind::File(ListedSize::Exact(BYTES.len() as u64)),
                };
                let name = Name::new(name.trim_end_matches('/').into()).unwrap();
                let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
                let (url, modified) = (url.clone(), Some(ListedTime { time, exact: true }));
                let alternates = self
                    .alternate
                    .iter()
                    .map(|there| there.join(url.path()).unwrap())
                    .collect();
                let published = Some(Arc::new(Published {
                    alternates,
                    ..Published::default()
                }));
                assert!(entries.push(&Entry {
                    name,
                    url,
                    kind,
                    modified,
                    published,
                }));
            }
            Ok(Listing {
                entries,
                left_out: LeftOut::default(),
                modified: None,
                is_marked: true,
                has_external: true,
                validator: Validator::None,
            })
        })
    }
}

/// A server that has [`BYTES`] at any URL, and sends any range of them.
async fn server() -> Server {
    Server::start(answer).await
}

fn answer(request: &str) -> Reply {
    if request.starts_with("HEAD") {
        let total = BYTES.len();
        return says(format!(
            "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: {total}\r\n\r\n"
        ));
    }
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (first, last) = range
        .and_then(|range| range.split_once('-'))
        .expect("a range is asked for");
    let (first, last) = (
        first.parse().unwrap(),
        last.parse::<usize>().unwrap().min(BYTES.len() - 1),
    );
    let (part, total) = (&BYTES[first..=last], BYTES.len());
    let head = format!(
        "HTTP/1.1 206 P\r\nETag: \"v1\"\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {}\r\n\r\n",
        part.len()
    );
    says([head.as_bytes(), part].concat())
}

/// A tree with `source` as its top.
async fn tree(folder: &Path, source: InMemory) -> (Arc<Tree>, Arc<InMemory>, Arc<Cache>) {
    let (source, runtime) = (Arc::new(source), Handle::current());
    let client = Client::new(HttpConfig::default()).unwrap();
    let config = CacheConfig {
        tiers: vec![Arc::new(MirrorTier::new(client.clone()))],
        ..CacheConfig::in_folder(folder)
    };
    let cache = Cache::open(config, client.clone(), &runtime).unwrap();
    let sources = Sources::of_tests("memory", Arc::clone(&source) as _);
    let specs = vec![SourceSpec::of(TOP).unwrap()];
    let top = Top::of(&client, &sources, cache.catalog(), specs, Naming::ByUrl)
        .await
        .unwrap();
    assert_eq!(top.kinds(), ["memory"]);
    let config = TreeConfig {
        ttl: Duration::ZERO.into(),
        retries: 3,
        patience: Duration::from_secs(60),
        most_names: 1000,
    };
    let tree = Tree::new(
        Arc::clone(&cache),
        client,
        sources,
        config,
        top,
        runtime,
        Arc::new(|_| {}),
    );
    (tree, source, cache)
}

async fn find(tree: &Tree, path: &str) -> Result<Arc<Node>, TreeError> {
    let (_, node) = tree.find(path.split('/').map(OsStr::new)).await?;
    Ok(node)
}

async fn read(tree: &Tree, cache: &Arc<Cache>, path: &str) -> Vec<u8> {
    let node = find(tree, path).await.unwrap();
    let entry = tree.open(&node).await.unwrap();
    let reader = cache.reader(entry);
    let mut bytes = vec![0; 2 * BYTES.len()];
    let read = tokio::task::spawn_blocking(move || {
        let read = reader.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(read);
        bytes
    });
    read.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_memory_lists_and_the_cache_reads_at_its_urls() {
    let (folder, server) = (tempfile::tempdir().unwrap(), server().await);
    let source = InMemory::of(&server.at("blob/1"), &server.at("blob/2?part=3"));
    let (tree, _, cache) = tree(folder.path(), source).await;
    let top = tree.list(&tree.node(ROOT).unwrap()).await.unwrap();
    assert_eq!(
        (top.name(0), top.name(1), top.len()),
        (OsStr::new("top"), OsStr::new("a"), 2)
    );
    let node = find(&tree, "a/b").await.unwrap();
    assert_eq!(node.attributes().size, BYTES.len() as u64);
    assert!(matches!(find(&tree, "a/none").await, Err(TreeError::NotFound)));
    assert!(
        server.requests().is_empty(),
        "names cost no request: {:?}",
        server.requests()
    );
    for path in ["a/b", "top", "a/b"] {
        assert_eq!(read(&tree, &cache, path).await, BYTES, "{path}");
    }
    let firsts = |request: &String| request.lines().next().unwrap().to_owned();
    let gets: Vec<_> = server
        .requests()
        .iter()
        .map(firsts)
        .filter(|line| line.starts_with("GET"))
        .collect();
    assert_eq!(
        gets,
        ["GET /blob/2?part=3 HTTP/1.1", "GET /blob/1 HTTP/1.1"],
        "each file is fetched once"
    );
    cache.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_changes_or_fails_is_that_of_the_source() {
    let (folder, server) = (tempfile::tempdir().unwrap(), server().await);
    let source = InMemory::of(&server.at("1"), &server.at("2"));
    let (tree, source, cache) = tree(folder.path(), source).await;
    assert!(find(&tree, "a/new").await.is_err());
    source
        .directories
        .lock()
        .insert("memory://tree/a/", vec![("new", server.at("3"))]);
    assert_eq!(read(&tree, &cache, "a/new").await, BYTES);
    assert!(matches!(find(&tree, "a/b").await, Err(TreeError::NotFound)));
    source.is_broken.store(true, Ordering::Relaxed);
    assert!(find(&tree, "a/new").await.is_ok(), "what was listed stays");
    cache.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_preferred_url_is_unavailable_the_next_one_is_asked() {
    let (folder, server) = (tempfile::tempdir().unwrap(), server().await);
    let nowhere = Url::parse("http://127.0.0.1:1/f").unwrap();
    let mut source = InMemory::of(&nowhere, &nowhere);
    source.alternate = Some(server.url.clone());
    let (tree, _, cache) = tree(folder.path(), source).await;
    assert_eq!(read(&tree, &cache, "top").await, BYTES);
    cache.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_source_is_shown_as_it_is() {
    let (folder, server) = (tempfile::tempdir().unwrap(), server().await);
    let source = InMemory::of(&server.at("1"), &server.at("2"));
    let (tree, source, cache) = tree(folder.path(), source).await;
    source.is_broken.store(true, Ordering::Relaxed);
    let error = find(&tree, "a/b").await.map(drop).unwrap_err();
    let shown = "memory://tree/a/: it can't be used: it is broken";
    assert!(
        matches!(&error, TreeError::Source(_)) && error.to_string() == shown,
        "{error}"
    );
    cache.close();
}
