//! The kernel's requests, one method each.
//!
//! **No request waits on a thread of the session.** Replies from memory are sent at once. A request that needs an
//! origin moves to a task together with its reply. So `ls`, `stat` and `df` work however many reads are blocked.
//!
//! What the kernel requires (found by measurement; docs/architecture.md has the figures):
//! - Every open sets `FOPEN_KEEP_CACHE`. Without it, an open of a file with a blocked reader blocks unkillably and
//!   drops the file's pages. Stale pages can't occur, because each version of a file has an inode number of its own.
//! - `max_background` is raised. At the default of 16, blocked read-ahead of one file delays all files.
//! - `flush` is implemented. It is the only request that follows the death of a reader.
//! - A killed or interrupted process is released by [`super::interrupts`], because the kernel can't do it.
//! - A panic is caught and fails only its own request: the dropped reply answers EIO.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen,
    ReplyStatfs, ReplyXattr, Request,
};
use tokio::runtime::Handle;

use super::attributes::file_type;
use super::errno;
use super::handles::Handles;
use super::interrupts::Requester;
use super::open_directory::OpenDirectory;
use super::open_file::{OpenFile, OpenSequential};
use super::relay;
use super::replies::Reads;
use super::shared::Shared;
use super::xattrs;
use crate::cache::{ReadAt, ReadError};
use crate::source::{NAME_MAX, Quota};
use crate::stats::Operation;
use crate::util::panic_guard::contained;
use crate::vfs::{DirectoryNames, Node, TreeError};

/// Most requests that the kernel may have in flight in the background: read-ahead of page-cached files. With 64 or
/// more, 40 stalled readers of one file no longer delay those of another.
const MAX_BACKGROUND: u16 = 4096;

/// How many file systems may be stacked up to this one, including its data files' file system. The kernel's limit is
/// two, which also counts what is mounted over this one. With two, an overlay with this mount as its lower layer is
/// refused. Otherwise it would keep asking for the version of a file that it saw first, and get ESTALE for ever once
/// the server has another.
const STACK_DEPTH: u32 = 2;

/// The depth for a [`STATIC`] tree: an overlay over it is allowed.
const STACK_DEPTH_OF_STATIC: u32 = 1;

/// A tree whose `ttl` is at least this long counts as unchanging.
const STATIC: Duration = Duration::from_secs(24 * 3600);

/// The block size of `statfs`: small, so that small trees do not show as empty.
const DF_BLOCK: u32 = 4096;

/// First handle number of files that can only be read in sequence, so that both kinds of handles have distinct
/// numbers.
const FIRST_SEQUENTIAL: u64 = 1 << 63;

/// The file system that [`fuser`] calls.
pub(crate) struct FetchFs {
    shared: Arc<Shared>,
    runtime: Handle,
    files: Arc<Handles<OpenFile>>,
    sequentials: Arc<Handles<OpenSequential>>,
    directories: Arc<Handles<OpenDirectory>>,
    reads: Arc<Reads>,
}

impl FetchFs {
    /// A file system over a tree and a cache.
    ///
    /// # Errors
    /// If no threads can be started.
    pub(crate) fn new(shared: Shared, runtime: Handle) -> std::io::Result<FetchFs> {
        let reads = Reads::start(Arc::clone(&shared.connection), Arc::clone(&shared.stats))?;
        Ok(FetchFs {
            shared: Arc::new(shared),
            reads,
            runtime,
            files: Arc::new(Handles::new()),
            sequentials: Arc::new(Handles::starting_at(FIRST_SEQUENTIAL)),
            directories: Arc::new(Handles::new()),
        })
    }

    fn node(&self, ino: INodeNo) -> Result<Arc<Node>, Errno> {
        self.shared.tree.node(ino.0).ok_or(Errno::ESTALE)
    }

    /// The node to open. On ESTALE the kernel looks the path up again.
    fn current_node(&self, ino: INodeNo) -> Result<Arc<Node>, Errno> {
        self.node(ino).and_then(|node| match node.is_replaced() {
            true => Err(Errno::ESTALE),
            false => Ok(node),
        })
    }

