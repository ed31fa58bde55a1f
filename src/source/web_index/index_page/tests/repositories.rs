//! Pages of package repositories, as their software writes them.

use std::fs;
use std::path::Path;

use super::*;

fn read_with(html: &str, config: ListingConfig) -> Listing {
    super::super::parse(&Url::parse(PAGE).unwrap(), html.as_bytes(), None, &config).unwrap()
}

/// Name, size, date, URL and hashes of each entry.
fn facts(listing: &Listing) -> Vec<String> {
    let line = |entry: Entry| {
        let size = match entry.kind {
            EntryKind::Directory => "dir".to_owned(),
            EntryKind::File(ListedSize::Exact(size)) => size.to_string(),
            EntryKind::File(ListedSize::Rounded(size)) => format!("~{size}"),
            EntryKind::File(ListedSize::Unknown) => "?".to_owned(),
        };
        let date = entry.modified.map_or("-".to_owned(), shown_date);
        let hashes = entry.published.map_or(0, |published| published.hashes.len());
        format!(
            "{} {size} {date} {} {hashes}",
            entry.name.as_os_str().display(),
            entry.url
        )
    };
    listing.entries.iter().map(line).collect()
}

#[test]
fn artifactory() {
    let page = r#"<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">
<html><head><meta name="robots" content="noindex" /><title>Index of libs-release/org/x/1.0</title></head><body>
<h1>Index of libs-release/org/x/1.0</h1>
<pre>Name        Last modified      Size</pre><hr/>
<pre><a href="../">../</a>
<a href="sub/">sub/</a>         14-Nov-2023 22:13    -
<a href="x-1.0.jar">x-1.0.jar</a>    14-Nov-2023 22:13  107 bytes
<a href="x-1.0.zip">x-1.0.zip</a>    14-Nov-2023 22:13  1.20 MB
</pre>
<hr/><address style="font-size:small;">Artifactory/7.55.10 Server</address></body></html>"#;
    let listing = read(page).unwrap();
    assert!(listing.is_marked);
    assert_eq!(
        facts(&listing),
        [
            "sub dir 2023-11-14 22:13 http://origin.test/corpus/sub/ 0",
            "x-1.0.jar 107 2023-11-14 22:13 http://origin.test/corpus/x-1.0.jar 0",
            "x-1.0.zip ~1258291 2023-11-14 22:13 http://origin.test/corpus/x-1.0.zip 0",
        ]
    );
}

/// Its files are in another directory than its pages.
#[test]
fn nexus() {
    let page = r#"<html lang="en"><head><title>Index of /corpus</title></head>
<body class="htmlIndex"><h1>Index of /corpus</h1>
<table cellspacing="10">
<tr><th align="left">Name</th><th>Last Modified</th><th>Size</th><th>Description</th></tr>
<tr><td><a href="../">Parent Directory</a></td></tr>
<tr><td><a href="sub/">sub</a></td><td>&nbsp;</td><td>&nbsp;</td><td></td></tr>
<tr><td><a href="http://origin.test/repository/raw/a.jar">a.jar</a></td><td>Tue Nov 14 22:13:20 UTC 2023</td>
<td align="right">107</td><td></td></tr>
</table></body></html>"#;
    let listing = read(page).unwrap();
    assert_eq!(facts(&listing), ["sub dir - http://origin.test/corpus/sub/ 0"]);
    assert_eq!(listing.left_out.elsewhere, 1);
    let config = ListingConfig {
        external_links: true,
        ..ListingConfig::default()
    };
    assert_eq!(
        facts(&read_with(page, config)),
        [
            "sub dir - http://origin.test/corpus/sub/ 0",
            "a.jar 107 2023-11-14 22:13:20 http://origin.test/repository/raw/a.jar 0",
        ]
    );
}

/// h5ai fills its page in by a script, and has a table for clients without scripts. Sizes are cut to thousands of bytes.
#[test]
fn h5ai() {
    let page = r#"<!DOCTYPE html><html class="no-js" lang="en"><head><title>index - powered by h5ai v0.30.0</title>
<script src="/_h5ai/public/js/scripts.js" data-module="index"></script></head><body class="index" id="root">
<div id="fallback-hints"><span class="noJsMsg">Works best with JavaScript enabled!</span><span class="backlink"><a
href="https://larsjung.de/h5ai/" title="h5ai">powered by h5ai</a></span></div><div id="fallback"><table><tr>
<th class="fb-i"></th><th class="fb-n"><span>Name</span></th><th class="fb-d"><span>Last modified</span></th><th
class="fb-s"><span>Size</span></th></tr><tr><td class="fb-i"><img src="/_h5ai/public/images/fallback/folder-parent.png"
alt="folder-parent"/></td><td class="fb-n"><a href="..">Parent Directory</a></td><td class="fb-d"></td><td
class="fb-s"></td></tr><tr><td class="fb-i"><img src="/_h5ai/public/images/fallback/folder.png" alt="folder"/></td><td
class="fb-n"><a href="/corpus/sub/">sub</a></td><td class="fb-d">2023-11-14 22:13</td><td class="fb-s"></td></tr><tr><td
class="fb-i"><img src="/_h5ai/public/images/fallback/file.png" alt="file"/></td><td class="fb-n"><a
href="/corpus/a%20b.txt">a b.txt</a></td><td class="fb-d">2023-11-14 22:13</td><td class="fb-s">107 KB</td></tr></table>
</div></body></html>"#;
    let listing = read(page).unwrap();
    assert!(listing.is_marked);
    assert_eq!(
        facts(&listing),
        [
            "sub dir 2023-11-14 22:13 http://origin.test/corpus/sub/ 0",
            "a b.txt ~109568 2023-11-14 22:13 http://origin.test/corpus/a%20b.txt 0",
        ]
    );
}

