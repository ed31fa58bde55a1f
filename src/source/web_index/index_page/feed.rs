//! Feeds a page to the tokenizer, in time linear in its length, whatever it contains.
//!
//! html5ever compares each attribute of a tag with all before it, to drop duplicates (0.40.1,
//! `Tokenizer::finish_attribute`). One tag of a few megabytes of attributes would keep a core busy for hours. The
//! tokenizer does not report how many it holds. But every attribute follows white space, a `/` or a quote. So these are
//! counted while a tag is open, and a page with too many in one tag is refused.
//!
//! To know when a tag is open, the page is cut before each `<`. A tag is open from a piece that begins one until the
//! tokenizer emits a tag: it emits nothing else in between.

use std::cell::{Cell, RefCell};

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

/// Maximum attributes of a tag; precisely, the maximum bytes in it that could begin one. A tag with this many takes 17
/// ms (48 KB, measured), so a page of nothing else takes 0.4 s per MiB. On the other hand, an inline base64 image of
/// half a megabyte in a tag has as many slashes.
pub(super) const MOST_ATTRIBUTES: usize = 8192;

/// Maximum bytes between two checks of the tokenizer's output.
const PIECE: usize = 4096;

/// A tag with more than [`MOST_ATTRIBUTES`].
#[derive(Debug)]
pub(super) struct EndlessTag;

/// Receives the tags and the text of a page, in order. Names of tags and attributes are in lower case, entities are
/// decoded.
pub(super) trait PageSink {
    /// A start tag.
    fn start(&mut self, tag: &Tag);
    /// An end tag, also one without a start tag.
    fn end(&mut self, name: &str);
    /// Text, in any number of parts.
    fn text(&mut self, text: &str);
    /// Returns true if the rest of the page is not needed.
    fn has_enough(&self) -> bool;
}

/// Feeds a page to a sink, part by part, until the sink needs no more.
pub(super) struct Feeder<Sink> {
    tokenizer: Tokenizer<Adapter<Sink>>,
    queue: BufferQueue,
    open: Open,
    /// The end of the text so far, if a tag may begin there whose name is not there yet.
    rest: String,
}

impl<Sink: PageSink> Feeder<Sink> {
    /// Feeds `sink`.
    pub(super) fn new(sink: Sink) -> Feeder<Sink> {
        // The decoder has removed a byte order mark; the tokenizer would drop one from each piece.
        let options = TokenizerOpts {
            discard_bom: false,
            ..TokenizerOpts::default()
        };
        let adapter = Adapter {
            sink: RefCell::new(sink),
            markup: Cell::new(0),
            raw: Cell::new(None),
        };
        Feeder {
            tokenizer: Tokenizer::new(adapter, options),
            queue: BufferQueue::default(),
            open: Open::Nothing,
            rest: String::new(),
        }
    }

    /// Feeds the next part of the page.
    pub(super) fn feed(&mut self, text: &str) -> Result<(), EndlessTag> {
        let joined;
        let text = if self.rest.is_empty() {
            text
        } else {
            joined = std::mem::take(&mut self.rest) + text;
            &joined
        };
        // The tokenizer itself can be given parts of anything. What a piece opens is decided by its beginning.
        let last = text.rfind('<').filter(|at| text.len() - at < PIECE);
        let (now, rest) = text.split_at(last.unwrap_or(text.len()));
        rest.clone_into(&mut self.rest);
        self.feed_pieces(now)
    }

    fn feed_pieces(&mut self, text: &str) -> Result<(), EndlessTag> {
        for piece in pieces(text) {
            if self.has_enough() {
                return Ok(());
            }
            if let Open::Nothing = self.open {
                self.open = opens(piece, self.tokenizer.sink.raw.get());
            }
            if let Open::Tag(count) = &mut self.open {
                *count += piece.bytes().filter(|byte| b" \t\n\r\x0c/\"'".contains(byte)).count();
                if *count > MOST_ATTRIBUTES {
                    return Err(EndlessTag);
                }
            }
            let before = self.tokenizer.sink.markup.get();
            self.queue.push_back(StrTendril::from_slice(piece));
            // The other results ask to run a script or to change the charset, which the adapter never does.
            let _ = self.tokenizer.feed(&self.queue);
            if self.tokenizer.sink.markup.get() != before {
                self.open = Open::Nothing;
            }
        }
        Ok(())
    }

    /// Returns true if the rest of the page is not needed.
    pub(super) fn has_enough(&self) -> bool {
        self.tokenizer.sink.sink.borrow().has_enough()
    }

    /// The sink, after the whole page.
    pub(super) fn finish(mut self) -> Result<Sink, EndlessTag> {
        let rest = std::mem::take(&mut self.rest);
        self.feed_pieces(&rest)?;
        if !self.has_enough() {
            self.tokenizer.end();
        }
        Ok(self.tokenizer.sink.sink.into_inner())
    }
}

/// The tokenizer's state.
enum Open {
    /// Text.
    Nothing,
    /// A tag, with the number of bytes in it that could begin an attribute.
    Tag(usize),
    /// A comment or a doctype, which contains no attributes.
    Comment,
}

