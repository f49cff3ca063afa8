//! One data-parallel engine: continuous batching over a queue, a batch and a KV cache, one step after the other.
//!
//! A step admits what fits, computes the prompts of the newcomers and one decode step of everybody, and lasts as long
//! as that work takes. The sequence of steps does not depend on how `advance_to` is cut into pieces. Prefixes that
//! requests share are counted once per request here, unlike in a real cache.

use std::collections::VecDeque;

use crate::load::Load;
use crate::random::Random;
use crate::request::Request;
use crate::spec::{EngineSpec, Release, Speculation};
use crate::truth::{DRAFT_POSITIONS_MAX, Now, Truth};

/// Prompt tokens computed in one step at most.
const STEP_TOKENS_MAX: u64 = 8192;
/// SGLang refreshes its gauges at prefill batches and at every 40th decode step.
const DECODE_STEPS_PER_REPORT: u64 = 40;
/// vLLM V0 computes its throughput gauges every five seconds.
const THROUGHPUT_WINDOW: f64 = 5.0;

/// What the engine said about itself when it last looked: gauges that are not refreshed at every step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) now: Now,
    pub(crate) cached_idle_tokens: u64,
    pub(crate) generation_throughput: f64,
    pub(crate) batch_hit_rate: f64,
    pub(crate) accept_length: f64,
    pub(crate) accept_rate: f64,
    pub(crate) computed_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) decode_tokens: u64,
    pub(crate) prefix_computed: u64,
    pub(crate) prefix_hits: u64,
    at: f64,
    generation_tokens: u64,
    drafts: u64,
    draft_tokens: u64,
    accepted_tokens: u64,
}

/// Gauges and broken counters that only vLLM V0 has.
#[derive(Clone, Debug, Default)]
pub(crate) struct V0 {
    pub(crate) prompt_throughput: f64,
    pub(crate) generation_throughput: f64,
    /// The speculative counters of V0 grow by their own running totals every five seconds.
    pub(crate) draft_tokens: u64,
    pub(crate) accepted_tokens: u64,
    pub(crate) emitted_tokens: u64,
    at: f64,
    prompt_tokens: u64,
    generation_tokens: u64,
}

pub(crate) struct Scheduler {
    load: Load,
    share: f64,
    release: Release,
    max_num_seqs: usize,
    blocks: u64,
    block_tokens: u64,
    speculation: Option<Speculation>,
    random: Random,
    clock: f64,
    next_arrival: f64,
    waiting: VecDeque<Request>,
    running: Vec<Request>,
    /// Requests without and with streaming apart; what belongs to no request is with the first.
    truth: [Truth; 2],
    report: Report,
    v0: V0,
    cached_idle_tokens: u64,
    last_batch: (u64, u64),
}

impl Scheduler {
    pub(crate) fn new(spec: &EngineSpec, seed: u64, clock: f64) -> Self {
        let mut random = Random::new(seed);
        let share = 1.0 / f64::from(spec.data_parallel.max(1));
        let mut scheduler = Scheduler {
            load: spec.load.clone(),
            share,
            release: spec.release,
            max_num_seqs: spec.max_num_seqs.max(1) as usize,
            blocks: spec.kv_blocks(),
            block_tokens: spec.release.block_tokens(),
            speculation: spec.speculation.filter(|speculation| speculation.draft_tokens > 0),
            clock,
            next_arrival: spec.load.next_arrival(clock, share, &mut random),
            random,
            waiting: VecDeque::new(),
            running: Vec::new(),
            truth: Default::default(),
            report: Report { at: clock, ..Report::default() },
            v0: V0 { at: clock, ..V0::default() },
            cached_idle_tokens: 0,
            last_batch: (0, 0),
        };
        scheduler.refresh_report();
        scheduler
    }

