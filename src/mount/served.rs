//! A mount that this process serves: made on top of an [`Engine`], and unmounted again.
//!
//! There are three steps, in the order of their obstacles:
//!
//! 1. [`claim`] the mountpoint, which needs no server.
//! 2. Prepare [`Tree`] and file system ([`Prepared`]), which sends requests to the sources.
//! 3. Mount ([`Prepared::mount`]). This comes last, so that a failure leaves no mount behind.
//!
//! Both the command ([`super::run`]) and a Rust program ([`crate::Mount`]) mount in this way. The command also handles
//! signals and reports to the process that started it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use fuser::{Session, SessionACL};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::mountpoint::{self, MountFlags, RunFile};
use super::reload::Reloader;
use super::settings::Settings;
use crate::cache::OpenReaders;
use crate::config::MountConfig;
use crate::control::{self, About, Control, LibraryControl, Observed, Reload};
use crate::engine::{Engine, HOUSEKEEPING};
use crate::fuse::{Connection, FetchFs, Ownership, Passthrough, Scans, Shared};
use crate::logging;
use crate::source::library::LibraryConfig;
use crate::source::{Library, SourceConfig, SourceSpec, Sources};
use crate::stats::MountStats;
use crate::util::clock;
use crate::util::events;
use crate::util::shared_duration::SharedDuration;
use crate::vfs::{Naming, StoredListings, Top, Tree, TreeConfig};
use crate::web;

/// Threads that read requests from the kernel, each with its own descriptor. None of them ever waits for an origin;
/// there are several so that small reads of cached bytes are answered in parallel.
pub(super) const SESSION_THREADS: usize = 4;

/// Names held in memory, in multiples of what one directory may have: by default 5,000,000, which take some 400 MB.
const LARGEST_DIRECTORIES: usize = 5;

/// Claims the mountpoint for this process, if it can be mounted on.
///
/// # Errors
/// The obstacle, as a sentence for the user.
pub(crate) fn claim(config: &MountConfig) -> anyhow::Result<Arc<RunFile>> {
    if let Some(fd) = config.fd {
        // It is mounted already: a look at the mountpoint would wait for the session that is to come.
        let mountpoint = match config.mountpoint.starts_with(mountpoint::DESCRIPTORS) {
            true => PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id())),
            false => config.mountpoint.clone(),
        };
        return Ok(Arc::new(RunFile::create(&mountpoint)?));
    }
    mountpoint::check(&config.mountpoint, config.allow_other)?;
    for directory in config.sources.iter().filter_map(SourceSpec::directory) {
        mountpoint::check_is_outside(&config.mountpoint, &directory)?;
    }
    Ok(Arc::new(RunFile::create(&config.mountpoint)?))
}

/// The tree and the file system of a mount that is not mounted yet.
pub(crate) struct Prepared {
    engine: Arc<Engine>,
    /// The names of the kinds of its sources.
    kinds: Vec<&'static str>,
    library: Option<Arc<Library>>,
    reload: Option<Arc<Reload>>,
    settings: Arc<Settings>,
    tree: Arc<Tree>,
    filesystem: FetchFs,
    connection: Arc<Connection>,
    passthrough: Arc<Passthrough>,
    readers: Arc<OpenReaders>,
    stats: Arc<MountStats>,
}

/// A mount that this process serves.
pub(crate) struct Served {
    run_file: Arc<RunFile>,
    connection: Arc<Connection>,
    /// The session's thread. It ends with the session; that of a detached mount goes on while files in it are open.
    _session: JoinHandle<()>,
    /// The control socket.
    control: ControlSocket,
    /// The status page, if there is one.
    _web: Option<web::Serving>,
}

/// Who serves a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServedBy {
    /// A process of its own, which ends with the mount.
    Daemon,
    /// A Rust program, which goes on.
    Program,
}

/// The control socket of a mount. Dropped, it is closed, with the requests in progress.
struct ControlSocket {
    control: Arc<Control>,
    _tasks: Vec<AbortOnDrop>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.control.end();
    }
}

