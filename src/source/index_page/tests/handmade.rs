//! Pages written by hand, each to make one point.

use ListedSize::{Exact, Rounded, Unknown};

use super::*;

/// Sizes in the order of the page.
fn sizes(html: &str) -> Vec<ListedSize> {
    read(html).unwrap().entries.iter().map(size).collect()
}

#[test]
fn any_page_with_a_link_one_level_down_is_read() {
    let page = r#"<title>My files</title><p><a href="/">Home</a> <a href=one.iso>One</a>, <a href='more/'>more</a>
        <a href="one.iso#notes">notes</a> <a href=http://elsewhere.test/corpus/x>x</a> <a name=here>y</a>"#;
    assert_eq!(names(&read(page).unwrap()), ["one.iso", "more/"]);
}

#[test]
fn a_page_that_lists_nothing_and_has_no_mark_is_no_index() {
    for (page, links) in [
        ("", 0),
        ("<h1>It works!</h1>", 0),
        (
            "<title>Shop</title><a href='/'>Home</a> <a href='/news/'>News</a> <a href='#top'>Top</a>",
            3,
        ),
        (
            "<title>Index of economic freedom</title><a href='https://example.test/'>Source</a>",
            1,
        ),
        ("<a href='../'>The chapter before</a>", 1),
        (
            "<script>document.write('<a href=\"x\">x</a>')</script><!-- <a href=x>x</a> -->",
            0,
        ),
        ("\u{0}\u{1}PK\u{3}\u{4}", 0),
    ] {
        assert_eq!(read(page), Err(NotAnIndex::NothingListed { links }), "{page}");
    }
}

#[test]
fn a_page_that_is_marked_may_be_empty() {
    for page in [
        "<title>Index of /corpus/</title>",
        "<h1>Index of /corpus</h1><hr>",
        "<h2> Directory listing for /corpus/</h2>",
        "<a href='../'>../</a>",
        "<a href='/'><img src=up.png> Parent Directory </a>",
        "<a href=..><b>Go</b> up</a>",
        "<a href='?C=N;O=D'>Name</a>",
        "<a href='./?sort=name&order=asc'>Name</a>",
    ] {
        assert_eq!(read(page).map(|listing| listing.entries), Ok(vec![]), "{page}");
    }
}

#[test]
fn a_page_of_refused_names_is_an_index_and_each_is_counted_once() {
    let listing =
        read("<a href='a%0Ab'><img></a> <a href='a%0Ab'>a</a> <a href='%2Fetc'>b</a> <a href='c%00/'>c</a>").unwrap();
    assert_eq!((listing.entries.len(), listing.refused), (0, 3));
}

#[test]
fn a_name_of_bytes_that_are_no_text_is_refused() {
    let page = Url::parse(PAGE).unwrap();
    let body = b"<a href='caf\xe9'>x</a> <a href='tea'>y</a>";
    let unnamed = parse(&page, body, None).unwrap();
    assert_eq!((names(&unnamed), unnamed.refused), (vec!["tea".to_owned()], 1));
    let latin1 = parse(&page, body, Some("iso-8859-1")).unwrap();
    assert_eq!(latin1.entries[0].url.path(), "/corpus/caf%C3%A9", "as a browser asks");
}

#[test]
fn a_byte_order_mark_decides_the_charset() {
    let utf16: Vec<u8> = "\u{feff}<a href='é'>"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let listing = parse(&Url::parse(PAGE).unwrap(), &utf16, Some("utf-8")).unwrap();
    assert_eq!(listing.entries[0].name.as_bytes(), "é".as_bytes());
}

#[test]
fn digits_are_a_size_only_where_the_page_says_so() {
    assert_eq!(sizes("<li><a href=x>x</a> 12 comments"), [Unknown]);
    assert_eq!(sizes("<li><a href=x>x</a> 12"), [Unknown]);
    assert_eq!(sizes("<li><a href=x>x</a> 2026-11-22 12:00 12"), [Exact(12)]);
    assert_eq!(sizes("<li><a href=x>x</a> 12 2026-11-22 12:00"), [Exact(12)]);
    assert_eq!(sizes("<li><a href=x>x</a> 12 bytes"), [Exact(12)]);
    assert_eq!(sizes("<li><a href=x>x</a> 12K"), [Rounded(12 << 10)]);
    assert_eq!(sizes("<tr><td><a href=x>x</a><td>12<td>y"), [Unknown]);
    assert_eq!(sizes("<tr><td><a href=x>x</a><td>12<td>2026-11-22 12:00"), [Exact(12)]);
    assert_eq!(sizes("<tr><td>2026-11-22 12:00<td>12<td><a href=x>x</a>"), [Exact(12)]);
    let counted = "<table><tr><th>Name<th>Downloads<th>Date<tr><td><a href=x>x</a><td>12<td>2026-11-22 12:00</table>";
    assert_eq!(sizes(counted), [Unknown]);
    let headed = "<table><tr><td>Name<td>Seen<td>Size<tr><td><a href=x>x</a><td>7<td>12</table>";
    assert_eq!(sizes(headed), [Exact(12)]);
    let spanned = "<table><tr><th colspan=2>Name<th>Size<tr><td>*<td><a href=x>x</a><td>12</table>";
    assert_eq!(sizes(spanned), [Exact(12)]);
}

