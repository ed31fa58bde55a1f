//! What does not fit into the cache is said, and other files don't pay for it.

use crate::common::Mount;
use crate::common::files::{sha256, sha256_of};
use crate::common::process::run;
use crate::control::{assert_refuses, content, data_requests, fetchfs_with, prefetch, site, wait_until_no_job_is_left};
use crate::origin::{IndexStyle, Origin};

const MIB: u64 = 1 << 20;

/// A site, with files of which each fits into a cache of 16 MiB, and all together don't.
fn site_with_many() -> Origin {
    let origin = site();
    for number in 0..5 {
        let path = format!("/many/{number}");
        origin.add(&path, content(&path, 4 * MIB));
    }
    origin
}

fn small_cache(origin: &Origin) -> Mount {
    Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start()
}

/// It evicted its own beginning once, and what others had, and said that it had fetched 14 of 40 MiB: with exit status 0.
#[test]
fn a_prefetch_of_more_than_the_cache_keeps_is_refused_and_nothing_makes_way_for_it() {
    let origin = site_with_many();
    let mount = small_cache(&origin);
    prefetch(&[], &[mount.path("dir")]).succeeded();
    for (name, said) in [("large", "40.0 MiB are wanted"), ("many", "20.0 MiB are wanted")] {
        assert_refuses(&prefetch(&[], &[mount.path(name)]), &[name, said, "--cache-size"]);
    }
    let mark = origin.log().mark();
    assert_eq!(data_requests(&origin, 0, &["/large", "/many/0", "/many/4"]), 0);
    assert_eq!(
        sha256(&mount.path("dir/a")),
        sha256_of(&content("/dir/a", 3 * MIB + 17))
    );
    assert_eq!(data_requests(&origin, mark, &["/dir/a"]), 0, "it is still there");
    // A part of it fits, also when it is named in parts that overlap.
    prefetch(&["--range", "0-6M,1M-7M,2M-"], &[mount.path("many/0")]).succeeded();
    prefetch(&["--range", "0-6M,1M-7M"], &[mount.path("large")]).succeeded();
}

#[test]
fn a_prefetch_that_turns_out_to_be_more_than_the_cache_keeps_stops() {
    let origin = site_with_many();
    origin.set_index_style(IndexStyle::NamesOnly);
    let mount = small_cache(&origin);
    let ran = prefetch(&["--recursive"], &[mount.root()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("--cache-size"), "{ran:?}");
}

#[test]
fn a_prefetch_that_does_not_stay_beside_what_is_pinned_says_so() {
    let origin = site_with_many();
    let mount = small_cache(&origin);
    let pinned = [mount.path("many/0"), mount.path("many/1")];
    prefetch(&[], &pinned).succeeded();
    run(&mut fetchfs_with(&["pin", "--no-fetch"], &pinned)).succeeded();
    assert_refuses(
        &prefetch(&["--range", "0-11M"], &[mount.path("large")]),
        &["/large", "--cache-size"],
    );
}

#[test]
fn a_job_that_does_not_fit_waits_for_a_mount_with_a_larger_cache() {
    let origin = site_with_many();
    let mut mount = small_cache(&origin);
    prefetch(&["--background"], &[mount.path("large")]).succeeded();
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    let shown = loop {
        let shown = prefetch(&["--list"], &[mount.root()]).succeeded().out;
        if shown.contains("waits: ") {
            break shown;
        }
        assert!(std::time::Instant::now() < deadline, "{shown}");
    };
    assert!(shown.contains("raise --cache-size"), "{shown}");
    mount.unmount();
    mount.add_option("--cache-size", "200MiB");
    mount.start();
    wait_until_no_job_is_left(&mount);
    let mark = origin.log().mark();
    assert_eq!(sha256(&mount.path("large")), sha256_of(&content("/large", 40 * MIB)));
    assert_eq!(data_requests(&origin, mark, &["/large"]), 0);
}
