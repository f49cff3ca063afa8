//! What follows from each way in which a request can fail.

use std::time::Duration;

use pipeline_component::Delivery;
use pipeline_component::telemetry::table;
use pipeline_model::SourceId;

use super::rig::{Reply, Rig, settings};

#[tokio::test(start_paused = true)]
async fn order_is_kept_under_failure_and_concurrency() {
    let mut rig = Rig::new(Delivery { concurrency: 4, ..settings() }).await;
    let mut seed = 1_u64;
    rig.rule(move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match seed >> 61 {
            0 => Reply::Fail,
            1 => Reply::FailFor(Duration::from_millis(700)),
            2 => Reply::TooLarge,
            3 => Reply::Slow(Duration::from_millis(seed >> 56)),
            _ => Reply::Take,
        }
    });
    let sources: Vec<SourceId> = (0..15).map(|_| SourceId::next()).collect();
    for time in 0..40 {
        sources.iter().for_each(|source| rig.push(*source, time, 9));
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.check_balance();
    }
    rig.settle().await;
    let lost = rig.dropped("too_large");
    assert_eq!(rig.delivered() + lost, 15 * 40 * 9);
    for source in &sources {
        let mut times = rig.times(*source);
        assert!(times.is_sorted(), "{times:?}");
        times.dedup();
        assert!(times.len() > 30);
    }
    let mut got = rig.got();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len() as u64, rig.delivered(), "nothing twice");
    assert!(rig.counter(&table::EXPORTER_RETRIES, &[]) > 10);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_last_attempt_and_pauses_grow_within_their_bounds() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.always(Reply::Fail);
    rig.push(source, 1, 100);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let attempts = rig.attempts();
    let pauses: Vec<f64> =
        attempts.windows(2).map(|two| (two[1].at - two[0].at).as_secs_f64()).collect();
    let mut middle = 0.1;
    for pause in &pauses {
        let (low, high) = (middle * 0.5, (middle * 1.5f64).min(5.0) + 0.002);
        assert!(*pause >= low - 1e-6 && *pause <= high, "{pause} around {middle}");
        middle = (middle * 2.0).min(5.0);
    }
    assert!((600..1500).contains(&pauses.len()), "{}", pauses.len());
    rig.always(Reply::Take);
    rig.settle().await;
    assert_eq!(rig.times(source), [1]);
    let failed = rig.counter(&table::EXPORTER_REQUESTS, &[("outcome", "retryable")]);
    assert_eq!(failed as usize, attempts.len());
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_asks_for_holds_for_every_shard() {
    let mut rig = Rig::new(Delivery { concurrency: 8, ..settings() }).await;
    let asked = Duration::from_secs(20);
    rig.script([Reply::FailFor(asked)]);
    rig.push(SourceId::next(), 0, 100);
    tokio::time::sleep(Duration::from_millis(10)).await;
    for time in 1..50 {
        rig.push(SourceId::next(), time, 100);
    }
    rig.settle().await;
    let attempts = rig.attempts();
    let silence = attempts[1].at - attempts[0].at;
    assert!(silence >= asked && silence <= asked.mul_f64(1.11), "{silence:?}");
    assert_eq!(rig.delivered(), 5000);
}

