//! The nodes of a tier in the notation of CernVM-FS: `http://a:8080|http://b:8080;http://c:8080;DIRECT`.

use url::Url;

use crate::http::TierConfig;

/// The last word of a list of nodes: the source's own server.
const DIRECT: &str = "DIRECT";

/// Parses a list of nodes.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(super) fn parse(text: &str) -> Result<TierConfig, String> {
    const ADVICE: &str = "write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'";
    let mut groups: Vec<&str> = text.split(';').map(str::trim).collect();
    if groups.last() == Some(&DIRECT) {
        groups.pop();
    }
    let mut config = TierConfig::default();
    for group in groups {
        let mut urls = Vec::new();
        for text in group.split('|').map(str::trim) {
            if text == DIRECT {
                return Err("DIRECT stands alone, after the last `;`: the source's server is asked last".to_owned());
            }
            let url = node(text).map_err(|why| match text {
                "" => format!("a node's URL is missing; {ADVICE}"),
                _ => format!("`{text}` {why}; {ADVICE}"),
            })?;
            if urls.contains(&url) || config.groups.iter().any(|group: &Vec<Url>| group.contains(&url)) {
                return Err(format!("{text} is named twice"));
            }
            urls.push(url);
        }
        config.groups.push(urls);
    }
    match config.groups.is_empty() {
        true => Err(format!("names no node; {ADVICE}")),
        false => Ok(config),
    }
}

fn node(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("does not begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user, and a tier has no logins");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("has a path, and a node is a host and a port");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Vec<Vec<String>> {
        let config = parse(text).unwrap();
        let group = |urls: Vec<Url>| urls.into_iter().map(String::from).collect();
        config.groups.into_iter().map(group).collect()
    }

    #[test]
    fn groups_share_load_and_follow_each_other() {
        let (a, b, c) = ("http://a:8080/", "http://b/", "https://c/");
        assert_eq!(groups("http://a:8080"), [[a]]);
        assert_eq!(groups("http://a:8080;DIRECT"), [[a]]);
        assert_eq!(
            groups("http://a:8080 | http://b; https://c;DIRECT"),
            [vec![a, b], vec![c]]
        );
    }

    #[test]
    fn error_says_what_to_write() {
        let error = |text| parse(text).unwrap_err();
        for text in [
            "",
            ";",
            "DIRECT",
            "a:8080",
            "http://a|",
            "DIRECT;http://a",
            "http://a|DIRECT",
            "ftp://a",
            "http://ann:secret@a",
            "http://a/x",
            "http://a;http://a/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        insta::assert_snapshot!(error("10.0.0.5:8080"), @"`10.0.0.5:8080` is not a URL; write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'");
        insta::assert_snapshot!(error("http://a|DIRECT"), @"DIRECT stands alone, after the last `;`: the source's server is asked last");
        insta::assert_snapshot!(error("DIRECT"), @"names no node; write for example 'http://10.0.0.5:8080|http://10.0.0.6:8080'");
    }
}
