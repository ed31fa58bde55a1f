//! A page of a bucket's listing: whatever it is, each name is one component of a path, and each URL directly below the
//! directory.

#![no_main]

use fetchfs::internals::s3::BucketListing;
use url::Url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let directory = Url::parse("https://host.example/bucket/names/").expect("a URL");
    for is_encoded in [true, false] {
        let mut listing = BucketListing::new(&directory, b"names/", &Default::default());
        let _ = listing.add_page(data, is_encoded);
        let Some(listing) = listing.finish() else { continue };
        for entry in listing.entries.iter() {
            let name = entry.name.as_os_str().as_encoded_bytes();
            assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
            assert!(!name.contains(&b'/') && !name.contains(&0), "{entry:?}");
            let below = entry.url.as_str().strip_prefix(directory.as_str()).expect("it is below");
            assert!(!below.trim_end_matches('/').contains(['/', '?', '#']), "{entry:?}");
        }
    }
});
