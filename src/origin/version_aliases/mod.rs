//! Version aliases: several validators for one version, where validators differ although the bytes do not.
//!
//! Machines behind one name may each have their own ETag (made of the inode) or date (of the copy). Some servers send
//! the time of the response as the date, or an ETag of the part that they send, or a validator only now and then. By
//! such validators nearly every response would be of another version, and no reader would get past a file's first
//! bytes.
//!
//! So a response that fits in size and range but not in its validators is [doubtful](super::RangeAnswer::Doubtful). The
//! client then sends a few more requests: for the file's head and for small parts whose bytes are known. [`decision`] has
//! the rule:
//!
//! - **Bytes that differ mean another version. So does a new validator that is steady.**
//! - **Validators that change between responses, with equal bytes, mean nothing.**
//!
//! The result counts for this version of this file. A later validator that is new makes a response doubtful again. So a
//! replaced file is noticed by what remains: its date, its HEAD, or its bytes in three places.
//!
//! A response without any validator is checked by a HEAD each time, after its own head has arrived. The version was the
//! same before and after, so it was the same when the response was made.

mod aliases;
mod comparison;
mod decision;
mod label;
mod samples;

pub(crate) use aliases::VersionAliases;
pub(crate) use comparison::Comparison;
pub(crate) use label::VersionLabel;
pub(crate) use samples::{SAMPLE, Sample};
