//! Commands that show what mounts do.

pub(super) mod bugreport;
pub(super) mod doctor;
pub(super) mod explain;
pub(super) mod map;
pub(super) mod status;
pub(super) mod top;
