//! A listing in JSON or XML: whatever it is, each name is one component of a path, and each URL is directly below the directory's.

#![no_main]

use fetchfs::internals::data_index;
use url::Url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let page = Url::parse("https://host.example/pub/").expect("a URL");
    let Some(Ok(listing)) = data_index::parse(&page, data, &Default::default()) else {
        return;
    };
    for entry in listing.entries.iter() {
        let name = entry.name.as_os_str().as_encoded_bytes();
        assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
        assert!(name.iter().all(|&byte| byte != 0 && byte != b'/'), "{entry:?}");
        let below = entry.url.as_str().strip_prefix("https://host.example/pub/");
        let below = below.expect("it is below").trim_end_matches('/');
        assert!(!below.is_empty() && !below.contains(['/', '?', '#']), "{entry:?}");
    }
});
