//! The composition root: builds everything that a mount is made of, and owns its lifetime.
//!
//! The order is that of what can go wrong: first what is checked without asking anybody, then the
//! cache, then the sources (which the cache may know), and the mount itself last, so that until it
//! answers no mount is left behind by a failure.
//!
//! A mount ends in one of two ways: somebody unmounts it, and the session ends; or a signal asks the
//! process to go. Then blocked reads get an error first, or they would keep the mount busy.

pub mod mountpoint;
mod network_folder;
mod signals;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Sender, bounded};
use fuser::{Session, SessionACL};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::cache::quota::QuotaConfig;
use crate::cache::{Cache, CacheConfig, ChunkSize};
use crate::cli::Ready;
use crate::config::MountConfig;
use crate::control::{self, About, Control};
use crate::fuse::{Connection, FetchFs, Ownership, Passthrough};
use crate::mount::mountpoint::{MountFlags, RunFile};
use crate::origin::{Client, Logins};
use crate::source::{Source, WebIndex};
use crate::util::clock;
use crate::vfs::{Naming, Top, Tree, TreeConfig};

/// Threads of the asynchronous runtime. They only move bodies from sockets to buffers.
const WORKERS: usize = 2;

/// Threads that read requests from the kernel, each with a descriptor of its own where there is no relay. None of them ever waits for an origin;
/// several are there so that small reads of present bytes are answered side by side.
const SESSION_THREADS: usize = 4;

/// How the names of these threads begin, which the `fuser` crate gives them.
const SESSION_THREAD_NAME: &str = "fuser-";

/// Threads that a mount starts, with some to spare: [`WORKERS`], [`SESSION_THREADS`] and the one that waits for them, seven that move bytes between
/// the kernel, the disk and the index, one that looks for interrupted readers, the two of a relay, and one at least for what blocks.
const THREADS: usize = 20;

/// How long tasks may take to end after everything is recorded: they have nothing to lose.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How often it is looked whether the mark of this process is still there.
const MARK_CHECK: Duration = Duration::from_secs(10);

