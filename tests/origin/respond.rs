//! The honest response to a request, by RFC 9110: files, ranges and validators.
//!
//! Pure: it takes a request and a tree, and returns an [`Answer`]. Faults change the answer afterwards, and
//! `delivery` sends it.

use super::content::Content;
use super::delivery::{Answer, Part, Piece};
use super::index;
use super::request::Request;
use super::tree::{File, Node, Tree};

/// The response of a server without faults.
pub(super) fn answer(request: &Request, tree: &Tree) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::text(405, "Method Not Allowed").with("Allow", "GET, HEAD");
    }
    match tree.get(&request.path) {
        None => Answer::text(404, "Not Found"),
        Some(Node::Directory(..)) if !request.path.ends_with('/') => {
            Answer::text(301, "Moved Permanently").with("Location", super::encode_path(&request.path) + "/")
        }
        Some(Node::Directory(children, style, tags)) => {
            let page = index::page(style, request.path.trim_end_matches('/'), &children);
            let tag = tags.of(&page, &children);
            let answer = if tag.is_some() && request.header("if-none-match") == tag.as_deref() {
                Answer::new(304, Vec::new().into())
            } else {
                Answer::new(200, page.as_str().into()).with("Content-Type", "text/html; charset=utf-8")
            };
            match tag {
                Some(tag) => answer.with("ETag", tag),
                None => answer,
            }
        }
        Some(Node::File(file)) => file_answer(request, &file),
    }
}

/// The preconditions in the order of RFC 9110 §13.2.2, then the range.
fn file_answer(request: &Request, file: &File) -> Answer {
    let (etag, date) = (file.etag(), file.last_modified());
    if let Some(wanted) = request.header("if-match")
        && !(wanted == "*" || strong(wanted, etag.as_deref()))
    {
        return describe(Answer::text(412, "Precondition Failed"), file);
    }
    if let Some(since) = request.header("if-unmodified-since")
        && request.header("if-match").is_none()
        && later(file, since)
    {
        return describe(Answer::text(412, "Precondition Failed"), file);
    }
    let known = match (request.header("if-none-match"), request.header("if-modified-since")) {
        (Some(known), _) => known == "*" || etag.as_deref().is_some_and(|etag| opaque(known) == opaque(etag)),
        (None, Some(since)) => date.is_some() && !later(file, since),
        (None, None) => false,
    };
    if known {
        return describe(Answer::new(304, Vec::new().into()), file);
    }
    let whole = |file: &File| describe(Answer::new(200, file.content.clone()), file);
    let Some(range) = request.range().filter(|_| request.method == "GET") else {
        return whole(file);
    };
    // If-Range uses strong comparison: a weak ETag never matches, and the whole file is sent (§13.1.5).
    if let Some(validator) = request.header("if-range")
        && !(strong(validator, etag.as_deref()) || date.as_deref() == Some(validator))
    {
        return whole(file);
    }
    let size = file.content.size();
    if range.first >= size || range.last.is_some_and(|last| last < range.first) {
        let refusal = Answer::text(416, "Range Not Satisfiable").with("Content-Range", format!("bytes */{size}"));
        return describe(refusal, file);
    }
    let end = range.last.map_or(size, |last| size.min(last.saturating_add(1)));
    part(file, range.first, end)
}

/// 206 with the bytes `start..end`.
fn part(file: &File, start: u64, end: u64) -> Answer {
    let mut answer = Answer::new(206, file.content.clone());
    answer.body[0].range = start..end;
    answer.part = Some(Part {
        start,
        end,
        total: file.content.size(),
    });
    describe(answer, file)
}

/// Adds the headers that every response about a file has.
fn describe(mut answer: Answer, file: &File) -> Answer {
    if let Some(etag) = file.etag() {
        answer = answer.with("ETag", etag);
    }
    if let Some(date) = file.last_modified() {
        answer = answer.with("Last-Modified", date);
    }
    answer.source = Some(file.content.clone());
    if answer.header("Content-Type").is_none() {
        answer.set("Content-Type", "application/octet-stream");
    }
    answer.with("Accept-Ranges", "bytes")
}

fn strong(wanted: &str, etag: Option<&str>) -> bool {
    let tags = wanted.split(',').map(str::trim);
    etag.is_some_and(|etag| !etag.starts_with("W/") && tags.into_iter().any(|tag| tag == etag))
}

fn opaque(etag: &str) -> &str {
    etag.trim_start_matches("W/")
}

/// Whether the file is newer than the date. Both count in whole seconds.
fn later(file: &File, date: &str) -> bool {
    httpdate::parse_http_date(date).is_ok_and(|date| file.modified > date)
}

impl From<Content> for Piece {
    fn from(content: Content) -> Piece {
        Piece {
            range: 0..content.size(),
            content,
        }
    }
}
