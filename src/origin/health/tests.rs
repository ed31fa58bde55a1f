//! The circuit breaker of one origin, on a paused clock that the tests advance.

use super::*;
use crate::http::redact;
use crate::origin::failure_attribution::MOST_FAILING;

fn health() -> Arc<Health> {
    Healths::default().of(&Origin::of(&Url::parse("http://h/").unwrap()).unwrap())
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
async fn what_fails_alone_holds_nobody_up_and_the_second_one_stands_for_the_origin() {
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
async fn what_fails_while_others_are_answered_is_no_sign_of_the_origin() {
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

#[test]
fn no_server_makes_it_remember_origins_without_end_and_what_is_held_stays() {
    let healths = Healths::default();
    let of = |port: usize| healths.of_url(&Url::parse(&format!("http://h:{}/", port + 1)).unwrap());
    let held = of(0);
    (1..3 * MOST_ORIGINS).for_each(|port| drop(of(port)));
    assert!(healths.0.lock().len() <= MOST_ORIGINS, "{}", healths.0.lock().len());
    assert!(Arc::ptr_eq(&held, &of(0)));
}

#[tokio::test(start_paused = true)]
async fn a_well_origin_is_asked_at_once_by_all() {
    let health = health();
    let began = Instant::now();
    let permits = [health.permit().await, health.permit().await];
    assert_eq!(began.elapsed(), Duration::ZERO);
    permits.into_iter().for_each(Permit::answered);
    assert!(health.state.lock().pause.is_none());
}

#[tokio::test(start_paused = true)]
async fn failures_of_questions_that_were_under_way_together_count_as_one() {
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
async fn who_gives_its_turn_back_without_a_word_lets_the_next_one_ask() {
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