/// How long a thread of the runtime for what blocks stays without work. Longer than [`MARK_CHECK`], so that one always stays: where the
/// system gives no more threads, what blocks waits for that one, and would wait for ever if there were none.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why a mount has ended.
enum End {
    /// The session is over: somebody unmounted it.
    Unmounted(std::io::Result<()>),
    /// A signal asks this process to go: its name, or what it told.
    Signal(&'static str),
}

/// Mounts, reports to `ready` when the mount answers, and returns when it has ended.
///
/// # Errors
/// What prevents the mount, as one sentence for the user.
pub fn run(config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    signals::ignore_the_meaningless();
    if !config.unshared_cache {
        network_folder::refuse_shared(&config.cache_dir)?;
    }
    mountpoint::check(&config.mountpoint, config.allow_other)?;
    let run_file = Arc::new(RunFile::create(&config.mountpoint)?);
    raise_open_files();
    threads::can_start(THREADS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("download")
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .enable_all()
        .build()
        .context("can't start the threads for downloads")?;
    let client = Client::new(config.http.clone())?;
    let source: Arc<dyn Source> = Arc::new(WebIndex::new(client.clone(), config.listings));

    let connection = Connection::new().context("can't start the thread that ends waits")?;
    let for_resizes = Arc::clone(&connection);
    let on_resize = Box::new(move |entry: &crate::cache::CacheEntry| for_resizes.attributes_changed(entry.tag));
    clock::restore(&config.cache_dir);
    let cache = Cache::open(cache_config(&config)?, client.clone(), runtime.handle(), on_resize)?;
    let sources = config.sources.clone();
    let naming = if config.content_disposition {
        Naming::ByServer
    } else {
        Naming::ByUrl
    };
    let top = Top::of(&client, source.as_ref(), cache.catalogue(), sources, naming);
    let top = runtime.block_on(async {
        tokio::time::timeout(config.read_timeout, top)
            .await
            .map(|top| top.map_err(anyhow::Error::from))
    });
    let top = top.unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "can't mount {}: it has not answered within --read-timeout, {}",
            config.source_name,
            humantime::format_duration(config.read_timeout)
        ))
    })?;
    let tree_config = TreeConfig {
        ttl: config.attr_ttl,
        connections: config.http.max_connections,
        retries: config.retries,
        patience: config.read_timeout,
        most_names: config.listings.max_entries.saturating_mul(2),
    };
    let tree = Tree::new(
        Arc::clone(&cache),
        client,
        source,
        tree_config,
        top,
        runtime.handle().clone(),
    );
    let passthrough = Arc::new(Passthrough::new(config.passthrough, Arc::clone(&connection)));
    let filesystem = FetchFs::new(
        Arc::clone(&tree),
        Arc::clone(&cache),
        runtime.handle().clone(),
        ownership(&config),
        config.attr_ttl,
        Arc::clone(&passthrough),
        Arc::clone(&connection),
    )
    .context("can't start the threads that answer reads")?;

    let (ends, ended) = bounded(2);
    signals::watch(&runtime, config.foreground, &tree, ends.clone())?;
    let session = start_session(&config, &run_file, filesystem, &connection, ends)?;
    if !passthrough.is_wanted()
        && let Err(error) = mountpoint::raise_read_ahead(&config.mountpoint)
    {
        log::debug!("the kernel's read-ahead stays as it is: {error}");
    }
    start_control(&config, &run_file, &tree, &cache, &runtime);
    let early_end = threads::wait_for(SESSION_THREAD_NAME, SESSION_THREADS, &ended);
    if early_end.is_none() {
        log::info!("{} is mounted on {}", config.source_name, config.mountpoint.display());
        if let Err(error) = ready.up() {
            log::warn!("the command that started this mount has ended ({error}); unmounting");
            leave(&run_file, &cache);
        }
    }

    // An error would mean that both senders are gone without a word, which ends the mount too.
    let outcome = match early_end.map_or_else(|| ended.recv(), Ok) {
        Ok(End::Unmounted(outcome)) => {
            log::info!("{} was unmounted", config.mountpoint.display());
            outcome
                .context("the session with the kernel broke")
                .inspect_err(|_| leave(&run_file, &cache))
        }
        Ok(End::Signal(name)) => {
            log::info!("{name}: unmounting {}", config.mountpoint.display());
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            leave(&run_file, &cache);
            Ok(())
        }
        Err(_) => {
            leave(&run_file, &cache);
            Ok(())
        }
    };
    cache.close();
    runtime.shutdown_timeout(LAST_WORDS);
    // The session's thread has ended, or serves a mount that was detached while files in it were
    // open: the kernel ends that one when this process goes.
    drop(session);
    drop(run_file);
    cache.leave();
    outcome
}

/// Takes the mount away, whoever uses it.
fn leave(run_file: &RunFile, cache: &Arc<Cache>) {
    cache.close();
    mountpoint::unmount_own(run_file);
}

fn start_session(
    config: &MountConfig,
    run_file: &RunFile,
    filesystem: FetchFs,
    connection: &Connection,
    ends: Sender<End>,
) -> anyhow::Result<JoinHandle<()>> {
    let flags = MountFlags {
        source: config.source_name.clone(),
        allow_other: config.allow_other,
        noexec: config.noexec,
    };
    let device = mountpoint::mount(run_file, &flags)?;
    let start = || -> anyhow::Result<JoinHandle<()>> {
        let device = connection.start(device, SESSION_THREADS)?;
        let mut session_config = fuser::Config::default();
        session_config.acl = if config.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        session_config.n_threads = Some(SESSION_THREADS);
        // A socket is read by all threads as it is.
        session_config.clone_fd = !connection.is_relayed();
        let session = Session::from_fd(filesystem, device, session_config.acl, session_config)
            .context("the kernel does not answer on the mount")?;
        connection.wait_until_settled();
        let run = move || {
            // Nobody listens any more only when the process is going anyway.
            let _ = ends.send(End::Unmounted(session.run()));
        };
        Ok(std::thread::Builder::new().name("session".into()).spawn(run)?)
    };
    start().inspect_err(|_| {
        // Nobody will ever answer in it.
        mountpoint::unmount_own(run_file);
    })
}

