//! Hand-written pages, one point each.

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
    let scripted = |plain_form: Option<&str>| NotAnIndex::Scripted {
        plain_form: plain_form.map(|url| Url::parse(url).unwrap()),
    };
    for (page, error) in [
        ("", NotAnIndex::NoHtml),
        ("Welcome", NotAnIndex::NoHtml),
        ("\u{0}\u{1}PK\u{3}\u{4}", NotAnIndex::NoHtml),
        (
            "<title>Shop</title><a href='/'>Home</a> <a href='/news/'>News</a> <a href='#top'>Top</a>",
            NotAnIndex::NothingListed { links: 1 },
        ),
        (
            "<h1>Log in</h1><form><input name=user><input type=password></form>",
            NotAnIndex::Login,
        ),
        (
            "<script>document.write('<a href=\"x\">x</a>')</script><!-- <a href=x>x</a> -->",
            scripted(None),
        ),
        (
            "<script src=app.js></script><noscript><meta http-equiv=refresh content='0; url=?noscript'></noscript><h1>Index</h1>",
            scripted(Some("http://origin.test/corpus/?noscript")),
        ),
        (
            "<script></script><noscript><meta http-equiv=refresh content='0; url=/enable.html'></noscript>",
            scripted(None),
        ),
    ] {
        assert_eq!(read(page), Err(error), "{page}");
    }
}

#[test]
fn page_without_names_may_be_an_empty_directory() {
    let case = |name: &str| {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/cases")
            .join(name);
        std::fs::read_to_string(file).unwrap()
    };
    for page in [
        &case("empty-go.html"),
        &case("empty-tomcat.html"),
        "<h1>It works!</h1>",
        "<a href='../'>The chapter before</a>",
        "<title>Files</title><table><tr><th>Name<th>Size</table><a href='https://example.test/'>Powered by</a>",
    ] {
        let listing = read(page).unwrap();
        let is_empty = listing.entries.is_empty() && listing.left_out.is_nothing();
        assert!(is_empty && !listing.is_marked, "{page}: {listing:?}");
    }
}

#[test]
fn directory_is_recognised_by_slash_text_icon_or_row() {
    for row in [
        "<li><a href=d/>d</a>",
        "<li><a href=d>d/</a>",
        "<li><a href=d class='icon icon-directory'><span class=name>d</span></a>",
        "<li><i class='fa fa-folder'></i><a href=d>d</a>",
        "<table><tr><td><img alt='[DIR]'><td><a href=d>d</a></table>",
        "<table><tr class=directory><td><a href=d>d</a></table>",
        "<table><tr><td><svg><use xlink:href='#folder'></use></svg><a href=d>d</a></table>",
        "<table><tr><td><a href=d>d</a><td>Directory<td></table>",
        "<table><tr><td><code>(drwxr-xr-x)</code><td><a href=d>d</a></table>",
        "<pre>11/22/2026  12:00 PM  &lt;dir&gt; <a href=d>d</a>\n</pre>",
    ] {
        let listing = read(row).unwrap();
        assert_eq!(names(&listing), ["d/"], "{row}");
        assert_eq!(first(&listing).url.path(), "/corpus/d/", "{row}");
    }
    for row in [
        "<li><a href=d class='icon icon icon-dir icon-default'>d</a>",
        "<li><a href=d class='file folder'>d</a>",
        "<table class=dir-listing><tr><td><a href=d>d</a></table>",
        "<table><tr><td>Directory of songs<td><a href=d>d</a></table>",
    ] {
        assert_eq!(names(&read(row).unwrap()), ["d"], "{row}");
    }
}

#[test]
fn directory_wins_over_a_file_of_the_same_name() {
    for (page, both) in [
        ("<li><a href=d>d</a><li><a href=d/>d/</a>", 1),
        ("<li><a href=d/>d/</a><li><a href=d>d</a>", 1),
        // Links in a text are not rows.
        ("<p>See <a href=d/>there</a></p><ul><li><a href=d>d</a></ul>", 0),
    ] {
        let listing = read(page).unwrap();
        let name = if both > 0 { "d/" } else { "d" };
        assert_eq!(
            (names(&listing), listing.left_out.both),
            (vec![name.to_owned()], both),
            "{page}"
        );
    }
}