    /// Runs until `target` seconds after the fleet's start; the last step may end a little later.
    pub(crate) fn advance_to(&mut self, target: f64) {
        while self.clock < target {
            self.take_arrivals();
            if self.running.is_empty() && self.waiting.is_empty() {
                let until = self.next_arrival.min(target);
                self.truth[0].idle_seconds += until - self.clock;
                self.clock = until;
            } else {
                self.step();
            }
        }
        self.take_arrivals();
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            running: self.running.len() as u64,
            waiting: self.waiting.len() as u64,
            sequence_tokens: self.running.iter().map(Request::tokens).sum(),
            waiting_tokens: self.waiting.iter().map(Request::tokens).sum(),
            kv_used_tokens: self.used_blocks(0) * self.block_tokens,
            kv_capacity_tokens: self.blocks * self.block_tokens,
        }
    }

    /// Totals of requests without streaming (0) and with it (1).
    pub(crate) fn truth_by_streaming(&self) -> &[Truth; 2] {
        &self.truth
    }

    pub(crate) fn truth(&self) -> Truth {
        let mut all = self.truth[0].clone();
        all.add(&self.truth[1]);
        all
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    pub(crate) fn v0(&self) -> &V0 {
        &self.v0
    }

    fn take_arrivals(&mut self) {
        while self.next_arrival <= self.clock {
            // A quarter each for prompt and output: any request fits into an empty cache.
            let tokens_max = (self.blocks * self.block_tokens / 4).min(6000);
            let request =
                Request::draw(self.next_arrival, tokens_max, self.release, &mut self.random);
            self.truth[usize::from(request.streaming)].arrived += 1;
            self.waiting.push_back(request);
            self.next_arrival =
                self.load.next_arrival(self.next_arrival, self.share, &mut self.random);
        }
    }

    fn step(&mut self) {
        let crowded = self.make_room();
        let computed = if crowded { 0 } else { self.admit() };
        let held: u64 = self.running.iter().map(Request::tokens).sum();
        // A mid-sized model on one device: 7 ms of overhead, 25 us a prompt token, 100 us a sequence, 20 ns a token read.
        let lasts =
            0.007 + 25e-6 * computed as f64 + 1e-4 * self.running.len() as f64 + 2e-8 * held as f64;
        self.clock += lasts;
        let generated = self.emit();
        let truth = &mut self.truth[0];
        truth.steps += 1;
        truth.in_flight_token_seconds += held as f64 * lasts;
        truth.step_tokens.observe((computed + generated) as f64);
        if computed > 0 {
            truth.prefill_seconds += lasts;
        } else {
            truth.decode_steps += 1;
            truth.decode_seconds += lasts;
        }
        let due = computed > 0 || truth.decode_steps.is_multiple_of(DECODE_STEPS_PER_REPORT);
        self.finish();
        if due || self.running.is_empty() {
            self.refresh_report();
        }
        if self.clock - self.v0.at >= THROUGHPUT_WINDOW {
            self.refresh_v0();
        }
    }

    /// Tokens by which a sequence can grow in one step.
    fn growth(&self) -> u64 {
        1 + self.speculation.map_or(0, |speculation| u64::from(speculation.draft_tokens))
    }

    fn used_blocks(&self, growth: u64) -> u64 {
        self.running
            .iter()
            .map(|request| (request.tokens() + growth).div_ceil(self.block_tokens))
            .sum()
    }

    /// Puts the latest requests back until the rest can grow. True if any had to go.
    fn make_room(&mut self) -> bool {
        let growth = self.growth();
        let mut crowded = false;
        while self.running.len() > 1 && self.used_blocks(growth) > self.blocks {
            let Some(mut request) = self.running.pop() else { break };
            request.preemptions += 1;
            let truth = &mut self.truth[usize::from(request.streaming)];
            truth.preemptions += 1;
            truth.preempted_prompt_tokens += request.prompt;
            truth.preempted_generation_tokens += request.generated;
            self.waiting.push_front(request);
            crowded = true;
        }
        crowded
    }

    /// Moves requests from the queue into the batch. Returns the prompt tokens to compute for them.
    fn admit(&mut self) -> u64 {
        let growth = self.growth();
        let mut used = self.used_blocks(growth);
        let (mut computed, mut hits) = (0, 0);
        while self.running.len() < self.max_num_seqs {
            let Some(next) = self.waiting.front() else { break };
            let needs = (next.tokens() + growth).div_ceil(self.block_tokens);
            let work = next.tokens() - next.cached;
            let fits = used + needs <= self.blocks && computed + work <= STEP_TOKENS_MAX;
            // A prompt above the budget of a step goes alone.
            let alone = self.running.is_empty();
            if !fits && !alone {
                break;
            }
            let Some(mut request) = self.waiting.pop_front() else { break };
            let truth = &mut self.truth[usize::from(request.streaming)];
            if request.admitted.is_none() {
                request.admitted = Some(self.clock);
                truth.queue_at_admission.observe(self.clock - request.arrived);
                truth.prefix_queries += request.prompt;
                truth.prefix_hits += request.cached;
            }
            truth.prefill_computed_tokens += work;
            truth.prefill_cached_tokens += request.cached;
            used += needs;
            computed += work;
            hits += request.cached;
            request.prefilling = true;
            self.running.push(request);
        }
        if computed > 0 {
            self.last_batch = (computed, hits);
        }
        computed
    }

    /// Gives every request of the batch the tokens of this step. Returns how many there were.
    fn emit(&mut self) -> u64 {
        let mut emitted = 0;
        for request in &mut self.running {
            let truth = &mut self.truth[usize::from(request.streaming)];
            let mut tokens = 1;
            if request.prefilling {
                request.prefilling = false;
                if request.generated == 0 {
                    truth.first_tokens += 1;
                    truth.prompt_tokens += request.prompt;
                    truth.cached_tokens += request.cached;
                    truth.time_to_first_token.observe(self.clock - request.arrived);
                    let admitted = request.admitted.unwrap_or(request.arrived);
                    truth.prefill_at_first_token.observe(self.clock - admitted);
                    request.first_token = self.clock;
                }
            } else if let Some(speculation) = self.speculation {
                let left = (request.output - request.generated).saturating_sub(1);
                let proposed = proposed(speculation);
                let accepted = verify(speculation, left, truth, &mut self.random);
                tokens += accepted;
                request.drafts += 1;
                request.draft_tokens += proposed;
                request.accepted_tokens += accepted;
            }
            if request.generated > 0 {
                let interval = self.clock - request.last_token;
                truth.inter_event.observe(interval);
                truth.inter_token.observe_times(interval / tokens as f64, tokens);
                truth.token_speed.observe_times(tokens as f64 / interval, tokens);
            }
            request.generated += tokens;
            request.last_token = self.clock;
            truth.generation_tokens += tokens;
            emitted += tokens;
        }
        emitted
    }

    fn finish(&mut self) {
        let truth = &mut self.truth;
        let cached_idle_tokens = &mut self.cached_idle_tokens;
        self.running.retain(|request| {
            if request.generated < request.output {
                return true;
            }
            record_end(&mut truth[usize::from(request.streaming)], request);
            *cached_idle_tokens += request.tokens();
            false
        });
    }

    fn refresh_report(&mut self) {
        let now = self.now();
        self.cached_idle_tokens =
            self.cached_idle_tokens.min(now.kv_capacity_tokens.saturating_sub(now.kv_used_tokens));
        let total = |read: fn(&Truth) -> u64| read(&self.truth[0]) + read(&self.truth[1]);
        let last = &self.report;
        let generation_tokens = total(|truth| truth.generation_tokens);
        let drafts = total(|truth| truth.drafts);
        let draft_tokens = total(|truth| truth.draft_tokens);
        let accepted_tokens = total(|truth| truth.accepted_tokens);
        let rounds = (drafts - last.drafts) as f64;
        let proposed = (draft_tokens - last.draft_tokens) as f64;
        let accepted = (accepted_tokens - last.accepted_tokens) as f64;
        let elapsed = self.clock - last.at;
        let (computed, hits) = self.last_batch;
        self.report = Report {
            now,
            cached_idle_tokens: self.cached_idle_tokens,
            generation_throughput: ratio(
                (generation_tokens - last.generation_tokens) as f64,
                elapsed,
            ),
            batch_hit_rate: ratio(hits as f64, (hits + computed) as f64),
            accept_length: if rounds > 0.0 { 1.0 + accepted / rounds } else { last.accept_length },
            accept_rate: if proposed > 0.0 { accepted / proposed } else { last.accept_rate },
            computed_tokens: total(|truth| truth.prefill_computed_tokens),
            cached_tokens: total(|truth| truth.prefill_cached_tokens),
            decode_tokens: generation_tokens - total(|truth| truth.first_tokens),
            prefix_computed: total(|truth| truth.prefix_queries - truth.prefix_hits),
            prefix_hits: total(|truth| truth.prefix_hits),
            at: self.clock,
            generation_tokens,
            drafts,
            draft_tokens,
            accepted_tokens,
        };
    }

    fn refresh_v0(&mut self) {
        let total = |read: fn(&Truth) -> u64| read(&self.truth[0]) + read(&self.truth[1]);
        let (prompt_tokens, generation_tokens) =
            (total(|truth| truth.prompt_tokens), total(|truth| truth.generation_tokens));
        let (accepted, drafts) =
            (total(|truth| truth.accepted_tokens), total(|truth| truth.drafts));
        let last = &self.v0;
        let elapsed = self.clock - last.at;
        self.v0 = V0 {
            prompt_throughput: (prompt_tokens - last.prompt_tokens) as f64 / elapsed,
            generation_throughput: (generation_tokens - last.generation_tokens) as f64 / elapsed,
            draft_tokens: last.draft_tokens + total(|truth| truth.draft_tokens),
            accepted_tokens: last.accepted_tokens + accepted,
            emitted_tokens: last.emitted_tokens + accepted + drafts,
            at: self.clock,
            prompt_tokens,
            generation_tokens,
        };
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Draft tokens of one round.
fn proposed(speculation: Speculation) -> u64 {
    u64::from(speculation.draft_tokens).min(DRAFT_POSITIONS_MAX as u64)
}

/// One speculative round: returns the accepted draft tokens, at most `left`.
fn verify(speculation: Speculation, left: u64, truth: &mut Truth, random: &mut Random) -> u64 {
    let proposed = proposed(speculation);
    let mut accepted = 0;
    while accepted < proposed && random.chance(speculation.acceptance) {
        accepted += 1;
    }
    let accepted = accepted.min(left);
    truth.drafts += 1;
    truth.draft_tokens += proposed;
    truth.accepted_tokens += accepted;
    for position in truth.accepted_per_position.iter_mut().take(accepted as usize) {
        *position += 1;
    }
    accepted
}

fn record_end(truth: &mut Truth, request: &Request) {
    let admitted = request.admitted.unwrap_or(request.arrived);
    let (first, last) = (request.first_token, request.last_token);
    truth.finished[request.reason as usize] += 1;
    truth.finished_prompt_tokens += request.prompt;
    truth.finished_cached_tokens += request.cached;
    truth.finished_generation_tokens += request.generated;
    truth.finished_drafts += request.drafts;
    truth.finished_draft_tokens += request.draft_tokens;
    truth.finished_accepted_tokens += request.accepted_tokens;
    if request.generated > 1 {
        let (after_first, took) = ((request.generated - 1) as f64, last - first);
        truth.time_per_output_token.observe(took / after_first);
        truth.speed.observe(after_first / took);
    }
    truth.end_to_end.observe(last - request.arrived);
    truth.queue.observe(admitted - request.arrived);
    truth.prefill.observe(first - admitted);
    truth.decode.observe(last - first);
    truth.inference.observe(last - admitted);
    truth.request_prompt_tokens.observe(request.prompt as f64);
    truth.request_generation_tokens.observe(request.generated as f64);
    truth.request_computed_tokens.observe((request.prompt - request.cached) as f64);
    truth.request_max_tokens.observe(request.max_tokens as f64);
    truth.request_n.observe(1.0);
    truth.request_preemptions.observe(request.preemptions as f64);
}