/// Lets the user ask for more than files. A mount without is still a mount.
fn start_control(
    config: &MountConfig,
    run_file: &Arc<RunFile>,
    tree: &Arc<Tree>,
    cache: &Arc<Cache>,
    runtime: &Runtime,
) {
    let about = About {
        source: config.source_name.clone(),
        mountpoint: config.mountpoint.clone(),
        cache_dir: config.cache_dir.clone(),
        connections: config.http.max_connections,
        is_offline: config.http.offline,
        since: Instant::now(),
    };
    let (tree, cache) = (Arc::clone(tree), Arc::clone(cache));
    let control = Control::new(about, &config.sources, tree, cache, runtime.handle().clone());
    let socket = run_file.control_socket();
    let at_mark = control::serve(&socket, Arc::clone(&control), runtime.handle());
    let by_device = run_file
        .control_address()
        .map(|address| control::serve_at(&address, Arc::clone(&control), runtime.handle()));
    if let (Err(error), None | Some(Err(_))) = (&at_mark, &by_device) {
        log::warn!(
            "can't listen at {}: {error}; `fetchfs prefetch` and the like won't work on this mount",
            socket.display()
        );
    }
    let timed_folder = config.max_age.map(|_| config.cache_dir.clone());
    keep_mark(Arc::clone(run_file), at_mark.ok(), control, timed_folder, runtime);
}

/// Makes the mark again when it was cleared away, and the socket beside it, until the mount ends. Meanwhile the time is noted in
/// `timed_folder`.
fn keep_mark(
    run_file: Arc<RunFile>,
    mut listening: Option<AbortHandle>,
    control: Arc<Control>,
    timed_folder: Option<PathBuf>,
    runtime: &Runtime,
) {
    let run_file = Arc::downgrade(&run_file);
    let handle = runtime.handle().clone();
    runtime.spawn(async move {
        loop {
            let (run_file, timed_folder) = (run_file.clone(), timed_folder.clone());
            // On a thread that may block, of which one stays for this reason ([`BLOCKING_KEEP_ALIVE`]).
            let renewed = tokio::task::spawn_blocking(move || {
                let run_file = run_file.upgrade()?;
                timed_folder.iter().for_each(|folder| clock::save(folder));
                Some(run_file.renew().then(|| run_file.control_socket()))
            });
            match renewed.await {
                Ok(Some(Some(socket))) => {
                    listening.iter().for_each(AbortHandle::abort);
                    listening = control::serve(&socket, Arc::clone(&control), &handle).ok();
                }
                Ok(Some(None)) => {}
                // The mount has ended.
                _ => return,
            }
            tokio::time::sleep(MARK_CHECK).await;
        }
    });
}

/// Every open file and every connection takes a descriptor, and the soft limit of 1,024 is there for programs that
/// use select(2), which fetchfs does not.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it fewer files can be open at once, which is not worth failing for.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn cache_config(config: &MountConfig) -> anyhow::Result<CacheConfig> {
    let chunk_size = ChunkSize::new(config.chunk_size.into()).with_context(|| {
        format!(
            "--chunk-size: {} bytes are not a power of two from 4 KiB to 64 MiB",
            config.chunk_size
        )
    })?;
    Ok(CacheConfig {
        folder: config.cache_dir.clone(),
        chunk_size,
        quota: QuotaConfig {
            size: config.cache_size,
            min_free: config.min_free,
            max_age: config.max_age,
        },
        max_connections: config.http.max_connections,
        bandwidth: config.bwlimit,
        retries: config.retries,
        read_timeout: config.read_timeout,
        logins: Logins::default(),
    })
}

fn ownership(config: &MountConfig) -> Ownership {
    Ownership {
        uid: config.uid,
        gid: config.gid,
        file_mode: config.file_mode(),
        dir_mode: config.dir_mode(),
    }
}
