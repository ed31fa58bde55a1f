//! The contents of a cache folder without a mount, read without fetchfs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::mount::fetchfs;
use super::process::run;

/// A chunk that the index has as present.
pub struct Chunk {
    /// Offset in the file.
    pub offset: u64,
    /// Its bytes in the data file.
    pub bytes: Vec<u8>,
}

/// All recorded chunks of files whose URL ends with `url`.
pub fn chunks(cache: &Path, url: &str) -> Vec<Chunk> {
    let connection = Connection::open(cache.join("index.db")).expect("the index");
    let sql = "SELECT entry_key, size, chunk_size, chunk_index FROM cache_chunks JOIN cache_entries USING (entry_id)
               WHERE url LIKE '%' || ?1";
    let mut statement = connection.prepare(sql).expect("its tables");
    let rows = statement.query_map([url], |row| {
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        Ok((row.get::<_, String>(0)?, number(1)?, number(2)?, number(3)?))
    });
    let chunk = |(key, size, chunk_size, index): (String, u64, u64, u64)| {
        let (folder, name) = key.split_at(2);
        let file = File::open(cache.join("data").join(folder).join(name)).expect("its data file");
        let offset = index * chunk_size;
        let mut bytes = vec![0; chunk_size.min(size - offset) as usize];
        file.read_exact_at(&mut bytes, offset).expect("a chunk");
        Chunk { offset, bytes }
    };
    rows.expect("rows").map(|row| chunk(row.expect("a row"))).collect()
}

/// All data files.
pub fn data_files(cache: &Path) -> Vec<PathBuf> {
    let within = |folder: &Path| {
        std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("it").path())
    };
    within(&cache.join("data"))
        .filter(|path| path.is_dir())
        .flat_map(|shard| within(&shard).collect::<Vec<_>>())
        .collect()
}

/// Asserts that `fetchfs cache verify` finds no damage.
#[track_caller]
pub fn assert_sound(cache: &Path) {
    run(fetchfs().args(["cache", "verify", "--cache-dir"]).arg(cache)).succeeded();
}
