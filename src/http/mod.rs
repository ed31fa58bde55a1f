//! HTTP, as fetchfs needs it: listings, metadata and ranges of bytes.

mod error;
mod origin;

pub use error::{HttpError, HttpErrorKind};
pub use origin::Origin;
