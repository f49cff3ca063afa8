//! One simulated request: what the client asks for, and how far it has come.

use crate::random::Random;
use crate::spec::Release;
use crate::truth::FinishReason;

/// A request inside an engine. Times are seconds since the fleet's start.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) arrived: f64,
    pub(crate) prompt: u64,
    /// Leading prompt tokens that the prefix cache holds; less than `prompt`.
    pub(crate) cached: u64,
    /// Tokens after which it ends.
    pub(crate) output: u64,
    pub(crate) max_tokens: u64,
    pub(crate) reason: FinishReason,
    pub(crate) streaming: bool,
    pub(crate) generated: u64,
    pub(crate) admitted: Option<f64>,
    pub(crate) first_token: f64,
    pub(crate) last_token: f64,
    /// Its prefill is part of the current step.
    pub(crate) prefilling: bool,
    pub(crate) preemptions: u64,
    pub(crate) drafts: u64,
    pub(crate) draft_tokens: u64,
    pub(crate) accepted_tokens: u64,
}

/// Output limits that clients ask for.
const LIMITS: [u64; 5] = [128, 256, 512, 1024, 2048];
/// Cached prefixes are whole blocks of this many tokens on every engine.
const PREFIX_BLOCK: u64 = 16;

impl Request {
    /// Draws a request: mostly a few hundred prompt tokens and a hundred or two generated ones, at most `tokens_max`
    /// of either.
    pub(crate) fn draw(
        arrived: f64,
        tokens_max: u64,
        release: Release,
        random: &mut Random,
    ) -> Self {
        let prompt = (random.log_normal(650.0, 0.85) as u64).clamp(16, tokens_max);
        let natural = (random.log_normal(130.0, 0.8) as u64).max(1);
        let limit = LIMITS[(random.next() % LIMITS.len() as u64) as usize].min(tokens_max);
        let cached = if random.chance(0.45) {
            let part = (prompt as f64 * random.uniform()) as u64;
            part.min(prompt - 1) / PREFIX_BLOCK * PREFIX_BLOCK
        } else {
            0
        };
        let (mut reason, mut output) = if natural >= limit {
            (FinishReason::Length, limit)
        } else {
            (FinishReason::Stop, natural)
        };
        let early = match random.uniform() {
            chance if chance < 0.015 => Some(FinishReason::Abort),
            // Older releases do not know these two.
            chance if chance < 0.017 && release == Release::Vllm0_33_0 => Some(FinishReason::Error),
            chance if chance < 0.019 && release == Release::Vllm0_33_0 => {
                Some(FinishReason::Repetition)
            }
            _ => None,
        };
        if let Some(early) = early {
            reason = early;
            output = ((output as f64 * random.uniform()) as u64).max(1);
        }
        Request {
            arrived,
            prompt,
            cached,
            output,
            max_tokens: limit,
            reason,
            streaming: random.chance(0.7),
            generated: 0,
            admitted: None,
            first_token: 0.0,
            last_token: 0.0,
            prefilling: false,
            preemptions: 0,
            drafts: 0,
            draft_tokens: 0,
            accepted_tokens: 0,
        }
    }

    /// Tokens whose keys and values it holds.
    pub(crate) fn tokens(&self) -> u64 {
        self.prompt + self.generated
    }
}
