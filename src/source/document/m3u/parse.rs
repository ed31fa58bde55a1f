//! Parses playlists; pure.
//!
//! Lines are UTF-8 or, in old playlists, Windows-1252. Of the directives only these count; players write dozens of
//! others, which are ignored:
//!
//! | directive | meaning |
//! |---|---|
//! | `#EXTINF:SECONDS ATTRIBUTES,TITLE` | the title. Attributes may have commas within quotes |
//! | `#EXTVLCOPT:http-user-agent=TEXT` | `User-Agent` of the file's requests |
//! | `#EXTVLCOPT:http-referrer=TEXT` | `Referer` |
//! | `#EXT-X-TARGETDURATION`, `#EXT-X-MEDIA-SEQUENCE` | an HLS media playlist (RFC 8216 §4.3.3) |
//! | `#EXT-X-STREAM-INF` | an HLS master playlist (§4.3.4) |

use std::borrow::Cow;

use encoding_rs::WINDOWS_1252;
use percent_encoding::percent_encode_byte;
use url::Url;

use crate::source::Name;
use crate::source::document::{DocumentError, DocumentFile, FileUrl, Parsed, extension_of, quote};

/// Parses a playlist that came from `document`.
///
/// # Errors
/// If it is an HLS playlist, if a line is no URL, or if no line has a URL.
pub(crate) fn parse(document: &Url, body: &[u8]) -> Result<Parsed, DocumentError> {
    let text = decode(body);
    let (mut parsed, mut next) = (Parsed::default(), Next::default());
    for (number, line) in (1..).zip(text.split(['\n', '\r'])) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.starts_with('#') {
            refuse_hls(line, &text)?;
            next.read_directive(line);
            continue;
        }
        let about = std::mem::take(&mut next);
        match FileUrl::read(document, &with_fragment_escaped(line)) {
            FileUrl::Web(url) => match about.name(&url) {
                Some(name) => {
                    let mut file = DocumentFile::at(vec![name], url);
                    file.published.headers = about.headers();
                    parsed.files.push(file);
                }
                None => parsed.left_out.refused += 1,
            },
            FileUrl::Unsupported => parsed.left_out.unsupported += 1,
            FileUrl::Malformed(why) => {
                let why = format!("{} is not a URL: {why}", quote(line));
                return Err(DocumentError::in_line(number, why));
            }
        }
    }
    if parsed.files.is_empty() {
        return Err(DocumentError::new(match parsed.left_out.unsupported {
            0 => "the playlist has no file in it",
            _ => "none of the playlist's files has a URL of http or https",
        }));
    }
    Ok(parsed)
}

/// Returns true if a document begins as playlists do that say what they are.
pub(super) fn has_header(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().starts_with(b"#EXTM3U")
}

/// Returns true if a document that is called a playlist may be one: it is text, and no page.
pub(super) fn is_playlist(body: &[u8]) -> bool {
    /// Bytes that are searched.
    const BEGIN: usize = 4 << 10;
    let begin = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let begin = &begin[..begin.len().min(BEGIN)];
    has_header(body) || !begin.is_empty() && !begin.contains(&0) && !begin.starts_with(b"<")
}

/// Lines end in CR, LF, or both; a pair counts as one for [`parse`]'s numbers.
fn decode(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(body).0,
    };
    if text.contains("\r\n") {
        return Cow::Owned(text.replace("\r\n", "\n"));
    }
    text
}

