//! Configuration to a running graph: workers, queues, fan-out, supervision, shutdown.
