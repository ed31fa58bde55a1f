//! An index page: whatever it is, each name is one component of a path, and each URL is the page's origin's, one level below.

#![no_main]

use fetchfs::internals::index_page;
use url::Url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let page = Url::parse("https://host.example/pub/").expect("a URL");
    let Ok(listing) = index_page::parse(&page, data, None, &Default::default()) else {
        return;
    };
    for entry in listing.entries.iter() {
        let name = entry.name.as_os_str().as_encoded_bytes();
        assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
        assert!(
            name.iter().all(|&byte| byte >= 0x20 && byte != b'/' && byte != 0x7f),
            "{entry:?}"
        );
        assert_eq!(entry.url.origin(), page.origin(), "{entry:?}");
        let below = entry.url.path().strip_prefix("/pub/").expect("it is below");
        assert!(!below.trim_end_matches('/').contains('/'), "{entry:?}");
    }
});
