//! Which request gets a connection, and which gives one up. Time is moved by hand.

use std::future::Future;

use tokio::time::{advance, timeout};

use super::*;
use crate::http::{
    HttpConfig,
    connect::{setup::Connections, wire::HttpVersion},
};
use crate::origin::limits::request_class::BYTES_YIELD;

const SPEECH: Speech = Speech {
    maker: 0,
    shows_identity: false,
    version: HttpVersion::Http1,
};

fn limit(most: usize) -> Arc<ConnectionLimit> {
    Arc::new(ConnectionLimit::new(Origin::nowhere(), most))
}

async fn is_ready<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(Duration::from_millis(1), future).await.ok()
}

/// A lease whose connection has carried a response.
async fn answered(limit: &Arc<ConnectionLimit>, class: RequestClass) -> Lease {
    let mut lease = limit.lease(class, 0).await;
    let connections = Connections::new(&HttpConfig::default()).unwrap();
    lease.wire(SPEECH, || connections.wire(SPEECH)).unwrap();
    lease.answered(Duration::from_millis(1));
    lease
}

#[tokio::test(start_paused = true)]
async fn no_more_are_out_than_allowed() {
    let limit = limit(2);
    let (one, two) = (
        limit.lease(RequestClass::Names, 0).await,
        limit.lease(RequestClass::Bytes, 0).await,
    );
    assert!(is_ready(limit.lease(RequestClass::Names, 0)).await.is_none());
    two.finish(false);
    let three = is_ready(limit.lease(RequestClass::Names, 0)).await.expect("a free one");
    drop((one, three));
    assert!(
        timeout(SHUT_OUT, limit.lease(RequestClass::Names, 0)).await.is_ok(),
        "what is broken off is free soon"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_used_again_and_counts() {
    let limit = limit(1);
    answered(&limit, RequestClass::Names).await.finish(true);
    let mut again = limit.lease(RequestClass::Bytes, 0).await;
    let wire = again.wire(SPEECH, || Err("it was kept"));
    assert!(wire.is_ok_and(|wire| wire.begin().is_on_kept()));
}

#[tokio::test(start_paused = true)]
async fn names_come_before_bytes_that_have_just_come() {
    let limit = limit(1);
    let first = limit.lease(RequestClass::Names, 0).await;
    let (bytes, names) = (limit.lease(RequestClass::Bytes, 0), limit.lease(RequestClass::Names, 0));
    tokio::pin!(bytes, names);
    assert!(is_ready(&mut bytes).await.is_none() && is_ready(&mut names).await.is_none());
    first.finish(true);
    assert!(is_ready(&mut bytes).await.is_none());
    is_ready(names).await.expect("its turn").finish(true);
    is_ready(bytes).await.expect("its turn");
}

#[tokio::test(start_paused = true)]
async fn waiting_data_requests_precede_new_listings() {
    let limit = limit(1);
    let first = limit.lease(RequestClass::Names, 0).await;
    let bytes = limit.lease(RequestClass::Bytes, 0);
    tokio::pin!(bytes);
    assert!(is_ready(&mut bytes).await.is_none());
    advance(2 * BYTES_YIELD).await;
    let names = limit.lease(RequestClass::Names, 0);
    tokio::pin!(names);
    assert!(is_ready(&mut names).await.is_none());
    first.finish(true);
    is_ready(bytes).await.expect("its turn");
}

/// A future that is dropped after it received a connection, before it was polled.
#[tokio::test(start_paused = true)]
async fn what_is_no_longer_waited_for_is_the_next_ones() {
    let limit = limit(1);
    let first = limit.lease(RequestClass::Names, 0).await;
    {
        let gone = limit.lease(RequestClass::Names, 0);
        tokio::pin!(gone);
        assert!(is_ready(&mut gone).await.is_none());
        first.finish(true);
    }
    is_ready(limit.lease(RequestClass::Bytes, 0)).await.expect("it is free");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_gives_way_to_names_and_not_to_bytes() {
    let limit = limit(1);
    let fetch = answered(&limit, RequestClass::Bytes).await;
    fetch.gives_way();
    advance(BEFORE_TAKING * 3).await;
    fetch.heard();
    assert!(
        timeout(SHUT_OUT / 2, limit.lease(RequestClass::Bytes, 0))
            .await
            .is_err()
    );
    assert!(!fetch.is_revoked(), "it brings bytes");
    let names = limit.lease(RequestClass::Names, 0);
    tokio::pin!(names);
    tokio::select! {
        _ = &mut names => panic!("there is one connection"),
        () = fetch.revocation() => {}
    }
    drop(fetch);
    names.await;
}

#[tokio::test(start_paused = true)]
async fn idle_request_yields_with_doubled_timeout() {
    let limit = limit(1);
    for (given_up, patience) in [(0, 1), (1, 2), (2, 4)] {
        let silent = limit.lease(RequestClass::Names, given_up).await;
        let began = Instant::now();
        let other = limit.lease(RequestClass::Bytes, 0);
        tokio::select! {
            _ = other => panic!("there is one connection"),
            () = silent.revocation() => {}
        }
        let (waited, patience) = (began.elapsed(), Duration::from_secs(patience));
        assert!(
            waited >= patience && waited < patience + BEFORE_TAKING * 2,
            "{waited:?}"
        );
    }
}

/// A single-threaded server: a held connection shuts the others out.
#[tokio::test(start_paused = true)]
async fn unaccepted_connections_lower_the_limit() {
    let limit = limit(16);
    answered(&limit, RequestClass::Names).await.finish(true);
    let (kept, new) = (
        limit.lease(RequestClass::Names, 0).await,
        limit.lease(RequestClass::Names, 0).await,
    );
    let begun = Instant::now();
    kept.answered(Duration::from_millis(1));
    kept.finish(true);
    advance(SHUT_OUT).await;
    new.waits_for_its_first_answer(begun);
    advance(Duration::from_millis(10)).await;
    new.answered(begun.elapsed());
    assert_eq!(limit.serves(), 1);
}

/// A slow server that answers all at the same time: none was shut out.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_slow_keeps_all_its_connections() {
    let limit = limit(16);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(limit.lease(RequestClass::Names, 0).await);
    }
    let begun = Instant::now();
    advance(SHUT_OUT * 3).await;
    for lease in &leases {
        lease.waits_for_its_first_answer(begun);
    }
    for lease in leases {
        lease.answered(begun.elapsed());
        lease.finish(true);
    }
    assert_eq!(limit.serves(), 16);
}