/// A task that is aborted when this is dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prepared {
    /// Requests the sources' metadata, and starts the threads that answer reads.
    ///
    /// # Errors
    /// If a source can't be mounted, or the system refuses threads.
    pub(crate) fn new(config: &MountConfig, engine: &Arc<Engine>) -> anyhow::Result<Prepared> {
        let attr_ttl = SharedDuration::new(config.attr_ttl);
        let (library, sources, top) = match &config.library {
            Some(library) => {
                let (library, sources, top) = of_library(&library.sources, engine);
                (Some(library), sources, top)
            }
            None => {
                let sources = SourceConfig {
                    listings: config.listings,
                    ttl: attr_ttl.clone(),
                    metalink_locations: config.metalink_locations.clone(),
                    s3: config.s3.clone(),
                };
                let sources = Sources::new(engine.client(), &sources, config.kind.as_deref());
                let top = ask_sources(config, engine, &sources)?;
                (None, sources, top)
            }
        };
        let kinds = top.kinds();
        let connection = Connection::new().context("can't start the thread that ends waits")?;
        let kernel = Arc::clone(&connection);
        let attributes_changed = Arc::new(move |ino| kernel.attributes_changed(ino));
        let tree = Tree::new(
            Arc::clone(engine.cache()),
            engine.client().clone(),
            sources,
            tree_config(config, engine, attr_ttl.clone()),
            top,
            engine.runtime().clone(),
            attributes_changed,
        );
        let scans = Scans::new(&config.scan);
        let scan_settings = Arc::clone(scans.settings());
        let settings = Settings::new(config, engine.cache(), engine.client(), &tree, scan_settings);
        let settings = Arc::new(settings);
        let reload = config.library.as_ref().zip(library.clone()).map(|(mount, library)| {
            let (client, runtime) = (engine.client().clone(), engine.runtime().clone());
            let reloader = Reloader::new(
                mount.file.clone(),
                config.mountpoint.clone(),
                library,
                client,
                Arc::clone(&tree),
                runtime,
            );
            let settings = Arc::clone(&settings);
            let reload = move || {
                let reloaded = reloader.reload()?;
                settings.read_again().map(|()| reloaded)
            };
            Arc::new(reload) as Arc<Reload>
        });
        let passthrough = Arc::new(Passthrough::new(config.passthrough, Arc::clone(&connection)));
        let (readers, stats) = (Arc::default(), Arc::default());
        let shared = Shared {
            tree: Arc::clone(&tree),
            cache: Arc::clone(engine.cache()),
            ownership: ownership(config),
            ttl: attr_ttl,
            passthrough: Arc::clone(&passthrough),
            connection: Arc::clone(&connection),
            scans,
            readers: Arc::clone(&readers),
            stats: Arc::clone(&stats),
        };
        let filesystem =
            FetchFs::new(shared, engine.runtime().clone()).context("can't start the threads that answer reads")?;
        Ok(Prepared {
            engine: Arc::clone(engine),
            kinds,
            library,
            reload,
            settings,
            tree,
            filesystem,
            connection,
            passthrough,
            readers,
            stats,
        })
    }

    /// Reads the file of the library again, if one is mounted.
    pub(crate) fn reload(&self) -> Option<Arc<Reload>> {
        self.reload.clone()
    }

    /// The options that can change.
    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The tree of names.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Mounts, for this kind of process. `listener` becomes the status page. Calls `on_end` when the session with the kernel is over.
    ///
    /// # Errors
    /// If the kernel refuses, or does not answer.
    pub(crate) fn mount(
        self,
        config: &MountConfig,
        run_file: Arc<RunFile>,
        listener: Option<web::Listener>,
        by: ServedBy,
        on_end: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> anyhow::Result<Served> {
        let Prepared {
            engine,
            kinds,
            library,
            reload,
            settings,
            tree,
            filesystem,
            connection,
            passthrough,
            readers,
            stats,
        } = self;
        let session_engine = Arc::clone(&engine);
        let on_end = move |outcome| {
            on_end(outcome);
            // Files that are open in the mount need it until now.
            drop(session_engine);
        };
        let session = start_session(config, &run_file, filesystem, &connection, on_end)?;
        if !passthrough.is_wanted()
            && let Err(error) = mountpoint::raise_read_ahead(&config.mountpoint)
        {
            log::debug!("can't set the kernel's read-ahead: {error}");
        }
        if let Some(library) = &library {
            let library = Arc::clone(library);
            engine.runtime().spawn(async move { library.find_out().await });
        }
        let observed = Observed {
            tree,
            cache: Arc::clone(engine.cache()),
            client: engine.client().clone(),
            readers,
            stats,
        };
        let control = start_control(
            config,
            by,
            &engine,
            &run_file,
            observed,
            Controlled {
                kinds,
                library: library.zip(reload),
                settings,
                http: listener.as_ref().map(|listener| listener.address().to_owned()),
            },
        );
        let serve_web = |listener| serve_web(listener, &control.control, &run_file, engine.runtime());
        let web = listener.and_then(serve_web);
        Ok(Served {
            run_file,
            connection,
            _session: session,
            control,
            _web: web,
        })
    }
}

