//! File or directory: what a name is that a page links to without a `/` at its end.
//!
//! It is a directory if the server redirects from it to the same name with a `/`, or if it is a page that marks itself
//! as an index.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::origin::Metadata;

/// Extensions of files that are web pages themselves.
const PAGES: [&str; 9] = ["html", "htm", "xhtml", "shtml", "xht", "php", "asp", "aspx", "jsp"];

/// Returns true if the server redirected from `asked` to the same name with a `/`.
pub(super) fn is_redirected_to_directory(asked: &Url, answered: &Url) -> bool {
    let last = |path: &str| -> Vec<u8> {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        percent_decode_str(name).collect()
    };
    !asked.path().ends_with('/')
        && answered.path().ends_with('/')
        && !last(asked.path()).is_empty()
        && last(asked.path()) == last(answered.path())
}

/// Returns true if the answer is a web page although the name does not say so.
pub(in crate::source) fn is_page_in_place_of_a_file(url: &Url, found: &Metadata) -> bool {
    let is_html = matches!(
        found.content_type.as_deref(),
        Some("text/html" | "application/xhtml+xml")
    );
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    is_html && !ending.is_some_and(|ending| PAGES.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_the_name_with_a_slash_makes_a_directory() {
        let asked = Url::parse("http://h/pub/a%20b").unwrap();
        for (answered, is_directory) in [
            ("http://h/pub/a%20b/", true),
            ("https://mirror/x/a b/", true),
            ("http://h/pub/a%20b", false),
            ("http://h/login/", false),
            ("http://h/", false),
        ] {
            let answered = Url::parse(answered).unwrap();
            assert_eq!(
                is_redirected_to_directory(&asked, &answered),
                is_directory,
                "{answered}"
            );
        }
    }
}
