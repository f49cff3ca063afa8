//! What really happened inside an engine, request by request: the yardstick for everything reported about it.

use crate::histogram::{Histogram, Unit};

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// The token limit of the request was reached.
    Length,
    /// The client went away.
    Abort,
    /// The engine failed on it.
    Error,
    /// The engine stopped an answer that repeated itself.
    Repetition,
}

impl FinishReason {
    /// All reasons, in the order in which vLLM prints them.
    pub const ALL: [FinishReason; 5] = [
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::Abort,
        FinishReason::Error,
        FinishReason::Repetition,
    ];
}

/// Most draft positions that are told apart.
pub const DRAFT_POSITIONS_MAX: usize = 8;

macro_rules! truth {
    (counts { $($(#[$doc:meta])* $count:ident,)* } seconds { $($(#[$sdoc:meta])* $second:ident,)* }
     histograms { $($(#[$hdoc:meta])* $hist:ident: $unit:ident,)* }) => {
        /// Totals since the start of a process (or, as a lifetime, over all of them). Token and request counts are
        /// exact; times are in seconds of simulated time.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Truth {
            $($(#[$doc])* pub $count: u64,)*
            /// Requests finished, by [`FinishReason`] in the order of [`FinishReason::ALL`].
            pub finished: [u64; 5],
            /// Accepted draft tokens by their position in the draft.
            pub accepted_per_position: [u64; DRAFT_POSITIONS_MAX],
            $($(#[$sdoc])* pub $second: f64,)*
            $($(#[$hdoc])* pub $hist: Histogram,)*
        }

        impl Default for Truth {
            fn default() -> Self {
                Truth {
                    $($count: 0,)*
                    finished: [0; 5],
                    accepted_per_position: [0; DRAFT_POSITIONS_MAX],
                    $($second: 0.0,)*
                    $($hist: Histogram::new(Unit::$unit),)*
                }
            }
        }

        impl Truth {
            /// Adds another process' or rank's totals to these.
            pub fn add(&mut self, other: &Truth) {
                $(self.$count += other.$count;)*
                for (mine, theirs) in self.finished.iter_mut().zip(other.finished) {
                    *mine += theirs;
                }
                for (mine, theirs) in self.accepted_per_position.iter_mut().zip(other.accepted_per_position) {
                    *mine += theirs;
                }
                $(self.$second += other.$second;)*
                $(self.$hist.add(&other.$hist);)*
            }
        }
    };
}

truth! {
    counts {
        /// Requests that arrived.
        arrived,
        /// Requests lost because their process ended.
        lost,
        /// Prompt tokens, cached ones included, of requests whose prefill is complete.
        prompt_tokens,
        /// The cached part of `prompt_tokens`.
        cached_tokens,
        /// Tokens generated so far, unfinished requests included.
        generation_tokens,
        /// Requests that have their first token.
        first_tokens,
        /// Prompt tokens looked up in the prefix cache, at admission.
        prefix_queries,
        /// Of these, found.
        prefix_hits,
        /// Tokens computed in prefill, those of preempted requests again.
        prefill_computed_tokens,
        /// Tokens taken from the cache in prefill, those of preempted requests again.
        prefill_cached_tokens,
        /// Requests put back into the queue for want of KV cache.
        preemptions,
        /// Prompt tokens of preempted requests, once per preemption.
        preempted_prompt_tokens,
        /// Generated tokens of preempted requests, once per preemption.
        preempted_generation_tokens,
        /// Prompt tokens of finished requests.
        finished_prompt_tokens,
        /// The cached part of `finished_prompt_tokens`.
        finished_cached_tokens,
        /// Generated tokens of finished requests.
        finished_generation_tokens,
        /// Verification steps of finished requests.
        finished_drafts,
        /// Draft tokens proposed for finished requests.
        finished_draft_tokens,
        /// Of these, accepted.
        finished_accepted_tokens,
        /// Speculative drafts made: one per request and step.
        drafts,
        /// Draft tokens proposed.
        draft_tokens,
        /// Draft tokens accepted; the token that each verification adds itself is not among them.
        accepted_tokens,
        /// Engine steps.
        steps,
        /// Engine steps without any prefill.
        decode_steps,
    }
    seconds {
        /// Time in steps with prefill.
        prefill_seconds,
        /// Time in steps without prefill.
        decode_seconds,
        /// Time without any request.
        idle_seconds,
        /// Tokens in flight added up over time, in token-seconds: prompt and generated tokens of the batch during each
        /// step, times how long the step lasted. Its growth over a span of time divided by that span is the mean.
        in_flight_token_seconds,
    }
    histograms {
        /// Arrival to first token, at the first token.
        time_to_first_token: Seconds,
        /// Time between output events; with speculation one event brings several tokens.
        inter_event: Seconds,
        /// The same interval divided by its tokens, once per token.
        inter_token: Seconds,
        /// First to last token divided by the tokens after the first; finished requests with two tokens or more.
        time_per_output_token: Seconds,
        /// Tokens per second of a request: the tokens after the first divided by the time from first to last; finished
        /// requests with two tokens or more.
        speed: Speed,
        /// Tokens per second as each token saw it: tokens of an output event divided by the time since the event before,
        /// once per token.
        token_speed: Speed,
        /// Arrival to end, at the end.
        end_to_end: Seconds,
        /// Time waiting, at the end.
        queue: Seconds,
        /// Time waiting, at admission.
        queue_at_admission: Seconds,
        /// Admission to first token, at the end.
        prefill: Seconds,
        /// Admission to first token, at the first token.
        prefill_at_first_token: Seconds,
        /// First to last token, at the end.
        decode: Seconds,
        /// Admission to last token, at the end.
        inference: Seconds,
        /// Prompt tokens, at the end.
        request_prompt_tokens: Count,
        /// Generated tokens, at the end.
        request_generation_tokens: Count,
        /// Prompt tokens that were not cached, at the end.
        request_computed_tokens: Count,
        /// The request's limit of generated tokens, at the end.
        request_max_tokens: Count,
        /// The request's number of answers (always 1), at the end.
        request_n: Count,
        /// Preemptions, at the end.
        request_preemptions: Count,
        /// Computed prompt tokens plus generated tokens, per engine step.
        step_tokens: Count,
    }
}

impl Truth {
    /// Requests that ended, for whatever reason.
    pub fn finished_total(&self) -> u64 {
        self.finished.iter().sum()
    }
}

/// The state of one data-parallel engine at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Requests being decoded.
    pub running: u64,
    /// Requests in the queue.
    pub waiting: u64,
    /// Prompt and generated tokens of the requests being decoded: what is in flight, not rounded to blocks.
    pub sequence_tokens: u64,
    /// Prompt and generated tokens of the requests in the queue.
    pub waiting_tokens: u64,
    /// KV cache tokens in use, in whole blocks.
    pub kv_used_tokens: u64,
    /// KV cache tokens there are.
    pub kv_capacity_tokens: u64,
}
