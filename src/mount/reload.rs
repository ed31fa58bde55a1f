//! Takes a changed library's file over without unmounting, after SIGHUP or `fetchfs reload`.
//!
//! - **A mistake in the file changes nothing.** The log and the command say what it is.
//! - Files that are open go on: the cache knows them by the URLs of their servers.
//! - Requests that begin later have the new options.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::mountpoint::check_is_outside;
use crate::config::{CHANGEABLE, LibraryFile, mount_command};
use crate::control::protocol::Reloaded;
use crate::origin::Client;
use crate::source::library::Change;
use crate::source::{LIBRARY, Library};
use crate::util::events;
use crate::util::plural::count;
use crate::vfs::Tree;

/// How long a reload waits for the names in places.
const SHOWN: Duration = Duration::from_secs(1);

/// The flags of options that can't change while mounted.
fn fixed(flags: Vec<String>) -> Vec<String> {
    let name = |flag: &str| flag[2..].split('=').next().unwrap_or_default().replace('-', "_");
    let is_fixed = |flag: &String| !CHANGEABLE.contains(&name(flag).as_str());
    flags.into_iter().filter(is_fixed).collect()
}

/// Reads the file of a mounted library again.
pub(super) struct Reloader {
    file: LibraryFile,
    mountpoint: PathBuf,
    /// The options of the mount that were in the file when it was mounted, as flags.
    of_mount: Vec<String>,
    library: Arc<Library>,
    client: Client,
    tree: Arc<Tree>,
    runtime: Handle,
    /// Held while the file is read and taken over.
    reloading: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        file: LibraryFile,
        mountpoint: PathBuf,
        library: Arc<Library>,
        client: Client,
        tree: Arc<Tree>,
        runtime: Handle,
    ) -> Reloader {
        Reloader {
            of_mount: fixed(file.flags(&mount_command()).unwrap_or_default()),
            file,
            mountpoint,
            library,
            client,
            tree,
            runtime,
            reloading: Mutex::default(),
        }
    }

    /// Reads the file, and shows its sources from now on. Blocks.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub(super) fn reload(&self) -> Result<Reloaded, String> {
        let _one_at_a_time = self.reloading.lock();
        let outcome = self.take_over();
        match &outcome {
            Ok(now) => log::info!(
                event = events::LIBRARY_RELOADED;
                "{}: {}, {} added, {} removed, {} changed",
                self.file.path().display(),
                count(now.sources as u64, "source"),
                now.added.len(),
                now.removed.len(),
                now.changed.len()
            ),
            Err(why) => log::error!(event = events::RELOAD_FAILED; "{why}; the sources stay as they were"),
        }
        outcome
    }

    /// Shows the new names in places, so that the kernel drops those that are gone. Returns after [`SHOWN`] at the latest:
    /// where a server has to be asked, that goes on.
    fn show_places(&self) {
        let places = self.tree.directories(|url| url.scheme() == LIBRARY);
        let refreshing: Vec<_> = places
            .into_iter()
            .map(|place| {
                let tree = Arc::clone(&self.tree);
                // A failure is reported when a program looks there.
                self.runtime.spawn(async move { tree.refresh_now(&place).await.ok() })
            })
            .collect();
        let all = async {
            for task in refreshing {
                let _ = task.await;
            }
        };
        let _ = self.runtime.block_on(async { tokio::time::timeout(SHOWN, all).await });
    }

    fn take_over(&self) -> Result<Reloaded, String> {
        let loaded = self.file.load().map_err(|error| error.to_string())?;
        let of_mount = fixed(self.file.flags(&mount_command()).map_err(|error| error.to_string())?);
        for directory in loaded.members.iter().filter_map(|member| member.spec.directory()) {
            check_is_outside(&self.mountpoint, &directory).map_err(|error| error.to_string())?;
        }
        self.client
            .replace_sites(loaded.sites())
            .map_err(|error| error.to_string())?;
        let Change {
            added,
            removed,
            changed,
        } = self.library.replace(&loaded);
        self.tree.refresh();
        self.show_places();
        let library = Arc::clone(&self.library);
        self.runtime.spawn(async move { library.find_out().await });
        Ok(Reloaded {
            sources: loaded.members.len(),
            added,
            removed,
            changed,
            needs_mount: of_mount != self.of_mount,
        })
    }
}
