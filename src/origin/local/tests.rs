use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::http::{HttpConfig, HttpErrorKind, NO_STATUS};
use crate::origin::{Client, RangeAnswer};

/// A directory with a file of 600,000 bytes, and a client that reads it.
struct Ground {
    dir: tempfile::TempDir,
    client: Client,
    bytes: Vec<u8>,
}

impl Ground {
    fn new(follows_all_links: bool) -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f #1"), &bytes).unwrap();
        let client = Client::new(HttpConfig::default()).unwrap();
        let url = Url::from_directory_path(dir.path().join("d")).unwrap();
        client.serve_local(LocalDirectory::new(&url, follows_all_links).unwrap());
        Ground { dir, client, bytes }
    }

    fn url(&self, name: &str) -> Url {
        Url::from_file_path(self.dir.path().join(name)).unwrap()
    }

    async fn failure(&self, name: &str) -> HttpErrorKind {
        self.client.metadata(&self.url(name)).await.unwrap_err().kind
    }
}

async fn all(mut body: crate::origin::Body) -> Result<Vec<u8>, HttpErrorKind> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await.map_err(|error| error.kind)? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn file_has_size_date_and_ranges() {
    let ground = Ground::new(false);
    let url = ground.url("d/f #1");
    let date = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::options()
        .write(true)
        .open(ground.dir.path().join("d/f #1"))
        .unwrap()
        .set_modified(date)
        .unwrap();
    let metadata = ground.client.metadata(&url).await.unwrap();
    assert_eq!((metadata.size, metadata.modified), (Some(600_000), Some(date)));
    for want in [0..1, 100..400_000, 599_999..600_000, 599_000..700_000] {
        let answer = ground
            .client
            .range(&url, want.clone(), metadata.version.as_ref())
            .await
            .unwrap();
        let RangeAnswer::Partial { version, body, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(Some(version), metadata.version);
        let end = want.end.min(600_000) as usize;
        assert!(
            all(body).await.unwrap() == ground.bytes[want.start as usize..end],
            "{want:?}"
        );
    }
    let past = ground.client.range(&url, 700_000..700_001, None).await.unwrap();
    assert!(matches!(past, RangeAnswer::PastEnd { size: 600_000 }), "{past:?}");
    assert!(all(ground.client.whole(&url).await.unwrap()).await.unwrap() == ground.bytes);
    let confirmed = ground
        .client
        .confirm(&url, metadata.version.as_ref(), None)
        .await
        .unwrap();
    assert_eq!(confirmed.version, metadata.version);
}

#[tokio::test]
async fn empty_file_is_empty() {
    let ground = Ground::new(false);
    fs::write(ground.dir.path().join("d/empty"), "").unwrap();
    assert_eq!(
        ground.client.metadata(&ground.url("d/empty")).await.unwrap().size,
        Some(0)
    );
}

/// The size and the modification time are the same as before; the change time is not.
#[tokio::test]
async fn changed_file_is_another_version() {
    let ground = Ground::new(false);
    let (url, path) = (ground.url("d/f #1"), ground.dir.path().join("d/f #1"));
    let before = ground.client.metadata(&url).await.unwrap();
    let RangeAnswer::Partial { body, .. } = ground.client.range(&url, 0..600_000, None).await.unwrap() else {
        panic!("no part")
    };
    fs::write(&path, vec![7; 600_000]).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before.modified.unwrap())
        .unwrap();
    assert_eq!(
        all(body).await,
        Err(HttpErrorKind::Interrupted),
        "no bytes of two versions"
    );
    let answer = ground.client.range(&url, 0..10, before.version.as_ref()).await.unwrap();
    assert!(matches!(answer, RangeAnswer::Changed(Some(_))), "{answer:?}");
}

#[tokio::test]
async fn links_are_followed_within_the_directory() {
    let ground = Ground::new(false);
    let inside = ground.dir.path().join("d");
    fs::write(ground.dir.path().join("secret"), "s").unwrap();
    fs::create_dir(inside.join("sub")).unwrap();
    for (target, name) in [
        ("../f #1".into(), "sub/relative"),
        (inside.join("f #1"), "sub/absolute"),
        (inside.join("sub"), "to_dir"),
        ("../secret".into(), "out"),
        (ground.dir.path().join("secret"), "far_out"),
        ("/etc".into(), "etc"),
        ("loop".into(), "loop"),
    ] {
        symlink(target, inside.join(name)).unwrap();
    }
    for name in ["d/sub/relative", "d/sub/absolute", "d/to_dir/absolute"] {
        assert_eq!(
            ground.client.metadata(&ground.url(name)).await.unwrap().size,
            Some(600_000),
            "{name}"
        );
    }
    for name in ["d/out", "d/far_out", "d/etc/passwd"] {
        let failure = ground.failure(name).await;
        assert_eq!(
            failure,
            HttpErrorKind::Unreadable(LocalError::Outside.to_string()),
            "{name}"
        );
    }
    assert!(matches!(ground.failure("d/loop").await, HttpErrorKind::Unreadable(_)));
    let other = Ground::new(true);
    symlink("/etc/passwd", other.dir.path().join("d/out")).unwrap();
    assert!(
        other.client.metadata(&other.url("d/out")).await.is_ok(),
        "it is allowed there"
    );
}

#[tokio::test]
async fn only_files_of_named_directories_are_read() {
    let ground = Ground::new(false);
    fs::write(ground.dir.path().join("secret"), "s").unwrap();
    assert!(matches!(ground.failure("secret").await, HttpErrorKind::BadAnswer(_)));
    assert!(matches!(ground.failure("dd").await, HttpErrorKind::BadAnswer(_)));
    assert_eq!(ground.failure("d/none").await, HttpErrorKind::NotFound(NO_STATUS));
    assert_eq!(ground.failure("d/f #1/x").await, HttpErrorKind::NotFound(NO_STATUS));
    nix::unistd::mkfifo(&ground.dir.path().join("d/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let failure = ground.failure("d/pipe").await;
    assert_eq!(
        failure,
        HttpErrorKind::Unreadable(LocalError::NoFile.to_string()),
        "and it does not wait"
    );
}
