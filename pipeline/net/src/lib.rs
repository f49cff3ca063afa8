//! Sockets: HTTP client and server, TLS, credentials, limits. Knows no signal.
