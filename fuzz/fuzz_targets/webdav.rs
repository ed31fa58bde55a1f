//! An answer to PROPFIND: whatever it is, each name is one component of a path, and each URL directly below the directory.

#![no_main]

use fetchfs::internals::webdav;
use url::Url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let directory = Url::parse("https://host.example/pub/").expect("a URL");
    let asked = Url::parse("http://mirror.example/a/pub/").expect("a URL");
    let Ok(listing) = webdav::parse(&directory, &asked, data, None, &Default::default()) else {
        return;
    };
    for entry in listing.entries.iter() {
        let name = entry.name.as_os_str().as_encoded_bytes();
        assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{entry:?}");
        let below = entry.url.as_str().strip_prefix(directory.as_str()).expect("it is below");
        assert!(!below.trim_end_matches('/').contains(['/', '?', '#']), "{entry:?}");
    }
});