fn of_points_max(points_max: usize) -> Delivery {
    let mut settings = settings();
    settings.batch.points_max = points_max;
    settings.queue.bytes_max = pipeline_config::ByteSize::from_mib(64);
    settings.batch.bytes_max = pipeline_config::ByteSize::from_mib(16);
    settings
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_halved_and_larger_ones_are_tried_ever_less_often() {
    let (mut rig, source) = (Rig::new(of_points_max(1600)).await, SourceId::next());
    rig.rule(|parts| {
        let points: usize = parts.iter().map(pipeline_component::Part::points).sum();
        if points > 500 { Reply::TooLarge } else { Reply::Take }
    });
    (0..4).for_each(|time| rig.push(source, time, 400));
    rig.settle().await;
    let refused = |rig: &Rig| rig.counter(&table::EXPORTER_REQUESTS, &[("outcome", "too_large")]);
    assert!((3..=4).contains(&refused(&rig)), "1600, 800 and 800: {}", refused(&rig));
    (4..1004).for_each(|time| rig.push(source, time, 400));
    rig.settle().await;
    assert_eq!(rig.times(source), (0..1004).collect::<Vec<_>>());
    assert_eq!((rig.got().len(), rig.delivered()), (401_600, 401_600));
    assert!((10..40).contains(&refused(&rig)), "of 1004 requests: {}", refused(&rig));
    // The backend takes more from now on: so does a request, before long.
    rig.always(Reply::Take);
    (1004..1204).for_each(|time| rig.push(source, time, 400));
    rig.settle().await;
    assert_eq!(rig.attempts().last().unwrap().weight, 1600);
}

#[tokio::test(start_paused = true)]
async fn requests_are_full_again_soon_after_a_backend_that_found_everything_too_large() {
    for bad in 1..70 {
        let (mut rig, source) = (Rig::new(of_points_max(8192)).await, SourceId::next());
        rig.rule({
            let mut left = bad;
            move |_| {
                left -= i32::from(left > 0);
                if left > 0 { Reply::TooLarge } else { Reply::Take }
            }
        });
        rig.push(source, 0, 8192);
        rig.settle().await;
        let before = rig.attempts().len();
        (1..10).for_each(|time| rig.push(source, time, 8192));
        rig.settle().await;
        let attempts = rig.attempts();
        let weights: Vec<usize> = attempts[before..].iter().map(|one| one.weight).collect();
        assert!(weights.iter().all(|weight| *weight >= 512), "{bad}: {weights:?}");
        assert!(weights.len() <= 9 + 16 + 8, "{bad}: {weights:?}");
        assert_eq!(weights.last(), Some(&8192), "{bad}");
        let lost = rig.dropped("too_large");
        assert_eq!(rig.delivered() + lost, 81_920);
    }
}

#[tokio::test(start_paused = true)]
async fn one_point_that_is_too_large_is_lost_alone_and_does_not_slow_the_others() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.rule(|parts| {
        let has = parts.iter().any(|part| part.batch.time == 5 && part.rows.contains(&13));
        if has { Reply::TooLarge } else { Reply::Take }
    });
    (0..10).for_each(|time| rig.push(source, time, 25));
    rig.settle().await;
    assert_eq!((rig.delivered(), rig.dropped("too_large")), (249, 1));
    let before = rig.attempts().len();
    (10..14).for_each(|time| rig.push(source, time, 25));
    rig.settle().await;
    assert_eq!(rig.attempts().len(), before + 1, "one request of a hundred");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_lost_by_its_reason_and_nothing_else_is() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.script([Reply::Refuse, Reply::Reject(3), Reply::Reject(u64::MAX), Reply::Take]);
    for time in 0..4 {
        rig.push(source, time, 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    rig.settle().await;
    assert_eq!((rig.dropped("permanent"), rig.dropped("rejected")), (100, 103));
    assert_eq!(rig.delivered(), 197);
    assert_eq!(rig.counter(&table::EXPORTER_POINTS, &[("outcome", "failed")]), 203);
    assert_eq!(rig.attempts().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_sender_loses_its_request_and_makes_a_new_one() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.script([Reply::Take, Reply::Panic, Reply::Take]);
    for time in 0..3 {
        rig.push(source, time, 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    rig.settle().await;
    assert_eq!(rig.times(source), [0, 2]);
    assert_eq!((rig.dropped("panic"), rig.delivered()), (100, 200));
    assert_eq!(rig.counter(&table::COMPONENT_PANICS, &[]), 1);
    assert_eq!(rig.backend.lock().unwrap().senders, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_delivers_what_it_can_until_its_deadline() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    // In a long pause when the word comes: there is another attempt all the same.
    rig.script([Reply::Fail; 8]);
    (0..30).for_each(|time| rig.push(source, time, 50));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let began = tokio::time::Instant::now();
    rig.stop(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((rig.delivered(), rig.dropped("shutdown")), (1500, 0));
    let batch = rig.batch(source, 99, 50);
    rig.queue.push(batch);
    assert_eq!(rig.dropped("shutdown"), 50, "nothing is taken any more");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_a_dead_backend_ends_and_counts() {
    for reply in [Reply::Fail, Reply::Hang, Reply::FailFor(Duration::from_secs(500))] {
        let mut rig = Rig::new(Delivery { concurrency: 3, ..settings() }).await;
        rig.always(reply);
        (0..30).for_each(|time| rig.push(SourceId::next(), time, 50));
        tokio::time::sleep(Duration::from_secs(20)).await;
        let began = tokio::time::Instant::now();
        rig.stop(Duration::from_secs(10)).await;
        assert!(began.elapsed() < Duration::from_secs(13));
        assert_eq!((rig.delivered(), rig.dropped("shutdown")), (0, 1500));
        assert_eq!(rig.gauge(&table::EXPORTER_IN_FLIGHT), 0.0);
    }
}
