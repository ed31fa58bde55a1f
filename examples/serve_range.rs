//! Writes a range of a remote file to standard output, from the cache as far as it is there.
//!
//! ```text
//! cargo run --example serve_range -- URL START END [CACHE_DIR]
//! ```
//!
//! START and END are byte offsets; END is exclusive, and may be past the end of the file.

use std::error::Error;
use std::io::{self, Write};

use fetchfs::{Cache, ErrorKind, RemoteFile};

/// Bytes that are read at a time.
const PIECE: u64 = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, start, end, rest @ ..] = arguments.as_slice() else {
        return Err("usage: serve_range URL START END [CACHE_DIR]".into());
    };
    let mut cache = Cache::builder();
    if let [dir] = rest {
        cache = cache.dir(dir);
    }
    let cache = cache.open()?;
    let file = cache.open_url(url)?;
    match serve(&file, start.parse()?, end.parse()?, &mut io::stdout()) {
        Err(error) if fetchfs::Error::of_io(&error).is_some_and(|error| error.kind() == ErrorKind::Changed) => {
            Err("the file has changed on the server meanwhile; ask again for all of it".into())
        }
        served => Ok(served?),
    }
}

/// Writes the bytes from `start` up to `end`. Several threads may do so at a time with one file.
fn serve(file: &RemoteFile, start: u64, end: u64, to: &mut impl Write) -> io::Result<()> {
    let (mut at, end) = (start, end.min(file.len()));
    let mut buffer = vec![0; PIECE as usize];
    while at < end {
        let wanted = PIECE.min(end - at) as usize;
        let read = file.read_at(&mut buffer[..wanted], at)?;
        to.write_all(&buffer[..read])?;
        at += read as u64;
    }
    to.flush()
}
