//! Connections, limits and slow neighbours.
