//! Sockets: HTTP client and server, TLS, credentials, limits. Knows no signal and no configuration format.
//!
//! Structs called `…Settings` and the TLS ones are what users write (serde, schema); `…Plan` is what the program passes
//! in, with durations and sizes already parsed. Every read has a limit and a deadline.

pub mod auth;
pub mod client;
pub mod compress;
pub mod negotiate;
pub mod secret;
pub mod server;
pub mod tls;

mod stream;
mod watch;

#[cfg(test)]
mod testcerts;

pub use auth::{Access, TokenSettings, Tokens};
pub use client::{
    Answer, Call, Client, ClientError, ClientPlan, ClientSettings, Connection, FetchError,
    GrpcAnswer, GrpcConnection, Limits, Post,
};
pub use compress::Coding;
pub use secret::Secret;
pub use server::{
    Address, BindError, Body, Bound, H2Plan, ListenSettings, Request, Response, Server, ServerPlan,
};
