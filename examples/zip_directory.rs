//! Lists the files in a zip archive on a web server. Little more than the archive's directory, at its end, is fetched.
//!
//! ```text
//! cargo run --example zip_directory -- URL [CACHE_DIR]
//! ```

use std::error::Error;

use fetchfs::Cache;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: zip_directory URL [CACHE_DIR]")?;
    let mut cache = Cache::builder();
    if let Some(dir) = arguments.next() {
        cache = cache.dir(dir);
    }
    let file = cache.open()?.open_url(&url)?;
    eprintln!("{}: {} bytes", file.url(), file.len());
    // It wants `Read` and `Seek`, which a remote file has.
    let mut archive = zip::ZipArchive::new(file)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        println!("{}\t{}", entry.size(), entry.name());
    }
    Ok(())
}