#[test]
fn only_rows_of_the_listing_are_names() {
    let rows = "<a href=x>x</a> 2026-11-22 12:00 5\n<a href=y>y</a> 2026-11-22 12:00 6\n";
    let table = "<table><tr><th>Name<th>Size<th>Description<tr><td><a href=x>x</a><td>5<td>see <a href=notes>the notes</a>\
        <tr><td><a href=y>y</a> <a href=y.asc>signature</a><td>6<td></table>";
    for page in [
        &format!("<p>Read <a href=INSTALL>INSTALL</a> first</p><pre>{rows}</pre>"),
        &format!("<pre>{rows}</pre><h2>README</h2><ul><li>by <a href=author.html>the author</a></ul>"),
        &format!("<pre>{rows}</pre><footer><a href=about>About</a></footer>"),
        &format!("<a href=upload>Upload</a> <pre>{rows}</pre>"),
        &format!("<div><a href=all.zip>Download all as zip</a></div>{table}"),
        table,
        &format!("<pre>{}</pre>", rows.replace("5\n", "5  see <a href=z>z</a>\n")),
        "<ul><li><a href=x>x</a><li><a href=y>y</a></ul><p>Powered by <a href=about>lister</a></p>",
        "<table><tr><td><a href=x>x</a><td>2026-11-22 12:00<tr><td><a href=y>y</a><td>2026-11-22 12:00\
         <tr><td><a href=all.zip>all.zip</a><td>-</table>",
    ] {
        assert_eq!(names(&read(page).unwrap()), ["x", "y"], "{page}");
    }
    // Without rows, a footer's link does not count.
    let empty =
        "<table><tr><th>Name<th>Size<tr><td><a href=../>..</a><td></table><div>my <a href=server.html>server</a></div>";
    assert_eq!(names(&read(empty).unwrap()), [""; 0]);
    // A page without such rows is hand-written.
    assert_eq!(
        names(&read("<p><a href=a.iso>The disc</a> and <a href=more/>more</a>").unwrap()),
        ["a.iso", "more/"]
    );
    // Directories in one list, files in another.
    let two = "<ul><li><a href=d/>d</a></ul><table><tr><td><a href=x>x</a><td>12K</table>";
    assert_eq!(names(&read(two).unwrap()), ["d/", "x"]);
    // A table without facts may have names side by side.
    let grid = "<table><tr><td><a href=a>a</a><td><a href=b>b</a><tr><td><a href=c>c</a></table>";
    assert_eq!(names(&read(grid).unwrap()), ["a", "b", "c"]);
}

#[test]
fn what_is_left_out_is_counted() {
    for (page, queries, elsewhere) in [
        (
            "<pre><a href=../>../</a>\n<a href='a.csv?download=1'>a.csv</a>   14-Nov-2023 22:13   3000\n</pre>",
            1,
            0,
        ),
        (
            "<pre><a href=../>../</a>\n<a href=/store/ab/c.txt>c.txt</a>   14-Nov-2023 22:13   5\n</pre>",
            0,
            1,
        ),
        (
            "<a href='../../packages/x.whl#sha256=1'>x.whl</a><br><a href='http://cdn.test/y.whl'>y.whl</a><br>",
            0,
            2,
        ),
        ("<ul><li><a href=x>x</a> <a href='x?view'>View x</a></ul>", 0, 0),
        (
            "<ul><li><a href=x>x</a></ul><a href=/news>News</a> <a href='?page=2'>2</a>",
            0,
            0,
        ),
    ] {
        let left_out = read(page).unwrap().left_out;
        assert_eq!((left_out.queries, left_out.elsewhere), (queries, elsewhere), "{page}");
    }
}

#[test]
fn directories_behind_the_query_of_a_plain_form_are_shown() {
    let page = "<table><tr><td><a href='sub/?noscript'>sub/</a><td>2026-11-22 12:00<td>2 items\
        <tr><td><a href=x>x</a><td>2026-11-22 12:00<td>5 B</table>";
    let listing = read(page).unwrap();
    assert_eq!(names(&listing), ["sub/", "x"]);
    assert_eq!(first(&listing).url.as_str(), "http://origin.test/corpus/sub/");
    let plain = Url::parse(&format!("{PAGE}?noscript")).unwrap();
    let listing = parse(&plain, page.as_bytes(), None).unwrap();
    assert_eq!(first(&listing).url.as_str(), "http://origin.test/corpus/sub/?noscript");
}

