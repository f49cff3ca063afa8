//! Who may call: tokens in the `Authorization` header, with an allow-list of models and a rate limit each.
//!
//! Three shapes are accepted: `Api-Key K`, `Bearer K` and, from user interfaces that insist on a bearer token,
//! `Bearer Api-Key K`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio::time::Instant;

use crate::secret::Secret;
use crate::server::{Body, Response};

/// One token and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// The token, sent as `Authorization: Bearer <token>` or `Api-Key <token>`.
    pub token: Secret,
    /// The models the token may see: series whose label `model_id` or, where they have none, whose resource attribute
    /// `model_id` is in the list. Series with neither are not shown. Absent: everything.
    #[serde(default)]
    pub model_ids: Option<Vec<String>>,
    /// Requests per minute, which may also come all at once. Absent: no limit.
    #[serde(default)]
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Why a list of tokens cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// No token at all: nobody could call.
    #[error("expected at least one token, found none")]
    None,
    /// An empty token, or one that an `Authorization` header cannot carry.
    #[error(
        "expected visible ascii characters without spaces in token {number}, found something else"
    )]
    Unusable {
        /// Which one, counted from 1.
        number: usize,
    },
    /// The same token twice.
    #[error("expected each token once, found token {number} before")]
    Twice {
        /// The later one, counted from 1.
        number: usize,
    },
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Go on.
    Allowed {
        /// The models to show, sorted. `None`: all.
        model_ids: Option<Arc<[String]>>,
    },
    /// No `Authorization` header.
    Missing,
    /// Not one of the tokens.
    Wrong,
    /// Too many requests with this token.
    Limited {
        /// When the next one is fine.
        retry_after: Duration,
    },
}

impl Access {
    /// The answer to a caller who may not go on: 401, or 429 with `Retry-After`. `None`: allowed.
    #[must_use]
    pub fn refusal(&self) -> Option<Response> {
        let (status, text) = match self {
            Self::Allowed { .. } => return None,
            Self::Missing => {
                (StatusCode::UNAUTHORIZED, "expected an authorization header, found none\n")
            }
            Self::Wrong => (StatusCode::UNAUTHORIZED, "unknown token\n"),
            Self::Limited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too many requests with this token\n")
            }
        };
        let mut response = Body::text(status, text);
        if let Self::Limited { retry_after } = self {
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Some(response)
    }
}

/// The tokens of a server.
#[derive(Debug)]
pub struct Tokens {
    entries: Box<[Entry]>,
    /// Buckets count time from here.
    epoch: Instant,
}

#[derive(Debug)]
struct Entry {
    hash: [u8; blake3::OUT_LEN],
    model_ids: Option<Arc<[String]>>,
    bucket: Option<Bucket>,
}

impl Tokens {
    /// Takes a list of tokens.
    ///
    /// # Errors
    /// The list is empty, or a token is unusable or there twice.
    pub fn new(settings: &[TokenSettings]) -> Result<Self, TokensError> {
        if settings.is_empty() {
            return Err(TokensError::None);
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(settings.len());
        for (idx, token) in settings.iter().enumerate() {
            let (number, text) = (idx + 1, token.token.expose());
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokensError::Unusable { number });
            }
            let hash = hash(text.as_bytes());
            if entries.iter().any(|entry| entry.hash == hash) {
                return Err(TokensError::Twice { number });
            }
            let model_ids = token.model_ids.as_ref().map(|ids| {
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                ids.into()
            });
            entries.push(Entry {
                hash,
                model_ids,
                bucket: token.requests_per_minute.map(Bucket::new),
            });
        }
        Ok(Self { entries: entries.into(), epoch: Instant::now() })
    }

    /// Checks the value of an `Authorization` header, and counts the request against the token's limit.
    ///
    /// Takes the same time for every wrong token of the same length: the hash is compared with all of them.
    #[must_use]
    pub fn check(&self, authorization: Option<&HeaderValue>) -> Access {
        let Some(authorization) = authorization else { return Access::Missing };
        let Some(token) = token_of(authorization.as_bytes()) else { return Access::Wrong };
        let hash = hash(token);
        let mut found = u64::MAX;
        for (idx, entry) in (0..).zip(&self.entries) {
            found.conditional_assign(&idx, entry.hash.ct_eq(&hash));
        }
        let Some(entry) = usize::try_from(found).ok().and_then(|idx| self.entries.get(idx)) else {
            return Access::Wrong;
        };
        match entry.bucket.as_ref().map_or(Ok(()), |bucket| bucket.take(self.epoch.elapsed())) {
            Ok(()) => Access::Allowed { model_ids: entry.model_ids.clone() },
            Err(retry_after) => Access::Limited { retry_after },
        }
    }
}

fn hash(token: &[u8]) -> [u8; blake3::OUT_LEN] {
    *blake3::hash(token).as_bytes()
}

