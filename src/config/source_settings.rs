//! Resolves the options that a source of a library may have.

use super::args::MountArgs;
use super::error::ConfigError;
use super::s3::refuse_mirrors;
use crate::http::HttpConfig;
use crate::source::{ListingConfig, SourceConfig, SourceSpec};

/// The settings of one source of a library.
pub(super) struct SourceSettings {
    pub(super) http: HttpConfig,
    pub(super) sources: SourceConfig,
    pub(super) kind: Option<String>,
    pub(super) content_disposition: bool,
}

/// The settings of a source with these options.
///
/// # Errors
/// If they contradict each other, or a file that they name can't be used.
pub(super) fn source_settings(args: MountArgs, source: &SourceSpec) -> Result<SourceSettings, ConfigError> {
    let sources = std::slice::from_ref(source);
    refuse_mirrors(sources, &args.network.mirror)?;
    let settings = SourceConfig {
        listings: listing_config(&args),
        ttl: args.attr_ttl.into(),
        metalink_locations: metalink_locations(&args),
        s3: args.s3.resolve()?,
    };
    let http = HttpConfig {
        max_connections: args.max_connections.into(),
        bwlimit: args.bwlimit.clone().and_then(|limit| limit.0),
        ..args.network.resolve(sources)?
    };
    Ok(SourceSettings {
        http,
        sources: settings,
        kind: args.kind,
        content_disposition: args.content_disposition,
    })
}

/// Which entries listings have.
pub(super) fn listing_config(args: &MountArgs) -> ListingConfig {
    ListingConfig {
        max_entries: usize::try_from(args.network.max_entries).unwrap_or(usize::MAX),
        external_links: args.network.external_links,
        query_links: args.network.query_links,
    }
}

/// The preferred countries of mirrors.
pub(super) fn metalink_locations(args: &MountArgs) -> Vec<String> {
    let given = args.network.metalink_location.iter();
    given.flat_map(|all| all.split(',')).map(str::to_owned).collect()
}
