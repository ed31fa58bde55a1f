//! A server that lists one small tree in several ways, for `make demo-library`:
//!
//! ```text
//! /dav/          WebDAV
//! /api/          listings in JSON, as nginx sends them
//! /films/        the bucket `films` of an S3 service
//! /release.meta4 a Metalink of the tree's files
//! ```
//!
//! One request a connection, each on a thread. It is for this machine only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Characters that are not encoded in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Longest body of a request that is read.
const LONGEST_BODY: u64 = 1 << 16;

/// The files by their paths, which have no `/` at the beginning.
pub struct Tree(pub BTreeMap<&'static str, String>);

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type", kind.to_owned())],
            body: body.into(),
        }
    }

    fn not_found() -> Answer {
        Answer::new("404 Not Found", "text/plain", "There is no such file.\n")
    }
}

impl Tree {
    /// Serves the tree on a free port. Returns the server's URL.
    pub fn serve(self) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        let (tree, base) = (Arc::new(self), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tree, base) = (Arc::clone(&tree), base.clone());
                // A client that breaks off is none of the server's business.
                std::thread::spawn(move || tree.converse(stream, &base).ok());
            }
        });
        Ok(url)
    }

    fn converse(&self, mut stream: TcpStream, base: &str) -> io::Result<()> {
        let Some(request) = read(&stream)? else { return Ok(()) };
        let answer = self.answer(&request, base);
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", answer.body.len());
        stream.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(&answer.body)?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request, base: &str) -> Answer {
        let path = request.path.as_str();
        if path == "/release.meta4" {
            return self.metalink(base);
        }
        if let Some(inner) = path.strip_prefix("/dav/") {
            return match request.method.as_str() {
                "PROPFIND" => self.propfind(inner, request),
                "OPTIONS" => {
                    let mut answer = Answer::new("200 OK", "text/plain", "");
                    answer.headers.push(("DAV", "1".to_owned()));
                    answer
                }
                _ => self.file(inner, request),
            };
        }
        if let Some(inner) = path.strip_prefix("/api/") {
            return match inner.is_empty() || inner.ends_with('/') {
                true => self.json(inner),
                false => self.file(inner, request),
            };
        }
        match path.strip_prefix("/films").map(|inner| inner.trim_start_matches('/')) {
            Some("") if request.query.contains_key("list-type") => self.bucket(request),
            Some(inner) if !inner.is_empty() => self.file(inner, request),
            _ => Answer::not_found(),
        }
    }

    /// The names in a directory: files with their sizes, and directories.
    fn names(&self, directory: &str) -> Option<BTreeMap<String, Option<usize>>> {
        let mut names = BTreeMap::new();
        for (path, text) in &self.0 {
            if let Some(rest) = path.strip_prefix(directory) {
                match rest.split_once('/') {
                    Some((name, _)) => names.insert(name.to_owned(), None),
                    None => names.insert(rest.to_owned(), Some(text.len())),
                };
            }
        }
        (!names.is_empty()).then_some(names)
    }

    fn file(&self, path: &str, request: &Request) -> Answer {
        let Some(text) = self.0.get(path) else {
            return Answer::not_found();
        };
        let bytes = text.as_bytes();
        let range = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes="));
        let range = range.and_then(|range| range.split_once('-')).and_then(|(start, end)| {
            let start: usize = start.parse().ok()?;
            let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
            (start < end).then_some((start, end))
        });
        let mut answer = match range {
            Some((start, end)) => {
                let mut answer = Answer::new("206 Partial Content", "text/plain", &bytes[start..end]);
                let shown = format!("bytes {start}-{}/{}", end - 1, bytes.len());
                answer.headers.push(("Content-Range", shown));
                answer
            }
            None => Answer::new("200 OK", "text/plain", bytes),
        };
        answer.headers.push(("ETag", format!("\"{:x}\"", bytes.len())));
        answer.headers.push(("Last-Modified", date()));
        answer
    }

    fn json(&self, directory: &str) -> Answer {
        let Some(names) = self.names(directory) else {
            return Answer::not_found();
        };
        let entries = names.iter().map(|(name, size)| match size {
            Some(size) => format!(
                r#"{{"name": "{name}", "type": "file", "mtime": "{}", "size": {size}}}"#,
                date()
            ),
            None => format!(r#"{{"name": "{name}", "type": "directory", "mtime": "{}"}}"#, date()),
        });
        let body = format!("[\n{}\n]\n", entries.collect::<Vec<_>>().join(",\n"));
        Answer::new("200 OK", "application/json", body)
    }

    fn propfind(&self, path: &str, request: &Request) -> Answer {
        let directory = path.trim_end_matches('/').to_owned();
        let directory = if directory.is_empty() {
            directory
        } else {
            directory + "/"
        };
        let Some(names) = self.names(&directory) else {
            return Answer::not_found();
        };
        let resource = |href: &str, size: Option<usize>| {
            let kind = match size {
                Some(size) => format!("<D:resourcetype/><D:getcontentlength>{size}</D:getcontentlength>"),
                None => "<D:resourcetype><D:collection/></D:resourcetype>".to_owned(),
            };
            format!(
                "<D:response><D:href>/dav/{}</D:href><D:propstat><D:prop>{kind}<D:getlastmodified>{}</D:getlastmodified>\
                 </D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n",
                encoded(href),
                date()
            )
        };
        let mut body = "<?xml version=\"1.0\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n".to_owned();
        body += &resource(&directory, None);
        if request.headers.get("depth").is_none_or(|depth| depth != "0") {
            for (name, size) in &names {
                let slash = if size.is_none() { "/" } else { "" };
                body += &resource(&format!("{directory}{name}{slash}"), *size);
            }
        }
        body += "</D:multistatus>\n";
        Answer::new("207 Multi-Status", "application/xml", body)
    }

    fn bucket(&self, request: &Request) -> Answer {
        let given = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, delimiter) = (given("prefix"), given("delimiter"));
        let (mut contents, mut prefixes) = (String::new(), BTreeSet::new());
        for (path, text) in self.0.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            match path[prefix.len()..].split_once('/').filter(|_| delimiter == "/") {
                Some((name, _)) => drop(prefixes.insert(format!("{prefix}{name}/"))),
                None => {
                    let _ = writeln!(
                        contents,
                        "<Contents><Key>{}</Key><LastModified>2026-11-30T00:00:00Z</LastModified><ETag>&quot;{:x}&quot;</ETag>\
                         <Size>{}</Size></Contents>",
                        encoded(path),
                        text.len(),
                        text.len()
                    );
                }
            }
        }
        for prefix in prefixes {
            let _ = writeln!(
                contents,
                "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                encoded(&prefix)
            );
        }
        let body = format!(
            "<?xml version=\"1.0\"?>\n<ListBucketResult><Name>films</Name><EncodingType>url</EncodingType><IsTruncated>false\
             </IsTruncated>\n{contents}</ListBucketResult>\n"
        );
        Answer::new("200 OK", "application/xml", body)
    }

    fn metalink(&self, base: &str) -> Answer {
        let mut body = "<?xml version=\"1.0\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n".to_owned();
        for (path, text) in &self.0 {
            let _ = writeln!(
                body,
                "<file name=\"{path}\"><size>{}</size><url>{base}api/{}</url></file>",
                text.len(),
                encoded(path)
            );
        }
        body += "</metalink>\n";
        Answer::new("200 OK", "application/metalink4+xml", body)
    }
}

fn read(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut request = Request {
        method: method.to_owned(),
        path: decode(path),
        query: query.map(|(name, value)| (name.to_owned(), decode(value))).collect(),
        headers: BTreeMap::new(),
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            request
                .headers
                .insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = request
        .headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    // The server knows what is asked for.
    io::copy(&mut reader.take(length.unwrap_or(0).min(LONGEST_BODY)), &mut io::sink())?;
    Ok(Some(request))
}

fn encoded(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// The date of all files.
fn date() -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_796_000_000))
}
