//! Every metric about ourselves: one table, from which the reference page is made.

/// Kind of a self metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Monotonic count.
    Counter,
    /// Value that goes up and down.
    Gauge,
    /// Histogram of seconds.
    Histogram,
}

/// One metric about ourselves.
#[derive(Debug)]
pub struct Definition {
    /// Full name.
    pub name: &'static str,
    /// Kind.
    pub kind: Type,
    /// UCUM unit.
    pub unit: &'static str,
    /// HELP.
    pub help: &'static str,
    /// Labels, `component` and `pipeline` included.
    pub labels: &'static [&'static str],
}

macro_rules! definitions {
    ($($constant:ident = $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Definition = Definition {
                name: concat!("inferometer_", $name), kind: Type::$kind, unit: $unit, help: $help,
                labels: &[$($label),*],
            };
        )*
        /// All of them.
        pub static ALL: &[&Definition] = &[$(&$constant),*];
    };
}

definitions! {
    BUILD_INFO = Gauge "build_info" "1" ["version"] "Always 1; which version runs.";
    READY = Gauge "ready" "1" [] "1 once every component has started.";
    COMPONENT_UP = Gauge "component_up" "1" ["component"] "1 while the component runs, 0 after it failed.";
    COMPONENT_PANICS = Counter "component_panics_total" "{panic}" ["component"] "Panics that were contained.";

    RECEIVER_POINTS = Counter "receiver_points_total" "{point}" ["component", "outcome"]
        "Points a receiver handed over: accepted, or refused by the pipeline.";
    PIPELINE_POINTS = Counter "pipeline_points_total" "{point}" ["pipeline", "direction"]
        "Points into and out of a pipeline.";
    PIPELINE_DROPPED = Counter "pipeline_dropped_points_total" "{point}" ["pipeline", "reason"]
        "Points lost within a pipeline.";
    PIPELINE_RESHAPED = Counter "pipeline_reshaped_points_total" "{point}" ["pipeline", "effect"]
        "Points that processors removed (dropped by rule, or folded into others) or added: in + added = out + removed + dropped.";
    PIPELINE_QUEUE = Gauge "pipeline_queue_batches" "{batch}" ["pipeline"] "Batches waiting for a worker.";
    PIPELINE_SOURCES = Gauge "pipeline_sources" "{source}" ["pipeline"] "Sources with a remembered plan.";
    PLAN_BUILDS = Counter "pipeline_plan_builds_total" "{build}" ["pipeline"]
        "Plans made: once per source, again when its shape or metadata changes.";
    EXPORTER_POINTS = Counter "exporter_points_total" "{point}" ["component", "outcome"]
        "Points given to an exporter: delivered or failed.";
    EXPORTER_DROPPED = Counter "exporter_dropped_points_total" "{point}" ["component", "reason"]
        "Points lost at an exporter.";
    EXPORTER_QUEUE_BYTES = Gauge "exporter_queue_bytes" "By" ["component"] "Bytes waiting in an exporter's queue.";
    EXPORTER_QUEUE_POINTS = Gauge "exporter_queue_points" "{point}" ["component"]
        "Points waiting in an exporter's queue.";
    EXPORT_SECONDS = Histogram "export_duration_seconds" "s" ["component"] "Time of one export attempt.";
    EXPORTER_TAKEN = Counter "exporter_taken_points_total" "{point}" ["component"]
        "Points that the queue of a delivering exporter took on: taken = delivered + waiting in the queue + in flight + dropped.";
    EXPORTER_IN_FLIGHT = Gauge "exporter_in_flight_points" "{point}" ["component"]
        "Points in requests that are not settled yet, those that wait for another attempt included.";
    EXPORTER_UNBALANCED = Counter "exporter_unbalanced_points_total" "{point}" ["component"]
        "Points that taken = delivered + waiting + in flight + dropped does not account for at exit; anything but 0 is a defect.";
    EXPORTER_REQUESTS = Counter "exporter_requests_total" "{request}" ["component", "outcome"]
        "Attempts to deliver by outcome: delivered, retryable, too_large, permanent, panic.";
    EXPORTER_RETRIES = Counter "exporter_retries_total" "{request}" ["component"] "Attempts that were not the first.";
    EXPORTER_OLDEST_SECONDS = Gauge "exporter_oldest_waiting_seconds" "s" ["component"]
        "Age of the oldest batch that is not delivered yet, since it was taken or found on disk at start.";
    EXPORTER_RESHAPED = Counter "exporter_reshaped_points_total" "{point}" ["component", "effect"]
        "Points that an exporter's own steps removed or added before its queue.";
    EXPORTER_RECOVERED = Counter "exporter_recovered_points_total" "{point}" ["component"]
        "Points that an earlier process left on disk and this one took on.";
    EXPORTER_SERIES = Gauge "exporter_active_series" "{series}" ["component"] "Series that grafana_cloud sends.";
    EXPORTER_METRIC_SERIES = Gauge "exporter_metric_active_series" "{series}" ["component", "metric"]
        "Series that grafana_cloud sends, of the metrics that have the most.";
    EXPORTER_DPM = Gauge "exporter_samples_per_minute" "{sample}/min" ["component"]
        "Samples that grafana_cloud sent in the last minute: the bill's data points per minute.";
    EXPORTER_BILLED = Gauge "exporter_billed_series" "{series}" ["component"]
        "What the bill counts, as far as it can be told from here: active series, or data points per minute where they are more.";
    EXPORTER_DISK_BYTES = Gauge "exporter_disk_bytes" "By" ["component"] "Bytes of an exporter's queue files.";
    EXPORTER_DISK_POINTS = Gauge "exporter_disk_points" "{point}" ["component"]
        "Points that wait on disk alone, for room in memory.";
    EXPORTER_DISK_FAILING = Gauge "exporter_disk_failing" "1" ["component"]
        "1 while the queue's files cannot be written and it goes on from memory.";
    EXPORTER_DISK_ERRORS = Counter "exporter_disk_errors_total" "{error}" ["component"]
        "Failed operations on the queue's files.";
    EXPORTER_DISK_DAMAGED = Counter "exporter_disk_damaged_records_total" "{record}" ["component"]
        "Records of the queue's files that were skipped because they are damaged.";

    SCRAPES = Counter "scrapes_total" "{scrape}" ["component", "outcome"] "Scrapes by outcome.";
    SCRAPE_SECONDS = Histogram "scrape_duration_seconds" "s" ["component"] "Time from request to parsed page.";
    SCRAPE_LATE_SECONDS = Histogram "scrape_lateness_seconds" "s" ["component"] "How late scrapes began.";
    SCRAPE_BYTES = Counter "scrape_bytes_total" "By" ["component"] "Page bytes read, after decompression.";
    SCRAPE_PAGES = Counter "scrape_pages_total" "{page}" ["component", "path"]
        "Pages read by path: cached layout, patched layout, full parse.";
    SCRAPE_DROPPED = Counter "scrape_dropped_samples_total" "{sample}" ["component", "reason"]
        "Samples of a page that were not taken.";
    SCRAPE_LAYOUTS = Gauge "scrape_layouts" "{layout}" ["component"]
        "Distinct page layouts that are remembered; equal pages of many targets share one.";
    SCRAPE_LAYOUT_BYTES = Gauge "scrape_layout_bytes" "By" ["component"] "Bytes of those layouts.";
    TARGETS = Gauge "targets" "{target}" ["component"] "Targets that are scraped.";
    TARGET_UP = Gauge "target_up" "1" ["component", "target"] "1 if the last scrape succeeded.";
    TARGET_FAILING = Gauge "target_failing" "1" ["component", "target", "cause"]
        "1 while the last scrape of the target failed, with the cause; absent while it succeeds.";
    TARGETS_REFUSED = Gauge "refused_targets" "{target}" ["component", "reason"]
        "Targets that discovery knows and nobody scrapes: invalid, duplicate, over the limit.";
    DISCOVERY_ERRORS = Counter "discovery_errors_total" "{error}" ["component", "provider"]
        "Looks for targets that failed: a file that cannot be used, no list of listening ports.";

    OTLP_REQUESTS = Counter "otlp_requests_total" "{request}" ["component", "transport", "outcome"]
        "OTLP requests by protocol and outcome: accepted, partial (part of it rejected for good), hung_up (the client left before its answer), or why it was refused.";
    OTLP_RECEIVED_BYTES = Counter "otlp_received_bytes_total" "By" ["component", "transport"]
        "Bytes of OTLP messages, after decompression.";
    OTLP_REJECTED = Counter "otlp_rejected_points_total" "{point}" ["component", "reason"]
        "Points and log records of OTLP requests that were not taken and must not be sent again.";
    OTLP_RESOURCES = Gauge "otlp_resources" "{resource}" ["component"] "Resources that sent lately.";
    OTLP_SERIES = Gauge "otlp_series" "{series}" ["component"] "Series of those resources.";
    OTLP_READER_BYTES = Gauge "otlp_reader_bytes" "By" ["component"] "Bytes held for knowing them again, about.";

    ENGINE = Gauge "engine_info" "1" ["component", "target", "engine", "engine_version", "verdict"]
        "Always 1; what normalize recognised a target as.";
    NORMALIZE_UNKNOWN = Counter "normalize_unknown_series_total" "{series}" ["component", "name"]
        "Series of engine metrics that no table knows, when first seen.";
    NORMALIZE_DROPPED = Counter "normalize_dropped_series_total" "{series}" ["component", "reason"]
        "Series that normalize leaves out, counted each time a plan is made.";
    LLM_METHOD = Gauge "llm_method" "1" ["component", "target", "metric", "method"]
        "Always 1; how llm measures a metric of a target. The reference of the processor explains the methods.";
    LLM_ANOMALIES = Counter "llm_anomalies_total" "{anomaly}" ["component", "reason"]
        "What llm found odd about engines' pages, each with one defined outcome: resets, values that are none, gaps.";
    LABELS_VIOLATIONS = Counter "labels_violations_total" "{series}" ["component", "metric", "reason"]
        "Series that break the contract's label sets, counted each time a plan is made.";
    LABELS_LIMITED = Counter "labels_limited_series_total" "{series}" ["component", "label"]
        "Series whose label value was replaced by `other`, counted each time a plan is made.";
    POD_ID_PODS = Gauge "pod_id_pods" "{pod}" ["component"] "Pods with a remembered hash.";
    POD_ID_MISSING = Counter "pod_id_missing_series_total" "{series}" ["component"]
        "Series without anything that names their pod, counted each time a plan is made.";
    POD_ID_DUPLICATES = Counter "pod_id_duplicate_series_total" "{series}" ["component"]
        "Series dropped since without the pod's name they equal another of the same pod.";

    TEMPORALITY_SERIES = Gauge "temporality_series" "{series}" ["component"]
        "Series that are remembered in order to convert them.";
    TEMPORALITY_DROPPED = Counter "temporality_dropped_points_total" "{point}" ["component", "reason"]
        "Points that were not converted: first of a series or after a gap (they are the base of the next), duplicate, out of order, overlapping, invalid, in conflict with a series of the wanted temporality, beyond the limit of series.";
    TEMPORALITY_RESETS = Counter "temporality_resets_total" "{reset}" ["component"] "Series that began to count anew.";

    EXPOSITION_SERIES = Gauge "exposition_series" "{series}" ["component"] "Series on the exposition.";
    EXPOSITION_REQUESTS = Counter "exposition_requests_total" "{request}" ["component", "code"]
        "Requests to the exposition by HTTP status.";
    EXPOSITION_DROPPED = Counter "exposition_dropped_series_total" "{series}" ["component", "reason"]
        "Series that could not be exposed, when first seen.";
    EXPOSITION_RENDER_SECONDS = Histogram "exposition_render_duration_seconds" "s" ["component"]
        "Time to render the exposition.";

    INTERNED = Gauge "interned_values" "{value}" ["pool"] "Distinct shared values by pool.";
    SHAPE_BYTES = Gauge "shape_table_bytes" "By" [] "Bytes of shared shape tables.";
    LOG_EVENTS = Counter "log_events_total" "{event}" ["level"] "Log events of level warn and error.";
}