#[test]
fn a_number_behind_a_size_is_taken_when_it_fits() {
    let cell = |attributes: &str, shown: &str| format!("<tr><td><a href=x>x</a><td {attributes}>{shown}");
    assert_eq!(sizes(&cell("data-order=9999", "9.8 KiB")), [Exact(9999)]);
    assert_eq!(sizes(&cell("data-sort=9999", "9.8 KiB")), [Exact(9999)]);
    assert_eq!(sizes(&cell("data-value=0", "0.0K")), [Exact(0)]);
    assert_eq!(sizes(&cell("data-order=3", "9.8 MiB")), [Rounded(10_276_044)]);
    assert_eq!(sizes(&cell("data-order=-1", "9.8 KiB")), [Rounded(10_035)]);
    assert_eq!(sizes(&cell("data-order=1795348800", "22 Nov")), [Unknown]);
    assert_eq!(sizes(&cell("", "<data value=9999>9.8 KiB</data>")), [Exact(9999)]);
    // Caddy from 2.7 on.
    let bar = "<div class=sizebar><div class=sizebar-bar></div><div class=sizebar-text>\n 9.8 KiB\n</div></div>";
    assert_eq!(sizes(&cell("class=size data-size=9999", bar)), [Exact(9999)]);
}

#[test]
fn a_row_never_gets_its_neighbours_size() {
    // IIS puts date and size before the name, and ends its rows with <br>.
    let iis = "<pre><A HREF='/'>[To Parent Directory]</A><br><br>2026-11-22 12:00  11 <A HREF='/corpus/a'>a</A><br>\
        2026-11-22 12:00  22 <A HREF='/corpus/b'>b</A><br></pre>";
    assert_eq!(sizes(iis), [Unknown, Unknown]);
    assert_eq!(sizes("<td><a href=a>a</a><br>12K <a href=b>b</a>"), [Unknown, Unknown]);
    assert_eq!(
        sizes("<div><a href=a>a</a></div><div>12K <a href=b>b</a></div>"),
        [Unknown, Unknown]
    );
    assert_eq!(
        sizes("<a href=a>a</a> <a href=a.torrent>torrent</a> 12K"),
        [Unknown, Unknown]
    );
    assert_eq!(
        sizes("<a href=a>a</a> 12K <a href=a.sha256>sums</a> 1K"),
        [Rounded(12 << 10), Unknown]
    );
    assert_eq!(sizes("<a href='a%0A'>a</a> <a href=b>b</a> 12K"), [Unknown]);
}

#[test]
fn an_icon_and_a_name_are_one_entry() {
    let page =
        "<pre><a href=x><img></a> <a href=x>x</a> 2026-11-22 12:00  5 \n<a href=x>again</a> 2026-11-22 12:00 6</pre>";
    assert_eq!(sizes(page), [Exact(5)]);
}

#[test]
fn a_heading_counts_for_its_own_table_only() {
    let page = "<table><tr><th>Name<th>Size</table><table><tr><td><a href=x>x</a><td>12</table>";
    assert_eq!(sizes(page), [Unknown]);
}

#[test]
fn a_base_counts_once_and_at_the_same_origin() {
    assert_eq!(
        names(&read("<base href='/corpus/'><base href='/'><a href=x>").unwrap()),
        ["x"]
    );
    assert_eq!(
        names(&read("<base href='/'><a href=x><a href=corpus/y>").unwrap()),
        ["y"]
    );
    assert_eq!(
        names(&read("<base href='http://other.test/'><a href=x>").unwrap()),
        ["x"]
    );
}

#[test]
fn tags_left_open_cost_nothing_but_facts() {
    let page = "<table><tr><td><a href=a>a<td>12K<tr><td><a href=b>b<td>13K<tr><td><a href=c";
    assert_eq!(sizes(page), [Rounded(12 << 10), Rounded(13 << 10)]);
}

#[test]
fn more_names_than_are_taken_are_an_error_that_says_what_to_do() {
    let config = ListingConfig {
        max_entries: 3,
        ..ListingConfig::default()
    };
    let page = Url::parse(PAGE).unwrap();
    let parse = |html: &str| super::super::parse(&page, html.as_bytes(), None, &config);
    let three = "<a href=a>a</a><a href=b/>b</a><a href=c%00>c</a>".repeat(2);
    assert_eq!(
        parse(&three).map(|listing| (listing.entries.len(), listing.refused)),
        Ok((2, 1))
    );
    for one_more in ["<a href=d>", "<a href=d%00>"] {
        let error = parse(&format!("{three}{one_more}")).unwrap_err();
        assert_eq!(error, NotAnIndex::TooManyNames(3));
        assert!(error.to_string().contains("--max-entries"), "{error}");
    }
}

#[test]
fn a_page_says_by_its_title_or_by_sizes_and_dates_that_it_is_a_listing() {
    let is_marked = |html: &str| read(html).unwrap().is_marked;
    assert!(is_marked("<title>Index of /</title><a href=x>x</a>"));
    assert!(is_marked("<pre><a href=x>x</a> 22-Nov-2026 10:00 7</pre>"));
    assert!(!is_marked(
        "<title>Welcome</title><a href=terms.html>terms</a><a href=news/>news</a>"
    ));
}
