//! Targets that come, change and go.

use pipeline_component::telemetry::table;
use tempfile::TempDir;

use super::server::Server;
use super::{labels, run, value};

const ENGINE: &str = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n";

fn write(dir: &TempDir, text: &str) {
    // As a whole, as anything that serves such files does.
    std::fs::write(dir.path().join("new"), text).unwrap();
    std::fs::rename(dir.path().join("new"), dir.path().join("targets.json")).unwrap();
}

#[tokio::test]
async fn target_files_are_followed() {
    let (a, b) = (Server::start(ENGINE).await, Server::start(ENGINE).await);
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir,
        &format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"model_id\": \"m1\"}}}}]", a.address),
    );
    let pattern = dir.path().join("*.json");
    let rig = run(&format!(
        "interval = \"200ms\"\nfile_sd = {{ files = [{pattern:?}], refresh = \"40ms\" }}"
    ))
    .await;
    let (first, old) = rig.up(0, 1.0).await;
    assert!(labels(&old, "up").contains("model_id=m1"));

    // Other labels: another source, after the end of the old one.
    write(
        &dir,
        &format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"model_id\": \"m2\"}}}}]", a.address),
    );
    let (ended, batch) = rig.batch(first, |batch| batch.ended).await;
    assert_eq!(batch.source, old.source);
    let (second, new) = rig.batch(0, |batch| batch.source != old.source).await;
    assert!(second > ended && labels(&new, "up").contains("model_id=m2"));

    // A file that is no JSON changes nothing.
    write(&dir, "[{\"targets\":");
    let errors = rig.telemetry.counter(&table::DISCOVERY_ERRORS, &[("provider", "file_sd")]);
    while errors.get() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    rig.batch(rig.batches().len(), |batch| batch.source == new.source && !batch.ended).await;

    // Another address, twice, and one that is none.
    write(&dir, &format!("[{{\"targets\": [\"{0}\", \"{0}\", \"not an address\"]}}]", b.address));
    let (ended, _) = rig.batch(second, |batch| batch.ended && batch.source == new.source).await;
    let (_, other) = rig.batch(ended, |batch| !batch.ended).await;
    assert!(labels(&other, "up").contains(&b.address.to_string()));
    rig.batch(ended + 4, |_| true).await;
    let sources: Vec<_> = rig.batches().iter().skip(ended + 1).map(|batch| batch.source).collect();
    assert!(
        sources.iter().all(|source| *source == other.source),
        "one target, however often it is listed"
    );
    let refused =
        |reason| rig.telemetry.gauge(&table::TARGETS_REFUSED, &[("reason", reason)]).get();
    assert_eq!((refused("duplicate"), refused("invalid")), (1.0, 1.0));
    assert_eq!(rig.telemetry.gauge(&table::TARGETS, &[]).get(), 1.0);
}

#[tokio::test]
async fn the_limit_of_targets() {
    let (a, b) = (Server::start(ENGINE).await, Server::start(ENGINE).await);
    let toml = format!(
        "interval = \"200ms\"\ntarget_limit = 1\ntargets = [\"{}\", \"{}\"]",
        a.address, b.address
    );
    let rig = run(&toml).await;
    rig.batch(3, |_| true).await;
    assert_eq!(b.requests(), 0);
    assert_eq!(rig.telemetry.gauge(&table::TARGETS_REFUSED, &[("reason", "limit")]).get(), 1.0);
}

#[tokio::test]
async fn an_engine_on_this_host_is_found_and_lost() {
    let (engine, other) = (Server::start(ENGINE).await, Server::start("python_info 1\n").await);
    let listed = Server::start(ENGINE).await;
    let port = engine.address.port();
    let toml = format!(
        "interval = \"200ms\"\ndiscover = \"local\"\ntargets = [\"localhost:{}\"]\n\
         local = {{ ports = [{port}, {}, {}], lost_after = 2 }}",
        listed.address.port(),
        other.address.port(),
        listed.address.port(),
    );
    let rig = run(&toml).await;
    let instance = format!("instance=127.0.0.1:{port} ");
    let (found, batch) = rig.batch(0, |batch| labels(batch, "up").contains(&instance)).await;
    assert_eq!(value(&batch, "up"), Some(1.0));
    assert_eq!(labels(&batch, "vllm:num_requests_running"), format!("{instance}job=engines"));
    let address = engine.close().await;
    let (_, end) = rig.batch(found, |batch| batch.ended).await;
    assert_eq!(end.source, batch.source);
    // Back on the same port: found again, as another source.
    let _engine = Server::at(address, ENGINE).await;
    let again =
        rig.batch(0, |b| labels(b, "up").contains(&instance) && b.source != batch.source).await;
    assert_eq!(value(&again.1, "up"), Some(1.0));
    let instances: std::collections::BTreeSet<String> =
        rig.batches().iter().map(|b| labels(b, "up")).collect();
    assert_eq!(
        instances.len(),
        2,
        "neither the other server nor the listed one twice: {instances:?}"
    );
    assert!(other.requests() > 0);
}
