//! [`Lane`]: requests to one address, one after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use pipeline_component::{Delivered, ExportError};
use pipeline_net::client::UrlError;
use pipeline_net::{Call, Coding, Connection, GrpcConnection, Limits, Post};
use tokio::time::Instant;

use super::answer;
use super::config::Protocol;
use super::plan::Plan;

/// 4 MiB: the specification's limit for answers.
const ANSWER: Limits = Limits::bytes(4 << 20);

/// One address.
pub(super) struct Lane {
    plan: Arc<Plan>,
    link: Link,
    /// Body of the last answer.
    body: Vec<u8>,
}

enum Link {
    Http(Connection),
    Grpc(GrpcConnection),
}

impl Lane {
    /// Does not connect yet.
    pub(super) fn new(
        plan: &Arc<Plan>,
        url: &str,
        address: Option<SocketAddr>,
    ) -> Result<Self, UrlError> {
        let link = match plan.protocol {
            Protocol::Http => Link::Http(plan.client.connection_at(url, address)?),
            Protocol::Grpc => Link::Grpc(plan.client.grpc(url, address)?),
        };
        Ok(Self { plan: Arc::clone(plan), link, body: Vec::new() })
    }

    /// A message as it is sent: with what the protocol has before it.
    pub(super) fn frame(plan: &Plan, message: &[u8]) -> Bytes {
        match plan.protocol {
            Protocol::Http => Bytes::copy_from_slice(message),
            Protocol::Grpc => Call::frame(message, plan.coding),
        }
    }

    /// One attempt.
    pub(super) async fn send(&mut self, frame: Bytes) -> Result<Delivered, ExportError> {
        let Self { plan, link, body } = self;
        let deadline = Instant::now() + plan.timeout;
        match link {
            Link::Http(connection) => {
                let post = Post {
                    body: frame,
                    content_type: HeaderValue::from_static("application/x-protobuf"),
                    content_encoding: plan.coding,
                    headers: Vec::new(),
                };
                match connection.post(&post, body, ANSWER, deadline).await {
                    Ok(answer) => answer::of_http(&answer, body, plan.rules),
                    Err(error) => Err(answer::of_failure(&error)),
                }
            }
            Link::Grpc(connection) => {
                const PATH: &str =
                    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
                let call = Call { path: PATH, frame, coding: plan.coding };
                match connection.call(&call, body, ANSWER, deadline).await {
                    Ok(answer) => answer::of_grpc(&answer, body, plan.rules),
                    Err(error) => Err(answer::of_failure(&error)),
                }
            }
        }
    }
}

/// Says whether a request is more than the plan allows, and how.
pub(super) fn too_large(plan: &Plan, raw: usize, wire: usize) -> Option<ExportError> {
    let (found, max, what) = if raw > plan.raw_bytes_max {
        (raw, plan.raw_bytes_max, "before compression")
    } else if wire > plan.wire_bytes_max {
        let what = if plan.coding == Coding::Identity { "" } else { "after compression" };
        (wire, plan.wire_bytes_max, what)
    } else {
        return None;
    };
    let text = format!("expected a request of at most {max} bytes {what}, made one of {found}");
    Some(ExportError::TooLarge(text))
}
