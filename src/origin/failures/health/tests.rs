//! The circuit breaker of one origin, on a paused clock that the tests advance.

use url::Url;

use super::*;
use crate::http::redact;
use crate::origin::failures::failure_attribution::MOST_FAILING;

fn health() -> Arc<Health> {
    Arc::new(Health::new(Origin::of(&Url::parse("http://h/").unwrap()).unwrap()))
}

fn down() -> HttpError {
    HttpError {
        kind: HttpErrorKind::Refused,
        url: redact(&Url::parse("http://h/").unwrap()),
    }
}

fn busy(path: &str, retry_after: Option<Duration>) -> HttpError {
    HttpError {
        kind: HttpErrorKind::Status {
            status: 503,
            retry_after,
        },
        url: redact(&Url::parse(&format!("http://h/{path}")).unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn second_failure_is_attributed_to_the_origin() {
    let health = health();
    for _ in 0..5 {
        assert_eq!(
            health.permit().await.failed(&busy("a", None)),
            FailureAttribution::Resource
        );
        assert!(health.permit_now().is_some());
    }
    assert_eq!(
        health.permit().await.failed(&busy("b", None)),
        FailureAttribution::Origin
    );
    assert!(health.permit_now().is_none());
    // A failed probe extends the pause, whichever request sent it.
    assert_eq!(
        health.permit().await.failed(&busy("a", None)),
        FailureAttribution::Origin
    );
    health.permit().await.answered();
    assert_eq!(
        health.permit().await.failed(&busy("a", None)),
        FailureAttribution::Resource,
        "a new outage"
    );
    assert_eq!(
        health.permit().await.failed(&busy("b", None)),
        FailureAttribution::Origin
    );
}

#[tokio::test(start_paused = true)]
async fn failure_among_successes_is_not_the_origins() {
    let health = health();
    for _ in 0..3 {
        for path in ["a", "b", "c"] {
            assert_eq!(
                health.permit().await.failed(&busy(path, None)),
                FailureAttribution::Resource
            );
            health.permit().await.answered();
        }
    }
    for path in ["a", "b", "c", "d"] {
        assert_eq!(
            health.permit().await.failed(&busy(path, None)),
            FailureAttribution::Resource
        );
    }
    assert_eq!(
        health.permit().await.failed(&busy("e", None)),
        FailureAttribution::Origin,
        "two that were well"
    );
    health.permit().await.answered();
    for path in 0..3 * MOST_FAILING {
        health.permit().await.failed(&busy(&path.to_string(), None));
        health.answered();
        assert!(health.state.lock().failures.len() <= MOST_FAILING);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_way_and_a_word_to_all_are_the_origins_at_once() {
    let too_many = HttpError {
        kind: HttpErrorKind::Status {
            status: 429,
            retry_after: None,
        },
        url: redact(&Url::parse("http://h/a").unwrap()),
    };
    for error in [down(), busy("a", Some(Duration::from_secs(1))), too_many] {
        assert_eq!(
            health().permit().await.failed(&error),
            FailureAttribution::Origin,
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn healthy_origin_gets_all_requests_at_once() {
    let health = health();
    let began = Instant::now();
    let permits = [health.permit().await, health.permit().await];
    assert_eq!(began.elapsed(), Duration::ZERO);
    permits.into_iter().for_each(Permit::answered);
    assert!(health.state.lock().pause.is_none());
}

#[tokio::test(start_paused = true)]
async fn concurrent_failures_count_as_one() {
    let health = health();
    let permits = [health.permit().await, health.permit().await, health.permit().await];
    for permit in permits {
        permit.failed(&down());
    }
    let began = Instant::now();
    let probe = health.permit().await;
    assert!(began.elapsed() < FIRST_PAUSE * 2, "{:?}", began.elapsed());
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_one_asks_for_all() {
    let health = health();
    health.permit().await.failed(&down());
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        let began = Instant::now();
        let probe = health.permit().await;
        assert!(began.elapsed() > last, "{:?} after {last:?}", began.elapsed());
        last = began.elapsed();
        let second = health.permit();
        tokio::pin!(second);
        assert!(futures_pending(&mut second).await, "one asks at a time");
        probe.failed(&down());
    }
    let probe = health.permit().await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let health = Arc::clone(&health);
            tokio::spawn(async move { health.permit().await.answered() })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    probe.answered();
    for waiter in waiting {
        waiter.await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "all are let through at once");
}

async fn futures_pending(future: &mut (impl Future + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(1), future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let health = health();
    let asked = Duration::from_secs(20);
    health.permit().await.failed(&busy("a", Some(asked)));
    let began = Instant::now();
    drop(health.permit().await);
    assert!(began.elapsed() >= asked, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn returned_permit_goes_to_the_next() {
    let health = health();
    health.permit().await.failed(&down());
    let probe = health.permit().await;
    let next = tokio::spawn({
        let health = Arc::clone(&health);
        async move { health.permit().await.answered() }
    });
    tokio::task::yield_now().await;
    drop(probe);
    next.await.unwrap();
    assert!(health.state.lock().pause.is_none());
}

#[tokio::test(start_paused = true)]
async fn two_things_that_differ_in_their_query_alone_are_two() {
    let health = health();
    assert_eq!(health.has_failed(&busy("get?id=1", None)), FailureAttribution::Resource);
    assert_eq!(health.has_failed(&busy("get?id=1", None)), FailureAttribution::Resource);
    assert_eq!(health.has_failed(&busy("get?id=2", None)), FailureAttribution::Origin);
}
