//! The end of a mount.

/// Why a mount has ended.
pub(super) enum End {
    /// The session is over: another process has unmounted it.
    Unmounted(std::io::Result<()>),
    /// A signal ends this process: its name, or its meaning.
    Signal(&'static str),
}
