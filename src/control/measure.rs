//! Measures the state of a mount.

use super::context::Control;
use super::status::{Down, Origin, Source, Status};

/// Time over which the rate is measured. Long enough for several buffers of a body, which arrive some ten times a
/// second at 1 MB/s. Short enough for a person who waits for the output.
const SAMPLE: std::time::Duration = std::time::Duration::from_millis(400);

/// The state of the mount. Takes the time of one sample.
pub(super) async fn status(control: &Control) -> Status {
    let (_, before) = control.cache.manager().status();
    let began = tokio::time::Instant::now();
    tokio::time::sleep(SAMPLE).await;
    let (origins, fetched_bytes) = control.cache.manager().status();
    let rate = (fetched_bytes - before) as f64 / began.elapsed().as_secs_f64();
    let (known_files, known_bytes) = control.tree.known();
    let cached_bytes = control.with_cache(|cache| cache.cached_bytes()).await;
    let sources = control
        .library
        .as_ref()
        .map(|control| control.library.status())
        .unwrap_or_default();
    Status {
        source: control.about.source.clone(),
        kinds: control.about.kinds.iter().map(|&kind| kind.to_owned()).collect(),
        sources: sources.into_iter().map(Source::from).collect(),
        mountpoint: control.about.mountpoint.display().to_string(),
        // The client reads its own mount table.
        elsewhere: Vec::new(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mounted_for: control.about.since.elapsed().as_secs(),
        cache_dir: control.about.cache_dir.display().to_string(),
        cached_bytes: cached_bytes.unwrap_or_default(),
        cache_limit: control.cache.limit(),
        cache_trouble: control.cache.disk_failure(),
        known_files,
        known_bytes,
        left_out: Some(control.tree.left_out())
            .filter(|left_out| !left_out.is_nothing())
            .map(|left_out| left_out.to_string()),
        fetched_bytes,
        fetching_rate: rate as u64,
        jobs: control.jobs.count(),
        origins: origins.into_iter().map(Origin::from).collect(),
        down: control.tree.servers_down().into_iter().map(Down::from).collect(),
    }
}
