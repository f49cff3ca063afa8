//! Requests as a backend sees them.
