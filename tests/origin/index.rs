//! Index pages, as real servers write them.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::encode_path;
use super::tree::File;

/// The form of an index page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStyle {
    /// nginx's autoindex: dates to the minute, exact sizes.
    Nginx,
    /// Python's http.server: names only.
    NamesOnly,
}

/// The entity tags of index pages, with which the server answers 304.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageTags {
    /// Pages have none.
    None,
    /// A tag of the whole page.
    OfPage,
    /// A tag of the names alone, as one of the directory's date is.
    OfNames,
}

impl PageTags {
    /// The ETag header's value for this page.
    pub(super) fn of(self, page: &str, children: &[(String, Option<File>)]) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        match self {
            PageTags::None => return None,
            PageTags::OfPage => page.hash(&mut hasher),
            PageTags::OfNames => children.iter().for_each(|(name, _)| name.hash(&mut hasher)),
        }
        Some(format!("\"{:x}\"", hasher.finish()))
    }
}

/// nginx truncates longer names in the text of the page, but not in the link.
const NGINX_NAME: usize = 50;

/// The page for the directory at `path` (without its final slash).
pub(super) fn page(style: IndexStyle, path: &str, children: &[(String, Option<File>)]) -> String {
    let title = escape(&format!("Index of {path}/"));
    let mut page = String::new();
    match style {
        IndexStyle::Nginx => {
            page += &format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<h1>{title}</h1><hr><pre>");
            page += "<a href=\"../\">../</a>\r\n";
            for (name, file) in children {
                page += &nginx_line(name, file.as_ref());
            }
            page += "</pre><hr></body>\r\n</html>\r\n";
        }
        IndexStyle::NamesOnly => {
            page += &format!(
                "<!DOCTYPE HTML>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>"
            );
            page += &format!("\n</head>\n<body>\n<h1>{title}</h1>\n<hr>\n<ul>\n");
            for (name, file) in children {
                let slash = if file.is_none() { "/" } else { "" };
                let (href, text) = (encode_path(name), escape(name));
                writeln!(page, "<li><a href=\"{href}{slash}\">{text}{slash}</a></li>").expect("a String takes all");
            }
            page += "</ul>\n<hr>\n</body>\n</html>\n";
        }
    }
    page
}

fn nginx_line(name: &str, file: Option<&File>) -> String {
    let slash = if file.is_none() { "/" } else { "" };
    let shown = format!("{name}{slash}");
    let letters = shown.chars().count();
    let (text, letters) = if letters > NGINX_NAME {
        let cut: String = shown.chars().take(NGINX_NAME - 3).collect();
        (format!("{}..&gt;", escape(&cut)), NGINX_NAME)
    } else {
        (escape(&shown), letters)
    };
    let pad = " ".repeat(NGINX_NAME - letters);
    let (date, size) = match file {
        Some(file) => (nginx_date(file), file.content.size().to_string()),
        None => ("01-Jan-2024 00:00".to_owned(), "-".to_owned()),
    };
    format!(
        "<a href=\"{}{slash}\">{text}</a>{pad} {date} {size:>19}\r\n",
        encode_path(name)
    )
}

/// `Mon, 01 Jan 2024 00:00:00 GMT` → `01-Jan-2024 00:00`.
fn nginx_date(file: &File) -> String {
    let date = httpdate::fmt_http_date(file.modified);
    format!("{}-{}-{} {}", &date[5..7], &date[8..11], &date[12..16], &date[17..22])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