impl Served {
    /// What the requests to the mount use.
    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control.control
    }

    /// Unmounts, also a mount in use. Blocked reads get an error first, or they would keep the mount busy.
    pub(crate) fn unmount(&self) {
        self.connection.interrupts().end_all();
        mountpoint::unmount_own(&self.run_file);
    }
}

fn ask_sources(config: &MountConfig, engine: &Arc<Engine>, sources: &Arc<Sources>) -> anyhow::Result<Top> {
    let naming = if config.content_disposition {
        Naming::ByServer
    } else {
        Naming::ByUrl
    };
    let (client, cache) = (engine.client().clone(), Arc::clone(engine.cache()));
    let (sources, urls) = (Arc::clone(sources), config.sources.clone());
    let patience = engine.config().read_timeout;
    let asking = engine.wait(async move {
        let top = Top::of(&client, &sources, cache.catalog(), urls, naming);
        tokio::time::timeout(patience, top).await
    });
    match asking.context("the sources can't be reached: the request task has ended")? {
        Ok(top) => Ok(top?),
        Err(_) => Err(anyhow::anyhow!(
            "can't mount {}: no response within --read-timeout ({})",
            config.source_name,
            humantime::format_duration(patience)
        )),
    }
}

/// The library's tree. No source is asked.
fn of_library(config: &LibraryConfig, engine: &Engine) -> (Arc<Library>, Arc<Sources>, Top) {
    let known = Arc::new(StoredListings(Arc::clone(engine.cache())));
    let library = Library::new(config, engine.client().clone(), known, engine.config().read_timeout);
    let top = Top::of_library(Arc::clone(&library), engine.cache().catalog());
    (Arc::clone(&library), Sources::of_library(library), top)
}

fn tree_config(config: &MountConfig, engine: &Engine, ttl: SharedDuration) -> TreeConfig {
    let engine = engine.config();
    TreeConfig {
        ttl,
        retries: engine.retries,
        patience: engine.read_timeout,
        most_names: config.listings.max_entries.saturating_mul(LARGEST_DIRECTORIES),
    }
}

