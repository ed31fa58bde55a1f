//! Memory that was freed goes back to the system.

/// Gives the memory that the allocator keeps for later back to the system. It takes some 0.1 ms for each MiB, so it is for
/// after work that needed much more memory than usual.
///
/// glibc keeps freed blocks where a block in use lies behind them: after a listing of a million names has been received
/// and dropped, that is most of what it took.
pub(crate) fn return_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time, by any thread. It gives back whole free pages and changes nothing in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