/// Pages that only a script fills in say so, whatever their title and their notes for others.
#[test]
fn pages_of_scripts_are_recognised() {
    for body in [
        "<title>File Browser</title><script>window.FileBrowser = {};</script><div id=app></div><div id=loading></div>",
        "<title>Files</title><div id=root></div><noscript>You need to enable JavaScript.</noscript><script src=a.js></script>",
    ] {
        assert!(
            matches!(read(body), Err(NotAnIndex::Scripted { plain_form: None })),
            "{body}"
        );
    }
    let error = read("<title>Not here</title><h1>Nothing</h1><script>x()</script>");
    assert!(!matches!(error, Err(NotAnIndex::Scripted { .. })), "{error:?}");
}

/// PEP 503: the hash is no part of the URL, and is kept.
#[test]
fn python_packages() {
    let page = r#"<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"><title>Links for x</title></head>
<body><h1>Links for x</h1>
<a href="x-1.0.tar.gz#sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
   data-requires-python="&gt;=3.8">x-1.0.tar.gz</a><br />
<a href="https://files.test/packages/ab/x-1.1.tar.gz#md5=d41d8cd98f00b204e9800998ecf8427e">x-1.1.tar.gz</a><br />
<a href="x-1.2.tar.gz#egg=x">x-1.2.tar.gz</a><br />
</body></html>"#;
    let config = ListingConfig {
        external_links: true,
        ..ListingConfig::default()
    };
    let listing = read_with(page, config);
    assert_eq!(
        facts(&listing),
        [
            "x-1.0.tar.gz ? - http://origin.test/corpus/x-1.0.tar.gz 1",
            "x-1.1.tar.gz ? - https://files.test/packages/ab/x-1.1.tar.gz 1",
            "x-1.2.tar.gz ? - http://origin.test/corpus/x-1.2.tar.gz 0",
        ]
    );
    assert_eq!(read(page).unwrap().left_out.elsewhere, 1);
}

/// A page in `tests/fixtures/handwritten`, read as the one at this URL.
fn handwritten(name: &str, url: &str, config: &ListingConfig) -> Result<Listing, NotAnIndex> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/handwritten/{name}.html"));
    let page = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(page.starts_with(b"<!-- Written by hand"), "{}", file.display());
    super::super::parse(&Url::parse(url).unwrap(), &page, None, config)
}

/// What a remote repository has and Artifactory has not fetched yet is marked by `->`, and has no size and date.
#[test]
fn artifactory_with_names_that_are_not_fetched_yet() {
    let config = ListingConfig::default();
    let url = "http://origin.test/artifactory/libs-release/org/x/1.0/";
    let listing = handwritten("artifactory", url, &config).unwrap();
    assert!(listing.is_marked && listing.left_out.is_nothing());
    let expected = [
        "sub dir -",
        "x-1.0-sources.jar ~1258291 2023-11-14 22:13",
        "x-1.0.jar ? -",
        "x-1.0.pom 107 2023-11-14 22:13",
    ];
    let facts: Vec<String> = facts(&listing)
        .into_iter()
        .map(|fact| fact[..fact.find(" http").unwrap()].to_owned())
        .collect();
    assert_eq!(facts, expected);
}

/// Of a directory of a repository only its own names are read, and no link around it.
#[test]
fn gitea() {
    let config = ListingConfig::default();
    let url = "http://origin.test/ann/tools/src/branch/main/docs/";
    let listing = handwritten("gitea", url, &config).unwrap();
    let expected = [
        "sub ? 2023-11-14 22:13:20 http://origin.test/ann/tools/src/branch/main/docs/sub 0",
        "a b.md ? 2023-11-14 22:13:20 http://origin.test/ann/tools/src/branch/main/docs/a%20b.md 0",
    ];
    assert_eq!(facts(&listing), expected);
}

/// A script fills the names in, so none of the links is taken for one.
#[test]
fn gitlab() {
    let config = ListingConfig::default();
    let url = "http://origin.test/group/tools/-/tree/main/docs/";
    let read = handwritten("gitlab", url, &config);
    assert!(matches!(&read, Err(NotAnIndex::NothingListed { .. })), "{read:?}");
}