fn start_session(
    config: &MountConfig,
    run_file: &RunFile,
    filesystem: FetchFs,
    connection: &Connection,
    on_end: impl FnOnce(io::Result<()>) + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let flags = MountFlags {
        source: config.source_name.clone(),
        allow_other: config.allow_other,
        noexec: config.noexec,
    };
    let device = match config.fd {
        Some(fd) => mountpoint::take_over(run_file, fd)?,
        None => mountpoint::mount(run_file, &flags)?,
    };
    let start = || -> anyhow::Result<JoinHandle<()>> {
        let device = connection.start(device, SESSION_THREADS)?;
        let mut session_config = fuser::Config::default();
        // Who may use a mount that another process made, the kernel knows from there.
        session_config.acl = if config.allow_other || config.fd.is_some() {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        session_config.n_threads = Some(SESSION_THREADS);
        // All threads can read one descriptor. For more, fuser opens /dev/fuse, which a process may not be able to whose
        // descriptor was handed over.
        session_config.clone_fd = !connection.is_relayed() && config.fd.is_none();
        let session = Session::from_fd(filesystem, device, session_config.acl, session_config).with_context(|| {
            match config.fd {
                Some(fd) => format!(
                    "the kernel does not respond on file descriptor {fd}; mount(2) with it first, and hand it over once"
                ),
                None => "the kernel does not respond on the mount".to_owned(),
            }
        })?;
        connection.wait_until_settled();
        let run = move || on_end(session.run());
        Ok(std::thread::Builder::new().name("session".into()).spawn(run)?)
    };
    start().inspect_err(|_| {
        // No session will ever answer its requests.
        mountpoint::unmount_own(run_file);
    })
}

/// What the control socket shows and changes besides the tree and the cache.
struct Controlled {
    kinds: Vec<&'static str>,
    library: Option<(Arc<Library>, Arc<Reload>)>,
    settings: Arc<Settings>,
    http: Option<String>,
}

/// Starts the status page. The mount works without it.
fn serve_web(
    listener: web::Listener,
    control: &Arc<Control>,
    run_file: &Arc<RunFile>,
    runtime: &Handle,
) -> Option<web::Serving> {
    let (address, run_file) = (listener.address().to_owned(), Arc::downgrade(run_file));
    let is_mounted = Box::new(move || run_file.upgrade().is_some_and(|run_file| run_file.is_mounted()));
    match web::serve(listener, Arc::clone(control), is_mounted, runtime) {
        Ok(serving) => {
            log::info!(event = events::HTTP_LISTENING; "the status page is at {address}");
            Some(serving)
        }
        Err(error) => {
            log::warn!(event = events::HTTP_LISTEN_FAILED; "--http-listen: {error}; there is no status page");
            None
        }
    }
}

/// Starts the control socket. The mount works without it.
fn start_control(
    config: &MountConfig,
    by: ServedBy,
    engine: &Arc<Engine>,
    run_file: &Arc<RunFile>,
    observed: Observed,
    Controlled {
        kinds,
        library,
        settings,
        http,
    }: Controlled,
) -> ControlSocket {
    let about = About {
        source: config.source_name.clone(),
        kinds,
        mountpoint: config.mountpoint.clone(),
        cache_dir: engine.config().cache_dir.clone(),
        since: Instant::now(),
        log: match by {
            ServedBy::Daemon => logging::destination(config),
            ServedBy::Program => "the log of the program that mounted it".to_owned(),
        },
        http,
        outlives_mount: by == ServedBy::Program,
    };
    let runtime = engine.runtime();
    let library = library.map(|(library, reload)| LibraryControl { library, reload });
    let control = Control::new(about, &config.sources, library, settings, observed, runtime.clone());
    let socket = run_file.control_socket();
    let at_mark = control::serve(&socket, Arc::clone(&control), runtime);
    let by_device = run_file
        .control_address()
        .map(|address| control::serve_at(&address, Arc::clone(&control), runtime));
    if let (Err(error), None | Some(Err(_))) = (&at_mark, &by_device) {
        log::warn!(
            event = events::CONTROL_FAILED;
            "can't listen at {}: {error}; `fetchfs status`, `prefetch` and the like won't work on this mount",
            socket.display()
        );
    }
    let timed_folder = engine.config().max_age.map(|_| engine.config().cache_dir.clone());
    let listening = at_mark.ok().map(AbortOnDrop);
    let keeping = keep_mark(
        Arc::clone(run_file),
        listening,
        Arc::clone(&control),
        timed_folder,
        runtime,
    );
    let by_device = by_device.and_then(Result::ok);
    ControlSocket {
        control,
        _tasks: by_device.into_iter().map(AbortOnDrop).chain([keeping]).collect(),
    }
}

/// Creates the run file and the socket beside it again after they were deleted, until the mount ends. Also records the
/// time in `timed_folder`.
fn keep_mark(
    run_file: Arc<RunFile>,
    mut listening: Option<AbortOnDrop>,
    control: Arc<Control>,
    timed_folder: Option<PathBuf>,
    runtime: &Handle,
) -> AbortOnDrop {
    let run_file = Arc::downgrade(&run_file);
    let handle = runtime.clone();
    let keeping = async move {
        loop {
            let (run_file, timed_folder) = (run_file.clone(), timed_folder.clone());
            // On a blocking thread, of which one always stays for this purpose.
            let renewed = tokio::task::spawn_blocking(move || {
                let run_file = run_file.upgrade()?;
                timed_folder.iter().for_each(|folder| clock::save(folder));
                Some(run_file.renew().then(|| run_file.control_socket()))
            });
            match renewed.await {
                Ok(Some(Some(socket))) => {
                    drop(listening.take());
                    listening = control::serve(&socket, Arc::clone(&control), &handle)
                        .ok()
                        .map(AbortOnDrop);
                }
                Ok(Some(None)) => {}
                // The mount has ended.
                _ => return,
            }
            tokio::time::sleep(HOUSEKEEPING).await;
        }
    };
    AbortOnDrop(runtime.spawn(keeping).abort_handle())
}

fn ownership(config: &MountConfig) -> Ownership {
    Ownership {
        uid: config.uid,
        gid: config.gid,
        file_mode: config.file_mode(),
        dir_mode: config.dir_mode(),
    }
}