/// Takes the token out of one of the three shapes.
fn token_of(value: &[u8]) -> Option<&[u8]> {
    match strip_scheme(value, b"Bearer") {
        Some(rest) => Some(strip_scheme(rest, b"Api-Key").unwrap_or(rest)),
        None => strip_scheme(value, b"Api-Key"),
    }
}

/// Strips a scheme, whose case does not matter (RFC 9110), and the spaces after it.
fn strip_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    let fits = name.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ');
    fits.then(|| rest.trim_ascii())
}

/// A token bucket as one number: the time at which it will be full again (GCRA).
#[derive(Debug)]
struct Bucket {
    /// Nanoseconds per request.
    interval: u64,
    /// How far `full_at` may lie ahead: a minute, that is all requests of it at once.
    ahead_max: u64,
    /// Nanoseconds since the epoch of the tokens.
    full_at: AtomicU64,
}

impl Bucket {
    fn new(per_minute: NonZeroU32) -> Self {
        let interval = 60_000_000_000 / u64::from(per_minute.get());
        Self {
            interval,
            ahead_max: interval * u64::from(per_minute.get()),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes one request out, or says how long to wait for it.
    fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |full_at: u64| full_at.max(now).saturating_add(self.interval);
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                Some(next(full_at)).filter(|next| *next <= now.saturating_add(self.ahead_max))
            })
            .map(drop)
            .map_err(|full_at| {
                Duration::from_nanos(
                    next(full_at).saturating_sub(now.saturating_add(self.ahead_max)),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, models: Option<&[&str]>, per_minute: u32) -> TokenSettings {
        TokenSettings {
            token: text.into(),
            model_ids: models.map(|ids| ids.iter().map(ToString::to_string).collect()),
            requests_per_minute: NonZeroU32::new(per_minute),
        }
    }

    fn ask(tokens: &Tokens, header: &str) -> Access {
        tokens.check(Some(&HeaderValue::from_str(header).unwrap()))
    }

    #[tokio::test]
    async fn three_shapes_and_nothing_else() {
        let tokens = Tokens::new(&[
            token("abcd.1234", None, 0),
            token("team", Some(&["m2", "m1", "m1"]), 0),
        ])
        .unwrap();
        let all = Access::Allowed { model_ids: None };
        for header in [
            "Api-Key abcd.1234",
            "Bearer abcd.1234",
            "Bearer Api-Key abcd.1234",
            "bearer  API-KEY  abcd.1234 ",
        ] {
            assert_eq!(ask(&tokens, header), all, "{header}");
        }
        let ids: Arc<[String]> = ["m1".to_owned(), "m2".to_owned()].into();
        assert_eq!(ask(&tokens, "Bearer team"), Access::Allowed { model_ids: Some(ids) });
        for header in [
            "abcd.1234",
            "Basic abcd.1234",
            "Bearer abcd.123",
            "Bearer abcd.12345",
            "Bearer",
            "",
            "Bearerabcd.1234",
            "Bearer Bearer team",
        ] {
            assert_eq!(ask(&tokens, header), Access::Wrong, "{header}");
        }
        assert_eq!(tokens.check(None), Access::Missing);
        assert_eq!(tokens.check(None).refusal().unwrap().status(), 401);
    }

    #[tokio::test(start_paused = true)]
    async fn six_requests_per_minute() {
        let tokens = Tokens::new(&[token("k", None, 6), token("free", None, 0)]).unwrap();
        for _ in 0..6 {
            assert!(ask(&tokens, "Bearer k").refusal().is_none());
        }
        let limited = ask(&tokens, "Bearer k");
        assert_eq!(limited, Access::Limited { retry_after: Duration::from_secs(10) });
        let answer = limited.refusal().unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()),
            (429, "10")
        );
        assert!(ask(&tokens, "Bearer free").refusal().is_none(), "a limit is a token's own");
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(
            ask(&tokens, "Bearer k"),
            Access::Limited { retry_after: Duration::from_millis(1) }
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(ask(&tokens, "Bearer k").refusal().is_none());
        assert!(ask(&tokens, "Bearer k").refusal().is_some());
        tokio::time::advance(Duration::from_secs(3600)).await;
        let allowed = (0..20).filter(|_| ask(&tokens, "Bearer k").refusal().is_none()).count();
        assert_eq!(allowed, 6, "an hour of silence saves up no more than a minute");
    }

    #[tokio::test]
    async fn unusable_lists_are_refused() {
        let error = |list: &[TokenSettings]| Tokens::new(list).unwrap_err();
        assert_eq!(error(&[]), TokensError::None);
        assert_eq!(
            error(&[token("a", None, 0), token("", None, 0)]),
            TokensError::Unusable { number: 2 }
        );
        assert_eq!(error(&[token("a b", None, 0)]), TokensError::Unusable { number: 1 });
        assert_eq!(
            error(&[token("a", None, 0), token("a", None, 3)]),
            TokensError::Twice { number: 2 }
        );
    }
}
