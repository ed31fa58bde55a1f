//! Index pages, names, dates and directories.