#[test]
fn query_and_external_links_have_names_on_request() {
    let config = ListingConfig {
        external_links: true,
        query_links: true,
        ..ListingConfig::default()
    };
    let page = "<pre><a href=../>../</a>\n<a href='a.csv?download=1'>a.csv</a>   14-Nov-2023 22:13   3000\n\
        <a href='?path=sub'>sub/</a>   14-Nov-2023 22:13   -\n\
        <a href='/store/c.txt'>c.txt</a>   14-Nov-2023 22:13   7\n</pre><a href=/news>News</a>";
    let listing = super::super::parse(&Url::parse(PAGE).unwrap(), page.as_bytes(), None, &config).unwrap();
    let urls: Vec<_> = listing.entries.iter().map(|entry| entry.url.to_string()).collect();
    assert_eq!(names(&listing), ["a.csv", "sub/", "c.txt"]);
    assert_eq!(
        urls,
        [
            "http://origin.test/corpus/a.csv?download=1",
            "http://origin.test/corpus/?path=sub",
            "http://origin.test/store/c.txt"
        ]
    );
    assert_eq!(size(first(&listing)), Exact(3000));
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
        assert_eq!(read(page).map(|listing| listing.entries.len()), Ok(0), "{page}");
    }
}

#[test]
fn rejected_names_are_counted_once() {
    let long = "x".repeat(1024);
    let listing = read(&format!(
        "<a href='{long}'><img></a> <a href='{long}'>a</a> <a href='{long}/'>b</a> <a href='%2E%00%2e'>c</a>"
    ));
    let listing = listing.unwrap();
    assert_eq!(
        (names(&listing), listing.left_out.refused),
        (vec![".%00.".to_owned()], 2)
    );
}

#[test]
fn names_are_escaped_only_where_needed() {
    let long = "x".repeat(1023);
    let page = format!(
        "<a href='a%0Ab'>1</a> <a href='c%09'>2</a> <a href='%2Fetc%2f..'>3</a> <a href='d%00/'>4</a> <a href={long}>5</a>"
    );
    assert_eq!(
        names(&read(&page).unwrap()),
        ["a\nb", "c\t", "%2Fetc%2F..", "d%00/", &long]
    );
}

#[test]
fn a_name_of_bytes_that_are_no_text_is_refused() {
    let page = Url::parse(PAGE).unwrap();
    let body = b"<a href='caf\xe9'>x</a> <a href='tea'>y</a>";
    let unnamed = parse(&page, body, None).unwrap();
    assert_eq!((names(&unnamed), unnamed.left_out.refused), (vec!["tea".to_owned()], 1));
    let latin1 = parse(&page, body, Some("iso-8859-1")).unwrap();
    assert_eq!(first(&latin1).url.path(), "/corpus/caf%C3%A9", "as a browser asks");
}

#[test]
fn a_byte_order_mark_decides_the_charset() {
    let utf16: Vec<u8> = "\u{feff}<a href='é'>"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let listing = parse(&Url::parse(PAGE).unwrap(), &utf16, Some("utf-8")).unwrap();
    assert_eq!(first(&listing).name.as_bytes(), "é".as_bytes());
}