fn refuse_hls(line: &str, text: &str) -> Result<(), DocumentError> {
    let is = |tag: &str| {
        line.strip_prefix(tag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    if is("#EXT-X-STREAM-INF") {
        return Err(DocumentError::new(
            "it is an HLS master playlist, which lists variants of one stream and no files; open its URL in a player",
        ));
    }
    if is("#EXT-X-TARGETDURATION") || is("#EXT-X-MEDIA-SEQUENCE") {
        let pieces = text.lines().filter(|line| line.starts_with("#EXTINF")).count();
        return Err(DocumentError::new(format!(
            "it is an HLS media playlist, one stream in {pieces} pieces and no list of files; open its URL in a player"
        )));
    }
    Ok(())
}

/// What the directives say of the next file.
#[derive(Default)]
struct Next {
    title: Option<String>,
    user_agent: Option<String>,
    referrer: Option<String>,
}

impl Next {
    fn read_directive(&mut self, line: &str) {
        if let Some(about) = line.strip_prefix("#EXTINF:") {
            self.title = title_of(about).map(str::to_owned);
        } else if let Some(option) = line.strip_prefix("#EXTVLCOPT:") {
            let Some((name, value)) = option.split_once('=') else {
                return;
            };
            let value = value.trim().trim_matches('"');
            // A header's value has no control characters (RFC 9110 §5.5).
            let value = (!value.is_empty() && !value.contains(char::is_control)).then(|| value.to_owned());
            match name.trim().to_ascii_lowercase().as_str() {
                "http-user-agent" => self.user_agent = value,
                "http-referrer" | "http-referer" => self.referrer = value,
                _ => {}
            }
        }
    }

    /// The headers of the file's requests.
    fn headers(self) -> Vec<(String, String)> {
        let headers = [("User-Agent", self.user_agent), ("Referer", self.referrer)];
        headers
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }

    /// The file's name; `None` if it can't be shown.
    fn name(&self, url: &Url) -> Option<Name> {
        let Some(title) = &self.title else {
            return Name::of_url(url);
        };
        let extension = extension_of(url).unwrap_or_default();
        let ends_so = title.len() > extension.len()
            && title.is_char_boundary(title.len() - extension.len())
            && title[title.len() - extension.len()..].eq_ignore_ascii_case(&extension);
        let extension = if ends_so { "" } else { &extension };
        // The control characters of a title are no part of what players show.
        let title = title.replace(char::is_control, " ");
        Name::new(format!("{title}{extension}").into_bytes())
    }
}

/// The title in `SECONDS ATTRIBUTES,TITLE`.
fn title_of(about: &str) -> Option<&str> {
    let mut is_quoted = false;
    let comma = about.char_indices().find(|&(_, c)| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    // A quote that is never closed belongs to the title.
    let comma = comma.map(|(at, _)| at).or_else(|| about.find(','))?;
    let title = about[comma + 1..].trim();
    (!title.is_empty()).then_some(title)
}

/// A line without a scheme may be a file name of the playlist's maker, which may have a `#`.
fn with_fragment_escaped(line: &str) -> Cow<'_, str> {
    let has_scheme = Url::parse(line) != Err(url::ParseError::RelativeUrlWithoutBase);
    if has_scheme || !line.contains('#') {
        return Cow::Borrowed(line);
    }
    Cow::Owned(line.replace('#', percent_encode_byte(b'#')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> Url {
        Url::parse("https://host/music/list.m3u").unwrap()
    }

    fn shown(body: &[u8]) -> Result<Vec<String>, String> {
        let parsed = parse(&document(), body).map_err(|error| error.to_string())?;
        let files = parsed.files.into_iter();
        Ok(files
            .map(|file| format!("{} = {}", file.path[0].as_os_str().to_string_lossy(), file.url))
            .collect())
    }

    #[test]
    fn titles_become_names() {
        let body = "#EXTM3U\r\n#EXTINF:123,Artist - Song #1\r\nhttps://h/x/1.mp3?t=.b\r\n\r\n\
                    #EXTINF:-1 tvg-name=\"A, B\" group-title=\"News\",Film, the.MKV\nfilm.mkv\n\
                    no%20title.ogg\n#EXTINF:5,\nd/e.ogg\n#EXTINF:5,A/B\nget.php?id=7\n#EXTINF:1,it's 5\" wide\nf.avi\n";
        let expected = [
            "Artist - Song #1.mp3 = https://h/x/1.mp3?t=.b",
            "Film, the.MKV = https://host/music/film.mkv",
            "no title.ogg = https://host/music/no%20title.ogg",
            "e.ogg = https://host/music/d/e.ogg",
            "A%2FB.php = https://host/music/get.php?id=7",
            "it's 5\" wide.avi = https://host/music/f.avi",
        ];
        assert_eq!(shown(body.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn playlist_may_be_in_windows_1252() {
        let body = b"#EXTINF:1,Caf\xe9\r/a.mp3\rSong #2.mp3\r";
        let expected = [
            "Café.mp3 = https://host/a.mp3",
            "Song #2.mp3 = https://host/music/Song%20%232.mp3",
        ];
        assert_eq!(shown(body).unwrap(), expected);
    }

    #[test]
    fn headers_are_for_the_next_file() {
        let body = "#EXTM3U\n#EXTINF:1,a\n#EXTVLCOPT:http-user-agent=Player/1.0 (x; y)\n\
                    #EXTVLCOPT:http-referrer=https://h/page\n#EXTVLCOPT:network-caching=1000\nhttp://h/a\nhttp://h/b\n";
        let parsed = parse(&document(), body.as_bytes()).unwrap();
        let headers = [("User-Agent", "Player/1.0 (x; y)"), ("Referer", "https://h/page")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parsed.files[0].published.headers, headers);
        assert!(parsed.files[1].published.headers.is_empty());
    }

    #[test]
    fn hls_is_refused_by_what_it_is() {
        let media = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\na.ts\n#EXTINF:9,\nb.ts\n";
        assert_eq!(
            shown(media.as_bytes()).unwrap_err(),
            "it is an HLS media playlist, one stream in 2 pieces and no list of files; open its URL in a player"
        );
        let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n";
        assert_eq!(
            shown(master.as_bytes()).unwrap_err(),
            "it is an HLS master playlist, which lists variants of one stream and no files; open its URL in a player"
        );
    }

    #[test]
    fn page_or_song_is_no_playlist() {
        for (body, is) in [
            (&b"\xef\xbb\xbf#EXTM3U\n"[..], true),
            (b"http://h/a.mp3\n", true),
            (b"caf\xe9.mp3\r\n", true),
            (b" <!doctype html>", false),
            (b"ID3\x03\0", false),
            (b"", false),
        ] {
            assert_eq!(is_playlist(body), is, "{body:?}");
        }
    }

    #[test]
    fn what_is_no_web_url_is_counted() {
        let body = "#EXTM3U\nC:\\Music\\a.mp3\nrtmp://h/live\nb.mp3\n";
        let parsed = parse(&document(), body.as_bytes()).unwrap();
        assert_eq!((parsed.files.len(), parsed.left_out.unsupported), (1, 2));
        for (body, why) in [
            ("#EXTM3U\n", "the playlist has no file in it"),
            (
                "rtmp://h/live\n",
                "none of the playlist's files has a URL of http or https",
            ),
            (
                "#EXTM3U\r\n\r\nhttp://h:x/\r\n",
                "line 3: `http://h:x/` is not a URL: invalid port number",
            ),
        ] {
            assert_eq!(shown(body.as_bytes()).unwrap_err(), why);
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_playlist_panics(body: Vec<u8>) {
            crate::source::fuzzing::m3u(&body);
        }

        #[test]
        fn nothing_like_a_playlist_panics(
            parts in proptest::collection::vec(
                prop::sample::select(vec![
                    "#EXTM3U", "#EXTINF:", "-1", ",", "\"", "é", "\n", "\r", "#EXTVLCOPT:", "http-user-agent=", "x.mp3",
                    "http://h/", "..", "/", "#", "?", "%", "#EXT-X-", "STREAM-INF", "C:\\", ".m3u8",
                ]),
                0..40,
            )
        ) {
            crate::source::fuzzing::m3u(parts.concat().as_bytes());
        }
    }
}
