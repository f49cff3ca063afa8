//! What the Python runtime and the web framework put on a vLLM V1 page beside the engine's own families.

use crate::buckets::{HTTP_COARSE, HTTP_FINE};
use crate::engine::{Engine, View};
use crate::pages::family::Printer;

/// `python_*` and `process_*`: a page of one process begins with them.
pub(crate) fn runtime(printer: &mut Printer, engine: &Engine) {
    let uptime = engine.clock().as_secs_f64();
    let collections = [uptime * 2.0, uptime * 0.2, uptime * 0.02];
    let page = &mut printer.page;
    for (name, help, per_collection) in [
        ("python_gc_objects_collected_total", "Objects freed by the collector", 150.0),
        ("python_gc_objects_uncollectable_total", "Objects the collector could not free", 0.0),
        ("python_gc_collections_total", "Runs of the collector by generation", 1.0),
    ] {
        page.family(name, "counter", help);
        for (generation, runs) in ["0", "1", "2"].iter().zip(collections) {
            page.sample(name, "", &[("generation", generation)], (runs * per_collection).floor());
        }
    }
    page.family("python_info", "gauge", "The Python interpreter");
    let version = [
        ("implementation", "CPython"),
        ("major", "3"),
        ("minor", "12"),
        ("patchlevel", "11"),
        ("version", "3.12.11"),
    ];
    page.sample("python_info", "", &version, 1.0);
    for (name, kind, help, value) in [
        ("process_virtual_memory_bytes", "gauge", "Virtual memory in bytes.", 4.153_794_56e10),
        ("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", 6.763_724_8e9),
        (
            "process_start_time_seconds",
            "gauge",
            "Unix time of the process' start in seconds.",
            (engine.started_unix() * 100.0).floor() / 100.0,
        ),
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time in seconds.",
            (uptime * 31.0).floor() / 100.0 + 9.0,
        ),
        ("process_open_fds", "gauge", "Open file descriptors.", 93.0),
        ("process_max_fds", "gauge", "Limit of open file descriptors.", 1_048_576.0),
    ] {
        page.family(name, kind, help);
        page.sample(name, "", &[], value);
    }
}

/// `http_*`: requests with streaming came to the chat handler, the others to the older one.
pub(crate) fn http(printer: &mut Printer, engine: &Engine) {
    const HANDLERS: [(&str, usize); 2] = [("/v1/chat/completions", 1), ("/v1/completions", 0)];
    let views =
        HANDLERS.map(|(handler, streaming)| (handler, View::requests(engine, Some(streaming))));
    let with_method = HANDLERS.map(|(handler, _)| [("handler", handler), ("method", "POST")]);
    let by_handler = HANDLERS.map(|(handler, _)| [("handler", handler)]);

    let help = "Requests by method, status and handler.";
    let labels =
        HANDLERS.map(|(handler, _)| [("handler", handler), ("method", "POST"), ("status", "2xx")]);
    printer.page.family("http_requests_total", "counter", help);
    for (labels, (_, view)) in labels.iter().zip(&views) {
        printer.page.sample("http_requests_total", "", labels, view.truth.finished_total() as f64);
    }
    printer.created("http_requests", help, &labels.each_ref().map(|labels| labels.as_slice()));

    // Bytes: about four per token and some framing.
    for (name, help, response) in [
        ("http_request_size_bytes", "Bytes received by handler, from the length header.", false),
        ("http_response_size_bytes", "Bytes sent by handler, from the length header.", true),
    ] {
        printer.page.family(name, "summary", help);
        for (labels, (_, view)) in by_handler.iter().zip(&views) {
            let truth = &view.truth;
            let tokens = if response {
                truth.finished_generation_tokens
            } else {
                truth.finished_prompt_tokens
            };
            let bytes = tokens * 4 + truth.finished_total() * 180;
            printer.page.sample(name, "_count", labels, truth.finished_total() as f64);
            printer.page.sample(name, "_sum", labels, bytes as f64);
        }
        printer.created(name, help, &by_handler.each_ref().map(|labels| labels.as_slice()));
    }

    let fine = ("http_request_duration_highr_seconds", "Latency of all requests, many buckets.");
    let coarse = ("http_request_duration_seconds", "Latency by handler, few buckets.");
    let all = View::requests(engine, None);
    printer.page.family(fine.0, "histogram", fine.1);
    printer.histogram(fine.0, &[], &all.truth.end_to_end, HTTP_FINE);
    printer.created(fine.0, fine.1, &[&[]]);
    printer.page.family(coarse.0, "histogram", coarse.1);
    for (labels, (_, view)) in with_method.iter().zip(&views) {
        printer.histogram(coarse.0, labels, &view.truth.end_to_end, HTTP_COARSE);
    }
    printer.created(coarse.0, coarse.1, &with_method.each_ref().map(|labels| labels.as_slice()));
}