#[test]
fn digits_are_a_size_only_if_marked() {
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
    assert_eq!(sizes(iis), [Exact(11), Exact(22)]);
    let ls = "<pre>-rw-r--r--  root  Nov 14  2023   105  B  <a href=a>a</a>\n-rw-r--r--  root  Nov 14  2023  5 kB  <a href=b>b</a>\n</pre>";
    assert_eq!(sizes(ls), [Exact(105), Rounded(5 << 10)]);
    // The first row shows whether facts precede their links.
    let below = "<pre><a href=a>a</a><br>2026-11-22 12:00 11<br><a href=b>b</a><br>2026-11-22 12:00 22</pre>";
    assert_eq!(sizes(below), [Unknown, Unknown]);
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
    assert_eq!(sizes("<a href='a%0A'>a</a> <a href=b>b</a> 12K"), [Unknown, Unknown]);
    // Lines in a cell or an item are mere layout, until another entry follows.
    assert_eq!(
        sizes("<table><tr><td><p><a href=a>a</a></p><td><p>12K</p><br><tr><td><p><a href=b>b</a><td><p>13K</table>"),
        [Rounded(12 << 10), Rounded(13 << 10)]
    );
    let items = "<ul><li><a href=a>a</a><div class=facts><span class=size>1.0 B</span><span class=mtime>2026-11-22 12:00</span></div>\
        <li><a href=b><span class=name>b</span><span class=size>2</span><span class=date>22.11.2026 12:00</span></a></ul>";
    assert_eq!(sizes(items), [Exact(1), Exact(2)]);
    // A server that does not escape names: one name for two files.
    assert_eq!(
        sizes("<li><a href='a&b'>a&b</a> 3 B<li><a href='a&amp;b'>a&amp;b</a> 4 B"),
        [Unknown]
    );
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
fn only_the_first_base_counts() {
    assert_eq!(
        names(&read("<base href='/corpus/'><base href='/'><a href=x>").unwrap()),
        ["x"]
    );
    assert_eq!(
        names(&read("<base href='/'><a href=x><a href=corpus/y>").unwrap()),
        ["y"]
    );
    let elsewhere = read("<title>Index of /</title><base href='http://other.test/'><a href=x>x</a>").unwrap();
    assert_eq!((elsewhere.entries.len(), elsewhere.left_out.elsewhere), (0, 1));
}

#[test]
fn tags_left_open_cost_nothing_but_facts() {
    let page = "<table><tr><td><a href=a>a<td>12K<tr><td><a href=b>b<td>13K<tr><td><a href=c";
    assert_eq!(sizes(page), [Rounded(12 << 10), Rounded(13 << 10)]);
}

#[test]
fn too_many_names_are_an_error_with_advice() {
    let config = ListingConfig {
        max_entries: 3,
        ..ListingConfig::default()
    };
    let page = Url::parse(PAGE).unwrap();
    let parse = |html: &str| super::super::parse(&page, html.as_bytes(), None, &config);
    let long = "c".repeat(1100);
    let three = format!("<a href=a>a</a><a href=b/>b</a><a href={long}>c</a>").repeat(2);
    assert_eq!(
        parse(&three).map(|listing| (listing.entries.len(), listing.left_out.refused)),
        Ok((2, 1))
    );
    for one_more in ["<a href=d>", &format!("<a href=d{long}>")] {
        let error = parse(&format!("{three}{one_more}")).unwrap_err();
        assert_eq!(error, NotAnIndex::TooManyNames(3));
        assert!(error.to_string().contains("--max-entries"), "{error}");
    }
}

#[test]
fn listing_is_recognised_by_title_or_columns() {
    let is_marked = |html: &str| read(html).unwrap().is_marked;
    assert!(is_marked("<title>Index of /</title><a href=x>x</a>"));
    assert!(is_marked("<pre><a href=x>x</a> 22-Nov-2026 10:00 7</pre>"));
    assert!(!is_marked(
        "<title>Welcome</title><a href=terms.html>terms</a><a href=news/>news</a>"
    ));
}

#[test]
fn rows_with_facts_are_certain_before_the_end() {
    let page = "<title>Index of /</title><a href=about.html>about</a><pre>\n<a href=a>a</a>  22-Nov-2026 12:00  7\n\
                <a href=b>b</a>\n<a href=d/>d/</a>  22-Nov-2026 12:00  -\n";
    let url = Url::parse(super::PAGE).unwrap();
    let (early, ()) = crate::source::receiving::Collected::of(|early| {
        let config = ListingConfig::default();
        let mut parser = crate::source::web_index::index_page::PageParser::new(&url, None, &config, early.clone());
        parser.push(page.as_bytes()).unwrap();
        // The page goes on.
        parser.push(b"<a href=").unwrap();
    });
    let names: Vec<_> = early.iter().map(|entry| entry.name.as_bytes()).collect();
    assert_eq!(
        names,
        [b"a", b"d"],
        "the others may turn out to be no rows of the listing"
    );
    let listing = read(page).unwrap();
    let is_certain = |entry: &Entry| entry.name.as_bytes() != b"b";
    let listed: Vec<Entry> = listing.entries.iter().filter(is_certain).collect();
    assert_eq!(early, listed, "with the facts that they have in the listing");
}

#[test]
fn names_without_facts_are_certain_after_many_of_a_list() {
    let row = |number: usize| format!("<li><a href=f{number}>f{number}</a></li>");
    let rows: String = (0..150).map(row).collect();
    let url = Url::parse(super::PAGE).unwrap();
    let page = format!("<title>Directory listing for /</title><ul>{rows}<li>");
    let (early, ()) = crate::source::receiving::Collected::of(|early| {
        let config = ListingConfig::default();
        let mut parser = crate::source::web_index::index_page::PageParser::new(&url, None, &config, early.clone());
        parser.push(page.as_bytes()).unwrap();
        parser.push(b"<a href=").unwrap();
    });
    assert_eq!(early.len(), 50, "those after the first hundred");
    let listing = read(&page).unwrap();
    assert!(
        early
            .iter()
            .all(|early| listing.entries.iter().any(|entry| entry == *early))
    );
}
