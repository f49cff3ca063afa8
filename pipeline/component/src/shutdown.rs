//! [`Shutdown`]: the word to stop, passed down the graph.

use tokio_util::sync::CancellationToken;

/// Tells a component to stop. Clones hear the same word; it is said once and stays said.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that nobody has triggered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says it.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// True once said.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves once said. Cancel safe.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// As [`Self::triggered`], owned.
    pub fn owned(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.clone().cancelled_owned()
    }

    /// One that is triggered with this one, or alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}