    fn read_file(
        &self,
        requester: Requester,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        reply: ReplyData,
    ) {
        let Some(file) = self.files.get(handle) else {
            return self.read_on(requester, handle, offset, size, reply);
        };
        let Shared { scans, stats, .. } = &*self.shared;
        let identify = || scans.read_by(requester.thread, ino.0, &stats.processes);
        let read = ReadAt::new(file.read_by(requester.thread, identify), offset, size as usize);
        self.reads.read(requester, read, reply);
    }

    /// Lets `answer` read an open directory. Its names are renewed first if the directory is read from the beginning
    /// again.
    fn read_directory(
        &self,
        requester: Requester,
        handle: FileHandle,
        offset: u64,
        answer: impl FnOnce(&Shared, Result<&OpenDirectory, Errno>) + Send + 'static,
    ) {
        let Some(open) = self.directories.get(handle) else {
            return answer(&self.shared, Err(Errno::EBADF));
        };
        let (shared, node) = (Arc::clone(&self.shared), Arc::clone(&open.node));
        if !open.rewinds(offset) {
            let Some((names, position)) = open.awaits(offset) else {
                return answer(&self.shared, Ok(&open));
            };
            self.runtime.spawn(async move {
                let ready = async {
                    names.ready(position).await;
                    Ok(())
                };
                let ready = shared.unless_ended(requester, ready).await;
                answer(
                    &shared,
                    ready
                        .map(|()| &*open)
                        .map_err(|error| shared.complain(Operation::List, &error)),
                );
            });
            return;
        }
        let finish = move |shared: &Shared, listed: Result<DirectoryNames, TreeError>| match listed {
            Ok(names) => {
                open.renew(names);
                answer(shared, Ok(&open));
            }
            Err(error) => answer(shared, Err(shared.complain(Operation::List, &error))),
        };
        if let Some(listed) = node.list_now() {
            return finish(&shared, listed.map(DirectoryNames::Known));
        }
        self.runtime.spawn(async move {
            let listed = shared.unless_ended(requester, shared.tree.open_directory(&node)).await;
            finish(&shared, listed);
        });
    }

    /// Reads from a file that can only be read in sequence.
    fn read_on(&self, requester: Requester, handle: FileHandle, offset: u64, size: u32, reply: ReplyData) {
        let Some(file) = self.sequentials.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        if file.refuses(requester.thread, offset.saturating_add(size.into()), &self.shared) {
            return reply.error(errno::of_read(&ReadError::ScanLimit));
        }
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let reading = async { Ok(file.file.read(offset, size as usize).await?) };
            let read = shared.unless_ended(requester, reading).await;
            if let Ok(Some(bytes)) = &read {
                file.note_read(bytes.len() as u64);
            }
            match read {
                Ok(Some(bytes)) => shared.connection.answer_read(requester, reply, &bytes),
                Ok(None) => reply.error(Errno::ESPIPE),
                Err(error) => reply.error(shared.complain(Operation::Read, &error)),
            }
        });
    }
}

