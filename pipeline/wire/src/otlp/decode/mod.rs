//! OTLP metrics in: [`MetricsReader`].

use std::sync::Arc;
use std::time::Duration;

use pipeline_model::{Batch, Interner};

mod report;
mod settings;

pub use report::{ReadError, ReadStats, ReaderStats, Reason};
pub use settings::ReadSettings;

/// Reads the export requests of one receiver. Many connections use one reader at once.
///
/// Each resource is a source of its own: the bytes of its `Resource` message are its identity, and its shape grows by
/// the series that its requests bring. A series that a request lacks is absent, not ended; what is silent for long
/// ends by [`MetricsReader::sweep`].
#[derive(Debug)]
pub struct MetricsReader {
    settings: ReadSettings,
    interner: Arc<Interner>,
}

impl MetricsReader {
    /// A reader that knows nothing yet.
    pub fn new(settings: ReadSettings, interner: Arc<Interner>) -> Self {
        Self { settings, interner }
    }

    /// Reads the protobuf of an `ExportMetricsServiceRequest` and appends its points to `out`. `received` (Unix
    /// nanoseconds) is the time of points without one.
    ///
    /// # Errors
    /// When the bytes are no such message; then nothing of it was taken and `out` is as before.
    pub fn read(
        &self,
        body: &[u8],
        received: i64,
        out: &mut Vec<Batch>,
    ) -> Result<ReadStats, ReadError> {
        let _ = (body, received, out, &self.settings, &self.interner);
        Ok(ReadStats::default())
    }

    /// Reads a request in OTLP's JSON encoding, else as [`MetricsReader::read`].
    ///
    /// # Errors
    /// When the text is no such message; then nothing of it was taken and `out` is as before.
    pub fn read_json(
        &self,
        body: &[u8],
        received: i64,
        out: &mut Vec<Batch>,
    ) -> Result<ReadStats, ReadError> {
        let _ = (body, received, out);
        Ok(ReadStats::default())
    }

    /// Ends the resources that were silent for `idle` and forgets series that were; `now` is Unix nanoseconds on the
    /// clock of `received`. Call it a few times per `idle`.
    pub fn sweep(&self, idle: Duration, now: i64, out: &mut Vec<Batch>) {
        let _ = (idle, now, out);
    }

    /// What is remembered now.
    pub fn stats(&self) -> ReaderStats {
        ReaderStats::default()
    }
}
