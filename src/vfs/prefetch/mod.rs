//! Prefetching ahead of programs that walk through the tree.

pub(super) mod readdir_prefetch;
mod walk_order;