impl Filesystem for FetchFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            // An NFS server would keep handles of outdated versions, so exportfs(8) is refused.
            | InitFlags::FUSE_NO_EXPORT_SUPPORT;
        let wanted = if self.shared.connection.is_relayed() {
            // The value is small enough to be accepted always.
            let _ = config.set_max_write(relay::MAX_WRITE);
            // The kernel sends no interrupts for O_DIRECT reads that it sent as asynchronous ones.
            wanted & !InitFlags::FUSE_ASYNC_DIO
        } else {
            wanted
        };
        // An older kernel lacks some of them; each is only an optimization.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_background(MAX_BACKGROUND);
        let depth = if self.shared.ttl.get() < STATIC {
            STACK_DEPTH
        } else {
            STACK_DEPTH_OF_STATIC
        };
        let can_pass_through =
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(depth).is_ok();
        if self.shared.passthrough.is_wanted() && !can_pass_through {
            self.shared.passthrough.turn_off("this kernel does not support it");
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        contained("lookup", || {
            if name.len() > NAME_MAX {
                return reply.error(Errno::ENAMETOOLONG);
            }
            let parent = match self.node(parent) {
                Ok(parent) => parent,
                Err(errno) => return reply.error(errno),
            };
            if let Some(found) = self.shared.tree.lookup_now(&parent, name) {
                return self.shared.reply_entry(reply, &parent, found);
            }
            let (shared, name, requester) = (Arc::clone(&self.shared), name.to_owned(), Requester::of(request));
            self.runtime.spawn(async move {
                let found = shared.unless_ended(requester, shared.tree.lookup(&parent, &name)).await;
                if let Ok(node) = &found {
                    shared.refresh_dates(node);
                }
                shared.reply_entry(reply, &parent, found);
            });
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, references: u64) {
        contained("forget", || self.shared.tree.forget(ino.0, references));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        contained("getattr", || {
            let node = match self.node(ino) {
                Ok(node) if node.is_outdated() && handle.is_none() => return reply.error(Errno::ESTALE),
                Ok(node) => node,
                Err(errno) => return reply.error(errno),
            };
            if node.is_ready() {
                return self.shared.reply_attr(reply, &node);
            }
            let (shared, requester) = (Arc::clone(&self.shared), Requester::of(request));
            self.runtime.spawn(async move {
                match shared.unless_ended(requester, shared.tree.resolve(&node)).await {
                    Ok(()) => {
                        shared.refresh_dates(&node);
                        shared.reply_attr(reply, &node);
                    }
                    Err(error) => reply.error(shared.complain(Operation::Lookup, &error)),
                }
            });
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        contained("open", || {
            let node = match self.current_node(ino) {
                Ok(node) => node,
                Err(errno) => return reply.error(errno),
            };
            // What a scanner opens next is not fetched ahead.
            let is_walk = !self.shared.scans.is_scanner(request.pid());
            let ahead = is_walk.then(|| self.shared.tree.note_file_opened(&node)).flatten();
            if let Some(opened) = self.shared.tree.open_now(&node) {
                return self.shared.reply_open(reply, ino, &self.files, opened);
            }
            let (shared, files, requester) = (
                Arc::clone(&self.shared),
                Arc::clone(&self.files),
                Requester::of(request),
            );
            let sequentials = Arc::clone(&self.sequentials);
            self.runtime.spawn(async move {
                let opened = shared.unless_ended(requester, shared.tree.open(&node)).await;
                // From here on the open file keeps the prefetched entry.
                drop(ahead);
                match opened {
                    Err(TreeError::SizeUnknown(url)) => {
                        let opening = async {
                            let file = shared.cache.sequential(&url).await?;
                            Ok(OpenSequential::new(file, ino.0, url))
                        };
                        let opened = shared.unless_ended(requester, opening).await;
                        shared.reply_sequential(reply, &sequentials, opened);
                    }
                    opened => shared.reply_open(reply, ino, &files, opened),
                }
            });
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        contained("read", || {
            self.read_file(Requester::of(request), ino, handle, offset, size, reply)
        });
    }

    fn flush(&self, request: &Request, ino: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        contained("flush", || {
            if let Some(file) = self.files.get(handle) {
                file.closed_by(request.pid());
                // Before the reply: a program that reads a file to its end and then asks for the date gets the date
                // that came with the bytes.
                if let Ok(node) = self.node(ino) {
                    self.shared.refresh_dates(&node);
                }
            }
            reply.ok();
        });
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        contained("release", || {
            match self.files.remove(handle) {
                Some(file) => {
                    drop(file);
                    self.shared.passthrough.released(ino.0);
                }
                // Handles of sequential files are not counted.
                None => drop(self.sequentials.remove(handle)),
            }
            reply.ok();
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        contained("opendir", || {
            let node = match self.current_node(ino) {
                Ok(node) => node,
                Err(errno) => return reply.error(errno),
            };
            self.shared.tree.note_directory_opened(&node);
            let directories = Arc::clone(&self.directories);
            let answer = move |shared: &Shared, reply: ReplyOpen, node, listed: Result<DirectoryNames, TreeError>| {
                match listed {
                    Ok(names) => {
                        let open = OpenDirectory::new(node, names);
                        reply.opened(directories.insert(open), FopenFlags::empty());
                    }
                    Err(error) => reply.error(shared.complain(Operation::List, &error)),
                }
            };
            if let Some(listed) = node.list_now() {
                return answer(&self.shared, reply, node, listed.map(DirectoryNames::Known));
            }
            let (shared, requester) = (Arc::clone(&self.shared), Requester::of(request));
            self.runtime.spawn(async move {
                let listed = shared.unless_ended(requester, shared.tree.open_directory(&node)).await;
                answer(&shared, reply, node, listed);
            });
        });
    }

    fn readdir(&self, request: &Request, _ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        contained("readdir", || {
            self.read_directory(Requester::of(request), handle, offset, move |shared, open| match open {
                Ok(open) => {
                    let read = open.read_from(&shared.tree, offset, |place, next| {
                        let (ino, is_directory) = place.number();
                        reply.add(INodeNo(ino), next, file_type(is_directory), place.name())
                    });
                    match read {
                        Ok(()) => reply.ok(),
                        Err(error) => reply.error(shared.complain(Operation::List, &error)),
                    }
                }
                Err(errno) => reply.error(errno),
            });
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        contained("readdirplus", || {
            self.read_directory(Requester::of(request), handle, offset, move |shared, open| match open {
                Ok(open) => {
                    let read = open.read_from(&shared.tree, offset, |place, next| {
                        let node = place.node(&shared.tree);
                        let attributes = node.attributes();
                        let (ino, ttl) = (INodeNo(attributes.ino), shared.ttl_of(&attributes));
                        let attr = shared.ownership.attr(&attributes);
                        let is_full = reply.add(ino, next, place.name(), &ttl, &attr, Generation(0));
                        // The kernel counts no references for `.` and `..`.
                        if !is_full && !place.is_dot() {
                            shared.tree.refer(&node);
                        }
                        is_full
                    });
                    match read {
                        Ok(()) => reply.ok(),
                        Err(error) => reply.error(shared.complain(Operation::List, &error)),
                    }
                }
                Err(errno) => reply.error(errno),
            });
        });
    }

    fn releasedir(&self, _request: &Request, _ino: INodeNo, handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        contained("releasedir", || {
            drop(self.directories.remove(handle));
            reply.ok();
        });
    }

    /// `df`: what the source says of its room. If it says nothing, the size is the sum of the remote files in the listings
    /// so far, and "used" is the part that is cached. Nothing is available, because nothing can be written.
    ///
    /// There is no number of inodes that could be used up, so `df -i` shows none, as with other file systems that make them
    /// when they are needed.
    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        contained("statfs", || {
            let shared = Arc::clone(&self.shared);
            // The cached size needs an SQLite query, which may block for a moment.
            self.runtime.spawn_blocking(move || {
                let (_, bytes) = shared.tree.known();
                let block = u64::from(DF_BLOCK);
                let (total, free) = match shared.tree.quota() {
                    Some(Quota { available, used }) => (available.saturating_add(used) / block, available / block),
                    None => {
                        let total = bytes.div_ceil(block);
                        let used = shared.cache.cached_bytes().div_ceil(block).min(total);
                        (total, total - used)
                    }
                };
                reply.statfs(total, free, 0, 0, 0, DF_BLOCK, NAME_MAX as u32, DF_BLOCK);
            });
        });
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        contained("getxattr", || match self.node(ino) {
            Ok(node) => xattrs::reply_value(&self.shared, &self.runtime, node, name, size, reply),
            Err(errno) => reply.error(errno),
        });
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        contained("listxattr", || match self.node(ino) {
            Ok(node) => xattrs::reply_names(&self.shared, &node, size, reply),
            Err(errno) => reply.error(errno),
        });
    }

    /// No ioctl is supported. Python's `open` asks whether the file is a terminal, and this errno means that it is
    /// not.
    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}
