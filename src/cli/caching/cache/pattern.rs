//! URL patterns of `fetchfs cache clear`.

/// Whether a pattern matches this URL. `*` matches any run of characters. A pattern that ends in `/` matches
/// everything below.
pub(super) fn matches(pattern: &str, url: &str) -> bool {
    let all_below;
    let pattern = if pattern.ends_with('/') {
        all_below = format!("{pattern}*");
        &all_below
    } else {
        pattern
    };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = url.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        // The first match leaves the most text for the remaining parts.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_is_a_url_a_tree_or_has_stars() {
        assert!(matches("http://h/a", "http://h/a") && !matches("http://h/a", "http://h/ab"));
        assert!(matches("http://h/", "http://h/a/b") && !matches("http://h/a", "http://h/a/b"));
        assert!(matches("*.iso", "http://h/x.iso") && !matches("*.iso", "http://h/x.iso.txt"));
        assert!(matches("http://*/a*b", "http://h/ab") && !matches("aa*a", "aa"));
        assert!(matches("*", "") && matches("", "") && !matches("", "x"));
    }

    proptest! {
        #[test]
        fn whatever_stands_for_a_star_the_pattern_matches(parts in prop::collection::vec("[ab:]{0,3}", 1..5), fill in "[ab:]{0,4}") {
            prop_assert!(matches(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
