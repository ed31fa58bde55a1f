//! The options about scanners, and those of them that change while mounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::scanners::Scanner;

/// The default of [`ScanConfig::limit`]: nearly all pictures as a whole; of a film its head, its index and a scene.
const SCAN_LIMIT: u64 = 16 << 20;

/// How scanners are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum ScanPolicy {
    /// Thumbnailers and indexers get so many bytes of a file, media and virus scanners get everything.
    #[default]
    Limit,
    /// All of them get everything.
    Gentle,
    /// As ordinary programs.
    Off,
}

impl ScanPolicy {
    /// All of them.
    pub(crate) const ALL: [ScanPolicy; 3] = [ScanPolicy::Limit, ScanPolicy::Gentle, ScanPolicy::Off];

    /// Its name as a value of the option.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ScanPolicy::Limit => "limit",
            ScanPolicy::Gentle => "gentle",
            ScanPolicy::Off => "off",
        }
    }
}

/// The options about scanners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanConfig {
    /// How scanners are treated. Default: [`ScanPolicy::Limit`].
    pub policy: ScanPolicy,
    /// Bytes of a file that are fetched for a thumbnailer or an indexer. Default: [`SCAN_LIMIT`].
    pub limit: u64,
    /// Changes of the table. Default: none.
    pub scanners: Vec<Scanner>,
}

impl Default for ScanConfig {
    fn default() -> ScanConfig {
        ScanConfig {
            policy: ScanPolicy::default(),
            limit: SCAN_LIMIT,
            scanners: Vec::new(),
        }
    }
}

/// The current values of those that can change.
#[derive(Debug)]
pub(crate) struct ScanSettings {
    policy: AtomicU8,
    limit: Arc<AtomicU64>,
}

impl ScanSettings {
    pub(super) fn new(config: &ScanConfig) -> ScanSettings {
        ScanSettings {
            policy: AtomicU8::new(config.policy as u8),
            limit: Arc::new(AtomicU64::new(config.limit)),
        }
    }

    pub(super) fn policy(&self) -> ScanPolicy {
        let policy = self.policy.load(Ordering::Relaxed);
        ScanPolicy::ALL
            .into_iter()
            .find(|known| *known as u8 == policy)
            .unwrap_or_default()
    }

    pub(super) fn limit(&self) -> &Arc<AtomicU64> {
        &self.limit
    }

    /// Changes both: the policy for files that are opened from now on, the limit at once.
    pub(crate) fn set(&self, policy: ScanPolicy, limit: u64) {
        self.policy.store(policy as u8, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }
}
