//! [`Site`]: requests to answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pipeline_component::Settings;
use pipeline_component::telemetry::{Counter, Telemetry, table};
use pipeline_net::negotiate::{self, EscapingScheme, ExpositionFormat};
use pipeline_net::{Access, Body, Coding, Request, Response, Tokens};
use pipeline_wire::exposition::{Escaping, Format, Style};

use super::State;
use super::pages::{Key, Pages};

/// What we can write.
const FORMATS: &[ExpositionFormat] = &[
    ExpositionFormat::Text004,
    ExpositionFormat::Text100,
    ExpositionFormat::OpenMetrics100,
    ExpositionFormat::Protobuf,
];

/// The statuses that are answered, each with a counter from the start.
const STATUSES: &[StatusCode] = &[
    StatusCode::OK,
    StatusCode::UNAUTHORIZED,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
];

/// What is served, and to whom.
pub(super) struct Site {
    pages: Pages,
    tokens: Option<Tokens>,
    path: String,
    codings: &'static [Coding],
    requests: Vec<(StatusCode, Counter)>,
}

impl Site {
    pub(super) fn new(
        pages: Pages,
        tokens: Option<Tokens>,
        path: String,
        compress: bool,
        settings: &Settings,
    ) -> Self {
        let counter = |telemetry: &Telemetry, status: &StatusCode| {
            (*status, telemetry.counter(&table::EXPOSITION_REQUESTS, &[("code", status.as_str())]))
        };
        let requests = STATUSES.iter().map(|status| counter(&settings.telemetry, status)).collect();
        // zstd first: a reader that takes both gets the one that costs less.
        let codings: &[Coding] = if compress { &[Coding::Zstd, Coding::Gzip] } else { &[] };
        Self { pages, tokens, path, codings, requests }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.pages.state
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    #[cfg(test)]
    pub(super) fn page_count(&self) -> usize {
        self.pages.count()
    }

    pub(super) fn tidy(&self) {
        self.pages.tidy();
    }

    /// Answers one request. Cancel safe.
    pub(super) async fn answer(&self, request: &Request) -> Response {
        let response = self.route(request).await;
        if let Some((_, counter)) =
            self.requests.iter().find(|(status, _)| *status == response.status())
        {
            counter.add(1);
        }
        response
    }

    async fn route(&self, request: &Request) -> Response {
        let is_page = request.path() == self.path;
        if !is_page && request.path() != "/" {
            return Body::text(
                StatusCode::NOT_FOUND,
                format!("nothing here, the metrics are at {}\n", self.path),
            );
        }
        // HEAD is answered like GET; the server leaves the body out.
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = Body::text(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if !is_page {
            return self.welcome();
        }
        let models = match self.access(request) {
            Access::Allowed { model_ids } => model_ids,
            refused => {
                return refused
                    .refusal()
                    .unwrap_or_else(|| Body::text(StatusCode::UNAUTHORIZED, "not allowed\n"));
            }
        };
        self.page(request, models).await
    }

    fn access(&self, request: &Request) -> Access {
        match &self.tokens {
            None => Access::Allowed { model_ids: None },
            Some(tokens) => tokens.check(request.head.headers.get(header::AUTHORIZATION)),
        }
    }

    fn welcome(&self) -> Response {
        let path = self.path.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
        let page = format!(
            "<!doctype html><html lang=\"en\"><title>Inferometer</title><h1>Inferometer</h1>\
             <p>Metrics: <a href=\"{path}\">{path}</a></p></html>\n"
        );
        Body::response(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), page)
    }

    async fn page(&self, request: &Request, models: Option<Arc<[String]>>) -> Response {
        let exposition = negotiate::exposition(request.header(&header::ACCEPT), FORMATS);
        let style = style(exposition);
        // A reader that refuses every coding, identity included, gets identity: better than nothing at all.
        let coding = negotiate::coding(request.header(&header::ACCEPT_ENCODING), self.codings);
        let coding = coding.unwrap_or(Coding::Identity);
        let Some(body) = self.pages.get(Key { style, models }, coding).await else {
            return Body::text(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n");
        };
        respond(body, exposition.content_type(), coding)
    }
}

fn respond(body: Bytes, content_type: &'static str, coding: Coding) -> Response {
    let mut response = Body::response(StatusCode::OK, HeaderValue::from_static(content_type), body);
    let headers = response.headers_mut();
    headers
        .insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, authorization"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if coding != Coding::Identity {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}

fn style(exposition: negotiate::Exposition) -> Style {
    Style {
        format: match exposition.format {
            ExpositionFormat::Text004 | ExpositionFormat::Text100 => Format::Text,
            ExpositionFormat::OpenMetrics100 | ExpositionFormat::OpenMetrics001 => {
                Format::OpenMetrics
            }
            ExpositionFormat::Protobuf => Format::Protobuf,
        },
        escaping: match exposition.escaping {
            EscapingScheme::AllowUtf8 => Escaping::AllowUtf8,
            EscapingScheme::Underscores => Escaping::Underscores,
            EscapingScheme::Dots => Escaping::Dots,
            EscapingScheme::Values => Escaping::Values,
        },
    }
}