/// What a piece after text opens. Within an element of raw text, only that element's end tag opens anything.
fn opens(piece: &str, raw: Option<&str>) -> Open {
    let bytes = piece.as_bytes();
    let closing = |name: &str| {
        bytes
            .get(2..2 + name.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    match (raw, bytes) {
        (Some(name), [b'<', b'/', ..]) if closing(name) => Open::Tag(0),
        (Some(_), _) => Open::Nothing,
        (None, [b'<', b'/', first, ..] | [b'<', first, ..]) if first.is_ascii_alphabetic() => Open::Tag(0),
        (None, [b'<', b'/', b'>', ..]) => Open::Nothing,
        (None, [b'<', b'!' | b'?' | b'/', ..]) => Open::Comment,
        _ => Open::Nothing,
    }
}

/// Cuts `text` before each `<` and after each [`PIECE`] bytes, so that a tag always begins a piece.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let next_tag = rest.bytes().take(end).skip(1).position(|byte| byte == b'<');
        let (piece, after) = rest.split_at(next_tag.map_or(end, |at| at + 1));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Adapts our sink to html5ever's kind, which takes `&self`.
struct Adapter<Sink> {
    sink: RefCell<Sink>,
    /// Number of tags, comments and doctypes emitted.
    markup: Cell<u64>,
    /// The open element of raw text.
    raw: Cell<Option<&'static str>>,
}

impl<Sink: PageSink> TokenSink for Adapter<Sink> {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        if matches!(
            token,
            Token::TagToken(_) | Token::CommentToken(_) | Token::DoctypeToken(_)
        ) {
            self.markup.set(self.markup.get() + 1);
        }
        let mut sink = self.sink.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                sink.start(&tag);
                return self.content_model(&tag);
            }
            Token::TagToken(tag) => {
                self.raw.set(None);
                sink.end(&tag.name);
            }
            Token::CharacterTokens(text) => sink.text(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl<Sink> Adapter<Sink> {
    /// How the tokenizer must continue after a start tag. This part of HTML's tree construction is needed, or a
    /// script's strings would become links. `<title/>` and the like count as empty, as within `<svg>`; elsewhere HTML
    /// ignores that slash.
    fn content_model(&self, tag: &Tag) -> TokenSinkResult<()> {
        if tag.self_closing {
            return TokenSinkResult::Continue;
        }
        let (name, kind) = match &*tag.name {
            "script" => ("script", RawKind::ScriptData),
            "title" => ("title", RawKind::Rcdata),
            "textarea" => ("textarea", RawKind::Rcdata),
            "style" => ("style", RawKind::Rawtext),
            "xmp" => ("xmp", RawKind::Rawtext),
            "iframe" => ("iframe", RawKind::Rawtext),
            "noembed" => ("noembed", RawKind::Rawtext),
            "noframes" => ("noframes", RawKind::Rawtext),
            _ => return TokenSinkResult::Continue,
        };
        self.raw.set(Some(name));
        TokenSinkResult::RawData(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records its input: `<a b=c>`, `</a>`, text.
    #[derive(Default)]
    struct Record(String);

    impl PageSink for Record {
        fn start(&mut self, tag: &Tag) {
            let attributes = tag
                .attrs
                .iter()
                .map(|a| format!(" {}={}", a.name.local, a.value))
                .collect::<String>();
            self.0 += &format!("<{}{attributes}>", tag.name);
        }
        fn end(&mut self, name: &str) {
            self.0 += &format!("</{name}>");
        }
        fn text(&mut self, text: &str) {
            self.0 += text;
        }
        fn has_enough(&self) -> bool {
            false
        }
    }

    fn feed<Sink: PageSink>(text: &str, sink: Sink) -> Result<Sink, EndlessTag> {
        let mut feeder = Feeder::new(sink);
        feeder.feed(text)?;
        feeder.finish()
    }

    /// What is read of a page that comes as a whole, and in two parts cut anywhere.
    fn fed(text: &str) -> Result<String, EndlessTag> {
        let whole = feed(text, Record::default()).map(|record| record.0);
        let cuts = match text.len() {
            short @ 0..100 => Vec::from_iter(1..short),
            long => vec![1, long / 3, long - 1],
        };
        for cut in cuts.into_iter().filter(|&at| text.is_char_boundary(at)) {
            let mut feeder = Feeder::new(Record::default());
            let (one, other) = text.split_at(cut);
            let in_parts = feeder.feed(one).and_then(|()| feeder.feed(other));
            let in_parts = in_parts.and_then(|()| feeder.finish()).map(|record| record.0);
            assert_eq!(in_parts.ok(), whole.as_ref().ok().cloned(), "{one}|{other}");
        }
        whole
    }

    #[test]
    fn the_pieces_are_the_text() {
        let long = "é".repeat(3 * PIECE);
        for text in [
            "",
            "<",
            "<<",
            "a<b",
            "<a>b</a>",
            "ä<ö>ü",
            &long,
            &format!("x{long}<{long}"),
        ] {
            assert_eq!(pieces(text).collect::<String>(), text);
            assert!(
                pieces(text).all(|piece| piece.len() <= PIECE && piece.rfind('<').is_none_or(|at| at == 0)),
                "{text}"
            );
        }
    }

    #[test]
    fn cutting_does_not_change_what_is_read() {
        let long = "x".repeat(PIECE);
        for (page, read) in [
            ("<A Href='a<b'>c&am", "<a href=a<b>c&am"),
            ("a&lt;b&#x3c;c&amp", "a<b<c&"),
            ("<script>'<a>'</script >b", "<script>'<a>'</script>b"),
            ("<title>&lt;a</title>", "<title><a</title>"),
            ("<svg><title/><a></svg>", "<svg><title><a></svg>"),
            ("<!-- <a> --><?x <b?>c", "c"),
            ("a\r\nb", "a\nb"),
        ] {
            assert_eq!(fed(page).unwrap(), read, "{page}");
        }
        assert_eq!(
            fed(&format!("<a b={long}{long}>{long}&am{long}")).unwrap(),
            format!("<a b={long}{long}>{long}&am{long}")
        );
    }

    #[test]
    fn an_endless_tag_is_given_up_wherever_it_begins() {
        let attributes: String = (0..=MOST_ATTRIBUTES).map(|n| format!(" a{n}='<>'")).collect();
        for before in [
            "<a",
            "</a",
            "text<a",
            "<<a",
            "&am<a",
            "</><a",
            "<!doctype html><a",
            "<!-- <b> --><a",
            "<!--><a",
            "<?x><a",
            "<script></script",
            "<script></scr</script",
            "<title>&am</TITLE",
            "<b c='<d'",
            "<b c='<d></d>'",
            "<script/><a",
        ] {
            assert!(fed(&format!("{before}{attributes}>")).is_err(), "{before}");
            assert!(fed(&format!("{before}{attributes}")).is_err(), "{before}");
        }
    }

    /// Counts what a page makes its sink do.
    #[derive(Default)]
    struct Counter {
        calls: usize,
        bytes: usize,
    }

    impl PageSink for Counter {
        fn start(&mut self, tag: &Tag) {
            self.calls += 1;
            self.bytes += tag.name.len();
            self.bytes += tag.attrs.iter().map(|attribute| attribute.value.len()).sum::<usize>();
        }

        fn end(&mut self, name: &str) {
            self.calls += 1;
            self.bytes += name.len();
        }

        fn text(&mut self, text: &str) {
            self.calls += 1;
            self.bytes += text.len();
        }

        fn has_enough(&self) -> bool {
            false
        }
    }

    /// No part of a page reaches the sink twice, and no part of it is delivered in more pieces than it has bytes:
    /// whatever a page repeats, twice as much of it is twice the work.
    #[test]
    fn work_is_linear_in_the_length_of_a_page() {
        let counted = |page: &str| {
            let counter = feed(page, Counter::default()).unwrap();
            (counter.calls, counter.bytes)
        };
        for (before, part) in [
            ("", "<"),
            ("", "<div>"),
            ("", "</div>"),
            ("", "<table><tr><td>"),
            ("<ul>", "<li><a href=x>x</a>"),
            ("<pre>", "\n"),
            ("", "&amp"),
            ("", "&#x41;"),
            ("", "&"),
            ("<!--", "-"),
            ("", "<!--x-->"),
            ("", "\0"),
            ("<script>", "<"),
            ("<script>", "</scrip"),
            ("<title>", "<"),
            ("<a href='", "x"),
            ("<", "x"),
        ] {
            let page = |repeats: usize| format!("{before}{}", part.repeat(repeats));
            let (one, two) = (page(20_000), page(40_000));
            let ((calls, bytes), (twice_calls, twice_bytes)) = (counted(&one), counted(&two));
            assert!(
                calls <= one.len() && bytes <= 3 * one.len(),
                "{before} {part}: {calls} calls, {bytes} bytes"
            );
            // A few calls more or less come from where the pieces end.
            assert!(
                twice_calls <= 2 * calls + 16,
                "{before} {part}: {calls} and {twice_calls} calls"
            );
            assert!(
                twice_bytes <= 2 * bytes + 64,
                "{before} {part}: {bytes} and {twice_bytes} bytes"
            );
        }
    }

    #[test]
    fn what_is_long_but_no_endless_tag_is_read() {
        let spaces = " \n".repeat(MOST_ATTRIBUTES);
        let image = "iVBORw0KGgo/".repeat(8000);
        for page in [
            format!("<pre>{spaces}</pre>"),
            format!("<!-- <a {spaces}> -->"),
            format!("&am<!-- <a {spaces}> -->"),
            format!("<script>'<b>'+'</b>' {spaces}</script>"),
            format!("<textarea><a {spaces}</textarea>"),
            format!("<!doctype {spaces}>"),
            format!("a < b {spaces}"),
            format!("</> {spaces}"),
            format!("<img src='data:image/png;base64,{image}'>"),
            "<a b='c'> </a>".repeat(MOST_ATTRIBUTES),
        ] {
            assert!(fed(&page).is_ok(), "{}", &page[..40]);
        }
    }
}
